"""Journal records: they are equal after writing and reading; foreign bytes raise an error."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from outlast.core import records
from outlast.core.errors import StorageCorrupt, StorageTooNew
from outlast.core.json import decode, encode
from outlast.core.records import (
    FORMAT,
    INPUTS,
    LAYOUTS,
    NOTES,
    REQUESTS,
    Encoder,
    ExecutionEnded,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepKind,
    StepScheduled,
    decode_record,
    encode_record,
)
from tests.core.strategies import any_record, json_values, nested


@given(any_record)
def test_a_record_is_read_as_it_was_written(record: Any) -> None:
    assert decode_record(encode_record(record)) == record
    assert type(decode_record(encode_record(record))) is type(record)


@given(any_record)
def test_the_same_record_is_always_the_same_bytes(record: Any) -> None:
    assert encode_record(decode_record(encode_record(record))) == encode_record(record)


@given(any_record)
def test_a_record_in_the_first_format_is_read_as_the_same_record(record: Any) -> None:
    assert decode_record(record.to_json()) == record
    if isinstance(record, ExecutionStarted):
        assert decode_record(encode({**record.to_data(), "format": 1})) == record


@given(any_record)
def test_a_record_takes_no_more_bytes_than_in_the_first_format(record: Any) -> None:
    if not isinstance(record, ExecutionStarted):
        assert len(encode_record(record)) < len(record.to_json())


def test_a_layout_has_all_fields_of_its_class_and_a_tag_of_its_own() -> None:
    assert {layout.cls for layout in LAYOUTS} == {*INPUTS, *REQUESTS, *NOTES} - {ExecutionStarted}
    assert len({layout.tag for layout in LAYOUTS}) == len(LAYOUTS)
    for layout in LAYOUTS:
        fixed = {"type", "key"} if layout.cls is ExecutionEnded else {"type"}
        assert {*layout.fields} == {*layout.cls.model_fields} - fixed
        assert len({*layout.fields}) == len(layout.fields)


def test_null_in_a_layout_always_means_the_default() -> None:
    for layout in LAYOUTS:
        for name in layout.fields:
            field = layout.cls.model_fields[name]
            if field.is_required() or field.get_default(call_default_factory=True) is None:
                continue
            with pytest.raises(ValidationError):
                TypeAdapter[Any](field.rebuild_annotation()).validate_python(None)


def test_what_a_record_does_not_say_is_left_out() -> None:
    step = StepScheduled(key="k", kind=StepKind.TOOL, name="look_up")
    assert encode_record(step) == b'["s","k","tool","look_up"]'
    assert encode_record(step.with_(model="m")) == b'["s","k","tool","look_up",null,"m"]'
    assert encode_record(StepCompleted(at=1.5, key="k", result=None)) == b'["d",1.5,"k",null]'
    assert encode_record(ExecutionEnded(status=Status.COMPLETED)) == b'["z","completed"]'


@given(json_values)
def test_a_result_is_kept_unchanged(value: Any) -> None:
    kept = decode_record(encode_record(StepCompleted(at=0, key="k", result=value)))
    assert isinstance(kept, StepCompleted)
    assert repr(kept.result) == repr(value)


@given(st.lists(any_record, max_size=4), st.sets(st.integers(0, 3)), st.booleans())
def test_records_have_the_same_bytes_whether_their_size_was_checked_or_not(
    batch: list[Any], judged: set[int], forgotten: bool
) -> None:
    encoder = Encoder()
    for number in judged & set(range(len(batch))):
        assert encoder.size(batch[number]) == len(encode_record(batch[number]))
    if forgotten:
        encoder.forget()
    for _ in range(2):
        assert encoder.take(batch) == [encode_record(record) for record in batch]


def test_every_record_is_an_input_a_request_or_a_note() -> None:
    assert set(get_args(records.Input)) == {*INPUTS}
    assert set(get_args(records.Request)) == {*REQUESTS}
    assert set(get_args(records.Note)) == {*NOTES}


def test_a_record_is_stored_under_the_name_of_its_class() -> None:
    for record in (*INPUTS, *REQUESTS, *NOTES):
        stored = record.model_fields["type"].default
        assert "".join(word.capitalize() for word in stored.split("_")) == record.__name__


@given(st.binary() | json_values.map(encode))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StorageCorrupt, match="restore it from a copy"):
        decode_record(data)


@given(any_record, st.data())
def test_damaged_bytes_are_refused(record: Any, data: st.DataObject) -> None:
    whole = encode_record(record)
    with pytest.raises(StorageCorrupt):
        decode_record(whole[: data.draw(st.integers(0, len(whole) - 1))])
    value = decode(whole)
    more = {**value, "one more": 1} if isinstance(value, dict) else [*value, *[1] * 8]
    with pytest.raises(StorageCorrupt):
        decode_record(encode(more))


def test_a_message_about_damaged_bytes_shows_none_of_them() -> None:
    with pytest.raises(StorageCorrupt) as caught:
        decode_record(b'{"type": "timer_fired", "at": "a secret", "key": "k"}')
    assert "timer_fired.at" in str(caught.value)
    assert "a secret" not in str(caught.value)
    with pytest.raises(StorageCorrupt, match="TimerFired: at") as caught:
        decode_record(b'["r", "a secret", "k"]')
    assert "a secret" not in str(caught.value)


@given(any_record, st.integers(min_value=FORMAT + 1))
def test_a_journal_of_a_newer_format_is_refused_whatever_else_it_holds(record: Any, newer: int) -> None:
    started = ExecutionStarted(at=0, workflow="w", arguments={})
    for ours in (started, record):
        with pytest.raises(StorageTooNew, match=f"format {newer}.*upgrade"):
            decode_record(encode({**ours.to_data(), "format": newer}))


def test_code_of_the_first_format_sees_that_a_journal_is_too_new_for_it() -> None:
    """That code reads objects alone, and refuses those with a greater number of the format."""
    first = decode(encode_record(ExecutionStarted(at=0, workflow="w", arguments={})))
    assert (first["type"], first["format"]) == ("execution_started", 2)


def test_values_as_deep_as_json_may_be_still_fit_into_a_record_and_deeper_ones_are_refused() -> None:
    deep = StepCompleted(at=0, key="k", result=nested(100))
    assert decode_record(encode_record(deep)) == deep
    with pytest.raises(ValueError, match="levels deep"):
        encode_record(StepCompleted(at=0, key="k", result=nested(150)))
    with pytest.raises(StorageCorrupt):
        decode_record(b'{"type":"step_completed","at":0,"key":"k","result":' + b"[" * 100_000)
