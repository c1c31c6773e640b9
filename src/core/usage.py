"""Usage: the tokens that model calls took."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from outlast.core.values import Value


class Usage(Value):
    """Tokens and connector uses, as the API counts them; the sum of two is `a + b`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    connector_tokens: int = 0
    connectors: dict[str, int] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_unused_connectors(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most replies use none, and each is journaled."""
        unused = () if self.connectors or self.connector_tokens else ("connector_tokens", "connectors")
        return {name: value for name, value in dump(self).items() if name not in unused}

    def __add__(self, other: Usage) -> Usage:
        names = sorted({*self.connectors, *other.connectors})
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            connector_tokens=self.connector_tokens + other.connector_tokens,
            connectors={n: self.connectors.get(n, 0) + other.connectors.get(n, 0) for n in names},
        )
