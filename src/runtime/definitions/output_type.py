"""An agent's output type: the schema that the model gets, and the value that an answer stands for.

Endpoints take schemas of objects only. For a type that is not an object (a list, a number, a union), the
schema is an object with one property, `value`. For `str` the value is the answer's text, without a schema.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from typing_extensions import TypeVar

from outlast.core.errors import DefinitionError
from outlast.core.json import JSON, encode
from outlast.core.values import faults

T_co = TypeVar("T_co", covariant=True, default=Any)

_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)
"""Models that were asked for JSON often put it into a block of Markdown."""


@dataclass(frozen=True, slots=True)
class OutputType:
    """The type that the answers of an agent must have."""

    schema: dict[str, JSON] | None
    """The JSON schema that the model gets; None if any text will do."""
    adapter: TypeAdapter[Any]
    is_wrapped: bool

    @classmethod
    def of(cls, output_type: Any, agent: str) -> OutputType | None:
        """Return the output type of an agent, or None if the agent does not declare one.

        Raises:
            DefinitionError: the type has no JSON schema.
        """
        if output_type is None:
            return None
        if inspect.isroutine(output_type):
            raise DefinitionError(f"the output_type of agent {agent!r} has no JSON schema: it is a function")
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(output_type)
            schema = adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError, ValueError) as error:
            raise DefinitionError(
                f"the output_type of agent {agent!r} has no JSON schema ({type(error).__name__}); "
                "use a pydantic model, a dataclass or a plain type"
            ) from error
        if output_type is str:
            return cls(None, adapter, is_wrapped=False)
        if schema.get("type") == "object":
            return cls(schema, adapter, is_wrapped=False)
        definitions = schema.pop("$defs", None)
        wrapped: dict[str, JSON] = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
        return cls(wrapped | ({"$defs": definitions} if definitions else {}), adapter, is_wrapped=True)

    def parse(self, text: str) -> Any:
        """Return the value that an answer's text stands for.

        Raises:
            ValueError: the text is not a value of the type; the message says why, for the model to correct.
        """
        if self.schema is None:
            return text
        if (fenced := _FENCED.match(text)) is not None:
            text = fenced[1]
        try:
            return self._unwrapped(text) if self.is_wrapped else self.adapter.validate_json(text)
        except ValidationError as error:
            listed = "; ".join(faults(error)[:5])
            raise ValueError(f"It is not JSON of the required schema: {listed}.") from error

    def _unwrapped(self, text: str) -> Any:
        whole: dict[str, Any] = _object.validate_json(text)
        if set(whole) != {"value"}:
            raise ValueError('It must be a JSON object with "value" as its only property.')
        return self.adapter.validate_json(encode(whole["value"]))


_object: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
