"""Checks arguments against the JSON schema of a tool, as far as this needs no library.

A person who edits the arguments of a call gets an answer at once, in any process. The tool itself may be
known only where the worker runs. Keywords that are not known here accept every value, so the tool may still
refuse arguments that pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from outlast.core.json import JSON, canonical

_DEPTH_MAX = 30
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}


def faults_in(arguments: Mapping[str, JSON], schema: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments, one line for each fault; nothing if they fit."""
    return list(_faults(dict(arguments), schema, schema, "", 0))


def _faults(value: Any, schema: Any, root: Mapping[str, Any], place: str, depth: int) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth > _DEPTH_MAX:
        return
    yield from _faults_of_value(value, schema, place)
    inner = depth + 1
    if isinstance(reference := schema.get("$ref"), str):
        yield from _faults(value, _referred(reference, root), root, place, inner)
    for one in _list(schema, "allOf"):
        yield from _faults(value, one, root, place, inner)
    for keyword in ("anyOf", "oneOf"):
        choices = [list(_faults(value, one, root, place, inner)) for one in _list(schema, keyword)]
        if choices and all(choices):
            problems = dict.fromkeys(faults[0].partition(": ")[2] for faults in choices)
            yield f"{_named(place)}: {'; '.join(problems)}"
    if isinstance(value, dict):
        yield from _faults_of_object(value, schema, root, place, inner)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _faults(item, schema.get("items"), root, f"{place}[{index}]", inner)


def _faults_of_value(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    types = schema.get("type")
    names = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    if names and not any(_is_of_type(value, name) for name in names):
        yield f"{_named(place)}: must be of type {' or '.join(map(str, names))}"
    allowed = schema.get("enum")
    if isinstance(allowed, list) and canonical(value) not in map(canonical, allowed):
        yield f"{_named(place)}: must be one of {canonical(allowed)}"
    if "const" in schema and canonical(value) != canonical(schema["const"]):
        yield f"{_named(place)}: must be {canonical(schema['const'])}"
    yield from _faults_of_size(value, schema, place)


def _faults_of_size(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, str):
        size, suffix, unit = float(len(value)), "Length", " long"
    elif isinstance(value, list | tuple):
        size, suffix, unit = len(value), "Items", " long"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        size, suffix, unit = value, "imum", ""
    else:
        return
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if isinstance(low, int | float) and size < low:
        yield f"{_named(place)}: must be at least {low}{unit}"
    if isinstance(high, int | float) and size > high:
        yield f"{_named(place)}: must be at most {high}{unit}"


def _faults_of_object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], place: str, depth: int
) -> Iterator[str]:
    known = schema.get("properties")
    properties = known if isinstance(known, Mapping) else {}
    for name in _list(schema, "required"):
        if name not in value:
            yield f"{_inside(place, name)}: is missing"
    for name, item in value.items():
        if name in properties:
            yield from _faults(item, properties[name], root, _inside(place, name), depth)
        elif "patternProperties" not in schema:
            others = schema.get("additionalProperties")
            if others is False:
                yield f"{_inside(place, name)}: is not a parameter"
            yield from _faults(item, others, root, _inside(place, name), depth)


def _is_of_type(value: Any, name: Any) -> bool:
    kinds = _TYPES.get(name) if isinstance(name, str) else None
    if kinds is None:
        return True
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (name == "integer" and isinstance(value, float) and value.is_integer())


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _referred(reference: str, root: Any) -> Any:
    """Return the schema that a reference inside the same schema names; None for any other."""
    first, *names = reference.split("/")
    found = root if first == "#" else None
    for name in names:
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _inside(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)


def _named(place: str) -> str:
    return place or "the arguments"
