"""Values that fit a JSON schema: small, and the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 8
"""The depth below which nothing optional is made, so that a type that contains itself comes to an end."""

_FORMATS = {
    "date": "2030-01-01",
    "date-time": "2030-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "ada@example.com",
    "time": "00:00:00Z",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def made_up(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return a value that fits `schema`, whose references lead into `root`.

    It heeds types, enumerations, references, bounds of numbers, lengths, and common formats. It knows no
    patterns and no conditions: a tool with those may refuse its arguments.
    """
    root = schema if root is None else root
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return made_up(_found(schema["$ref"], root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            choices = schema[key]
            simple = [one for one in choices if one.get("type") == "null"] if depth > DEPTH_MAX else []
            return made_up((simple or choices)[0], root, depth + 1)
    if schema.get("allOf"):
        whole: dict[str, Any] = {**schema}
        for part in whole.pop("allOf"):
            part = _found(part["$ref"], root) if "$ref" in part else part
            properties = {**whole.get("properties", {}), **part.get("properties", {})}
            required = [*whole.get("required", ()), *part.get("required", ())]
            whole = {**whole, **part, "properties": properties, "required": required}
        return made_up(whole, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            wanted = schema.get("required", ()) if depth > DEPTH_MAX else properties
            return {name: made_up(properties.get(name, {}), root, depth + 1) for name in wanted}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * max(
                schema.get("minItems", 0), 0 if depth > DEPTH_MAX else 1
            )
            return [made_up(item, root, depth + 1) for item in items]
        case "integer" | "number" as number:
            return _number(schema, whole=number == "integer")
        case "boolean":
            return True
        case "null":
            return None
    text = _FORMATS.get(schema.get("format", ""), "a")
    if "format" in schema:
        return text
    return text.ljust(schema.get("minLength", 0), "a")[: schema.get("maxLength", len(text))]


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", 0)
    if "exclusiveMinimum" in schema:
        least = max(least, schema["exclusiveMinimum"] + step) if whole else schema["exclusiveMinimum"]
    most = schema.get("exclusiveMaximum", schema.get("maximum"))
    if whole:
        value = -(-least // step) * step
        if most is not None and value > most - ("exclusiveMaximum" in schema):
            value = (most - ("exclusiveMaximum" in schema)) // step * step
        return int(value)
    if most is None:
        return float(least + 1 if "exclusiveMinimum" in schema else least)
    return float(min(least, most) if least == most else (least + most) / 2 if least < most else most - 1)


def _found(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found if isinstance(found, Mapping) else {}
