"""Finding a workflow and its arguments in the words of a command line."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast.cli.loading import arguments_of, workflow_called, workflows_in
from outlast.runtime.definitions.workflow import definition_of


@outlast.workflow.define(name="loading_order")
class Order:
    @outlast.workflow.entrypoint
    async def run(self, note: str, count: int = 1, tags: list[str] | None = None) -> str:
        return note


@outlast.workflow.define(name="loading_anything")
class Anything:
    @outlast.workflow.entrypoint
    async def run(self, value: Any, day: date | None = None) -> None:
        return None


ORDER, ANYTHING = definition_of(Order), definition_of(Anything)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.integers(), st.lists(st.text()))
def test_a_text_parameter_takes_its_word_as_it_is_and_others_take_json(
    note: str, count: int, tags: list[str]
) -> None:
    assert arguments_of(ORDER, [note, str(count), json.dumps(tags)]) == [note, count, tags]


@given(json_values)
def test_a_parameter_of_any_type_takes_any_json(value: object) -> None:
    assert arguments_of(ANYTHING, [json.dumps(value)]) == [value]


@given(
    st.from_regex(r"[a-mo-z][a-z -]{0,20}", fullmatch=True).filter(lambda word: word not in ("true", "false"))
)
def test_a_word_that_is_not_json_is_text_where_text_fits(word: str) -> None:
    assert arguments_of(ANYTHING, [word]) == [word]


def test_a_word_is_parsed_where_pydantic_parses_text() -> None:
    assert arguments_of(ANYTHING, ["1", "2026-02-28"]) == [1, date(2026, 2, 28)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "many"], "^count: Input should be a valid integer"),
        (["a", "1", '["open'], "^tags: Invalid JSON"),
        (["a", "1", "[1]"], r"^tags\.0: Input should be a valid string"),
        (["a", "1", "[]", "more"], "takes note, count, tags; 4 were given$"),
        ([], "takes note, count, tags; 0 were given$"),
    ],
)
def test_words_that_do_not_fit_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments_of(ORDER, words)


def test_a_workflow_is_found_by_its_name_and_by_that_of_its_class() -> None:
    assert workflow_called("loading_order", __name__) is ORDER
    assert workflow_called(f"{__name__}:Order", None) is ORDER
    assert workflows_in([__name__, f"{__name__}:loading_order"]) == [ORDER, ANYTHING]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module", "module 'no_such_module' was not found"),
        ("json.no_such_module", "module 'json.no_such_module' was not found"),
        ("shop/orders.py", "give the module's name, such as shop.orders"),
        ("json", "module 'json' has no workflow; decorate a class with @workflow.define"),
        (f"{__name__}:Missing", "has no workflow 'Missing'; it has: loading_order, loading_anything"),
    ],
)
def test_the_error_names_the_target_that_cannot_be_loaded(target: str, message: str) -> None:
    with pytest.raises(outlast.ConfigurationError) as caught:
        workflows_in([target])
    assert message in str(caught.value)


def test_a_name_without_a_module_is_not_guessed() -> None:
    with pytest.raises(outlast.ConfigurationError, match="give --module MODULE"):
        workflow_called("Order", None)
