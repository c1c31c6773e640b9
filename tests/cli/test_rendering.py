"""What the command line prints, whatever a model has written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.cli import rendering
from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from tests.core.strategies import any_text, json_objects

AT = datetime(2026, 11, 26, 7, 0, 0, 500_000, tzinfo=UTC)
kinds = st.sampled_from(["model_replied", "tool_called", "tool_failed", "text_delta", "something_else"])


@given(kind=kinds, data=json_objects)
def test_an_event_is_one_line_of_json_whatever_it_holds(kind: str, data: dict[str, Any]) -> None:
    line = rendering.event_json(Event(7, kind, AT, data))
    assert "\n" not in line
    assert json.loads(line.encode()) == {
        "position": 7,
        "kind": kind,
        "at": "2026-11-26T07:00:00.500000Z",
        "data": data,
    }


@given(call_id=any_text, arguments=json_objects)
def test_a_call_that_waits_is_one_line_of_json(call_id: str, arguments: dict[str, Any]) -> None:
    approval = PendingApproval(
        key="k", call_id=call_id, agent="a", tool="t", arguments=arguments, fingerprint="f"
    )
    told = json.loads(rendering.approval_json(approval).encode())
    assert told == {**approval.to_data(), "arguments": arguments}


@given(text=any_text, data=json_objects)
def test_a_line_for_people_steers_no_terminal(text: str, data: dict[str, Any]) -> None:
    entries: list[Any] = [
        {"type": "message.output", "content": text},
        {"type": "function.call", "name": text},
    ]
    for event in (
        Event(1, "model_replied", AT, {"agent": text, "result": {"entries": entries}}),
        Event(2, "something_else", AT, {**data, "agent": text}),
    ):
        line = rendering.event_line(event).plain
        assert line.isprintable()
        line.encode()
