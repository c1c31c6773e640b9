"""Usage: sums and differences."""

from __future__ import annotations

from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.json import encode
from outlast.core.usage import Usage, usage_in

counts = st.integers(0, 9)
usages = st.builds(
    Usage,
    prompt_tokens=counts,
    completion_tokens=counts,
    total_tokens=counts,
    connector_tokens=counts,
    connectors=st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)),
    cached_tokens=counts,
    cost=st.decimals(0, 1000, places=12),
    unpriced=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)),
)


@given(usages, usages)
def test_a_difference_undoes_a_sum(one: Usage, other: Usage) -> None:
    assert one + other - other == one
    assert one + other == other + one
    assert one - one == Usage()
    assert Usage.model_validate_json(encode(one.to_data())) == one


def test_a_sum_has_a_cost_if_a_part_of_it_has_one() -> None:
    free, unknown = Usage(total_tokens=1, cost=Decimal(0)), Usage(total_tokens=1)
    assert [one.has_cost for one in (free, unknown, free + unknown, unknown + unknown)] == [1, 0, 1, 0]
    assert [one.has_cost for one in (free - unknown, unknown - unknown)] == [1, 0]
    assert free.to_data()["cost"] == "0"
    assert "cost" not in unknown.to_data()


def test_a_reply_without_a_cost_is_of_a_model_without_a_known_price() -> None:
    tokens = Usage(total_tokens=3)
    assert tokens.of_model("m") == Usage(total_tokens=3, unpriced={"m": 1})
    for told in (Usage(), tokens.with_(cost=Decimal(1)), tokens.with_(unpriced={"other": 2})):
        assert told.of_model("m") == told
    assert tokens.of_model(None) == tokens
    assert usage_in({"usage": {"total_tokens": 3}}, "m").unpriced == {"m": 1}


def test_sums_of_money_are_exact_whatever_the_context() -> None:
    parts = [Usage(cost=Decimal(text)) for text in ("1000000", "0.000000000001", "0.1", "0.2")]
    with localcontext() as context:
        context.prec = 3
        assert sum(parts, Usage()).cost == Decimal("1000000.300000000001")
