"""Prices: what a reply costs, exactly, and what has no known price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from outlast.core.errors import BudgetExceeded, ConfigurationError
from outlast.core.failure import Failure
from outlast.core.json import decode
from outlast.core.money import dollars, plain, rounded
from outlast.core.prices import Price, Prices, priced, without_price
from outlast.core.usage import Usage

PRICE = Price(input="0.4", output=2, cached_input=0.1, call="0.001")
TOKENS = Usage(prompt_tokens=1000, completion_tokens=100, total_tokens=1100)


def published(model: str, usage: Usage) -> Decimal | None:
    """Return a price for two models."""
    return {"known": Decimal("0.5"), "dear": Decimal("0.7")}.get(model)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (TOKENS, "0.0016"),
        (TOKENS.with_(cached_tokens=500), "0.00145"),
        (TOKENS.with_(cached_tokens=5000), "0.0013"),
        (TOKENS.with_(connector_tokens=1000, total_tokens=2100), "0.002"),
        (TOKENS.with_(total_tokens=1200), "0.0018"),
        (Usage(total_tokens=50), "0.0011"),
    ],
    ids=["tokens", "cached", "more cached than there are", "connectors", "thoughts", "only a total"],
)
def test_a_price_counts_every_token(usage: Usage, cost: str) -> None:
    assert PRICE.of(usage) == Decimal(cost)


def test_tokens_in_the_cache_cost_what_others_do_unless_there_is_a_price() -> None:
    assert Price(input=1).of(TOKENS.with_(cached_tokens=500)) == Decimal("0.001")


def test_the_cost_of_a_reply_is_that_of_its_own_price_or_the_published_one() -> None:
    own = Prices({"known": PRICE})
    assert priced(TOKENS, ["known"], own, published).cost == Decimal("0.0016")
    assert priced(TOKENS, ["dear"], own, published).cost == Decimal("0.7")
    assert priced(TOKENS, ["known", "dear"], Prices(), published).cost == Decimal("0.7")


def test_what_has_no_price_is_named() -> None:
    usage = TOKENS.with_(connectors={"web_search": 2, "code_interpreter": 3})
    own = Prices({"web_search": Price(call="0.03")})
    found = priced(usage, ["other", "known"], own, published)
    assert (found.cost, found.unpriced) == (Decimal("0.56"), {"other": 1, "code_interpreter": 3})
    assert without_price(["other", "known", "web_search"], own, published) == ("other",)


def test_a_reply_of_which_no_token_was_counted_has_no_known_cost_unless_tokens_are_free() -> None:
    own = Prices({"ours": Price(), "dear": PRICE})
    assert priced(Usage(), ["known"], own, published).unpriced == {"known": 1}
    assert priced(Usage(), ["dear"], own, published).unpriced == {"dear": 1}
    free = priced(Usage(), ["ours"], own, published)
    assert free.to_data()["cost"] == "0"
    assert not free.unpriced


def test_a_reply_of_which_nothing_has_a_price_has_no_cost() -> None:
    assert not priced(TOKENS, ["other"], Prices(), published).has_cost


def test_prices_are_a_value() -> None:
    one, same = Prices({"a": PRICE}), Prices({"a": Price(**PRICE.to_data())})
    assert one == same
    assert hash(one) == hash(same)
    assert one != Prices()
    assert (len(one), list(one), repr(Prices())) == (1, ["a"], "Prices({})")


@pytest.mark.parametrize("wrong", [{"a": 1}, {1: PRICE}, [PRICE], 5])
def test_what_is_not_a_price_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"outlast\.Price\("):
        Prices(wrong)


@pytest.mark.parametrize("wrong", [{"input": -1}, {"output": "free"}, {"call": "NaN"}])
def test_a_price_is_a_number_that_is_not_negative(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a price cannot have"):
        Price(**wrong)


def test_amounts_are_written_without_an_exponent() -> None:
    assert [plain(Decimal(text)) for text in ("1E-7", "1E+2", "0.50", "100")] == [
        "0.0000001",
        "100",
        "0.5",
        "100",
    ]
    assert rounded(Decimal(1) / 3) == Decimal("0.333333333333")
    assert str(rounded(Decimal("1.20"))) == "1.2"


def test_a_limit_of_money_keeps_its_amounts_in_a_journal() -> None:
    error = BudgetExceeded("clerk", "cost", Decimal("0.5"), Decimal("0.5012"))
    assert "its limit of 0.5 US dollars (used: 0.5012)" in str(error)
    again = Failure.model_validate(decode(Failure.of(error).to_json())).error()
    assert isinstance(again, BudgetExceeded)
    assert (again.allowed, again.used) == (error.allowed, error.used)


def test_amounts_for_people_are_rounded_but_never_to_nothing() -> None:
    amounts = ("0", "0.00001", "0.0008365", "12.5", "1234.567")
    assert [dollars(Decimal(amount)) for amount in amounts] == [
        *("$0", "<$0.0001", "$0.0008", "$12.5000", "$1,234.57")
    ]
    assert Usage(cost=Decimal("0.5"), unpriced={"m": 1}).cost_in_words == "$0.5000+"
    assert Usage(total_tokens=3).cost_in_words == ""
    assert Usage(total_tokens=3, unpriced={"m": 1}).cost_in_words == "?"
