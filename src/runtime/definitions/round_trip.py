"""Checking that a value that goes through JSON comes back complete.

A type hint says how a value is written and read, and may say too little: it names a base of the value's
class, a field of a model is excluded from its JSON, two keys of a dict become the same text. Each of these
loses data silently. So the JSON is read again at once, and the result is compared with the given value: it
must be equal, and of the same class where a class has fields. `==` checks that at almost no cost, but misses
the names in a named tuple, the arguments that a dataclass takes and does not keep, and values whose hint says
nothing. Types with any of these are compared part by part, along pydantic's core schema. Values that are not
equal are compared in the same way, because they may be complete nevertheless:

- Where a hint says nothing (`Any`, a bare `dict`) a value is written by its own type, and its JSON comes
  back: a date comes back as text. All of its parts must be written.
- An object without an `__eq__` of its own never equals another; then the class must be the same.

Private attributes of pydantic models are not part of a value.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from functools import cached_property
from types import NoneType
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from pydantic.fields import FieldInfo

from outlast.core.json import SAME_KEYS
from outlast.runtime.definitions.core_schemas import CoreSchema, parts_of

Path = tuple[str | int, ...]

_ANY: CoreSchema = {"type": "any"}
_WRAPPERS = {
    "custom-error": "schema",
    "default": "schema",
    "definitions": "schema",
    "function-after": "schema",
    "function-before": "schema",
    "function-wrap": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "strict_schema",
}
"""Schemas that stand around another one, and the key where they hold it."""
_NOT_SEEN_BY_EQUALITY = frozenset({"any", "tuple"})
_ORDERED = (list, tuple, deque)
_ABSENT = object()


class Lost(Exception):
    """A value does not come back complete; `path` is the place, `problem` says what is lost there."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


class RoundTrip:
    """Compares values of one type, given as its core schema, with the values that come back."""

    def __init__(self, schema: CoreSchema) -> None:
        self._schema = schema

    def check(self, value: Any, back: Any) -> None:
        """Raise `Lost` unless `back`, which was read from the JSON of `value`, is complete."""
        if not (self._equality_is_enough and _equal(value, back)):
            self._compare(value, back, self._schema, ())

    @cached_property
    def _equality_is_enough(self) -> bool:
        return not any(
            part["type"] in _NOT_SEEN_BY_EQUALITY
            or part.get("serialization_exclude")
            or part.get("init_only")
            for part in parts_of(self._schema)
        )

    @cached_property
    def _definitions(self) -> dict[str, CoreSchema]:
        return {part["ref"]: part for part in parts_of(self._schema) if "ref" in part}

    def _compare(self, value: Any, back: Any, schema: CoreSchema, at: Path) -> None:
        schema = self._unwrapped(schema)
        match schema["type"]:
            case "any":
                check_written(value, back, at)
            case "nullable" if value is not None and back is not None:
                self._compare(value, back, schema["schema"], at)
            case "union" | "tagged-union":
                self._compare_as_one_of(value, back, _choices(schema), at)
            case "list" | "deque" if isinstance(value, _ORDERED):
                self._compare_items(value, back, [schema.get("items_schema", _ANY)] * len(value), at)
            case "tuple" if isinstance(value, _ORDERED):
                self._compare_items(value, back, _tuple_items(schema, len(value)), at)
            case "dict" | "ordered-dict" | "counter" if isinstance(value, Mapping):
                self._compare_mappings(value, back, schema, at)
            case "typed-dict" if isinstance(value, Mapping):
                _check_keys(value, back, at)
                for key, item in value.items():
                    field = schema["fields"].get(key, {}).get("schema", _ANY)
                    self._compare(item, back[key], field, (*at, key))
            case "model" if isinstance(value, BaseModel) and type(value) is schema["cls"]:
                self._compare_models(value, back, schema, at)
            case "dataclass" if type(value) is schema["cls"]:
                self._compare_dataclasses(value, back, schema, at)
            case _:
                _compare_leaves(value, back, at)

    def _unwrapped(self, schema: CoreSchema) -> CoreSchema:
        while True:
            kind = schema["type"]
            if kind == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            elif kind in _WRAPPERS:
                schema = schema[_WRAPPERS[kind]]
            else:
                return schema

    def _compare_as_one_of(self, value: Any, back: Any, choices: Sequence[CoreSchema], at: Path) -> None:
        """Compare by a choice that loses nothing; else raise the error of the one that gets furthest."""
        lost: list[Lost] = []
        for choice in choices:
            try:
                self._compare(value, back, choice, at)
                return
            except Lost as error:
                lost.append(error)
        raise max(lost, key=lambda error: len(error.path))

    def _compare_items(self, value: Any, back: Any, schemas: Sequence[CoreSchema], at: Path) -> None:
        if _is_named(value) or not isinstance(back, _ORDERED) or len(back) != len(value):
            raise _another(value, back, at)
        for place, (item, other, schema) in enumerate(zip(value, back, schemas, strict=True)):
            self._compare(item, other, schema, (*at, place))

    def _compare_mappings(self, value: Any, back: Any, schema: CoreSchema, at: Path) -> None:
        is_any = self._unwrapped(schema.get("keys_schema", _ANY))["type"] == "any"
        items = schema.get("values_schema", _ANY)
        for key, item, other in _paired(value, back, at, keys_become_text=is_any):
            self._compare(item, other, items, (*at, key))

    def _compare_models(self, value: BaseModel, back: Any, schema: CoreSchema, at: Path) -> None:
        if type(value) is not type(back):
            raise _another(value, back, at)
        inner = self._unwrapped(schema["schema"])
        if isinstance(value, RootModel):
            self._compare_attributes(value, back, "root", {"schema": inner}, at)
            return
        for name in type(value).model_fields:
            self._compare_attributes(value, back, name, inner.get("fields", {}).get(name, {}), at)
        extra_back = back.__pydantic_extra__ or {}
        for name, item in (value.__pydantic_extra__ or {}).items():
            check_written(item, extra_back.get(name), (*at, name))

    def _compare_dataclasses(self, value: Any, back: Any, schema: CoreSchema, at: Path) -> None:
        if type(value) is not type(back):
            raise _another(value, back, at)
        fields = {one["name"]: one for one in self._unwrapped(schema["schema"]).get("fields", ())}
        keeps_less = any(one.get("init_only") for one in fields.values())
        names = [one.name for one in dataclasses.fields(value)]
        try:
            for name in names:
                self._compare_attributes(value, back, name, fields.get(name, {}), at)
            others = getattr(value, "__dict__", {}).keys() & getattr(back, "__dict__", {}).keys() - {*names}
            for name in others if keeps_less else ():
                _compare_leaves(getattr(value, name), getattr(back, name), (*at, name))
        except Lost as lost:
            if not keeps_less:
                raise
            problem = (
                f"{_name(value)} has an InitVar, which its JSON does not hold: keep the value in a field"
            )
            raise Lost(at, problem) from lost

    def _compare_attributes(self, value: Any, back: Any, name: str, field: CoreSchema, at: Path) -> None:
        one, other = getattr(value, name, _ABSENT), getattr(back, name, _ABSENT)
        try:
            if one is not other:
                self._compare(one, other, field.get("schema", _ANY), (*at, name))
        except Lost as lost:
            if not field.get("serialization_exclude"):
                raise
            raise Lost((*at, name), "the field has exclude=True, so its value would be lost") from lost


def check_written(value: Any, back: Any, at: Path = ()) -> None:
    """Raise `Lost` unless `back`, the JSON of a value by its own type, has all of the value's parts."""
    if isinstance(value, (str, bytes, bytearray, int, float, NoneType)):
        return
    if isinstance(value, RootModel):
        check_written(value.root, back, at)
    elif isinstance(value, BaseModel):
        if not type(value).__pydantic_decorators__.model_serializers:  # Else it is as its author wants it.
            extra = (value.__pydantic_extra__ or {}).keys()
            _check_attributes_written(value, [*type(value).model_fields, *extra], back, at)
    elif dataclasses.is_dataclass(value):
        _check_attributes_written(value, [one.name for one in dataclasses.fields(value)], back, at)
    elif isinstance(value, Mapping):
        for key, item, other in _paired(value, back, at, keys_become_text=True):
            check_written(item, other, (*at, key))
    elif isinstance(value, Iterator):
        raise Lost(at, f"a {_name(value)} can be read only once: make it a list")
    elif isinstance(value, (Sequence, Set)):
        if not isinstance(back, list) or len(back) != len(value):
            raise _another(value, back, at)
        for place, (item, other) in enumerate(zip(value, back, strict=True)):
            if isinstance(value, Sequence):
                check_written(item, other, (*at, place))


def check_taken(given: Any, taken: Any, at: Path = ()) -> None:
    """Raise `Lost` unless `taken`, a value of a type, was made of all parts of `given`, which stands for it.

    JSON can stand for a value, also where its texts and numbers have another type, and so can another kind of
    container. An object cannot stand for another object.
    """
    if isinstance(given, (str, int, float, NoneType)) or given is taken:
        return
    if isinstance(given, Mapping):
        _check_mapping_taken(given, taken, at)
    elif isinstance(given, Collection) and not isinstance(given, (bytes, bytearray)):
        if _is_named(given) and not _is_named(taken):
            raise _another(given, taken, at)
        if isinstance(taken, Collection) and len(given) != len(taken):
            raise Lost(at, f"it has equal items, which a {_name(taken)} holds once")
        if isinstance(given, _ORDERED) and isinstance(taken, _ORDERED):
            for place, (item, other) in enumerate(zip(given, taken, strict=True)):
                check_taken(item, other, (*at, place))
    elif isinstance(given, BaseModel) and isinstance(taken, type(given)):
        pass  # The type had no parameters before (`Page`), and has one now (`Page[int]`).
    elif not _equal(given, taken):
        raise _another(given, taken, at)


def _check_mapping_taken(given: Mapping[Any, Any], taken: Any, at: Path) -> None:
    if isinstance(taken, Mapping):
        if len(taken) < len(given):
            gone = [key for key in given if isinstance(key, str) and key not in taken]
            raise Lost((*at, *gone[:1]), "the type hint has no such key, so its value would be lost")
        for key in given.keys() & taken.keys():
            check_taken(given[key], taken[key], (*at, key))
    elif isinstance(taken, BaseModel) or dataclasses.is_dataclass(taken):
        names = _names_taken(taken)
        for key, item in given.items():
            if key not in names:
                raise Lost((*at, key), f"{_name(taken)} has no such field")
            check_taken(item, getattr(taken, names[key], None), (*at, key))


def _check_attributes_written(value: Any, names: Sequence[str], back: Any, at: Path) -> None:
    if not isinstance(back, dict):
        raise _another(value, back, at)
    fields: Mapping[str, FieldInfo] = getattr(type(value), "__pydantic_fields__", {})
    for name in names:
        item = getattr(value, name, None)
        if name in back:
            check_written(item, back[name], (*at, name))
        elif name not in fields or not _equal(item, fields[name].get_default(call_default_factory=True)):
            raise Lost((*at, name), f"the JSON of a {_name(value)} leaves this field out")


def _compare_leaves(value: Any, back: Any, at: Path) -> None:
    if _equal(value, back):
        if _is_named(value) and type(value) is not type(back):
            raise _another(value, back, at)
        return
    if type(value) is not type(back):
        raise _another(value, back, at)
    if isinstance(value, str) and _joined(value) == back:
        return
    if getattr(type(value), "__eq__", None) is not object.__eq__:
        raise Lost(at, "it would come back as another value of its type")


def _check_keys(value: Mapping[Any, Any], back: Any, at: Path) -> None:
    if not isinstance(back, Mapping):
        raise _another(value, back, at)
    for key in value:
        if key not in back:
            raise Lost((*at, key), "the type hint has no such key, so its value would be lost")


def _paired(
    value: Mapping[Any, Any], back: Any, at: Path, *, keys_become_text: bool
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each key and its two items. Keys that were not text before are found by their place."""
    if not isinstance(back, Mapping):
        raise _another(value, back, at)
    if len(back) != len(value):
        raise Lost(at, SAME_KEYS)
    for (key, item), other in zip(value.items(), list(back.values()), strict=True):
        if key in back:
            yield key, item, back[key]
        elif keys_become_text and not isinstance(key, str):
            yield key, item, other
        else:
            raise Lost((*at, key), "its key would come back as another one")


def _another(value: Any, back: Any, at: Path) -> Lost:
    return Lost(at, f"it is a {_name(value)}, and would come back as {_name(back)}: change the type hint")


def _name(value: Any) -> str:
    return type(value).__qualname__


def _choices(schema: CoreSchema) -> list[CoreSchema]:
    choices = schema["choices"]
    return [
        choice[0] if isinstance(choice, tuple) else choice
        for choice in (choices.values() if isinstance(choices, Mapping) else choices)
    ]


def _tuple_items(schema: CoreSchema, length: int) -> list[CoreSchema]:
    items = list(schema["items_schema"])
    place = schema.get("variadic_item_index")
    if place is not None:
        items[place : place + 1] = [items[place]] * (length - len(items) + 1)
    return (items + [_ANY] * length)[:length]


def _names_taken(taken: Any) -> dict[Any, str]:
    """Return the names and aliases by which the class of `taken` takes fields, each with the attribute."""
    cls, names = type(taken), {}
    fields: Mapping[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
    for name, field in fields.items():
        alias = field.validation_alias
        for one in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            names[one.path[0] if isinstance(one, AliasPath) else one] = name
    others = getattr(cls, "__dataclass_fields__", {}), getattr(taken, "__pydantic_extra__", None) or {}
    return names | {name: name for some in (fields, *others) for name in some}


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _joined(text: str) -> str:
    """Return the text as JSON has it, where two halves of a character in a row become one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back)
    except Exception:  # An `__eq__` is user code, and may not allow this comparison.
        return False
