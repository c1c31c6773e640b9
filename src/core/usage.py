"""Usage: the tokens that model calls took, and what they cost.

The cost of a reply is part of its usage. The worker that gets the reply works it out, with the prices that it
knows at that moment; it is journaled with the reply, and nobody works it out again. So money is counted as
tokens are, once and from the journal: a replay, another worker and a later release with other prices come to
the same sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from outlast.core.json import JSON
from outlast.core.money import Money, dollars, minus, plus
from outlast.core.values import Value


class Usage(Value):
    """Tokens and connector uses, as the API counts them, and their cost; with sum and difference."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    connector_tokens: int = 0
    connectors: dict[str, int] = Field(default_factory=dict)
    cached_tokens: int = 0
    """The tokens of the prompt that the server had in its cache."""
    cost: Money = Decimal(0)
    """The cost, in US dollars, of what has a known price."""
    unpriced: dict[str, int] = Field(default_factory=dict)
    """The calls of models and connectors whose price is not known, by name: `cost` does not have them."""

    @property
    def has_cost(self) -> bool:
        """True if something of it has a known price, which may be zero."""
        return "cost" in self.model_fields_set

    @property
    def cost_in_words(self) -> str:
        """The cost for people: "?" if nothing has a known price, and with a plus if something has none."""
        if not self.has_cost:
            return "?" if self.unpriced else ""
        return dollars(self.cost) + ("+" if self.unpriced else "")

    @model_serializer(mode="wrap")
    def _without_what_is_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most replies use no connector, and each is journaled."""
        unused = set() if self.connectors or self.connector_tokens else {"connector_tokens", "connectors"}
        unused |= {name for name in ("cached_tokens", "unpriced") if not getattr(self, name)}
        unused |= set() if self.has_cost else {"cost"}
        return {name: value for name, value in dump(self).items() if name not in unused}

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            connector_tokens=self.connector_tokens + other.connector_tokens,
            connectors=_sum(self.connectors, other.connectors),
            cached_tokens=self.cached_tokens + other.cached_tokens,
            unpriced=_sum(self.unpriced, other.unpriced),
            **({"cost": plus(self.cost, other.cost)} if self.has_cost or other.has_cost else {}),
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            total_tokens=self.total_tokens - other.total_tokens,
            connector_tokens=self.connector_tokens - other.connector_tokens,
            connectors=_difference(self.connectors, other.connectors),
            cached_tokens=self.cached_tokens - other.cached_tokens,
            unpriced=_difference(self.unpriced, other.unpriced),
            **({"cost": minus(self.cost, other.cost)} if self.has_cost or other.has_cost else {}),
        )

    def of_model(self, model: str | None) -> Usage:
        """Return the usage of a reply of `model` whose session may say nothing about the cost.

        That of a session which knows no prices, or of a release before there were any.
        """
        if model is None or self.has_cost or self.unpriced or not self.total_tokens:
            return self
        return self.with_(unpriced={model: 1})


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


def _difference(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    left = {name: one.get(name, 0) - other.get(name, 0) for name in sorted({*one, *other})}
    return {name: number for name, number in left.items() if number}


def usage_in(reply: JSON, model: str | None = None) -> Usage:
    """Return the usage that a journaled reply of `model` has; none if its server has counted nothing."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    try:
        return Usage.model_validate(usage or {}).of_model(model)
    except ValidationError:
        return Usage()
