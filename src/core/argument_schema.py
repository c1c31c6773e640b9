"""Checks arguments against the JSON schema of a tool, as far as this needs no library.

A person who edits the arguments of a call gets an answer at once, in any process. The tool itself may be
known only where the worker runs. Keywords that are not known here accept every value, so the tool may still
refuse arguments that pass.

A schema may come from a server that nobody trusts, and a few lines of references to references can stand for
more comparisons than any process could make. So a check makes at most `STEPS_MAX`; what it did not get to is
accepted, like an unknown keyword. For the same reason no regular expression of a schema is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from outlast.core.json import JSON, canonical

STEPS_MAX = 10_000
"""The number of subschemas and listed alternatives that one check looks at; it takes some 30 ms."""
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
    found: list[str] = []
    with suppress(_TooManySteps):
        for fault in _Check(schema).faults(dict(arguments), schema, "", 0):
            found.append(fault)
    return found


class _TooManySteps(Exception):
    """A check has made `STEPS_MAX` steps."""


class _Check:
    """One check of arguments against a schema, and the number of steps that it may still make."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps_left = STEPS_MAX
        self._written: dict[int, str] = {}
        """The values that were compared, by their ids, as JSON; a schema may compare one many times."""

    def faults(self, value: Any, schema: Any, place: str, depth: int) -> Iterator[str]:
        if not isinstance(schema, Mapping) or depth > _DEPTH_MAX:
            return
        self._make_steps(1)
        yield from self._faults_of_value(value, schema, place)
        inner = depth + 1
        if isinstance(reference := schema.get("$ref"), str):
            self._make_steps(reference.count("/"))
            yield from self.faults(value, _referred(reference, self._root), place, inner)
        for one in _list(schema, "allOf"):
            yield from self.faults(value, one, place, inner)
        for keyword in ("anyOf", "oneOf"):
            choices = [list(self.faults(value, one, place, inner)) for one in _list(schema, keyword)]
            if choices and all(choices):
                problems = dict.fromkeys(faults[0].partition(": ")[2] for faults in choices)
                yield f"{_named(place)}: {'; '.join(problems)}"
        if isinstance(value, dict):
            yield from self._faults_of_object(value, schema, place, inner)
        if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from self.faults(item, schema.get("items"), f"{place}[{index}]", inner)

    def _make_steps(self, number: int) -> None:
        self._steps_left -= number
        if self._steps_left < 0:
            raise _TooManySteps

    def _json(self, value: Any) -> str:
        written = self._written.get(id(value))
        if written is None:
            written = self._written[id(value)] = canonical(value)
        return written

    def _faults_of_value(self, value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
        types = schema.get("type")
        names = [types] if isinstance(types, str) else types if isinstance(types, list) else []
        if names and not any(_is_of_type(value, name) for name in names):
            yield f"{_named(place)}: must be of type {' or '.join(map(str, names))}"
        allowed = schema.get("enum")
        if isinstance(allowed, list):
            self._make_steps(len(allowed))
            if self._json(value) not in map(self._json, allowed):
                yield f"{_named(place)}: must be one of {self._json(allowed)}"
        if "const" in schema and self._json(value) != (constant := self._json(schema["const"])):
            yield f"{_named(place)}: must be {constant}"
        yield from _faults_of_size(value, schema, place)

    def _faults_of_object(
        self, value: dict[str, Any], schema: Mapping[str, Any], place: str, depth: int
    ) -> Iterator[str]:
        known = schema.get("properties")
        properties = known if isinstance(known, Mapping) else {}
        required = _list(schema, "required")
        self._make_steps(len(required))
        for name in required:
            if isinstance(name, str) and name not in value:
                yield f"{_inside(place, name)}: is missing"
        for name, item in value.items():
            if name in properties:
                yield from self.faults(item, properties[name], _inside(place, name), depth)
            elif "patternProperties" not in schema:
                others = schema.get("additionalProperties")
                if others is False:
                    yield f"{_inside(place, name)}: is not a parameter"
                yield from self.faults(item, others, _inside(place, name), depth)


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
