"""What a model call cost."""

from __future__ import annotations

from pydantic import Field

from durable_agents.core.model import Value


class Usage(Value):
    """Tokens and connector uses, as the API counts them; the sum of two is `a + b`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    connector_tokens: int = 0
    connectors: dict[str, int] = Field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        names = sorted({*self.connectors, *other.connectors})
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            connector_tokens=self.connector_tokens + other.connector_tokens,
            connectors={n: self.connectors.get(n, 0) + other.connectors.get(n, 0) for n in names},
        )
