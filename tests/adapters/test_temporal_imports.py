"""Executions that are carried to Temporal: what has ended keeps its end, what is open waits to be resumed."""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import workflow
from outlast.adapters.temporal import TemporalBackend
from outlast.core.events import EventKind
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server

done: list[tuple[str, str]] = []
"""The things that activities did, each with its execution."""


@outlast.activity(retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=1)
async def import_do(what: str) -> str:
    """Do something, which is broken where the id of the execution says so."""
    done.append((outlast.activity.info().execution_id, what))
    if what == "break" and "mended" not in outlast.activity.info().execution_id:
        raise LookupError("broken")
    return f"{what} done"


@workflow.define(name="import_errand")
class ImportErrand:
    @workflow.entrypoint
    async def run(self, how: str) -> list[str]:
        self.said: list[str] = []
        results = [await import_do("first")]
        if how == "fail":
            results.append(await import_do("break"))
        if how in ("wait", "terminate"):
            await workflow.wait_condition(lambda: bool(self.said))
        if how == "cancel":
            try:
                await workflow.wait_condition(lambda: False)
            finally:
                await import_do("tidy")
        return [*results, *self.said]

    @workflow.signal
    async def say(self, text: str) -> None:
        self.said.append(text)

    @workflow.query
    def heard(self) -> list[str]:
        return self.said


async def exported_from_sqlite(path: Path, how: str) -> tuple[list[str], str]:
    """Return an export of an execution that has ended in that way, and its id."""
    id = f"{how}-{uuid.uuid4().hex}"
    async with outlast.connect(f"sqlite:///{path}/there.db") as there, there.worker([ImportErrand]):
        execution = await there.start(ImportErrand, how, id=id)
        async for event in execution.events():
            if event.kind == EventKind.ACTIVITY_COMPLETED and how in ("wait", "terminate", "cancel"):
                break
        if how == "cancel":
            await execution.cancel()
            await asyncio.gather(execution.result(), return_exceptions=True)
        if how == "terminate":
            await execution.terminate("enough")
        return list(await execution.export()), id


@pytest.mark.parametrize(
    ("how", "status"),
    [("fail", "failed"), ("complete", "completed"), ("cancel", "cancelled"), ("terminate", "terminated")],
)
async def test_what_has_ended_keeps_its_end_and_its_journal_and_runs_nothing(
    tmp_path: Path, how: str, status: str
) -> None:
    lines, id = await exported_from_sqlite(tmp_path, how)
    before = len(done)
    async with outlast.connect(f"temporal://{shared_server()}/default") as here:
        assert isinstance(here, TemporalBackend)
        copy = await here.import_(lines)
        described = await copy.describe()
        assert described.status == status
        outcome: Any = (await asyncio.gather(copy.result(), return_exceptions=True))[0]
        match how:
            case "complete":
                assert outcome == ["first done"]
            case "fail":
                assert isinstance(outcome, outlast.ExecutionFailed)
                assert isinstance(outcome.__cause__, outlast.ActivityFailed)
                assert described.failure is not None
                assert described.failure.kind == "ActivityFailed"
            case "cancel":
                assert isinstance(outcome, outlast.ExecutionCancelled)
            case _:
                assert isinstance(outcome, outlast.ExecutionTerminated)
                assert described.error == "enough"
        # Nobody polls the queue on which it was ended, and an export from here is what came.
        assert list(await copy.export())[1:] == lines[1:]
        events = [event async for event in copy.events(follow=False)]
        assert [event.position for event in events] == list(range(1, len(lines)))
        if how == "complete":
            with pytest.raises(outlast.CannotRerun):
                await copy.retry()
        async with here.worker([ImportErrand]):
            if how == "fail":
                fork = await copy.fork(id=f"mended-{id}")
                found = await here.client.get_workflow_handle(fork.id).describe()
                assert await found.memo_value("outlast_forked_from") == id
                assert await fork.result() == ["first done", "break done"]
                assert done[before:] == [(fork.id, "break")]


async def test_an_open_execution_waits_to_be_resumed_and_then_takes_what_came_meanwhile(
    tmp_path: Path,
) -> None:
    lines, _ = await exported_from_sqlite(tmp_path, "wait")
    before = len(done)
    async with outlast.connect(f"temporal://{shared_server()}/default") as here:
        copy = await here.import_(lines)
        assert (await copy.describe()).status == "paused"
        with pytest.raises(outlast.ExecutionAlreadyExists):
            await here.import_(lines)
        async with here.worker([ImportErrand]):
            await copy.signal("say", "meanwhile")
            assert await copy.query("heard") == []
            assert (await copy.describe()).status == "paused"
            assert await copy.resume()
            assert await copy.result() == ["first done", "meanwhile"]
        assert (await copy.describe()).status == "completed"
        with pytest.raises(outlast.ExecutionAlreadyEnded):
            await copy.resume()
    assert len(done) == before


@outlast.activity(name="import_read")
async def import_read(number: int) -> str:
    """Return a long text, which is another one for each number."""
    return f"{number} is much. " * 4000


@workflow.define(name="import_reader")
class ImportReader:
    @workflow.entrypoint
    async def run(self, pages: int) -> int:
        texts = [await import_read(number) for number in range(pages)]
        await workflow.wait_condition(lambda: False)
        return len(texts)


async def test_a_journal_that_is_longer_than_a_payload_may_be_is_packed(tmp_path: Path) -> None:
    async with outlast.connect(f"sqlite:///{tmp_path}/there.db") as there, there.worker([ImportReader]):
        execution = await there.start(ImportReader, 100)
        completed = 0
        async for event in execution.events():
            completed += event.kind == EventKind.ACTIVITY_COMPLETED
            if completed == 100:
                break
        lines = list(await execution.export())
    assert sum(map(len, lines)) > 4_000_000
    async with outlast.connect(f"temporal://{shared_server()}/default") as here:
        copy = await here.import_(lines)
        assert await copy.departure() is None
        assert list(await copy.export())[1 : len(lines)] == lines[1:]
        fork = await copy.fork()
        assert len([event async for event in fork.events(follow=False)]) >= len(lines) - 1
        await copy.terminate("it was looked at")
        await fork.terminate("it was looked at")


async def test_a_journal_that_is_too_long_even_so_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    lines, id = await exported_from_sqlite(tmp_path, "complete")
    noise = base64.b64encode(random.Random(1).randbytes(3_000_000)).decode()
    long = [line.replace('"first done"', f'"{noise}"') for line in lines]
    async with outlast.connect(f"temporal://{shared_server()}/default") as here:
        with pytest.raises(outlast.PayloadTooLarge, match="the journal of execution"):
            await here.import_(long)
        with pytest.raises(outlast.ExecutionNotFound):
            await here.get(id)


async def test_cancelling_what_waits_to_be_resumed_lets_it_clean_up(tmp_path: Path) -> None:
    lines, id = await exported_from_sqlite(tmp_path, "wait")
    lines = [line.replace('{"how":"wait"}', '{"how":"cancel"}') for line in lines]
    async with outlast.connect(f"temporal://{shared_server()}/default") as here:
        copy = await here.import_(lines)
        await copy.cancel()
        async with here.worker([ImportErrand]):
            with pytest.raises(outlast.ExecutionCancelled):
                await copy.result()
    assert done[-1] == (id, "tidy")
