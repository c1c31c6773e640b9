"""Published prices: found by the server and the model, offline."""

from __future__ import annotations

from decimal import Decimal

import pytest
from genai_prices import calc_price
from genai_prices.types import Usage as Tokens

from outlast.adapters.mistral.published_prices import published_at
from outlast.core.usage import Usage

MISTRAL = "https://api.mistral.ai"
USAGE = Usage(prompt_tokens=1_000_000, completion_tokens=1000, total_tokens=1_001_000)


def test_a_model_costs_what_its_provider_has_published() -> None:
    expected = calc_price(
        Tokens(input_tokens=1_000_000, output_tokens=1000), "mistral-medium-latest", provider_id="mistral"
    )
    assert published_at(MISTRAL)("mistral-medium-latest", USAGE) == expected.total_price > 0


def test_tokens_from_the_cache_cost_less_where_the_provider_says_so() -> None:
    cost = published_at(MISTRAL)
    cached = cost("mistral-medium-latest", USAGE.with_(cached_tokens=900_000))
    whole = cost("mistral-medium-latest", USAGE)
    assert cached is not None
    assert whole is not None
    assert cached < whole


def test_a_server_that_is_not_known_has_the_prices_of_the_provider_that_a_name_belongs_to() -> None:
    stand_in = published_at("http://127.0.0.1:8000")
    assert stand_in("mistral-small-latest", USAGE) == published_at(MISTRAL)("mistral-small-latest", USAGE)
    assert stand_in("gpt-5-mini", USAGE) == published_at("https://api.openai.com")("gpt-5-mini", USAGE)


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("http://127.0.0.1:8000", "our-own"),
        (MISTRAL, "gpt-5-mini"),
        (MISTRAL, "mistral-of-tomorrow"),
        ("https://api.openai.com", "text-embedding-3-small"),
    ],
    ids=["unknown", "of another provider", "new", "writes no text"],
)
def test_what_has_no_published_price_costs_nothing_known(url: str, model: str) -> None:
    assert published_at(url)(model, USAGE) is None


def test_a_cost_has_twelve_places_at_most() -> None:
    cost = published_at(MISTRAL)("mistral-small-latest", Usage(prompt_tokens=1, completion_tokens=1))
    assert cost is not None
    assert cost == round(cost, 12)
    assert cost > Decimal(0)
