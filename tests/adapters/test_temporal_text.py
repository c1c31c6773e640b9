"""The text of a reply that is still being written, in the event stream of a Temporal execution."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

import durable_agents as da
from tests.adapters.temporal_programs import LEASE, Story, Writer
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


async def text(events: AsyncIterator[da.Event], length: int) -> list[da.Event]:
    """Return the deltas up to so much text."""
    found: list[da.Event] = []
    async with asyncio.timeout(30):
        async for event in events:
            if event.kind == "text_delta":
                found.append(event)
                if len("".join(str(one.data["text"]) for one in found)) >= length:
                    return found
    raise AssertionError("the stream ended")


async def test_text_is_told_while_it_is_written_and_a_new_attempt_retracts_it() -> None:
    queue = uuid.uuid4().hex
    async with (
        da.connect(f"temporal://{shared_server()}") as backend,
        backend.worker([Story], task_queue=queue, lease=LEASE),
    ):
        execution = await backend.start(Story, task_queue=queue)

        def open_gate(number: int) -> None:
            Writer.gates.setdefault((execution.id, number), asyncio.Event()).set()

        following = execution.events()
        open_gate(0)
        [once] = await text(following, 5)
        assert (once.data["text"], once.data["attempt"], once.data["sequence"]) == ("Once ", 1, 1)
        assert once.data["agent"] == "writer"
        open_gate(1)
        open_gate(2)
        rest = await text(following, len("upon a time."))
        # Whoever comes later hears the same, under the same numbers.
        late = await text(execution.events(once.position), len("Once upon a time."))
        assert [(one.data["sequence"], one.data["text"]) for one in late] == [
            (one.data["sequence"], one.data["text"]) for one in (once, *rest)
        ]
        open_gate(3)
        again = await text(following, len("Once upon a time."))
        assert {one.data["attempt"] for one in again} == {2}
        assert "".join(str(one.data["text"]) for one in again) == "Once upon a time."
        open_gate(4)
        assert [event.kind async for event in following] == ["model_replied", "execution_completed"]
        assert await execution.result() == "Once upon a time."
        told = [event.kind async for event in execution.events()]
        assert "text_delta" not in told


async def test_a_reader_may_go_away_in_the_middle_of_a_reply() -> None:
    queue = uuid.uuid4().hex
    async with (
        da.connect(f"temporal://{shared_server()}") as backend,
        backend.worker([Story], task_queue=queue, lease=LEASE),
    ):
        execution = await backend.start(Story, task_queue=queue)
        Writer.gates.setdefault((execution.id, 0), asyncio.Event()).set()
        await text(execution.events(), 5)
        await execution.cancel()
        with pytest.raises(da.ExecutionCancelled):
            await execution.result()
