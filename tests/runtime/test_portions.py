"""Work that takes long is done in portions: others get on meanwhile, and nothing else differs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast.core.errors import BusyWorkflow
from outlast.core.event_stream import Event
from outlast.core.events import EventKind
from outlast.core.records import (
    AnyRecord,
    ExecutionStarted,
    Input,
    SignalReceived,
    StepCompleted,
    TimerFired,
    decode_record,
    encode_record,
)
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.journal import Delivery
from outlast.runtime.definitions import determinism_guard, workflow
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions import event_streams, execution_driver, journal_reading, live_execution
from outlast.runtime.executions.journal_reading import decoded
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.loading import load
from outlast.runtime.isolation import pace
from outlast.testing.contracts.durability.agents import Careful
from outlast.testing.contracts.durability.stage import transcript
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.workflows import Asyncio, Echo, Steps
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline
from tests.runtime.stages import in_memory, worker_on
from tests.runtime.test_driver import Writes

T = TypeVar("T")

MANY_BYTES = 1024 * 1024


@contextmanager
def smallest_portions() -> Iterator[None]:
    """Let everything pause as often as it can: one callback, one record, one input at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_execution, "PORTION_SECONDS", 0.0)
        patch.setattr(live_execution, "CALLBACKS_AT_ONCE", 1)
        patch.setattr(pace, "PORTION_SECONDS", 0.0)
        patch.setattr(execution_driver, "INPUTS_AT_ONCE", 1)
        patch.setattr(execution_driver, "MESSAGES_AT_ONCE", 1)
        for module in (journal_reading, event_streams):
            patch.setattr(module, "RECORDS_AT_ONCE", 1)
        yield


# Nothing differs


def live(cls: type[Any], records: list[AnyRecord]) -> LiveExecution:
    definition = definition_of(cls)
    return LiveExecution(definition, WorkflowInfo("x", definition.name), records, limit_bytes=MANY_BYTES)


def to_rest(execution: LiveExecution) -> int:
    """Let the code come to rest, and return in how many portions."""
    portions = 1
    while not execution.go_on():
        portions += 1
    return portions


@workflow.define(name="portions.crowd")
class Crowd:
    """Does many things at once, of which each takes several callbacks."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.order: list[str] = []

    @workflow.entrypoint
    async def run(self, branches: int) -> list[str]:
        async with asyncio.TaskGroup() as group:
            for number in range(branches):
                group.create_task(self.branch(number))
        return self.order

    async def branch(self, number: int) -> None:
        done: list[int] = []
        while len(done) < 3:
            await asyncio.sleep(0)
            self.order.append(f"{number}.{len(done)}")
            await asyncio.sleep(number % 3)
            await workflow.wait_condition(lambda: len(self.got) > len(done))
            done.append(number)

    @workflow.signal
    async def put(self, number: int) -> None:
        await asyncio.sleep(0)
        self.got.append(number)


@given(branches=st.integers(0, 6), choices=st.lists(st.integers(0, 9), max_size=20))
@few_examples(50)
def test_code_makes_the_same_requests_in_portions_of_any_size(branches: int, choices: list[int]) -> None:
    """A driver that gives the code timers and signals in any order writes the same journal."""

    def journal(execution: LiveExecution) -> list[bytes]:
        written: list[AnyRecord] = [started]
        to_rest(execution)
        for at, choice in enumerate(choices, start=2):
            written += execution.machine.take_batch().records
            timers = sorted(execution.machine.timers)
            if execution.machine.end is not None:
                break
            given: Input
            if timers and choice < 7:
                given = TimerFired(at=at, key=timers[choice % len(timers)])
            else:
                given = SignalReceived(at=at, message_id=str(at), name="put", arguments=(choice,))
            assert execution.deliver(given)
            to_rest(execution)
        written += execution.machine.take_batch().records
        execution.close()
        return [encode_record(record) for record in written]

    started = ExecutionStarted(at=1.0, workflow="portions.crowd", arguments={"branches": branches})
    whole = journal(live(Crowd, [started]))
    with smallest_portions():
        assert journal(live(Crowd, [started])) == whole
        replayed = live(Crowd, [decode_record(record) for record in whole])
        to_rest(replayed)
        assert replayed.machine.take_batch().records == ()
        replayed.close()


@pytest.mark.parametrize(
    ("cls", "arguments"), [(Steps, [["a", "b"]]), (Asyncio, []), (Careful, []), (Echo, [{"a": 1}])]
)
async def test_executions_are_the_same_in_the_smallest_portions(cls: type[Any], arguments: list[Any]) -> None:
    async def run() -> list[Any]:
        async with in_memory() as stage:
            execution, world = await stage.start(cls, *arguments)
            world.gate("gate").set()
            await stage.worker(cls)
            await stage.later(execution.result(), 60)
            return await transcript(execution)

    whole = await run()
    with smallest_portions():
        assert await run() == whole


# Others get on


@contextmanager
def counted_turns() -> Iterator[Callable[[], int]]:
    """Count how often another task gets its turn."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    yield lambda: turns
    task.cancel()


def long_journal(inputs: int) -> list[bytes]:
    started = ExecutionStarted(at=1.0, workflow="contract.mailbox", arguments={"busy": False})
    signals = (
        SignalReceived(at=2.0, message_id=str(number), name="put", arguments=(number,))
        for number in range(inputs)
    )
    return [encode_record(started), *map(encode_record, signals)]


async def test_others_run_while_a_long_journal_is_read_and_replayed() -> None:
    journal, definition = long_journal(200), definition_of(Mailbox)
    with smallest_portions(), counted_turns() as turns:
        assert len([record async for record in decoded(journal)]) == 201
        assert turns() >= 200
        before = turns()
        live = await load(definition, WorkflowInfo("x", definition.name), journal, limit_bytes=MANY_BYTES)
        assert turns() - before >= 400
        live.close()


async def test_very_many_messages_are_written_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_driver, "INPUTS_AT_ONCE", 10)
    async with in_memory() as stage:
        execution, _ = await stage.start(Mailbox)
        for number in range(25):
            await execution.signal("put", number)
        await execution.signal("stop")
        _, store = await worker_on(stage, Writes, Mailbox)
        assert await stage.soon(execution.result()) == list(range(25))
        assert isinstance(store, Writes)
        sizes = [sum(isinstance(one, SignalReceived) for one in records) for records, _ in store.appends]
        assert sizes == [10, 10, 6]
        assert [commit.consumed for _, commit in store.appends] == [10, 20, 26]


class Pages(Lifeline):
    """Knows the longest page that the store returned."""

    longest = 0

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return self._counted(await super().read(execution_id, after, limit))

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return self._counted(await super().messages(execution_id, after, limit))

    def _counted(self, page: Sequence[T]) -> Sequence[T]:
        self.longest = max(self.longest, len(page))
        return page


async def test_a_store_reads_very_long_journals_and_inboxes_a_few_at_a_time() -> None:
    few = journal_reading.RECORDS_AT_ONCE
    assert few == execution_driver.MESSAGES_AT_ONCE
    numbers = list(range(2 * few + 3))
    async with in_memory() as stage:
        execution, _ = await stage.start(Mailbox)
        for number in numbers:
            await execution.signal("put", number)
        first, store = await worker_on(stage, Pages, Mailbox)
        events = execution.events()
        kinds = [(await anext(events)).kind for _ in range(len(numbers) + 1)]
        assert kinds.count(EventKind.SIGNAL_RECEIVED) == len(numbers)
        assert isinstance(store, Pages)
        assert store.longest == few
        await first.stop()
        await execution.signal("stop")
        _, store = await worker_on(stage, Pages, Mailbox)
        assert await stage.soon(execution.result()) == numbers
        assert isinstance(store, Pages)
        assert store.longest == few


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_the_last_page_may_be_full_or_not(more: int) -> None:
    length = 3 * journal_reading.RECORDS_AT_ONCE + more
    async with in_memory() as stage:
        execution, _ = await stage.start(Mailbox)
        for number in range(length - 1):
            await execution.signal("put", number)
        await stage.worker(Mailbox)

        async def events() -> list[Event] | None:
            found = [event async for event in execution.events(follow=False)]
            return found if len(found) == length else None

        assert [event.position for event in await stage.until(events)] == list(range(1, length + 1))
        assert len([record async for record in execution.records()]) == length
        assert len(await execution.query("contents")) == length - 1


async def test_very_many_timers_and_results_are_written_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_driver, "INPUTS_AT_ONCE", 3)
    async with in_memory() as stage:
        execution, _ = await stage.start(Naps, 8)
        _, store = await worker_on(stage, Writes, Naps)
        await stage.later(execution.result(), 1)
        assert isinstance(store, Writes)
        for kind in (TimerFired, StepCompleted):
            sizes = [sum(isinstance(one, kind) for one in records) for records, _ in store.appends]
            assert sum(sizes) == 8
            assert max(sizes) == 3


@workflow.define(name="portions.naps")
class Naps:
    """Sleeps many times at once, and does something after each."""

    @workflow.entrypoint
    async def run(self, naps: int) -> None:
        await asyncio.gather(*(self.nap() for _ in range(naps)))

    async def nap(self) -> None:
        await asyncio.sleep(1)
        await awake()


@outlast.activity(name="portions_awake")
async def awake() -> None:
    """Wake up."""


# Code that never comes to rest


@workflow.define(name="portions.soon")
class SoonAtRest:
    """Waits by running, for a short time."""

    @workflow.entrypoint
    async def run(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@workflow.define(name="portions.busy")
class Busy:
    """Waits by running."""

    def __init__(self) -> None:
        self.done = False

    @workflow.entrypoint
    async def run(self) -> None:
        while not self.done:  # noqa: ASYNC110
            await asyncio.sleep(0)

    @workflow.query
    def is_done(self) -> bool:
        return self.done


def test_code_that_runs_on_and_on_is_given_up_with_its_place() -> None:
    definition = definition_of(Busy)
    started = ExecutionStarted(at=1.0, workflow=definition.name, arguments={})
    execution = LiveExecution(
        definition,
        WorkflowInfo("x", definition.name),
        [started],
        limit_bytes=MANY_BYTES,
        running_seconds_max=0.02,
    )
    began = time.monotonic()
    with pytest.raises(BusyWorkflow) as raised:
        to_rest(execution)
    assert 0.02 <= raised.value.seconds <= time.monotonic() - began
    assert raised.value.place.startswith(f"{__file__}:")
    assert raised.value.place.endswith("in Busy.run")
    execution.close()


def test_code_that_a_busy_machine_keeps_waiting_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = determinism_guard.workflow_code

    def kept_waiting() -> AbstractContextManager[None]:
        time.sleep(0.01)
        return entered()

    monkeypatch.setattr(live_execution, "workflow_code", kept_waiting)
    monkeypatch.setattr(live_execution, "CALLBACKS_AT_ONCE", 1)
    definition = definition_of(SoonAtRest)
    started = ExecutionStarted(at=1.0, workflow=definition.name, arguments={})
    info = WorkflowInfo("x", definition.name)
    execution = LiveExecution(definition, info, [started], limit_bytes=MANY_BYTES, running_seconds_max=0.05)
    began = time.monotonic()
    to_rest(execution)
    assert time.monotonic() - began > 0.2
    assert execution.machine.end is not None
    execution.close()


async def test_a_query_of_code_that_runs_on_and_on_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_execution, "RUNNING_SECONDS_MAX", 0.02)
    async with in_memory() as stage:
        execution, _ = await stage.start(Busy)
        with pytest.raises(BusyWorkflow, match="does not come to rest"):
            await execution.query("is_done")


# Conditions


EVALUATED: list[int] = []
"""Each evaluation of a condition of `Patient` adds an entry."""


@workflow.define(name="portions.patient")
class Patient:
    """Waits for one condition at very many places."""

    def __init__(self) -> None:
        self.is_open = False

    @workflow.entrypoint
    async def run(self, places: int) -> None:
        await asyncio.gather(*(workflow.wait_condition(self.look) for _ in range(places)))

    def look(self) -> bool:
        EVALUATED.append(1)
        return self.is_open

    @workflow.signal
    def open(self) -> None:
        self.is_open = True


@pytest.mark.parametrize("places", [500, 1000, 2000, 4000])
def test_open_conditions_cost_their_number_and_not_its_square(places: int) -> None:
    EVALUATED.clear()
    execution = live(
        Patient, [ExecutionStarted(at=1.0, workflow="portions.patient", arguments={"places": places})]
    )
    to_rest(execution)
    assert len(EVALUATED) <= 2 * places
    execution.deliver(SignalReceived(at=2.0, message_id="m", name="open", arguments=()))
    to_rest(execution)
    assert len(EVALUATED) <= 3 * places
    assert execution.machine.end is not None
    execution.close()


@workflow.define(name="portions.ping_pong")
class PingPong:
    """Two tasks that wake each other by conditions, without end."""

    def __init__(self) -> None:
        self.turn = 0

    @workflow.entrypoint
    async def run(self) -> None:
        await asyncio.gather(self.play(0), self.play(1))

    async def play(self, mine: int) -> None:
        while True:
            await workflow.wait_condition(lambda: self.turn == mine)
            self.turn = 1 - mine


def test_code_whose_conditions_wake_each_other_is_given_up() -> None:
    definition, started = (
        definition_of(PingPong),
        ExecutionStarted(at=1.0, workflow="portions.ping_pong", arguments={}),
    )
    execution = LiveExecution(
        definition,
        WorkflowInfo("x", definition.name),
        [started],
        limit_bytes=MANY_BYTES,
        running_seconds_max=0.05,
    )
    with pytest.raises(BusyWorkflow):
        to_rest(execution)
    execution.close()
