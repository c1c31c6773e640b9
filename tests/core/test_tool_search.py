"""The search of tools by keywords: the same query finds the same tools, whatever else there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.agents import ToolSpec
from outlast.core.json import JSON
from outlast.core.tool_search import ranked


def tool(name: str, description: str = "", *parameters: str) -> ToolSpec:
    schema: dict[str, JSON] = {"type": "object", "properties": {one: {} for one in parameters}}
    return ToolSpec(name=name, description=description, parameters=schema)


SHOP = [
    tool("create_invoice", "Creates an invoice for a customer.", "customer", "amount"),
    tool("listInvoices", "Lists what was billed.", "month"),
    tool("refund", "Pays money back.", "invoice"),
    tool("weather", "Tells the weather of a place.", "place"),
    tool("ping"),
]

words = st.sampled_from(["pay", "payment", "invoice", "Wetter", "straße", "get", "x", "1", "", "_", "\ud800"])
names = st.lists(st.sampled_from(["pay", "get", "invoice", "send"]), min_size=1, max_size=3).map("_".join)
catalogues = st.lists(
    st.builds(tool, names, st.lists(words, max_size=4).map(" ".join), words),
    max_size=8,
    unique_by=lambda t: t.name,
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("invoice", ["create_invoice", "listInvoices", "refund"]),
        ("INVOICES", ["listInvoices", "create_invoice"]),
        ("weather in Lyon", ["weather"]),
        ("how do I get money back?", ["refund"]),
        ("customer", ["create_invoice"]),
        ("pay", []),
        ("", []),
    ],
)
def test_tools_are_found_by_the_words_of_names_descriptions_and_parameters(
    query: str, found: list[str]
) -> None:
    assert list(ranked(query, SHOP)) == found


@given(st.lists(words, max_size=4).map(" ".join), catalogues)
def test_a_search_finds_each_tool_once_and_the_same_ones_again(query: str, catalogue: list[ToolSpec]) -> None:
    found = ranked(query, catalogue)
    assert len(set(found)) == len(found)
    assert set(found) <= {one.name for one in catalogue}
    assert ranked(query, catalogue) == ranked(f"{query} {query}", catalogue) == found
    assert set(ranked(query, catalogue[::-1])) == set(found)


@given(catalogues, st.data())
def test_the_whole_name_of_a_tool_finds_it(catalogue: list[ToolSpec], data: st.DataObject) -> None:
    if catalogue:
        one = data.draw(st.sampled_from(catalogue))
        assert one.name in ranked(one.name, catalogue)


def test_words_that_most_tools_have_find_nothing_beside_a_better_tool() -> None:
    many = [tool(f"t{number}", "Does a thing of the shop.") for number in range(50)]
    refund = tool("refund", "Pays money back to a customer of the shop.")
    assert ranked("a refund of the money", [*many, refund]) == ("refund",)
    assert len(ranked("of the shop", many)) == 50


def test_a_schema_without_properties_has_no_words() -> None:
    assert ranked(
        "pay", [ToolSpec(name="pay", parameters={}), ToolSpec(name="x", parameters={"properties": 1})]
    ) == ("pay",)
