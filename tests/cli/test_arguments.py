"""The arguments of a workflow or a handler, from the words of a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

import outlast
from outlast.cli.arguments import Callee, Given, WrongWords, arguments_for, given
from outlast.core.json import JSON, decode
from outlast.runtime.definitions.known_workflows import definition_of


@outlast.workflow.define(name="arguments_order")
class Order:
    @outlast.workflow.entrypoint
    async def run(self, note: str, count: int = 1, tags: list[str] | None = None) -> str:
        return note

    @outlast.workflow.signal
    def add(self, article: str, /, *, at: date | None = None, **others: int) -> None:
        return None


@outlast.workflow.define(name="arguments_anything")
class Anything:
    @outlast.workflow.entrypoint
    async def run(self, value: Any, day: date | None = None) -> None:
        return None


ORDER, ANYTHING = (Callee.entrypoint(definition_of(workflow)) for workflow in (Order, Anything))
ADD = Callee.handler(definition_of(Order), "signal", "add")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
plain_words = st.from_regex(r"[a-mo-z][a-z -]{0,20}", fullmatch=True).filter(
    lambda word: word not in ("true", "false")
)


def words(callee: Callee | None, *given: str) -> list[Any]:
    args, kwargs = arguments_for(callee, Given(given))
    assert kwargs == {}
    return args


@for_all(st.text(), st.integers(), st.lists(st.text()))
def test_a_text_parameter_takes_its_word_as_it_is_and_others_take_json(
    note: str, count: int, tags: list[str]
) -> None:
    assert words(ORDER, note, str(count), json.dumps(tags)) == [note, count, tags]


@for_all(st.text(), st.integers(), st.lists(st.text()), st.permutations([0, 1, 2]), st.integers(0, 3))
def test_the_three_forms_mean_the_same_in_any_mixture(
    note: str, count: int, tags: list[str], order: list[int], cut: int
) -> None:
    texts = [("note", note), ("count", str(count)), ("tags", json.dumps(tags))]
    values: list[tuple[str, JSON]] = [("note", note), ("count", count), ("tags", [*tags])]
    named = [f"{texts[n][0]}={texts[n][1]}" for n in order if n < cut]
    document = json.dumps(dict(values[n] for n in order if n >= cut))
    assert arguments_for(ORDER, given([], named, document)) == ([note, count, tags], {})
    first = [text for _, text in texts[:cut]]
    rest = [f"{name}={text}" for name, text in texts[cut:]]
    assert arguments_for(ORDER, given(first, rest, None)) == ([note, count, tags], {})


def test_a_parameter_after_one_that_is_left_out_goes_by_name() -> None:
    assert arguments_for(ORDER, given(["n"], ["tags=[]"], None)) == (["n"], {"tags": []})


def test_a_handler_takes_what_its_signature_takes() -> None:
    found = arguments_for(ADD, given(["tea"], ["at=2026-02-28", "more=3"], '{"less": 1}'))
    assert found == (["tea"], {"at": date(2026, 2, 28), "more": 3, "less": 1})
    with pytest.raises(WrongWords, match="has no query 'add'; it has: none"):
        Callee.handler(definition_of(Order), "query", "add")


@for_all(json_values)
def test_a_parameter_of_any_type_takes_any_json(value: object) -> None:
    assert words(ANYTHING, json.dumps(value)) == [value]


@for_all(plain_words)
def test_a_word_that_is_not_json_is_text_where_text_fits(word: str) -> None:
    assert words(ANYTHING, word) == [word]
    assert words(None, word) == [word]


@for_all(
    st.lists(json_values, max_size=3),
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), json_values),
)
def test_without_a_signature_each_word_that_is_json_is_sent_as_json(
    values: list[JSON], named: Mapping[str, JSON]
) -> None:
    texts = [json.dumps(value) for value in values]
    pairs = [f"{name}={json.dumps(value)}" for name, value in named.items()]
    assert arguments_for(None, given(texts, pairs, None)) == ([*map(decode, texts)], dict(named))


def test_a_word_is_parsed_where_pydantic_parses_text() -> None:
    assert words(ANYTHING, "1", "2026-02-28") == [1, date(2026, 2, 28)]


@pytest.mark.parametrize(
    ("texts", "named", "document", "message"),
    [
        (["a", "many"], [], None, "^count: Input should be a valid integer"),
        (["a", "1", '["open'], [], None, "^tags: Invalid JSON"),
        (["a", "1", "[1]"], [], None, r"^tags\.0: Input should be a valid string"),
        (["a", "1", "[]", "more"], [], None, "takes note, count, tags; 4 were given$"),
        ([], [], None, "takes note, count, tags; 0 were given$"),
        ([], ["count=1"], None, "note is missing$"),
        (["a"], ["colour=red"], None, "it has no parameter 'colour'$"),
        (["a"], ["note=b"], None, "^note is given twice: by position and by name$"),
        ([], ["note=b", "note=c"], None, "^note is given twice$"),
        ([], ["note=b"], '{"note": "b"}', "^note is given twice$"),
        ([], ["note"], None, "'note' is not NAME=VALUE"),
        ([], ["no-te=a"], None, "'no-te=a' is not NAME=VALUE"),
        ([], [], "[1]", "not a JSON object"),
        ([], [], "{", "--input is not JSON"),
        ([], [], '{"note": 1}', "^note: Input should be a valid string"),
    ],
)
def test_words_that_do_not_fit_are_named(
    texts: list[str], named: list[str], document: str | None, message: str
) -> None:
    with pytest.raises(WrongWords, match=message):
        arguments_for(ORDER, given(texts, named, document))


def test_a_broken_document_is_not_sent_as_text() -> None:
    with pytest.raises(WrongWords, match="begins like JSON"):
        words(None, '{"open')
