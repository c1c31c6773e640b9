"""The context of a run: code gets it, no journal does, and after a crash it is given again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import ExecutionFailed, Unserialisable
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.run_context import RunContext
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import here

PASSWORD = "open-sesame-4711"


@dataclass
class Visitor:
    """A context that no JSON can hold, with something in it that must not be stored."""

    name: str
    password: str
    knock: Callable[[], str]


given: list[Visitor] = []
"""All contexts that were made."""


def visitor() -> Visitor:
    given.append(Visitor("Ann", PASSWORD, lambda: "knock"))
    return given[-1]


def welcome(run: RunContext[Visitor]) -> str:
    """Make instructions that depend on the context and on the turn."""
    return f"Welcome {run.context.name}, turn {run.turn}."


def knows_password(run: RunContext[Visitor], word: str) -> str:
    """Say whether the visitor knows the password."""
    return f"{run.context.knock()}: {run.context.password.startswith(word)}"


@activity(name="contract_open_door", retry_policy_initial_interval=AT_ONCE)
async def open_door(door: str) -> str:
    """Open a door, once the test allows it."""
    world = here()
    world.happen(door)
    await world.gate("door").wait()
    return f"{door} opened"


HOST: Agent[Visitor, str] = Agent(
    model="m", name="host", instructions=welcome, tools=[knows_password, open_door]
)


def receive(request: ModelRequest) -> Any:
    """Check the password, open the door, check again, and say what came of it."""
    match request.turn:
        case 1 | 3:
            return call("knows_password", {"word": "open"})
        case 2:
            return call("contract_open_door", {"door": "front"})
    results = [one.result for one in (*request.history, *request.new) if isinstance(one, FunctionResult)]
    return say(" | ".join([request.instructions, *results]))


@workflow.define(name="contract.hospitable")
class Hospitable:
    """Runs an agent with a context; returns what it says, or the context."""

    @workflow.entrypoint
    async def run(self, returns_it: bool = False) -> Any:
        context = visitor()
        result = await Runner.run(HOST, "Good evening.", ScriptedSession(receive), context=context)
        return context.knock if returns_it else result.text


class ContextContract(DurabilityContractBase):
    """The context of a run."""

    async def test_a_context_is_given_again_after_a_crash_and_stored_nowhere(self, stage: Stage) -> None:
        execution, world = await stage.start(Hospitable)
        process = await stage.worker(Hospitable)
        await stage.soon(world.happened("front"))
        before = len(given)
        await stage.lose(process)
        world.gate("door").set()
        await stage.worker(Hospitable)
        expected = "Welcome Ann, turn 4. | knock: True | front opened | knock: True"
        assert await stage.later(execution.result(), 1) == expected
        assert len(given) > before
        events = [event async for event in execution.events(follow=False)]
        records = [record async for record in execution.records()]
        assert PASSWORD not in repr(events) + repr(records)
        if BackendCapability.SHOWS_ITS_BYTES in self.capabilities:
            assert PASSWORD.encode() not in await stage.storage.stored_bytes()

    async def test_d12_a_context_that_code_wants_to_store_is_refused(self, stage: Stage) -> None:
        execution, world = await stage.start(Hospitable, True)
        world.gate("door").set()
        await stage.worker(Hospitable)
        with pytest.raises(ExecutionFailed) as failed:
            await stage.soon(execution.result())
        assert isinstance(failed.value.__cause__, Unserialisable)
