"""Finding a request in a history, for conversations of any content: without a server."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.mistral.reconciliation import Finding, Trace, trace_of

Entry = dict[str, Any]

# Few different texts, so that a conversation often says the same thing twice.
texts = st.sampled_from(["yes", "no", ""])
messages = st.builds(lambda text: {"type": "message.input", "role": "user", "content": text}, texts)
results = st.builds(
    lambda call: {"type": "function.result", "tool_call_id": call, "result": "r"}, st.sampled_from(["a", "b"])
)
requests = st.lists(results | messages, min_size=1, max_size=3)
said = st.builds(lambda text: {"type": "message.output", "content": text}, texts)
called = st.just({"type": "function.call", "tool_call_id": "a", "name": "f", "arguments": "{}"})
ran = st.just({"type": "tool.execution", "name": "web_search", "arguments": "{}"})
handed = st.just({"type": "agent.handoff", "previous_agent_name": "x", "next_agent_name": "y"})
replies = st.builds(
    lambda before, last: [*before, last], st.lists(said | called | ran | handed, max_size=3), said | called
)
unfinished = st.builds(lambda before, last: [*before, last], st.lists(said, max_size=2), ran | handed)
exchanges = st.lists(st.tuples(requests, replies), max_size=3)


def spelt(sent: list[Entry]) -> list[Entry]:
    """Return inputs as a server may show them: with nulls and defaults, and a text as a chunk."""
    shown = []
    for entry in sent:
        more: Entry = {"object": "entry", "completed_at": None}
        if isinstance(entry.get("content"), str):
            more["content"] = [{"type": "text", "text": entry["content"], "annotations": None}]
        shown.append({**entry, **more})
    return shown


def numbered(*parts: list[Entry]) -> list[Entry]:
    """Return a history of these entries, each with an id of its own."""
    ids = count(1)
    return [{**entry, "id": f"e{next(ids)}"} for part in parts for entry in part]


def without_ids(trace: Trace) -> tuple[Finding, list[Entry], bool]:
    outputs = [{name: value for name, value in entry.items() if name != "id"} for entry in trace.outputs]
    return trace.finding, outputs, trace.has_more


@given(before=exchanges, request=requests, reply=replies, again=replies | st.none(), is_spelt=st.booleans())
def test_a_request_is_found_with_its_first_reply_however_often_the_same_was_said_before(
    before: list[tuple[list[Entry], list[Entry]]],
    request: list[Entry],
    reply: list[Entry],
    again: list[Entry] | None,
    is_spelt: bool,
) -> None:
    known = [part for exchange in before for part in exchange]
    shown = spelt(request) if is_spelt else request
    repeated = [] if again is None else [shown, again]
    history = numbered(*known, shown, reply, *repeated)
    length = sum(map(len, known))
    anchor = history[length - 1]["id"] if length else None
    assert without_ids(trace_of(history, anchor, request)) == (Finding.ANSWERED, reply, again is not None)


@given(request=requests, begun=unfinished | st.just([]), reply=replies)
def test_a_reply_that_was_never_finished_is_not_taken_for_one(
    request: list[Entry], begun: list[Entry], reply: list[Entry]
) -> None:
    history = numbered(request, begun, request, reply)
    assert trace_of(history, None, request) == Trace(Finding.SOMETHING_ELSE)


@given(before=exchanges, request=requests, begun=unfinished | st.just([]))
def test_a_request_without_a_whole_reply_is_pending_and_a_missing_one_is_not_found(
    before: list[tuple[list[Entry], list[Entry]]], request: list[Entry], begun: list[Entry]
) -> None:
    known = [part for exchange in before for part in exchange]
    length = sum(map(len, known))
    history = numbered(*known, request, begun)
    anchor = history[length - 1]["id"] if length else None
    assert trace_of(history, anchor, request) == Trace(Finding.PENDING)
    assert trace_of(history[:length], anchor, request) == Trace(Finding.NOTHING)


@given(before=exchanges, request=requests, other=requests, reply=replies)
def test_inputs_of_another_request_are_foreign(
    before: list[tuple[list[Entry], list[Entry]]],
    request: list[Entry],
    other: list[Entry],
    reply: list[Entry],
) -> None:
    known = [part for exchange in before for part in exchange]
    length = sum(map(len, known))
    history = numbered(*known, other, reply)
    anchor = history[length - 1]["id"] if length else None
    expected = Finding.ANSWERED if other == request else Finding.SOMETHING_ELSE
    assert trace_of(history, anchor, request).finding is expected
    assert trace_of(history, "no entry has this id", request).finding is Finding.SOMETHING_ELSE
