"""The output of the command line, whatever a model has written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.cli.rendering.documents import approval_json, event_json
from outlast.cli.rendering.event_lines import EventLines
from outlast.cli.rendering.sentences import agent_of, sentence_of
from outlast.cli.rendering.text import shortened
from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from outlast.core.events import AnyEventData, EventKind, ModelRepliedData
from outlast.core.json import decode, encode
from tests.core.strategies import any_event_data, any_text, data_of_kind, json_objects

AT = datetime(2026, 11, 26, 7, 0, 0, 500_000, tzinfo=UTC)


@given(data=any_event_data)
def test_an_event_is_one_line_of_json_whatever_it_holds(data: AnyEventData) -> None:
    line = event_json(Event(7, AT, data))
    assert "\n" not in line
    assert json.loads(line.encode()) == {
        "position": 7,
        "kind": str(data.kind),
        "at": "2026-11-26T07:00:00.500000Z",
        "data": decode(encode(data.to_data())),
    }


@given(call_id=any_text, arguments=json_objects)
def test_a_call_that_waits_is_one_line_of_json(call_id: str, arguments: dict[str, Any]) -> None:
    approval = PendingApproval(
        key="k", call_id=call_id, agent="a", tool="t", arguments=arguments, fingerprint="f"
    )
    found = json.loads(approval_json("e", approval).encode())
    assert found == {"execution": "e", **approval.model_dump(), "arguments": arguments}


@given(data=any_event_data, text=any_text)
def test_a_line_for_people_has_no_terminal_control_characters(data: AnyEventData, text: str) -> None:
    entries: list[Any] = [
        {"type": "message.output", "content": text},
        {"type": "function.call", "name": text},
    ]
    reply = ModelRepliedData(run="r", agent=text, turn=1, key="k", result={"entries": entries})
    lines = EventLines()
    for position, shown in enumerate((data, reply), 1):
        for line in lines.lines(Event(position, AT, shown)):
            assert line.plain.isprintable()
            line.plain.encode()


@pytest.mark.parametrize("kind", EventKind)
@given(data=st.data())
def test_every_kind_of_event_says_something_to_people(kind: EventKind, data: st.DataObject) -> None:
    event = Event(1, AT, data.draw(data_of_kind(kind)))
    assert sentence_of(event)
    assert agent_of(event) == shortened(
        str(getattr(event.data, "agent", None) or getattr(event.data, "from_agent", "")), 18
    )
