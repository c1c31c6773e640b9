"""Updates on our own engine: their records, callers without the workflow, crashes anywhere."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import (
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    InvalidArguments,
    StorageError,
    Unserialisable,
    UpdateRejected,
)
from outlast.core.events import EventKind
from outlast.core.records import (
    ExecutionEnded,
    StepCompleted,
    StepScheduled,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.runtime.executions import event_streams, journaled_execution
from outlast.testing.contracts.durability.accounts import AccountWithUpdates, Receipt
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage, all_events
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline
from tests.runtime.stages import in_memory, worker_on
from tests.runtime.test_driver import Writes


async def test_an_update_and_its_answer_are_one_append_and_a_rejection_is_one_note() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        _, store = await worker_on(stage, Writes, AccountWithUpdates)
        await stage.soon(execution.update("deposit", 1))
        with pytest.raises(UpdateRejected):
            await stage.soon(execution.update("book", "rent", -9))
        await stage.soon(execution.update("book", "rent", 9))
        await stage.soon(execution.update("settle"))
        assert isinstance(store, Writes)
        assert [[type(record) for record in records] for records, _ in store.appends if records] == [
            [UpdateAccepted, UpdateCompleted],
            [UpdateNotAccepted],
            [UpdateAccepted, StepScheduled],
            [StepCompleted, UpdateCompleted],
            [UpdateAccepted, UpdateCompleted, ExecutionEnded],
        ]


async def test_a_caller_that_waits_for_an_answer_reads_the_store_rarely() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        assert isinstance(stage.storage, InStore)
        store = Lifeline(stage.storage.storage.open())
        caller = await (await stage.enter(stage.storage.open_on(store))).get(execution.id)
        waiting = asyncio.create_task(caller.update("book_behind", "gate", 1))
        await stage.soon(world.happened("gate reached"))
        before = store.calls["read"]
        await stage.pass_time(50)
        assert store.calls["read"] - before <= 50 / event_streams.PATIENCE_SECONDS + 1
        world.gate("gate").set()
        assert await stage.soon(waiting) == Receipt("gate done", 1)


async def test_a_caller_without_the_workflow_is_answered_by_a_worker_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        monkeypatch.setattr(journaled_execution, "known_definition", lambda name: None)
        assert await stage.soon(execution.update("deposit", 5)) == {"what": "deposit", "balance": 5}
        assert await stage.soon(execution.update("deposit", amount=1, factor=2)) == {
            "what": "deposit",
            "balance": 7,
        }
        for name, arguments in (("no_such", ()), ("deposit", ()), ("deposit", ("much",))):
            with pytest.raises(UpdateRejected, match=name) as caught:
                await stage.soon(execution.update(name, *arguments))
            assert isinstance(caught.value.__cause__, (InvalidArguments, DefinitionError))
        with pytest.raises(Unserialisable):
            await stage.soon(execution.update("deposit", object()))


async def test_an_id_that_leaves_no_room_for_the_number_of_the_try_is_refused_at_the_call() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        with pytest.raises(DefinitionError, match="1 to 1000 bytes"):
            await execution.update("deposit", 1, id="x" * 1000)


async def test_the_caller_of_an_update_that_comes_with_the_end_gets_an_error() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        await execution.signal("close")
        waiting = asyncio.create_task(execution.update("deposit", 1))
        rejected = asyncio.create_task(execution.update("book", "rent", -1))
        await stage.pass_time(0)
        await stage.worker(AccountWithUpdates)
        for task in (waiting, rejected):
            with pytest.raises(ExecutionAlreadyEnded, match="is completed and takes no more messages"):
                await stage.soon(task)
        assert await stage.soon(execution.result()) == 0


async def test_an_execution_that_was_forgotten_takes_no_update() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        sent = asyncio.create_task(execution.update("deposit", 1))
        await stage.pass_time(0)
        worker = await stage.worker(AccountWithUpdates)
        assert await stage.soon(sent) == Receipt("deposit", 1)
        await execution.signal("close")
        await stage.soon(execution.result())
        await worker.stop()
        await stage.pass_time(1)
        await (await stage.backend()).prune(stage.lease * 0)
        with pytest.raises(ExecutionNotFound):
            await execution.update("deposit", 1)


# Crashes -----------------------------------------------------------------------------------------------

Request = tuple[str, int]
"""An update, and its amount."""

REQUESTS: dict[str, Request] = {
    "a": ("deposit", 2),
    "b": ("deposit", -1),
    "c": ("book", 3),
    "d": ("book", -1),
    "e": ("book", -4),
}
"""The update that is sent under each id."""


class Model:
    """The state of an account and the answers to its callers, without any engine."""

    def __init__(self) -> None:
        self.balance = 0
        self.answers: dict[str, Receipt] = {}

    def update(self, id: str) -> Receipt | None:
        """Return the answer to an update; None for a rejection."""
        name, amount = REQUESTS[id]
        if id not in self.answers:
            if name == "book" and self.balance + amount < 0:
                return None
            self.balance += amount
            self.answers[id] = Receipt(name if name == "deposit" else f"{id} done", self.balance)
        return self.answers[id]


async def ask(handle: Execution, id: str) -> Receipt | None:
    """Send an update, and return its answer; None for a rejection."""
    name, amount = REQUESTS[id]
    try:
        receipt: Receipt = await handle.update(name, *([] if name == "deposit" else [id]), amount, id=id)
    except UpdateRejected:
        return None
    return receipt


class Mortals:
    """A worker that dies at some call of its store, whereupon there is another one; and callers who die."""

    def __init__(self, stage: Stage, deaths: list[int], dies_after_effect: bool, cached: int) -> None:
        self._stage = stage
        self._deaths = deaths
        self._dies_after_effect = dies_after_effect
        self._cached = cached

    async def backend(self, dies_at: int | None) -> tuple[Backend, Lifeline]:
        """Return what one more process has, which dies at that call."""
        assert isinstance(self._stage.storage, InStore)
        store = Lifeline(
            self._stage.storage.storage.open(),
            dies_at=dies_at,
            dies_after_effect=self._dies_after_effect,
        )
        return await self._stage.enter(self._stage.storage.open_on(store)), store

    async def work(self) -> None:
        """Be one worker after the other."""
        while True:
            backend, store = await self.backend(self._deaths.pop() if self._deaths else None)
            process = await self._stage.worker(
                AccountWithUpdates, backend=backend, max_cached_executions=self._cached
            )
            await store.died.wait()
            await self._stage.lose(process)

    async def call(self, execution_id: str, id: str, dies_at: int) -> Receipt | str | None:
        """Ask in a process that dies sooner or later."""
        backend, _ = await self.backend(dies_at)
        try:
            return await ask(await backend.get(execution_id), id)
        except StorageError:
            return "died"


@few_examples(25)
@given(
    ids=st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=8),
    deaths=st.lists(st.integers(min_value=1, max_value=15), max_size=3),
    dies_after_effect=st.booleans(),
    caller_dies_at=st.integers(min_value=1, max_value=6),
    cached=st.sampled_from([0, 1000]),
)
async def test_an_update_is_handled_once_and_answered_alike_after_any_crash(
    ids: list[str], deaths: list[int], dies_after_effect: bool, caller_dies_at: int, cached: int
) -> None:
    """The worker dies at any call of its store, and so does one of two callers who send the same."""
    model = Model()
    async with in_memory() as stage:
        execution, _ = await stage.start(AccountWithUpdates)
        mortals = Mortals(stage, deaths, dies_after_effect, cached)
        working = asyncio.create_task(mortals.work())
        for id in ids:
            dying = asyncio.create_task(mortals.call(execution.id, id, caller_dies_at))
            answer = await stage.soon(ask(await stage.again(execution), id))
            assert answer == model.update(id)
            assert await stage.soon(dying) in (answer, "died")
        await execution.signal("close")
        assert await stage.soon(execution.result()) == model.balance
        kinds = [event.kind for event in await all_events(execution)]
        assert (
            kinds.count(EventKind.UPDATE_ACCEPTED)
            == kinds.count(EventKind.UPDATE_COMPLETED)
            == len(model.answers)
        )
        for id, receipt in model.answers.items():
            assert await stage.soon(ask(execution, id)) == receipt
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.update("deposit", 1, id="never sent")
        working.cancel()
        await asyncio.wait([working])
