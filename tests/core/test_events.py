"""Every kind of event has its own class of data, which goes to JSON and back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.entries import FunctionCall, MessageOutput
from outlast.core.events import (
    DATA,
    AnyEventData,
    EventData,
    EventKind,
    ModelRepliedData,
    ToolReturnedData,
    event_data,
    repeated,
)
from outlast.core.failure import Failure
from outlast.core.json import JSON, decode, encode
from outlast.core.records import EventEmitted, decode_record, encode_record
from outlast.core.usage import Usage
from tests.core.strategies import any_event_data, data_of_kind, json_values

SOURCES = Path(__file__).parents[2] / "src"
HOME = SOURCES / "core" / "events.py"
kinds = pytest.mark.parametrize("kind", EventKind)


def classes(of: type[EventData] = EventData) -> Iterator[type[EventData]]:
    """Yield the classes below, those that others stand on included."""
    for cls in of.__subclasses__():
        yield cls
        yield from classes(cls)


def test_every_kind_has_one_class_of_data_and_every_class_one_kind() -> None:
    assert list(DATA) == list(EventKind)
    assert len(set(DATA.values())) == len(EventKind)
    assert {cls for cls in classes() if "kind" in vars(cls)} == {*DATA.values()}


@kinds
def test_the_class_has_the_name_of_the_kind_and_a_sentence_that_says_when(kind: EventKind) -> None:
    cls = DATA[kind]
    assert cls.__name__ == "".join(word.capitalize() for word in kind.split("_")) + "Data"
    assert (cls.__doc__ or "").endswith(".")
    assert cls.prose <= {*cls.model_fields}


@given(any_event_data)
def test_data_go_to_json_and_back(data: AnyEventData) -> None:
    there = decode(encode(data.to_data()))
    back = event_data(data.kind, there)
    assert type(back) is type(data)
    assert encode(back.to_data()) == encode(data.to_data())


_of_the_engine = (events.SentData, events.ExecutionReopenedData, events.ExecutionForkedData)
"""Data that no workflow code emits, and that hold tuples."""


@given(any_event_data.filter(lambda data: not isinstance(data, _of_the_engine)), st.text(max_size=3))
def test_a_record_of_an_event_gives_the_event_back(data: AnyEventData, key: str) -> None:
    record = EventEmitted.of(key, data)
    assert (record.key, record.kind) == (key, data.kind)
    kept = decode_record(encode_record(record))
    assert kept == record
    assert isinstance(kept, EventEmitted)
    assert kept.event_data().to_data() == decode(encode(data.to_data()))


@kinds
@given(data=st.data())
def test_fields_that_hold_nothing_are_not_written(kind: EventKind, data: st.DataObject) -> None:
    value = data.draw(data_of_kind(kind))
    written = value.to_data()
    for name, field in DATA[kind].model_fields.items():
        nothing = ... if field.is_required() else field.get_default(call_default_factory=True)
        assert (name in written) == (getattr(value, name) != nothing)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("no_such_kind", {}),
        ("patched", {}),
        ("patched", {"patch": 1}),
        ("patched", {"patch": "p", "more": 1}),
        ("tool_failed", {"failure": "no"}),
    ],
)
def test_data_that_do_not_fit_their_kind_are_refused(kind: str, data: dict[str, JSON]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of pydantic, or of the enumeration
        event_data(kind, data)


@given(json_values)
def test_json_in_an_event_is_not_validated_again(result: JSON) -> None:
    data = ToolReturnedData(run="r", agent="a", turn=1, call_id="c", tool="t", result=result)
    assert data.result is result


@given(any_event_data)
def test_data_are_read_by_name_too(data: AnyEventData) -> None:
    there = data.to_data("json")
    assert dict(data) == dict(data.items()) == there
    assert {name: data[name] for name in list(data.keys())} == there
    assert {name: data.get(name) for name in there} == there
    assert data.get("nonsense", "nothing") == "nothing"
    with pytest.raises(KeyError):
        data["nonsense"]


def test_changes_of_tags_are_kept() -> None:
    changes = {"team": "blue", "draft": None}
    data = events.TaggedData.of(changes)
    assert data.changes == changes
    assert data.to_data() == {"tags": {"team": "blue"}, "removed": ["draft"]}


def test_data_are_frozen() -> None:
    data = events.PatchedData(patch="p")
    with pytest.raises(ValueError, match="frozen"):
        data.patch = "q"  # type: ignore[misc]  # what users may try


def test_a_reply_is_read_with_its_types_when_that_is_asked_for() -> None:
    call = {"type": "function.call", "tool_call_id": "", "name": "f", "arguments": "{}"}
    said = {"type": "message.output", "content": [{"type": "text", "text": "Rain."}]}
    reply: dict[str, Any] = {"entries": [call, said], "usage": {"total_tokens": 3}}
    data = ModelRepliedData(run="r", agent="a", turn=1, key="k", result=reply)
    first, second = data.entries
    assert isinstance(first, FunctionCall)
    assert first.tool_call_id == "call00000"
    assert isinstance(second, MessageOutput)
    assert (data.text, data.usage) == ("Rain.", Usage(total_tokens=3))
    empty = data.with_(result={})
    assert (empty.entries, empty.text, empty.usage) == ((), "", Usage())


@given(any_event_data)
def test_a_replay_repeats_everything_but_words_for_people(data: AnyEventData) -> None:
    written = data.to_data()
    other = Failure(kind="ValueError", message="the object at 0x7f")
    compared = repeated(data.kind, written)
    for name, value in written.items():
        if name in data.prose:
            assert name not in compared
        elif name == "failure":
            assert compared[name] == value["kind"]
            same = {**written, name: {**other.to_data(), "kind": value["kind"]}}
            assert repeated(data.kind, same) == compared
        else:
            assert compared[name] is value


def test_a_replay_repeats_all_data_of_an_unknown_kind() -> None:
    assert repeated("mood", {"is": "good", "limit": "x"}) == {"is": "good", "limit": "x"}


def names_in(file: Path) -> Iterator[str]:
    """Yield the names that a module uses."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_every_kind_is_made_somewhere_and_rendered() -> None:
    makers = (*SOURCES.glob("core/*.py"), *SOURCES.glob("runtime/**/*.py"))
    made = {name for file in makers if file != HOME for name in names_in(file)}
    rendered = {*names_in(SOURCES / "cli" / "rendering" / "sentences.py")}
    names = {cls.__name__ for cls in DATA.values()}
    assert names - made == set()
    assert names - rendered == set()


def test_no_kind_is_written_as_a_text_anywhere_else() -> None:
    elsewhere = {
        # These are the types of records, and of what happens to the agent machine.
        SOURCES / "core" / "records.py",
        SOURCES / "core" / "agent_events.py",
    }
    found = [
        f"{file.relative_to(SOURCES)}:{node.lineno}: {node.value!r}"
        for file in SOURCES.rglob("*.py")
        if file not in {HOME, *elsewhere}
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in {*EventKind}
    ]
    assert found == []


def test_a_verdict_says_what_was_checked() -> None:
    about: dict[str, Any] = {"run": "r", "agent": "a", "guardrail": "g", "reason": "no"}
    answer = events.GuardrailRejectedData(**about, of="output")
    call = events.GuardrailRejectedData(**about, of="call", turn=1, call_id="c", tool="pay")
    assert (answer.part, call.part) == ("output", "call of pay")
