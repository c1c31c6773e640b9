"""The published prices of models, from the data of `genai-prices`, which is part of its package: no network.

The package takes a third of a second to import, so it is imported in a thread while the first reply of a
process is on its way.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from outlast.core.money import rounded
from outlast.core.prices import CostOf, read_tokens, written_tokens
from outlast.core.usage import Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot


def is_loaded() -> bool:
    """Return whether the data has been read."""
    return "genai_prices.data" in sys.modules


def load() -> DataSnapshot | None:
    """Return the data; it is read when this is first called. None if the package is not installed."""
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    return get_snapshot()


def published_at(url: str) -> CostOf:
    """Return a function for the published cost of a call to the server at that URL.

    A model of a server that is not in the data (a proxy, a stand-in) costs what it costs at the provider that
    its name belongs to.
    """

    def cost_of(model: str, usage: Usage) -> Decimal | None:
        data = load()
        return None if data is None else _cost(data, url, model, usage)

    return cost_of


def _cost(data: DataSnapshot, url: str, model: str, usage: Usage) -> Decimal | None:
    from genai_prices import Usage as Tokens

    tokens = Tokens(
        input_tokens=read_tokens(usage),
        cache_read_tokens=min(usage.cached_tokens, usage.prompt_tokens),
        output_tokens=written_tokens(usage),
    )
    try:
        found = data.calc(tokens, model, None, url if _is_known(data, url) else None, None)
    except (LookupError, ValueError, ArithmeticError):  # A reply is not lost because of its price.
        return None
    prices = vars(found.model_price)
    if prices.get("input_mtok") is None or prices.get("output_mtok") is None:
        return None  # It is not a model that reads and writes text.
    return rounded(found.total_price)


def _is_known(data: DataSnapshot, url: str) -> bool:
    try:
        data.find_provider(None, None, url)
    except LookupError:
        return False
    return True
