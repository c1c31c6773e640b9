"""Executions, as their callers start and watch them: D1, D2, D12, D13, D14, queries and lists."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from outlast.core.errors import (
    ActivityFailed,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionFailed,
    ExecutionNotFound,
    InvalidArguments,
    PayloadTooLarge,
    Unserialisable,
)
from outlast.core.events import (
    ActivityCompletedData,
    ActivityStartedData,
    EventKind,
    ExecutionCompletedData,
    ExecutionStartedData,
)
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.testing.contracts.durability.activities import SECRET_VARIABLE
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Stage,
    all_events,
    data_of,
    transcript,
)
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.workflows import (
    ODD_NAME,
    CountAttempts,
    Echo,
    Failing,
    Gated,
    OddlyNamed,
    Order,
    Ordering,
    Payloads,
    Secretive,
    Steps,
    Unmakeable,
)

TOO_LARGE = 3_000_000
"""More bytes than a backend under test takes; it gets a lower limit if necessary."""

ODD_IDS = ("a b", "it's; --", "äöü/日本", "*[a-z]?", "x" * 200)


class ExecutionContract(DurabilityContractBase):
    """D1, D2, D12, D13, D14."""

    # Starting --------------------------------------------------------------------------------------------

    async def test_d1_the_same_start_gives_the_same_execution(self, stage: Stage) -> None:
        first, world = await stage.start(Steps, ["a"])
        backend = await stage.backend()
        again = await backend.start(Steps, ["a"], id=first.id)
        await stage.worker(Steps)
        assert again.id == first.id
        assert await stage.soon(first.result()) == await stage.soon(again.result()) == ["a done"]
        by_name = await backend.start(Steps, names=["a"], id=first.id)
        assert await stage.soon(by_name.result()) == ["a done"]
        assert world.count("a") == 1

    async def test_d1_an_id_in_use_for_something_else_is_refused(self, stage: Stage) -> None:
        first, _ = await stage.start(Steps, ["a"])
        backend = await stage.backend()
        for when in ("running", "completed"):
            with pytest.raises(ExecutionAlreadyExists) as other_input:
                await backend.start(Steps, ["b"], id=first.id)
            with pytest.raises(ExecutionAlreadyExists) as other_workflow:
                await backend.start(Mailbox, id=first.id)
            assert (other_input.value.differs, other_workflow.value.differs) == ("input", "workflow")
            if when == "running":
                await stage.worker(Steps, Mailbox)
                assert await stage.soon(first.result()) == ["a done"]

    async def test_d1_concurrent_starts_create_one_execution(self, stage: Stage) -> None:
        execution_id = stage.new_id()
        backends = [await stage.backend() for _ in range(3)]
        started = await asyncio.gather(
            *(backend.start(Steps, ["a", "b"], id=execution_id) for backend in backends * 4)
        )
        assert {execution.id for execution in started} == {execution_id}
        await stage.worker(Steps)
        results = await asyncio.gather(*(stage.soon(execution.result()) for execution in started))
        assert results == [["a done", "b done"]] * 12
        kinds = [event.kind for event in await all_events(started[0])]
        assert kinds.count(EventKind.EXECUTION_STARTED) == kinds.count(EventKind.EXECUTION_COMPLETED) == 1

    async def test_d1_a_start_without_an_id_is_a_new_execution(self, stage: Stage) -> None:
        backend = await stage.backend()
        ids = {(await backend.start(Echo, 1)).id for _ in range(3)}
        assert len(ids) == 3

    async def test_d1_any_text_is_an_id(self, stage: Stage) -> None:
        backend = await stage.backend()
        started = [await backend.start(Echo, id, id=id) for id in ODD_IDS]
        await stage.worker(Echo)
        assert [await stage.soon(execution.result()) for execution in started] == list(ODD_IDS)

    @pytest.mark.parametrize("id", ["", " ", "a\nb", "\ud800", "x" * 5000])
    async def test_d1_text_that_cannot_be_an_id_is_refused(self, stage: Stage, id: str) -> None:
        backend = await stage.backend()
        with pytest.raises(DefinitionError):
            await backend.start(Echo, 1, id=id)
        with pytest.raises(ExecutionNotFound):
            await backend.get(id)
        with suppress(DefinitionError):
            assert not await backend.list(Where(workflow=id))

    async def test_d1_an_object_that_is_not_a_workflow_is_refused(self, stage: Stage) -> None:
        backend = await stage.backend()
        for wrong in (object, "contract.never_defined"):
            with pytest.raises(DefinitionError):
                await backend.start(wrong)
        with pytest.raises(TypeError):
            await backend.start(Steps)

    async def test_an_execution_that_does_not_exist_is_not_found(self, stage: Stage) -> None:
        with pytest.raises(ExecutionNotFound):
            await (await stage.backend()).get("never started")

    # Results ---------------------------------------------------------------------------------------------

    async def test_d2_the_result_is_the_same_for_everyone_and_for_ever(self, stage: Stage) -> None:
        execution, world = await stage.start(Ordering, Order("tea", 1), True)
        early = [asyncio.ensure_future(execution.result()) for _ in range(3)]
        process = await stage.worker(Ordering)
        assert [await stage.soon(one) for one in early] == [Order("tea", 3)] * 3
        await process.stop()
        assert await stage.soon(execution.result()) == Order("tea", 3)
        await stage.worker(Ordering)
        for _ in range(2):
            assert await stage.soon((await stage.again(execution)).result()) == Order("tea", 3)
        assert world.count("tea") == 1

    @pytest.mark.parametrize(
        "value", [None, False, 0, "", [], {}, 1.5, "\ud800 \x00 🦉", {"a": [{"b": None}]}]
    )
    async def test_d2_a_result_is_the_value_that_was_returned(self, stage: Stage, value: Any) -> None:
        assert await stage.run(Echo, value) == value

    @pytest.mark.parametrize("how", ["foreign", "ours", "cancelled", "exit"])
    async def test_d2_a_failure_is_the_same_for_everyone_and_for_ever(self, stage: Stage, how: str) -> None:
        execution, _ = await stage.start(Failing, how)
        process = await stage.worker(Failing)
        errors = []
        for handle in (execution, execution, await stage.again(execution)):
            with pytest.raises(ExecutionFailed) as failed:
                await stage.soon(handle.result())
            errors.append((str(failed.value), type(failed.value.__cause__), str(failed.value.__cause__)))
            await process.stop()
        assert len(set(errors)) == 1
        message, cause, _ = errors[0]
        description = await execution.describe()
        assert description.status is Status.FAILED
        assert description.error is not None
        assert description.error in message
        if how == "foreign":
            assert cause is ZeroDivisionError
            assert "ZeroDivisionError: no such quotient" in message
        elif how == "ours":
            assert cause is ActivityFailed

    async def test_d2_a_workflow_whose_constructor_raises_fails(self, stage: Stage) -> None:
        execution, world = await stage.start(Unmakeable)
        await stage.worker(Unmakeable)
        with pytest.raises(ExecutionFailed, match="no instance"):
            await stage.soon(execution.result())
        with pytest.raises(InvalidArguments):
            await stage.soon(execution.query("nothing"))
        assert not world.effects

    # Values that cannot be kept --------------------------------------------------------------------------

    async def test_d12_an_input_that_cannot_be_kept_is_refused_and_nothing_is_started(
        self, stage: Stage
    ) -> None:
        backend = await stage.backend()
        for value, error in ((object(), Unserialisable), ("x" * TOO_LARGE, PayloadTooLarge)):
            execution_id = stage.new_id()
            with pytest.raises(error):
                await backend.start(Echo, value, id=execution_id)
            with pytest.raises(ExecutionNotFound):
                await backend.get(execution_id)

    async def test_d12_a_signal_that_cannot_be_kept_is_refused_and_never_comes(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        await stage.worker(Mailbox)
        for value, error in ((object(), Unserialisable), ("x" * TOO_LARGE, PayloadTooLarge)):
            with pytest.raises(error):
                await execution.signal("put", value)
        await execution.signal("put", "small")
        await execution.signal("stop")
        assert await stage.soon(execution.result()) == ["small"]

    @pytest.mark.parametrize(
        ("which", "error", "runs"),
        [
            ("argument", "PayloadTooLarge", 0),
            ("result", "PayloadTooLarge", 1),
            ("object argument", "Unserialisable", 0),
            ("object result", "Unserialisable", 1),
        ],
    )
    async def test_d12_a_value_that_cannot_be_kept_raises_in_the_workflow(
        self, stage: Stage, which: str, error: str, runs: int
    ) -> None:
        execution, world = await stage.start(Payloads, which, TOO_LARGE)
        await stage.worker(Payloads)
        assert await stage.soon(execution.result()) == f"{error}, small done"
        assert world.count("returned") == runs
        assert [effect.what for effect in world.effects if effect.what != "returned"] == ["small"]

    async def test_d12_a_workflow_whose_result_cannot_be_kept_fails(self, stage: Stage) -> None:
        execution, _ = await stage.start(Payloads, "own result", TOO_LARGE)
        await stage.worker(Payloads)
        with pytest.raises(ExecutionFailed) as failed:
            await stage.soon(execution.result())
        assert isinstance(failed.value.__cause__, PayloadTooLarge)

    @pytest.mark.parametrize(("kind", "error"), [("object", "Unserialisable"), ("huge", "PayloadTooLarge")])
    async def test_d12_a_heartbeat_that_cannot_be_kept_is_refused(
        self, stage: Stage, kind: str, error: str
    ) -> None:
        assert await stage.run(CountAttempts, f"beat {kind}") == error

    async def test_d12_a_failure_with_a_huge_message_is_kept_in_part(self, stage: Stage) -> None:
        execution, _ = await stage.start(Failing, "huge")
        await stage.worker(Failing)
        with pytest.raises(ExecutionFailed, match="ValueError: xxx") as failed:
            await stage.soon(execution.result())
        assert len(str(failed.value)) < 100_000

    # Events ----------------------------------------------------------------------------------------------

    async def test_d13_the_stream_has_every_event_in_order(self, stage: Stage) -> None:
        execution, _ = await stage.start(Steps, ["a", "b"])
        watching = asyncio.ensure_future(all_events(execution))
        await stage.worker(Steps)
        events = await stage.soon(watching)
        keys = [data.key for data in data_of(events, ActivityStartedData)]
        assert [event.data for event in events] == [
            ExecutionStartedData(workflow="contract.steps", arguments={"names": ["a", "b"]}),
            ActivityStartedData(key=keys[0], name="record", arguments={"what": "a"}),
            ActivityCompletedData(key=keys[0], name="record", result="a done"),
            ActivityStartedData(key=keys[1], name="record", arguments={"what": "b"}),
            ActivityCompletedData(key=keys[1], name="record", result="b done"),
            ExecutionCompletedData(result=["a done", "b done"]),
        ]
        assert [event.position for event in events] == sorted({event.position for event in events})
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert all(event.at.utcoffset() is not None for event in events)

    async def test_d13_any_process_reads_the_same_stream_from_any_position(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox, True)
        await execution.signal("put", 1)
        await execution.signal("put_two", 2, 3)
        await execution.signal("stop")
        await stage.worker(Mailbox)
        await stage.soon(execution.result())
        whole = await stage.soon(all_events(execution))
        for index, event in enumerate(whole):
            other = await stage.again(execution)
            assert await stage.soon(all_events(other, event.position)) == whole[index + 1 :]
        assert await stage.soon(all_events(execution, whole[-1].position + 1)) == []

    async def test_d13_events_come_while_the_execution_runs(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        stream = (await stage.again(execution)).events()
        kinds = [(await stage.soon(anext(stream))).kind for _ in range(4)]
        assert kinds == [
            EventKind.EXECUTION_STARTED,
            EventKind.ACTIVITY_STARTED,
            EventKind.ACTIVITY_COMPLETED,
            EventKind.ACTIVITY_STARTED,
        ]
        await stage.soon(world.happened("gate reached"))
        world.gate("gate").set()
        rest = [event.kind async for event in stream]
        assert rest == [
            EventKind.ACTIVITY_COMPLETED,
            EventKind.ACTIVITY_STARTED,
            EventKind.ACTIVITY_COMPLETED,
            EventKind.EXECUTION_COMPLETED,
        ]

    @pytest.mark.parametrize(("how", "kind"), [("foreign", EventKind.EXECUTION_FAILED)])
    async def test_d13_the_stream_ends_with_the_execution(self, stage: Stage, how: str, kind: str) -> None:
        execution, _ = await stage.start(Failing, how)
        await stage.worker(Failing)
        events = await stage.soon(all_events(execution))
        assert events[-1].kind == kind

    async def test_d13_equal_executions_have_equal_streams(self, stage: Stage) -> None:
        streams: list[Any] = []
        for _ in range(2):
            execution, _ = await stage.start(Steps, ["a", "b", "c"])
            process = await stage.worker(Steps, max_cached_executions=len(streams))
            streams.append(await stage.soon(transcript(execution)))
            await process.stop()
        assert streams[0] == streams[1]

    # Secrets ---------------------------------------------------------------------------------------------

    async def test_d14_a_secret_that_an_activity_uses_is_not_stored(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.needs(BackendCapability.SHOWS_ITS_BYTES)
        secret = "correct-horse-battery-staple"
        monkeypatch.setenv(SECRET_VARIABLE, secret)
        execution, _ = await stage.start(Secretive)
        process = await stage.worker(Secretive)
        assert await stage.soon(execution.result()) == len(secret)
        await process.stop()
        stored = await stage.storage.stored_bytes()
        assert execution.id.encode() in stored
        assert secret.encode() not in stored

    # Looking ---------------------------------------------------------------------------------------------

    async def test_a_query_returns_the_present_state_of_a_running_and_of_an_ended_execution(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(Mailbox)
        await stage.worker(Mailbox)
        for letter in ("a", "b", "a"):
            await execution.signal("put", letter)
        await stage.event(execution, EventKind.SIGNAL_RECEIVED, 3)
        assert await stage.soon(execution.query("contents")) == ["a", "b", "a"]
        assert await stage.soon((await stage.again(execution)).query("count_of", "a", 10)) == 20
        await execution.signal("stop")
        await stage.soon(execution.result())
        for handle in (execution, await stage.again(execution)):
            assert await stage.soon(handle.query("count_of", "b")) == 1

    async def test_a_query_that_the_workflow_does_not_have_is_refused(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        await stage.worker(Mailbox)
        for name, arguments in (("no_such", ()), ("count_of", ()), ("contents", (1, 2))):
            with pytest.raises(InvalidArguments):
                await stage.soon(execution.query(name, *arguments))

    async def test_descriptions_and_lists_have_the_status_of_executions(self, stage: Stage) -> None:
        backend = await stage.backend()
        done, _ = await stage.start(Steps, ["a"])
        process = await stage.worker(Steps)
        await stage.soon(done.result())
        await process.stop()
        waiting, _ = await stage.start(Mailbox)
        described = await done.describe()
        assert (described.id, described.workflow, described.status) == (
            done.id,
            "contract.steps",
            "completed",
        )
        assert described.ended_at is not None
        assert described.created_at <= described.ended_at
        assert described.error is None
        assert (await waiting.describe()).ended_at is None
        assert {one.id for one in await backend.list()} == {done.id, waiting.id}
        assert [one.id for one in await backend.list(Where(status="running"))] == [waiting.id]
        assert [one.id for one in await backend.list(Where(status=Status.COMPLETED))] == [done.id]
        assert [one.id for one in await backend.list(Where(workflow="contract.mailbox"))] == [waiting.id]
        assert len(await backend.list(limit=1)) == 1
        assert not await backend.list(Where(status="cancelled"))
        assert not await backend.list(limit=0)
        with pytest.raises(DefinitionError, match="the limit of a list is -1"):
            await backend.list(limit=-1)

    async def test_executions_and_workers_are_found_by_names_that_are_hard_to_quote(
        self, stage: Stage
    ) -> None:
        backend = await stage.backend()
        queue = f"{ODD_NAME}, queue"
        done = await backend.start(OddlyNamed, id=stage.new_id(), task_queue=queue)
        other = await backend.start(Echo, 1, id=stage.new_id())
        await stage.worker(OddlyNamed, task_queue=queue, identity='worker of it\'s "odd"')
        assert await stage.soon(done.result()) == "done done"

        async def found() -> list[str] | None:
            named = await backend.list(Where(workflow=ODD_NAME))
            return [one.id for one in named] if named and named[0].ended_at is not None else None

        assert await stage.until(found) == [done.id]
        assert [one.id for one in await backend.list(Where(workflow="contract.echo"))] == [other.id]

        async def present() -> list[str] | None:
            return [one.task_queue for one in await backend.workers()] or None

        assert await stage.until(present) == [queue]

    async def test_an_execution_that_has_ended_takes_no_messages(self, stage: Stage) -> None:
        execution, _ = await stage.start(Steps, ["a"])
        await stage.worker(Steps)
        await stage.soon(execution.result())
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.cancel()
        assert (await execution.describe()).status is Status.COMPLETED
