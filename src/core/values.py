"""The base of every frozen value that goes to JSON and back."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from outlast.core.json import JSON, encode, quickly_encoded

_set = object.__setattr__
"""Sets an attribute of a frozen value."""


class Value(BaseModel):
    """An immutable value, equal to its JSON round trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_data(self, mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """Return what `model_validate` makes an equal value of, without the fields that hold nothing.

        Such a field has its default, and that is None, an empty collection, or a value that has only
        defaults: most fields of most records.
        """
        nothing = _nothing_in(type(self))
        return {
            name: value
            for name, value in self.model_dump(mode=mode).items()
            if name not in nothing or value not in nothing[name]
        }

    def to_json(self) -> bytes:
        """Return `to_data` as JSON; raises ValueError when what the value carries is nested too deep."""
        data = self.to_data()
        return quickly_encoded(data) or encode(data)

    def with_(self, **changes: Any) -> Self:
        """Return a copy with `changes`, which are trusted to be of the right types.

        It is what `model_copy` returns, in half the time: the machines make a dozen copies in each turn. A
        `Value` has no extra fields and no private ones, so there is nothing else to copy.
        """
        copied = self.__class__.__new__(self.__class__)
        _set(copied, "__dict__", self.__dict__ | changes)
        _set(copied, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        _set(copied, "__pydantic_extra__", None)
        _set(copied, "__pydantic_private__", None)
        return copied


@cache
def _nothing_in(cls: type[Value]) -> dict[str, tuple[Any, ...]]:
    """Return the fields of a class whose default is nothing, each with what that looks like in a dump."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in cls.model_fields.items()
        if not field.is_required() and not field.default_factory_takes_validated_data
    }
    kinds: tuple[tuple[Any, ...], ...] = ((None,), ({},), ((), []))
    nothing = {name: kind for name, default in defaults.items() for kind in kinds if default in kind}
    values = {name: default for name, default in defaults.items() if isinstance(default, Value)}
    return nothing | {
        name: (value.model_dump(), value.model_dump(mode="json")) for name, value in values.items()
    }


class WireValue(BaseModel):
    """An immutable value in another system's format: what it does not name, it keeps as it came."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JSON]

    always_written: ClassVar[frozenset[str]] = frozenset({"type"})
    """The fields that the other system requires, though they have a default here."""

    @model_serializer(mode="wrap")
    def _as_it_came(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = self.always_written | self.model_fields_set
        return {name: value for name, value in dump(self).items() if name in kept}

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object as it came, or as it was built (without fields never set)."""
        return self.model_dump(mode="json")


def faults(error: ValidationError) -> list[str]:
    """Return one line a fault, each naming the place and what is wrong, without the offending input."""
    return [
        f"{'.'.join(str(part) for part in fault['loc']) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
