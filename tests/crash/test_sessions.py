"""A process is killed in the middle of a request to the model, and its text is read in another process."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

import outlast
from outlast.core.events import TextDeltaData
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS
from outlast.testing.contracts.durability.stage import data_of
from outlast.testing.mistral_server import (
    Call,
    Fault,
    HandOff,
    Hang,
    MistralServer,
    Say,
    ScriptedModel,
)
from tests.crash.processes import Processes
from tests.crash.program import Talk

pytestmark = [pytest.mark.crash, pytest.mark.server]

START, APPEND = "/v1/conversations", "/v1/conversations/*"


@pytest.mark.parametrize(
    ("path", "visible"),
    [
        (START, False),
        (APPEND, True),
        pytest.param(START, True, marks=pytest.mark.nightly),
        pytest.param(APPEND, False, marks=pytest.mark.nightly),
    ],
)
async def test_a_process_killed_in_the_middle_of_a_request_leaves_its_reply_to_the_next(
    path: str, visible: bool, tmp_path: Path
) -> None:
    model = ScriptedModel(
        {
            "front": [[Call("work", {"what": "tides", "seconds": 0})], [HandOff("poet")]],
            "poet": [[Say("Rain, rain, go to Spain.")]],
        }
    )
    thinking = Hang("work")
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    processes = Processes(url, tmp_path)
    with MistralServer(model, inputs_visible_at_once=visible) as server:
        server.faults.add(Fault(thinking, method="POST", path=path))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), outlast.connect(url) as backend:
                execution = await backend.start(Talk, server.url)
                first = processes.begin()
                await thinking.reached()
                await processes.end(first, signal.SIGKILL)
                thinking.release()
                await server.settled()
                processes.begin()
                events = [event async for event in execution.events()]
                assert await execution.result() == "Rain, rain, go to Spain."
        finally:
            await processes.close()
        server.raise_errors()
        (conversation,) = server.conversations.values()
        assert [entry["type"] for entry in conversation.entries] == [
            "message.input",
            "function.call",
            "function.result",
            "agent.handoff",
            "message.output",
        ]
        assert len(model.calls) == 3
        assert len(server.agents) == 2
    processes.effects.check()
    text = "".join(piece.text for piece in data_of(events, TextDeltaData))
    # A reply that was found in the history came whole; the text of any other was published while it was
    # written, if in time.
    assert "Rain, rain, go to Spain.".startswith(text) if path == START else not text
    assert "execution_recovered" in [event.kind for event in events]
