"""Prices: what a session's own ones say that a reply costs, and how the cost becomes part of its usage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any

from pydantic import Field, ValidationError

from outlast.core.argument_checks import check_mapping
from outlast.core.errors import ConfigurationError
from outlast.core.money import Amount, Money, plus, rounded, times
from outlast.core.usage import Usage
from outlast.core.values import Value, faults

_WRITE = 'prices={"the model": outlast.Price(input=…, output=…)}'
_MILLIONTH = Decimal("0.000001")


class Price(Value):
    """The price of a model or of a connector, in US dollars.

    outlast.LocalSession(prices={"our-model": outlast.Price(input="0.4", output=2)})
    """

    input: Money = Field(default=Decimal(0), ge=0)
    """The price of a million input tokens."""
    output: Money = Field(default=Decimal(0), ge=0)
    """The price of a million output tokens."""
    cached_input: Money | None = Field(default=None, ge=0)
    """The price of a million input tokens that the server had cached; None: the price of `input`."""
    call: Money = Field(default=Decimal(0), ge=0)
    """The price of each call."""

    def __init__(
        self,
        *,
        input: Amount = 0,
        output: Amount = 0,
        cached_input: Amount | None = None,
        call: Amount = 0,
    ) -> None:
        """Make the price.

        Raises:
            ConfigurationError: an amount is not a number, or is negative.
        """
        given = {"input": input, "output": output, "cached_input": cached_input, "call": call}
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigurationError(f"a price cannot have that amount: {faults(error)[0]}") from error

    def of(self, usage: Usage) -> Decimal:
        """Return the cost of one call of a model with that usage."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        tokens = (
            (self.input, read_tokens(usage) - cached),
            (self.input if self.cached_input is None else self.cached_input, cached),
            (self.output, written_tokens(usage)),
        )
        cost = self.call
        for price, count in tokens:
            cost = plus(cost, times(price, count, of=_MILLIONTH))
        return rounded(cost)

    @property
    def is_of_calls(self) -> bool:
        """True if tokens cost nothing."""
        return not (self.input or self.output or self.cached_input)


def read_tokens(usage: Usage) -> int:
    """Return the tokens that a model reads for a reply: those of connectors are among them."""
    return usage.prompt_tokens + usage.connector_tokens


def written_tokens(usage: Usage) -> int:
    """Return the tokens that a model writes for a reply; those that only the total has are thoughts."""
    return max(usage.completion_tokens, usage.total_tokens - read_tokens(usage))


_WRITTEN = 'prices={"the model": outlast.Price(input=…, output=…)}'


class Prices(Mapping[str, Price]):
    """The prices that a session is given, by the names of models and connectors; it does not change."""

    def __init__(self, prices: Mapping[Any, Any] | None = None) -> None:
        """Keep the prices.

        Raises:
            ConfigurationError: they are not prices.
        """
        if prices is not None:
            check_mapping("prices", prices, _WRITE, ConfigurationError)
        for name, price in (prices or {}).items():
            if not isinstance(name, str) or not isinstance(price, Price):
                raise ConfigurationError(f"the price of {name!r} is {type(price).__name__}; write {_WRITE}")
        self._prices: dict[str, Price] = dict(prices or {})

    def __getitem__(self, name: str) -> Price:
        return self._prices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)

    def __hash__(self) -> int:
        return hash(frozenset(self._prices.items()))

    def __repr__(self) -> str:
        return f"Prices({self._prices!r})"


CostOf = Callable[[str, Usage], Decimal | None]
"""Returns what a call of a model costs; None if its price is not known."""


def priced(usage: Usage, models: Collection[str], prices: Prices, published: CostOf) -> Usage:
    """Return the usage of a reply with its cost, and with what of it has no known price.

    If several models took part in a reply, nobody knows which tokens are whose: the dearest one counts.
    """
    unpriced: dict[str, int] = {}
    costs: list[Decimal] = []
    for model in sorted(models):
        cost = _cost(usage, model, prices, published)
        if cost is None:
            unpriced[model] = 1
        else:
            costs.append(cost)
    charged = [max(costs)] if costs else []
    for connector, uses in sorted(usage.connectors.items()):
        if connector in prices:
            charged.append(times(prices[connector].call, uses))
        else:
            unpriced[connector] = uses
    if not charged:
        return usage.with_(unpriced=unpriced)
    return usage.with_(cost=rounded(reduce(plus, charged)), unpriced=unpriced)


def _cost(usage: Usage, model: str, prices: Prices, published: CostOf) -> Decimal | None:
    """Return what the model costs; None too if its tokens cost something and the server has counted none."""
    own = prices.get(model)
    if own is not None and own.is_of_calls:
        return own.call
    if not (read_tokens(usage) or written_tokens(usage)):
        return None
    return own.of(usage) if own is not None else published(model, usage)


def without_price(models: Collection[str], prices: Prices, published: CostOf) -> tuple[str, ...]:
    """Return those of the models whose price is not known, sorted."""
    unknown = {model for model in models if model not in prices and published(model, Usage()) is None}
    return tuple(sorted(unknown))
