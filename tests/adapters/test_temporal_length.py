"""Histories that grow: their size, and conversations that continue as new."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import outlast
from outlast.adapters.temporal import TemporalBackend, requests
from outlast.core.events import EventKind, ToolCalledData, TurnStartedData
from outlast.ports.finding import Where
from outlast.testing.contracts.durability.stage import data_of
from tests.adapters import temporal_programs as programs
from tests.adapters.temporal_histories import replay_all
from tests.adapters.temporal_programs import Conversation, Laps, Parrot, Steps
from tests.adapters.temporal_server import temporal_server

pytestmark = pytest.mark.server

MESSAGES = 12


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that soon finds a history long."""
    settings = (
        "limit.historyCount.suggestContinueAsNew=60",
        "limit.historySize.suggestContinueAsNew=1000000",
    )
    options = [option for setting in settings for option in ("--dynamic-config-value", setting)]
    with temporal_server(options) as address:
        yield f"temporal://{address}"
        assert asyncio.run(replay_all(address))


async def test_a_conversation_continues_as_new_and_nothing_of_it_is_lost(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Conversation], task_queue=queue):
        assert isinstance(backend, TemporalBackend)
        execution = await backend.start(Conversation, task_queue=queue)
        following = asyncio.create_task(read(execution))
        for number in range(MESSAGES):
            await execution.signal("say", f"m{number}")
        await execution.signal("end")
        state = await execution.result()
        assert state["answered"] == MESSAGES
        assert (await execution.query("state"))["answer"] == f"message {MESSAGES}"
        transcript = await execution.query("transcript")
        said = [entry["content"] for entry in transcript if entry["type"] == "message.input"]
        assert said == [f"m{number}" for number in range(MESSAGES)]

        # It has several histories by now.
        info = await description_of(backend, execution)
        assert info.first_run_id != info.execution.run_id
        # Its stream is one all the same, and can be read from any position.
        events = await following
        assert [event.position for event in events] == sorted({event.position for event in events})
        kinds = [event.kind for event in events]
        assert (kinds[0], kinds[-1]) == ("execution_started", "execution_completed")
        assert kinds.count(EventKind.EXECUTION_STARTED) == 1
        assert kinds.count(EventKind.SIGNAL_RECEIVED) == MESSAGES + 1
        assert kinds.count(EventKind.MODEL_REPLIED) == 2 * MESSAGES
        for after in (0, events[1].position, events[len(events) // 2].position, events[-1].position):
            assert await read(execution, after) == [event for event in events if event.position > after]
        # No key was used twice.
        keys = [data.key for data in data_of(events, TurnStartedData)]
        keys += [str(data.key) for data in data_of(events, ToolCalledData)]
        assert len(set(keys)) == len(keys) == 3 * MESSAGES
        mine = [key for key in programs.attempts if key.startswith(execution.id)]
        assert len(mine) == MESSAGES
        # There is one execution, and to start it again gives it.
        async with asyncio.timeout(30):
            # Temporal's list lags behind, and nothing says when it has caught up.
            while [one.id for one in await listed(backend)] != [execution.id]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        again = await backend.start(Conversation, id=execution.id, task_queue=queue)
        assert await again.result() == state
        # What its code was given at each new history is in no journal.
        for verb in (execution.retry(), execution.fork(id=f"a fork of {execution.id}"), execution.export()):
            with pytest.raises(outlast.CannotRerun, match=r"has continued as new.*start another execution"):
                await verb
        with pytest.raises(outlast.ExecutionNotFound):
            await backend.get(f"a fork of {execution.id}")
        assert (await description_of(backend, execution)).execution.run_id == info.execution.run_id


async def test_a_pause_that_comes_while_code_continues_as_new_is_obeyed_afterwards(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend:
        execution = await backend.start(Laps, task_queue=queue)
        await execution.signal("go")
        await execution.pause("the track is wet")
        await execution.signal("go")
        async with backend.worker([Laps], task_queue=queue):
            async for event in execution.events():
                if event.kind is EventKind.EXECUTION_PAUSED:
                    break
            assert (await execution.describe()).status == "paused"
            assert await execution.resume()
            assert await execution.result() == 2
            kinds = [event.kind async for event in execution.events()]
        assert kinds == [event.kind async for event in execution.events()]
    assert kinds == [
        EventKind.EXECUTION_STARTED,
        EventKind.SIGNAL_RECEIVED,
        EventKind.EXECUTION_PAUSED,
        EventKind.EXECUTION_RESUMED,
        EventKind.SIGNAL_RECEIVED,
        EventKind.EXECUTION_COMPLETED,
    ]


async def test_a_conversation_that_is_too_long_to_be_carried_along_goes_on_without_its_beginning(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = uuid.uuid4().hex
    messages = [str(number) * 400_000 for number in range(5)]
    async with outlast.connect(url) as backend, backend.worker([Parrot], task_queue=queue):
        execution = await backend.start(Parrot, task_queue=queue)
        for number, message in enumerate(messages, 1):
            await execution.signal("say", message)
            await until_answered(execution, number)
        transcript = await execution.query("transcript")
        forgotten = (await execution.query("state"))["forgotten"]
        assert 0 < forgotten < 2 * len(messages)
        said = [one for message in messages for one in (message, message)]
        assert [entry["content"] for entry in transcript] == said[forgotten:]
        assert await execution.query("transcript", forgotten + 1) == transcript[1:]
        # It is in a new history, and has lost nothing but what it says.
        info = await description_of(backend, execution)
        assert info.first_run_id != info.execution.run_id
        await execution.signal("end")
        state = await execution.result()
        assert (await execution.query("state"))["answer"] == messages[-1]
    assert (state["answered"], state["error"]) == (len(messages), None)
    assert f"without its first {forgotten} entries" in caplog.text


async def test_a_conversation_whose_last_turn_alone_is_too_long_goes_on_where_it_is_until_the_next(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Parrot], task_queue=queue):
        execution = await backend.start(Parrot, task_queue=queue)
        before = (await description_of(backend, execution)).execution.run_id
        for number, message in enumerate(("x" * 1_200_000, "a", "b"), 1):
            await execution.signal("say", message)
            await until_answered(execution, number)
            stays = (await description_of(backend, execution)).execution.run_id == before
            assert stays == (number == 1)
        assert "in its old history for now" in caplog.text
        transcript = await execution.query("transcript")
        assert [len(entry["content"]) for entry in transcript] == [1_200_000, 1, 1, 1, 1]
        await execution.signal("end")
        state = await execution.result()
        assert (await execution.query("state"))["answer"] == "b"
    assert (state["answered"], state["forgotten"]) == (3, 1)


async def description_of(backend: outlast.Backend, execution: outlast.Execution) -> Any:
    assert isinstance(backend, TemporalBackend)
    handle = backend.client.get_workflow_handle(execution.id)
    return (await handle.describe()).raw_description.workflow_execution_info


async def test_the_log_warns_of_a_history_that_grows_too_long(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(requests, "WARN_EVENTS", 20)
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Steps], task_queue=queue):
        execution = await backend.start(Steps, ["a"] * 8, task_queue=queue)
        await execution.result()
    warnings = [record.getMessage() for record in caplog.records if "continue as new" in record.getMessage()]
    assert len(warnings) == 1
    assert execution.id in warnings[0]


async def listed(backend: outlast.Backend) -> list[outlast.ExecutionDescription]:
    return list(await backend.list(Where(workflow="temporal_conversation")))


async def until_answered(execution: outlast.Execution, number: int) -> None:
    """Return once the model has replied so often; the code has taken a reply when its event is there."""
    replies = 0
    async with asyncio.timeout(30):
        async for event in execution.events():
            replies += event.kind == EventKind.MODEL_REPLIED
            if replies == number:
                break


async def read(execution: outlast.Execution, after: int = 0) -> list[outlast.Event]:
    return [event async for event in execution.events(after)]
