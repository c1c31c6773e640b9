"""The text of a reply that is still being written, in the event stream of a Temporal execution."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

import outlast
from outlast.core.events import TextDeltaData
from outlast.testing.contracts.durability.stage import data_of
from tests.adapters.temporal_histories import replay_all
from tests.adapters.temporal_programs import LEASE, Story, Writer
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def every_history_replays() -> Iterator[None]:
    yield
    asyncio.run(replay_all(shared_server()))


async def text(events: AsyncIterator[outlast.Event], length: int) -> list[outlast.Event]:
    """Return the deltas up to so much text."""
    found: list[outlast.Event] = []
    async with asyncio.timeout(30):
        async for event in events:
            if event.kind == "text_delta":
                found.append(event)
                if sum(len(piece.text) for piece in data_of(found, TextDeltaData)) >= length:
                    return found
    raise AssertionError("the stream ended")


async def test_a_reader_may_go_away_in_the_middle_of_a_reply() -> None:
    queue = uuid.uuid4().hex
    async with (
        outlast.connect(f"temporal://{shared_server()}") as backend,
        backend.worker([Story], task_queue=queue, lease=LEASE),
    ):
        execution = await backend.start(Story, task_queue=queue)
        Writer.gates.setdefault((execution.id, 0), asyncio.Event()).set()
        await text(execution.events(), 5)
        await execution.cancel()
        with pytest.raises(outlast.ExecutionCancelled):
            await execution.result()


async def test_a_durable_run_outside_any_workflow_is_watched() -> None:
    run_id, poet = f"watched-{uuid.uuid4().hex}", outlast.Agent(model="m", name="poet")
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        session = outlast.ScriptedSession({"poet": ["Rain, rain."]})
        run = outlast.Runner.run_streamed(poet, "Write.", session, id=run_id, backend=backend)
        kinds = [event.kind async for event in run.events() if event.kind != "text_delta"]
        assert kinds == ["execution_started", "turn_started", "model_replied", "execution_completed"]
        assert (await run.result()).text == "Rain, rain."
        again = outlast.Runner.run_streamed(poet, "Write.", session, id=run_id, backend=backend)
        assert [event.kind async for event in again.events()] == kinds
        assert (await again.result()).text == "Rain, rain."
