"""Rows of a list on Temporal: what they lack is read for them alone, with a worker or without one."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor, OutboundInterceptor
from temporalio.converter import PayloadCodec

import outlast
from outlast.adapters.scripted import call
from outlast.adapters.temporal import overviews
from outlast.adapters.temporal.execution import TemporalExecution
from outlast.core.events import EventKind
from outlast.core.records import Status
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import ExecutionDescription
from tests.adapters.temporal_programs import Laps
from tests.adapters.temporal_server import PATIENCE_SECONDS, obstacle_of, shared_server

pytestmark = pytest.mark.server

LEASE = timedelta(minutes=1)
"""A worker counts as alive for so long after its last announcement, which a busy machine may hold up."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is alive answers, however busy the machine is."""
    monkeypatch.setattr(overviews, "ANSWER", timedelta(seconds=PATIENCE_SECONDS))
    monkeypatch.setattr(overviews, "ROW_SECONDS", PATIENCE_SECONDS)


@outlast.activity(name="temporal_overviews_pay", requires_approval=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"{amount} paid"


@outlast.workflow.define(name="temporal_overviews_payment")
class Payment:
    """Waits for a person's decision."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        agent = outlast.Agent(model="m", name="clerk", tools=[pay])
        session = outlast.ScriptedSession({"clerk": [call("temporal_overviews_pay", {"amount": 7}), "Done."]})
        return (await outlast.Runner.run(agent, "Pay.", session)).text


@outlast.workflow.define(name="temporal_overviews_sleep")
class Sleep:
    """Lets an agent answer, and sleeps."""

    @outlast.workflow.entrypoint
    async def run(self, seconds: float) -> None:
        session = outlast.ScriptedSession({"poet": ["Good night."]})
        await outlast.Runner.run(outlast.Agent(model="m", name="poet"), "Say good night.", session)
        await asyncio.sleep(seconds)


class Asked(OutboundInterceptor):
    """Counts what a client asks of the service, and how much of it at the same time."""

    def __init__(self, next: OutboundInterceptor) -> None:
        super().__init__(next)
        self.descriptions, self.histories, self.queries = 0, 0, 0
        self.under_way, self.most = 0, 0

    async def describe_workflow(self, input: Any) -> Any:
        self.descriptions += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().describe_workflow(input)
        finally:
            self.under_way -= 1

    def fetch_workflow_history_events(self, input: Any) -> Any:
        self.histories += 1
        return super().fetch_workflow_history_events(input)

    async def query_workflow(self, input: Any) -> Any:
        self.queries += 1
        return await super().query_workflow(input)

    @property
    def all(self) -> tuple[int, int, int]:
        return self.descriptions, self.histories, self.queries


class Counting(Interceptor):
    """Makes an `Asked` for the client of a backend."""

    asked: Asked

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        self.asked = Asked(next)
        return self.asked


class LostKey(PayloadCodec):
    """Cannot decode anything."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [*payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise KeyError("the key is lost")


@asynccontextmanager
async def counted() -> AsyncIterator[tuple[Backend, Asked]]:
    counting = Counting()
    async with outlast.connect(f"temporal://{shared_server()}", interceptors=[counting]) as backend:
        yield backend, counting.asked


async def reached(execution: outlast.Execution, kind: str) -> None:
    async for event in execution.events():
        if event.kind == kind:
            return


async def listed(backend: Backend, executions: Iterable[outlast.Execution]) -> list[ExecutionDescription]:
    """Return the executions as a list shows them, once it does."""
    rows: list[ExecutionDescription] = []
    for one in executions:
        while not (found := await backend.list(outlast.Where(id_prefix=one.id))):  # noqa: ASYNC110 - it is late
            await asyncio.sleep(0.05)
        rows += found
    return rows


async def test_a_worker_that_is_alive_says_all_of_it_once_for_each_state() -> None:
    queue = uuid.uuid4().hex
    async with counted() as (backend, asked), backend.worker([Payment, Sleep], task_queue=queue, lease=LEASE):
        paying = await backend.start(Payment, task_queue=queue)
        asleep = await backend.start(Sleep, 3600.0, task_queue=queue)
        await reached(paying, EventKind.APPROVAL_REQUESTED)
        await reached(asleep, EventKind.TIMER_STARTED)
        before = asked.all
        rows = await listed(backend, [paying, asleep])
        assert [(row.waiting_for, row.turns, row.agent) for row in rows] == [((), None, None)] * 2
        assert asked.all == before  # The list itself asks nothing about its rows.
        shown = await backend.with_overviews(rows)
        assert [[wait.kind for wait in row.waiting_for] for row in shown] == [["approval"], ["timer"]]
        assert [(row.turns, row.agent) for row in shown] == [(1, "clerk"), (1, "poet")]
        assert asked.all == (before[0] + 2, before[1], before[2] + 2)
        assert await backend.with_overviews(rows) == shown
        assert asked.all == (before[0] + 4, before[1], before[2] + 2)
        [call_] = await paying.pending()
        await paying.decide(call_.call_id, "allow")
        await paying.result()
        ended, _ = await backend.with_overviews(rows)
        assert ended == rows[0]  # It was running when it was listed.
        await asleep.cancel()


async def test_without_a_worker_the_history_says_what_it_can() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker([Payment, Sleep], task_queue=queue, lease=LEASE):
            paying = await backend.start(Payment, task_queue=queue)
            asleep = await backend.start(Sleep, 3600.0, task_queue=queue)
            await reached(paying, EventKind.APPROVAL_REQUESTED)
            await reached(asleep, EventKind.TIMER_STARTED)
        async with counted() as (reader, asked):
            rows = await listed(reader, [paying, asleep])
            shown = await reader.with_overviews(rows)
            # Only code knows of the approval: the row does not say that there is something else.
            assert [[wait.kind for wait in row.waiting_for] for row in shown] == [
                ["worker"],
                ["worker", "timer"],
            ]
            described = await asleep.describe()
            assert [(row.turns, row.usage) for row in shown] == [(1, described.usage)] * 2
            assert [row.agent for row in shown] == [None, None]
            read = asked.all
            assert read[1:] == (2, 0)
            assert await reader.with_overviews(rows) == shown
            assert asked.all == (read[0] + 2, *read[1:])
            await paying.terminate("over")
            await asleep.terminate("over")
            assert await reader.with_overviews(rows) == rows


async def test_what_a_worker_said_is_known_after_it_has_gone() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker([Payment], task_queue=queue, lease=LEASE):
            paying = await backend.start(Payment, task_queue=queue)
            await reached(paying, EventKind.APPROVAL_REQUESTED)
            rows = await listed(backend, [paying])
            [before] = await backend.with_overviews(rows)
        [after] = await backend.with_overviews(rows)
        assert [wait.kind for wait in after.waiting_for] == ["worker", "approval"]
        assert after.waiting_for[1:] == before.waiting_for
        await paying.terminate("over")


async def test_a_row_that_is_gone_or_cannot_be_read_does_not_fail_the_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker([Sleep], task_queue=queue, lease=LEASE):
            asleep = await backend.start(Sleep, 3600.0, task_queue=queue)
            await reached(asleep, EventKind.TIMER_STARTED)
        [row] = await listed(backend, [asleep])
        gone = replace(row, id=uuid.uuid4().hex)
        with caplog.at_level(logging.WARNING, "outlast.temporal"):
            first, second = await backend.with_overviews([gone, row])
        assert first == gone
        assert [wait.kind for wait in second.waiting_for] == ["worker", "timer"]
        assert not caplog.records  # An execution may be deleted at any time.
        async with outlast.connect(f"temporal://{shared_server()}", payload_codec=LostKey()) as other:
            with caplog.at_level(logging.WARNING, "outlast.temporal"):
                assert await other.with_overviews([row]) == [row]
        assert row.id in caplog.text
        assert "1 of 1" in caplog.text
        await asleep.terminate("over")


async def test_rows_are_read_a_few_at_a_time_and_only_those_that_run() -> None:
    queue = uuid.uuid4().hex
    async with counted() as (backend, asked):
        executions = [await backend.start(Sleep, 1.0, task_queue=queue) for _ in range(20)]
        rows = await listed(backend, executions)
        before = asked.descriptions
        await backend.with_overviews(rows)
        assert asked.descriptions == before + 20
        assert 1 < asked.most <= overviews.AT_ONCE
        ended = [replace(row, status=Status.COMPLETED) for row in rows]
        paused = [replace(row, status=Status.PAUSED, error="paused: lunch") for row in rows]
        before = asked.descriptions
        assert await backend.with_overviews(ended) == ended
        for row in await backend.with_overviews(paused):
            [wait] = row.waiting_for
            assert (wait.kind, wait.text) == (WaitingKind.PAUSED, "paused: lunch")
        assert asked.descriptions == before
        for one in executions:
            await one.terminate("over")


async def test_a_long_history_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = uuid.uuid4().hex
    async with counted() as (backend, asked):
        async with backend.worker([Sleep], task_queue=queue, lease=LEASE):
            asleep = await backend.start(Sleep, 3600.0, task_queue=queue)
            await reached(asleep, EventKind.TIMER_STARTED)
        rows = await listed(backend, [asleep])
        before = asked.histories
        monkeypatch.setattr(overviews, "EVENTS_MAX", 3)
        [row] = await backend.with_overviews(rows)
        assert ([wait.kind for wait in row.waiting_for], row.turns) == (["worker"], None)
        assert asked.histories == before
        await asleep.terminate("over")


async def test_an_execution_that_cannot_go_on_says_why() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        execution = await backend.start(Sleep, 1.0, task_queue=queue)
        async with backend.worker([Payment], task_queue=queue, lease=LEASE):  # It does not have the workflow.
            await obstacle_of(execution)
            [row] = await backend.with_overviews(await listed(backend, [execution]))
        assert row.error is not None
        assert "temporal_overviews_sleep" in row.error
        await execution.terminate("over")


async def test_turns_are_left_out_where_only_the_last_history_is_looked_at() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker([Laps], task_queue=queue, lease=LEASE):
            lap = await backend.start(Laps, task_queue=queue)
            for turns in (0, None):
                rows = await listed(backend, [lap])
                [row] = await backend.with_overviews(rows)
                assert ([wait.kind for wait in row.waiting_for], row.turns) == (["signal"], turns)
                if turns == 0:
                    await lap.signal("go")
                    await continued(lap)
        async with outlast.connect(f"temporal://{shared_server()}") as reader:
            [row] = await reader.with_overviews(await listed(reader, [lap]))
            assert ([wait.kind for wait in row.waiting_for], row.turns) == (["worker"], None)
        await lap.terminate("over")


async def continued(execution: outlast.Execution) -> None:
    """Return once the execution goes on in its second history, and the list shows that."""
    assert isinstance(execution, TemporalExecution)
    first = (await execution.handle.describe()).raw_description.workflow_execution_info.first_run_id
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await execution.handle.describe()).run_id == first:  # noqa: ASYNC110 - a worker does it
            await asyncio.sleep(0.05)
