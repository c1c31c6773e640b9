"""Tags: what they may be, and how they change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.errors import DefinitionError
from outlast.core.records import EventEmitted, ExecutionStarted
from outlast.core.tags import (
    TAG_CHARACTERS_MAX,
    TAGS_MAX,
    changed,
    changes_in,
    checked_changes,
    checked_tags,
    too_many,
)

texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=TAG_CHARACTERS_MAX)
names = texts.filter(bool)
tags = st.dictionaries(names, texts, max_size=TAGS_MAX)
changes = st.dictionaries(names, st.none() | texts, max_size=TAGS_MAX)


@given(tags=tags)
def test_any_text_without_control_characters_can_be_a_tag(tags: dict[str, str]) -> None:
    assert checked_tags(tags) == checked_changes(tags) == tags


@given(tags=tags, changes=changes)
def test_a_change_adds_replaces_or_removes_and_leaves_the_rest(
    tags: dict[str, str], changes: dict[str, str | None]
) -> None:
    after = changed(tags, changes)
    for name in {*tags, *changes}:
        assert after.get(name) == (changes[name] if name in changes else tags[name])
    assert changed(after, changes) == after


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["a"], "mapping"),
        ({str(number): "" for number in range(TAGS_MAX + 1)}, "at most 20"),
        ({"": "x"}, "empty"),
        ({7: "x"}, "name of a tag is text, not int"),
        ({"a": 7}, "value of tag 'a' is text, not int"),
        ({"a" * (TAG_CHARACTERS_MAX + 1): "x"}, "201 characters"),
        ({"a": "x" * (TAG_CHARACTERS_MAX + 1)}, "201 characters"),
        ({"a\n": "x"}, "control characters"),
        ({"a": "\0"}, "control characters"),
        ({"a": "\ud800"}, "surrogate"),
    ],
)
def test_what_no_tag_can_be_is_refused_in_words(wrong: dict[str, str], words: str) -> None:
    for check in (checked_tags, checked_changes):
        with pytest.raises(DefinitionError, match=words):
            check(wrong)


def test_the_changes_in_records_are_those_of_code_in_order() -> None:
    emitted: list[events.AnyEventData] = [
        events.TaggedData.of({"team": "blue", "draft": "1"}),
        events.PatchedData(patch="p"),
        events.TaggedData.of({"draft": None}),
    ]
    records = [EventEmitted.of(f"event:{number}", data) for number, data in enumerate(emitted)]
    started = ExecutionStarted(at=0.0, workflow="w", arguments={})
    assert changes_in([started, *records]) == {"team": "blue", "draft": None}
    assert changes_in([started]) == {}


def test_only_a_change_removes_a_tag() -> None:
    assert checked_changes({"a": None}) == {"a": None}
    with pytest.raises(DefinitionError, match="None"):
        checked_tags({"a": None})  # type: ignore[dict-item]  # what is refused


def test_the_error_of_too_many_says_how_many() -> None:
    assert "would have 21" in str(too_many(21))
