"""pydantic's core schemas: a type hint as nested dicts that each have a `type`.

Other versions of pydantic know other types, so code that reads a schema must accept types that are new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from pydantic_core import core_schema

CoreSchema = Mapping[str, Any]

_NOT_SCHEMAS = frozenset({"default", "expected", "members", "metadata", "config", "cls", "function"})
"""The keys whose values are data of the user, and may have any form."""
_WITH_PARTS = (dict, list, tuple)


def parts_of(schema: CoreSchema) -> Iterator[CoreSchema]:
    """Yield the schema, and every schema within it."""
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("type"), str):
                yield one
            waiting += [
                item for key, item in one.items() if key not in _NOT_SCHEMAS and isinstance(item, _WITH_PARTS)
            ]
        else:
            waiting += [item for item in one if isinstance(item, _WITH_PARTS)]


def with_readable_literals(schema: Any) -> Any:
    """Return a copy in which a literal that is the member of an enum is read from the member's value.

    Its JSON schema offers that value, and the value is written for it, but by default pydantic refuses it.

    Raises:
        ValueError: such a literal is in a class that pydantic always reads in its own way.
    """
    match schema:
        case {"type": "literal", "expected": list(expected)} if any(map(_is_unreadable, expected)):
            return _readable(expected)
        case {"type": "model" | "dataclass", "cls": cls} if hasattr(cls, "__pydantic_validator__"):
            if has_unreadable_literals(schema["schema"]):
                raise ValueError(
                    f"a Literal in {cls.__qualname__} has an enum member, whose JSON pydantic does not read; "
                    "name the member's value instead, or derive the enum from str as well"
                )
            return schema
        case dict():
            return {
                key: value if key in _NOT_SCHEMAS else with_readable_literals(value)
                for key, value in schema.items()
            }
        case list() | tuple():
            return type(schema)(map(with_readable_literals, schema))
    return schema


def has_unreadable_literals(schema: CoreSchema) -> bool:
    """Return whether the schema has a literal that `with_readable_literals` would change."""
    return any(
        part["type"] == "literal" and any(map(_is_unreadable, part["expected"])) for part in parts_of(schema)
    )


def _is_unreadable(expected: Any) -> bool:
    return isinstance(expected, Enum) and not isinstance(expected, (str, int))


def _readable(expected: list[Any]) -> core_schema.CoreSchema:
    members: dict[type[Enum], list[Enum]] = {}
    for one in expected:
        if _is_unreadable(one):
            members.setdefault(type(one), []).append(one)
    choices: list[core_schema.CoreSchema] = [_one_of(cls, some) for cls, some in members.items()]
    others = [one for one in expected if not _is_unreadable(one)]
    if others:
        choices.append(core_schema.literal_schema(others))
    return choices[0] if len(choices) == 1 else core_schema.union_schema(list(choices))


def _one_of(cls: type[Enum], members: list[Enum]) -> core_schema.CoreSchema:
    def check(member: Enum) -> Enum:
        if member not in members:
            raise ValueError(f"expected {' or '.join(repr(one.value) for one in members)}")
        return member

    return core_schema.no_info_after_validator_function(check, core_schema.enum_schema(cls, members))
