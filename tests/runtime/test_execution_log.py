"""The log of executions: a line for each thing that happens, with its numbers, and no content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

import outlast
from outlast import workflow
from tests.runtime.stages import in_memory
from tests.shipping import SECRET, Shipping, approved


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, keeping = logging.getLogger("outlast.execution"), Keeping()
    logger.addHandler(keeping)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield records
    logger.setLevel(before)
    logger.removeHandler(keeping)


async def ship_it() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
        await approved(await backend.start(Shipping, SECRET, id="s-1"))


async def test_each_thing_that_happens_is_one_line(logged: list[logging.LogRecord]) -> None:
    await ship_it()
    lines = [record.getMessage() for record in logged]
    words = [" ".join(line.split()[2:4]) for line in lines]
    assert [*words[:5], *words[7:]] == [
        "of shipping",
        "turn of",
        "tool weigh",
        "tool weigh",
        "turn of",
        "tool ship",
        "turn of",
        "activity pack",
        "completed after",
    ]
    assert "failed at attempt 1 with LookupError; the next attempt begins in 0.0 s" in lines[2]
    assert lines[3].endswith("at attempt 2")
    assert lines[5].endswith("of tool ship waits for approval")
    assert lines[6].endswith("of tool ship is allowed")
    assert not any(SECRET in line for line in lines)
    fields = vars(logged[1])
    assert (fields["execution_id"], fields["event"], fields["agent"]) == ("s-1", "step_completed", "clerk")
    assert fields["model"] == "m-1"
    assert "turn of agent clerk (m-1) at" in lines[1]
    assert fields["seconds"] >= 0
    assert not any(SECRET in repr(vars(record)) for record in logged)


async def test_a_replay_logs_nothing(logged: list[logging.LogRecord]) -> None:
    async with outlast.connect("memory:") as backend:
        async with backend.worker([Shipping]):
            execution = await backend.start(Shipping, SECRET)
            async for event in execution.events():
                if event.kind is outlast.EventKind.APPROVAL_REQUESTED:
                    break
        before = len(logged)
        logged.clear()
        async with backend.worker([Shipping]):
            (waiting,) = await execution.pending()
            await execution.decide(waiting.call_id, "deny")
            await execution.result()
        texts = [record.getMessage() for record in logged]
        assert before
        assert not any("begins" in text.split()[2:] or "tool weigh" in text for text in texts)
        assert "is denied" in texts[0]


async def test_nothing_is_made_when_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "outlast.execution"):
        await ship_it()
    assert not [record for record in caplog.records if record.name == "outlast.execution"]


@outlast.activity()
async def load(name: str) -> str:
    """Load something: the first attempt takes for ever."""
    if outlast.activity.info().attempt == 1:
        _begun[name].set()
        await asyncio.sleep(1e6)
    return name


_begun: dict[str, asyncio.Event] = {}


@workflow.define(name="progress_of_loading")
class Loading:
    @workflow.entrypoint
    async def run(self, name: str) -> str:
        return await load(name)


async def test_a_step_that_another_worker_began_is_logged_where_it_ends(
    logged: list[logging.LogRecord],
) -> None:
    """The line has no seconds: only the worker that began the step knows them."""
    async with outlast.connect("memory:") as backend:
        _begun["coal"] = asyncio.Event()
        execution = await backend.start(Loading, "coal")
        async with backend.worker([Loading], graceful_shutdown_timeout=timedelta(0)):
            await _begun["coal"].wait()
        logged.clear()
        async with backend.worker([Loading]):
            await execution.result()
    [line] = [one for one in logged if vars(one)["event"] == "step_completed"]
    assert "activity load ended" in line.getMessage()
    assert "seconds" not in vars(line)


@outlast.activity()
async def take_a_moment() -> None:
    """Do nothing."""


@workflow.define(name="moments_of_logging")
class Moments:
    @workflow.entrypoint
    async def run(self) -> None:
        await take_a_moment()


async def test_a_step_has_not_lasted_while_no_worker_was_there(logged: list[logging.LogRecord]) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Moments)
        await stage.pass_time(12.0)
        await stage.worker(Moments)
        await stage.soon(execution.result())
    [ended] = [record for record in logged if vars(record)["event"] == "step_completed"]
    assert vars(ended)["seconds"] < 1
    [whole] = [record for record in logged if vars(record)["event"] == "ended"]
    assert vars(whole)["seconds"] >= 12
