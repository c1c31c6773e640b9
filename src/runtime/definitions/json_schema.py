"""JSON schemas as a model should read them: without noise, and no deeper than needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from outlast.core.json import JSON

DEFINITIONS = "#/$defs/"

_MAPS = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_DATA = frozenset({"default", "const", "enum", "examples", "required"})


def property_names(schema: Mapping[str, Any]) -> list[str]:
    """Return the names that an object schema lists."""
    return list(schema["properties"])


def without_titles(schema: Any) -> Any:
    """Return a copy without pydantic's titles; a property that is called "title" stays."""
    match schema:
        case dict():
            return {
                key: {name: without_titles(one) for name, one in value.items()}
                if key in _MAPS
                else value
                if key in _DATA
                else without_titles(value)
                for key, value in schema.items()
                if key != "title"
            }
        case list():
            return [without_titles(one) for one in schema]
    return schema


def resolved(schema: Any, name: str) -> dict[str, JSON]:
    """Return the schema of a property, with its reference followed."""
    one = schema["properties"][name]
    definition = schema["$defs"][one["$ref"].removeprefix(DEFINITIONS)] if "$ref" in one else {}
    return {**definition, **{key: value for key, value in one.items() if key != "$ref"}}


def flattened(schema: Any, name: str) -> dict[str, JSON]:
    """Return the schema of the property itself, with the definitions that it still needs."""
    flat = {"additionalProperties": False, **resolved(schema, name)}
    definitions = dict(schema.get("$defs", {}))
    own = str(schema["properties"][name].get("$ref", "")).removeprefix(DEFINITIONS)
    others = {key: one for key, one in definitions.items() if key != own}
    if own not in others and f'"{DEFINITIONS}{own}"' not in json.dumps([flat, others]):
        definitions = others
    return {**flat, "$defs": definitions} if definitions else flat
