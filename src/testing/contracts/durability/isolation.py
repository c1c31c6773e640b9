"""Executions whose code misbehaves: D19."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import (
    ActivityBlocked,
    ActivityFailed,
    ExecutionFailed,
    OutlastError,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.code import in_trouble
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.workflows import Echo, Steps


class NotAnException(BaseException):
    """An exception of a user's, of which nobody knows."""


EXITS = ("SystemExit", "KeyboardInterrupt", "CancelledError", "NotAnException")


def leave(how: str) -> NoReturn:
    """Raise an exception that `except Exception` does not catch."""
    match how:
        case "SystemExit":
            raise SystemExit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
    raise NotAnException("no more of this")


async def leave_later(how: str) -> NoReturn:
    """Raise it in a task."""
    await asyncio.sleep(0)
    leave(how)


@activity(name="contract_leave", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def leave_activity(how: str) -> None:
    """Leave an activity."""
    leave(how)


@activity(name="contract_leave_thread", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
def leave_thread(how: str) -> None:
    """Leave an activity that runs in a thread."""
    leave(how)


@activity(name="contract_leave_task", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def leave_in_task(how: str) -> None:
    """Leave a task that an activity has made."""
    await asyncio.create_task(leave_later(how))


@activity(name="contract_leave_group", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def leave_in_group(how: str) -> None:
    """Leave a task of a group. Only the group waits for that task."""
    async with asyncio.TaskGroup() as group:
        group.create_task(leave_later(how))
        await asyncio.sleep(0)


@activity(name="contract_spin")
async def spin_in_activity() -> None:
    """Run on and on without an await."""
    spin()


@activity(name="contract_spin_task")
async def spin_in_task() -> None:
    """Run on and on in a task that an activity has made."""
    await asyncio.gather(asyncio.to_thread(len, ""), asyncio.create_task(spin_later()))


def spin() -> NoReturn:
    """Run on and on."""
    for _ in itertools.count():
        pass
    raise AssertionError


async def spin_later() -> NoReturn:
    """Run on and on in a task."""
    await asyncio.sleep(0)
    spin()


def spin_tool() -> str:
    """Run on and on in a plain function."""
    spin()


def leave_tool(how: str) -> str:
    """Leave.

    Args:
        how: By what
    """
    leave(how)


@activity(name="contract_leave_checked", requires_approval=lambda arguments: leave(arguments["how"]))
async def leave_checked(how: str) -> str:
    """Stay, if the check whether a person must allow it does.

    Args:
        how: What the check raises
    """
    return "stayed"


def leave_guardrail(text: str) -> None:
    """Raise the exception that the text names."""
    leave(text)


LEAVING_ACTIVITIES = {
    "activity": leave_activity,
    "thread": leave_thread,
    "activity's task": leave_in_task,
    "activity's group": leave_in_group,
}


PLACES_IN_RUNS = ("tool", "approval check", "input guardrail", "output guardrail")


async def run_agent(how: str, place: str) -> list[str]:
    """Run an agent that calls a tool once, and return the results that the model saw."""
    agent = Agent(
        model="m",
        name="leaver",
        tools=[leave_checked, leave_tool],
        input_guardrails=[leave_guardrail] if place == "input guardrail" else [],
        output_guardrails=[leave_guardrail] if place == "output guardrail" else [],
    )
    tool = "contract_leave_checked" if place == "approval check" else "leave_tool"
    result = await Runner.run(agent, how, ScriptedSession({"leaver": [call(tool, {"how": how}), say(how)]}))
    return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


@workflow.define(name="contract.leaving")
class Leaving:
    """Raises, at one place, an exception that `except Exception` does not catch."""

    def __init__(self) -> None:
        self.how = ""
        self.is_open = False

    @workflow.entrypoint
    async def run(self, place: str, how: str) -> list[str]:
        self.how = how
        match place:
            case "entrypoint":
                leave(how)
            case "task":
                await asyncio.gather(asyncio.create_task(leave_later(how)), asyncio.sleep(3600))
            case "condition":
                opening = asyncio.create_task(self.open_later())
                await workflow.wait_condition(lambda: self.is_open and leave(how))
                await opening
            case "activity" | "thread" | "activity's task" | "activity's group":
                try:
                    await LEAVING_ACTIVITIES[place](how)
                except ActivityFailed as error:
                    return [str(error)]
            case _ if place in PLACES_IN_RUNS:
                try:
                    return await run_agent(how, place)
                except OutlastError as error:
                    return [str(error)]
        await workflow.wait_condition(lambda: self.is_open)
        return ["stayed"]

    async def open_later(self) -> None:
        await asyncio.sleep(0.001)
        self.is_open = True

    @workflow.signal
    def open(self) -> None:
        self.is_open = True

    @workflow.signal
    def leave_signal(self) -> None:
        leave(self.how)

    @workflow.query
    def leave_query(self) -> str:
        leave(self.how)

    @workflow.update
    async def leave_update(self) -> str:
        leave(self.how)

    @workflow.update
    async def leave_validator(self) -> str:
        return "stayed"

    @leave_validator.validator
    def refuse(self) -> None:
        leave(self.how)


@workflow.define(name="contract.catches_all")
class CatchesAll:
    """Catches all that is thrown into it."""

    def __init__(self) -> None:
        self.signals = 0

    @workflow.entrypoint
    async def run(self) -> int:
        while self.signals < 2:
            try:
                await asyncio.sleep(3)
            except:  # noqa: E722  # This is what it is for.
                continue
        return self.signals

    @workflow.signal
    def stop(self) -> None:
        self.signals += 1

    @workflow.query
    def count(self) -> int:
        return self.signals


@workflow.define(name="contract.busy")
class Busy:
    """Waits by running, until a signal comes."""

    def __init__(self) -> None:
        self.done = False

    @workflow.entrypoint
    async def run(self) -> str:
        while not self.done:  # noqa: ASYNC110  # This is what it is for.
            await asyncio.sleep(0)
        return "done"

    @workflow.signal
    def finish(self) -> None:
        self.done = True


@workflow.define(name="contract.spinning")
class Spinning:
    """Runs on and on, at one place, without an await."""

    def __init__(self) -> None:
        self.signals = 0

    @workflow.entrypoint
    async def run(self, place: str) -> str:
        match place:
            case "entrypoint":
                spin()
            case "condition":
                await workflow.wait_condition(spin)
            case "tool":
                agent = Agent(model="m", name="spinner", tools=[spin_tool])
                await Runner.run(agent, "go", ScriptedSession({"spinner": [call("spin_tool", {}), say("")]}))
            case "caught":
                while not self.signals:
                    try:
                        spin()
                    except BaseException:
                        await asyncio.sleep(3600)
            case "activity" | "activity's task":
                try:
                    await (spin_in_activity if place == "activity" else spin_in_task)()
                except ActivityBlocked as error:
                    return str(error)
        await workflow.wait_condition(lambda: self.signals > 0)
        return ""

    @workflow.signal
    def spin_signal(self) -> None:
        spin()

    @workflow.update
    async def spin_validator(self) -> str:
        return ""

    @spin_validator.validator
    def refuse_spin(self) -> None:
        spin()


class IsolationContract(DurabilityContractBase):
    """D19."""

    @pytest.mark.parametrize("how", EXITS)
    @pytest.mark.parametrize("place", ["entrypoint", "task", "condition"])
    async def test_d19_an_execution_whose_code_exits_fails_alone(
        self, stage: Stage, place: str, how: str
    ) -> None:
        execution, _ = await stage.start(Leaving, place, how)
        process = await stage.worker(Leaving, Echo)
        with pytest.raises(ExecutionFailed, match=how):
            await stage.later(execution.result(), 1)
        assert await stage.soon(echo(stage)) == "still here"
        await process.stop()

    @pytest.mark.parametrize(
        ("place", "how"),
        [
            (place, how)
            for place in (*LEAVING_ACTIVITIES, *PLACES_IN_RUNS)
            for how in EXITS
            # A task group takes a task that ends by CancelledError for one that it has cancelled.
            if (place, how) != ("activity's group", "CancelledError")
        ],
    )
    async def test_d19_a_step_whose_code_exits_fails_with_its_name(
        self, stage: Stage, place: str, how: str
    ) -> None:
        execution, _ = await stage.start(Leaving, place, how)
        process = await stage.worker(Leaving, Echo)
        (answer,) = await stage.soon(execution.result())
        assert how in answer
        assert await stage.soon(echo(stage)) == "still here"
        await process.stop()

    @pytest.mark.parametrize("how", EXITS)
    async def test_d19_a_handler_that_exits_raises_at_its_caller(self, stage: Stage, how: str) -> None:
        execution, _ = await stage.start(Leaving, "handler", how)
        process = await stage.worker(Leaving, Echo)
        with pytest.raises(UpdateFailed) as failed:
            await stage.soon(execution.update("leave_update"))
        assert how in str(failed.value.__cause__)
        with pytest.raises(UpdateRejected) as rejected:
            await stage.soon(execution.update("leave_validator"))
        assert how in str(rejected.value.__cause__)
        with pytest.raises(Exception, match=how):
            await stage.soon(execution.query("leave_query"))
        assert await stage.soon(echo(stage)) == "still here"
        await execution.signal("leave_signal")
        with pytest.raises(ExecutionFailed, match=how):
            await stage.soon(execution.result())
        assert await stage.soon(echo(stage)) == "still here"
        await process.stop()

    async def test_d19_code_that_catches_everything_leaves_memory_when_it_must(self, stage: Stage) -> None:
        self.needs(BackendCapability.DROPS_STUBBORN_CODE)
        execution, _ = await stage.start(CatchesAll)
        for wanted in (1, 2):
            process = await stage.worker(CatchesAll, Echo, max_cached_executions=0)
            await execution.signal("stop")
            await until_count(stage, execution, wanted)
            assert await stage.soon(echo(stage)) == "still here"
            await stage.soon(process.stop())
        await stage.worker(CatchesAll)
        assert await stage.later(execution.result(), 3) == 2

    async def test_d19_others_go_on_beside_code_that_never_comes_to_rest(self, stage: Stage) -> None:
        self.needs(BackendCapability.GIVES_UP_BUSY_CODE)
        execution, _ = await stage.start(Busy)
        process = await stage.worker(Busy, Steps, lease=timedelta(seconds=1))
        other, _ = await stage.start(Steps, ["a", "b", "c"])
        assert await stage.soon(other.result()) == ["a done", "b done", "c done"]
        described = await in_trouble(stage, execution)
        assert described.status is Status.RUNNING
        assert "Busy.run" in str(described.error)
        await stage.soon(process.stop())

    @pytest.mark.parametrize("place", ["entrypoint", "condition", "tool", "caught", "signal"])
    async def test_d19_others_go_on_beside_code_without_awaits(self, stage: Stage, place: str) -> None:
        self.needs(BackendCapability.INTERRUPTS_CODE)
        execution, _ = await stage.start(Spinning, place)
        if place == "signal":
            await execution.signal("spin_signal")
        process = await stage.worker(Spinning, Steps, lease=timedelta(seconds=1))
        described = await in_trouble(stage, execution)
        assert described.status is Status.RUNNING
        assert f"{__name__.rpartition('.')[2]}.py:" in str(described.error)
        assert "in spin" in str(described.error)
        other, _ = await stage.start(Steps, ["a", "b", "c"])
        assert await stage.soon(other.result()) == ["a done", "b done", "c done"]
        await stage.soon(process.stop())

    async def test_d19_a_validator_without_awaits_rejects_its_update(self, stage: Stage) -> None:
        self.needs(BackendCapability.INTERRUPTS_CODE)
        execution, _ = await stage.start(Spinning, "validator")
        process = await stage.worker(Spinning, lease=timedelta(seconds=1))
        with pytest.raises(UpdateRejected, match="in spin"):
            await stage.later(execution.update("spin_validator"), 1)
        await stage.soon(process.stop())

    @pytest.mark.parametrize("place", ["activity", "activity's task"])
    async def test_d19_an_activity_without_awaits_fails_alone(self, stage: Stage, place: str) -> None:
        execution, _ = await stage.start(Spinning, place)
        process = await stage.worker(Spinning, Steps, lease=timedelta(seconds=6))
        other, _ = await stage.start(Steps, ["a", "b", "c"])
        said = await stage.later(execution.result(), 1)
        assert "contract_spin" in said
        assert "in spin" in said
        assert await stage.soon(other.result()) == ["a done", "b done", "c done"]
        await stage.soon(process.stop())


async def until_count(stage: Stage, execution: Execution, wanted: int) -> None:
    """Return once the execution has got so many signals."""

    async def has_count() -> bool | None:
        return await execution.query("count") == wanted or None

    await stage.until(has_count)


async def echo(stage: Stage) -> Any:
    """Return the result of an execution that does nothing wrong."""
    execution, _ = await stage.start(Echo, "still here")
    return await execution.result()
