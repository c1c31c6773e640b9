"""Updates: D18."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlast.core.errors import (
    DefinitionError,
    DeterminismError,
    ExecutionAlreadyEnded,
    ExecutionFailed,
    InvalidArguments,
    OutlastError,
    PayloadTooLarge,
    Unserialisable,
    UpdateAbandoned,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.events import EventKind
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.durability.accounts import (
    AccountWithUpdates,
    Overdrawn,
    Receipt,
    UnmakeableAccount,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, transcript

UPDATES = (EventKind.UPDATE_ACCEPTED, EventKind.UPDATE_COMPLETED, EventKind.UPDATE_FAILED)


async def updates_of(execution: Execution) -> list[tuple[str, dict[str, Any]]]:
    """Return the events about updates in the stream of an execution that has ended."""
    return [event for event in await transcript(execution) if event[0] in UPDATES]


class UpdateContract(DurabilityContractBase):
    """D18."""

    async def test_d18_an_update_returns_what_its_handler_returns(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        assert await stage.soon(execution.update("deposit", 5)) == Receipt("deposit", 5)
        assert await stage.soon(execution.update("deposit", 2, factor=3)) == Receipt("deposit", 11)
        assert await stage.soon(execution.update("book", "rent", -1)) == Receipt("rent done", 10)
        assert await stage.soon(execution.update("book", amount=4, what="gift")) == Receipt("gift done", 14)
        await execution.signal("close")
        assert await stage.soon(execution.result()) == 14
        assert [effect.what for effect in world.effects] == ["rent", "gift"]

    async def test_d18_an_update_sent_before_any_worker_starts_is_answered(self, stage: Stage) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        sent = [asyncio.create_task(execution.update("deposit", amount)) for amount in (1, 2)]
        await stage.pass_time(1)
        assert not any(task.done() for task in sent)
        await stage.worker(AccountWithUpdates)
        receipts = await stage.soon(asyncio.gather(*sent))
        assert max(receipt.balance for receipt in receipts) == 3

    async def test_d18_a_handler_may_wait_for_time_and_for_the_rest_of_the_workflow(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        waiting = asyncio.create_task(execution.update("wait_for", 10))
        await stage.event(execution, EventKind.UPDATE_ACCEPTED)
        await stage.soon(execution.update("deposit", 4))
        assert not waiting.done()
        await stage.soon(execution.update("deposit", 6))
        assert await stage.later(waiting, 1) == 10

    # The same id ----------------------------------------------------------------------------------------

    async def test_d18_updates_of_one_id_are_handled_once_and_get_the_same_answer(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        handles = [execution, *[await stage.again(execution) for _ in range(3)]]
        booked = await stage.soon(
            asyncio.gather(*(handle.update("book", "rent", 7, id="rent-1") for handle in handles))
        )
        assert booked == [Receipt("rent done", 7)] * 4
        assert await stage.soon(execution.update("deposit", 1, id="another")) == Receipt("deposit", 8)
        # Only the id counts: the id of an answered update brings its answer, with any other arguments.
        again = await stage.again(execution)
        assert await stage.soon(again.update("book", "gift", 5, id="rent-1")) == Receipt("rent done", 7)
        await execution.signal("close")
        assert await stage.soon(execution.result()) == 8
        again = await stage.again(execution)
        assert await stage.soon(again.update("book", "rent", 7, id="rent-1")) == Receipt("rent done", 7)
        assert [effect.what for effect in world.effects] == ["rent"]

    async def test_d18_an_answer_outlasts_the_caller_and_the_worker(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        process = await stage.worker(AccountWithUpdates)
        caller = asyncio.create_task(execution.update("book_behind", "gate", 3, id="once"))
        patient = asyncio.create_task(
            (await stage.again(execution)).update("book_behind", "gate", 3, id="once")
        )
        await stage.soon(world.happened("gate reached"))
        caller.cancel()
        assert (await asyncio.gather(caller, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        await stage.lose(process)
        await stage.worker(AccountWithUpdates)
        await stage.soon(world.happened("gate reached", 2))
        world.gate("gate").set()
        receipt = Receipt("gate done", 3)
        assert await stage.soon(patient) == receipt
        assert (
            await stage.soon((await stage.again(execution)).update("book_behind", "", 0, id="once"))
            == receipt
        )
        await execution.signal("close")
        assert await stage.soon(execution.result()) == 3
        assert len(await updates_of(execution)) == 2

    async def test_d18_answers_are_the_same_after_every_crash(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        for number in range(1, 4):
            process = await stage.worker(AccountWithUpdates)
            receipt = await stage.soon(execution.update("book", f"{number}", number, id=f"{number}"))
            assert receipt == Receipt(f"{number} done", number * (number + 1) // 2)
            await stage.lose(process)
        await stage.worker(AccountWithUpdates)
        for number in range(1, 4):
            receipt = await stage.soon(execution.update("book", "", 100, id=f"{number}"))
            assert receipt == Receipt(f"{number} done", number * (number + 1) // 2)
        assert [effect.what for effect in world.effects] == ["1", "2", "3"]

    # Rejections and failures ----------------------------------------------------------------------------

    async def test_d18_a_rejected_update_changes_nothing(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        for _ in range(2):
            with pytest.raises(UpdateRejected, match="Overdrawn: 5 are missing") as caught:
                await stage.soon(execution.update("book", "rent", -5, id="rent"))
            assert type(caught.value.__cause__) is Overdrawn
        with pytest.raises(UpdateRejected, match="in a validator"):
            await stage.soon(execution.update("book", "chance", 0))
        with pytest.raises(DeterminismError, match="in a validator or a query"):
            await stage.soon(execution.query("luck"))
        assert await stage.soon(execution.query("state")) == Receipt("open", 0)
        assert await stage.soon(execution.update("deposit", 7)) == Receipt("deposit", 7)
        # It was not accepted, so its id is free.
        assert await stage.soon(execution.update("book", "rent", -5, id="rent")) == Receipt("rent done", 2)
        await execution.signal("close")
        assert await stage.soon(execution.result()) == 2
        assert await stage.soon(execution.query("state")) == Receipt("closed", 2)
        assert [effect.what for effect in world.effects] == ["rent"]
        events = await updates_of(execution)
        assert [(kind, data["name"]) for kind, data in events] == [
            (EventKind.UPDATE_ACCEPTED, "deposit"),
            (EventKind.UPDATE_COMPLETED, "deposit"),
            (EventKind.UPDATE_ACCEPTED, "book"),
            (EventKind.UPDATE_COMPLETED, "book"),
        ]

    async def test_d18_an_error_of_a_handler_is_raised_at_the_caller_only(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        for how, kind in (
            ("own error", "Overdrawn"),
            ("activity", "ActivityFailed"),
            ("cancelled", "CancelledError"),
            ("object", "Unserialisable"),
            ("huge", "PayloadTooLarge"),
        ):
            with pytest.raises(UpdateFailed) as caught:
                await stage.soon(execution.update("fail", how, id=how))
            assert (caught.value.kind, caught.value.update) == (kind, "fail")
            assert isinstance(caught.value.__cause__, Overdrawn if kind == "Overdrawn" else OutlastError)
            with pytest.raises(UpdateFailed, match=kind):
                await stage.soon((await stage.again(execution)).update("fail", how, id=how))
        assert world.count("tried") == 1
        assert (await execution.describe()).status is Status.RUNNING
        await execution.signal("close")
        assert await stage.soon(execution.result()) == 0

    async def test_d18_an_update_that_cannot_be_sent_is_an_error_at_the_call(self, stage: Stage) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        for name, arguments in (
            *(("no_such", ()), ("close", ()), ("deposit", ()), ("deposit", (1, 2, 3))),
            ("book", ("rent",)),
        ):
            with pytest.raises(InvalidArguments):
                await stage.soon(execution.update(name, *arguments))
        for wrong in ("", "x" * 1001, "two\nlines"):
            with pytest.raises(DefinitionError, match="id of an update"):
                await stage.soon(execution.update("deposit", 1, id=wrong))
        with pytest.raises(Unserialisable):
            await stage.soon(execution.update("deposit", object()))
        with pytest.raises(PayloadTooLarge):
            await stage.soon(execution.update("book", "x" * 3_000_000, 1))
        await execution.signal("close")
        await stage.worker(AccountWithUpdates)
        assert await stage.soon(execution.result()) == 0
        assert await updates_of(execution) == []

    # The end --------------------------------------------------------------------------------------------

    async def test_d18_an_execution_that_has_ended_takes_no_update(self, stage: Stage) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        await execution.signal("close")
        await stage.soon(execution.result())
        for options in ({}, {"id": "late"}):
            with pytest.raises(ExecutionAlreadyEnded) as caught:
                await stage.soon(execution.update("deposit", 1, **options))
            assert (type(caught.value), caught.value.status) == (ExecutionAlreadyEnded, "completed")

    @pytest.mark.parametrize("how", ["returns", "is cancelled", "fails"])
    async def test_d18_the_caller_gets_an_error_when_the_execution_ends_before_the_handler(
        self, stage: Stage, how: str
    ) -> None:
        execution, world = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        waiting = asyncio.create_task(execution.update("book_behind", "gate", 1, id="cut off"))
        await stage.soon(world.happened("gate reached"))
        match how:
            case "returns":
                await execution.signal("close")
            case "is cancelled":
                await execution.cancel()
            case "fails":
                await execution.signal("break_down")
        for update in (waiting, execution.update("book_behind", "gate", 1, id="cut off")):
            with pytest.raises(UpdateAbandoned, match="all_handlers_finished") as caught:
                await stage.soon(update)
            assert caught.value.update == "book_behind"
        assert [kind for kind, _ in await updates_of(execution)] == [EventKind.UPDATE_ACCEPTED]

    async def test_d18_a_workflow_may_wait_for_its_handlers(self, stage: Stage) -> None:
        execution, world = await stage.start(AccountWithUpdates, True)
        await stage.worker(AccountWithUpdates)
        waiting = asyncio.create_task(execution.update("book_behind", "gate", 1))
        await stage.soon(world.happened("gate reached"))
        await execution.signal("close")
        await stage.event(execution, EventKind.SIGNAL_RECEIVED)
        world.gate("gate").set()
        assert await stage.soon(waiting) == Receipt("gate done", 1)
        assert await stage.soon(execution.result()) == 1

    async def test_d18_an_update_that_ends_the_execution_is_answered(self, stage: Stage) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        assert await stage.soon(execution.update("settle")) == "settled at 0"
        assert await stage.soon(execution.result()) == 0

    async def test_d18_updates_are_in_the_event_stream(self, stage: Stage) -> None:
        execution, _ = await stage.start(AccountWithUpdates)
        await stage.worker(AccountWithUpdates)
        await stage.soon(execution.update("deposit", 5, id="one"))
        with pytest.raises(UpdateFailed):
            await stage.soon(execution.update("fail", "own error", id="two"))
        await stage.soon(execution.update("book", "rent", -1, id="three"))
        await execution.signal("close")
        await stage.soon(execution.result())
        seen = [(kind, data) for kind, data in await transcript(execution) if "activity" not in kind]
        failure = {"kind": "Overdrawn", "message": "own error", "retryable": True}
        failure = {**seen[4][1]["failure"], **failure}  # its frames are for another test
        assert seen == [
            (EventKind.EXECUTION_STARTED, {"workflow": "contract.account"}),
            (EventKind.UPDATE_ACCEPTED, _sent("one", "deposit", {"amount": 5})),
            (EventKind.UPDATE_COMPLETED, _data("one", "deposit", result={"what": "deposit", "balance": 5})),
            (EventKind.UPDATE_ACCEPTED, _sent("two", "fail", {"how": "own error"})),
            (EventKind.UPDATE_FAILED, _data("two", "fail", failure=failure)),
            (EventKind.UPDATE_ACCEPTED, _sent("three", "book", {"what": "rent", "amount": -1})),
            (EventKind.UPDATE_COMPLETED, _data("three", "book", result={"what": "rent done", "balance": 4})),
            (EventKind.SIGNAL_RECEIVED, {"name": "close"}),
            (EventKind.EXECUTION_COMPLETED, {"result": 4}),
        ]
        kinds = [event.kind for event in await all_events(execution)]
        assert kinds.index(EventKind.ACTIVITY_STARTED) > kinds.index(EventKind.UPDATE_ACCEPTED)

    async def test_d18_a_workflow_whose_constructor_raises_answers_no_update(self, stage: Stage) -> None:
        execution, _ = await stage.start(UnmakeableAccount)
        waiting = asyncio.create_task(execution.update("deposit", 1))
        await stage.pass_time(0.1)
        await stage.worker(UnmakeableAccount)
        with pytest.raises((ExecutionAlreadyEnded, UpdateRejected)):
            await stage.soon(waiting)
        with pytest.raises(ExecutionFailed, match="no instance"):
            await stage.soon(execution.result())


def _sent(id: str, name: str, named: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "name": name, "named": named}


def _data(id: str, name: str, **outcome: Any) -> dict[str, Any]:
    return {"id": id, "name": name, **outcome}
