"""The base of every frozen value that goes to JSON and back."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer


class Value(BaseModel):
    """An immutable value, equal to its JSON round trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def with_(self, **changes: Any) -> Self:
        """Return a copy with `changes`, which are trusted to be of the right types."""
        return self.model_copy(update=changes)


class WireValue(BaseModel):
    """An immutable value in another system's format: what it does not name, it keeps as it came."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings")

    @model_serializer(mode="wrap")
    def _as_it_came(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = {"type", *self.model_fields_set}
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
