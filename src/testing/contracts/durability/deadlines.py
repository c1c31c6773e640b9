"""Deadlines of runs: they count from the start of the run, across crashes, and end whatever is under way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import DeadlineExceeded, ModelOverloaded
from outlast.core.events import EventKind, TurnStartedData
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import here

SECONDS = 2
"""The time that each run has."""


@activity(name="contract_ponder", retry_policy_initial_interval=AT_ONCE)
async def ponder(about: str) -> str:
    """Think for as long as the test wants."""
    world = here()
    world.happen(f"pondered {about}")
    with world.attempt():
        await world.gate("ponder").wait()
    return f"{about} pondered"


THINKER = Agent(model="m", name="thinker", description="Thinks.", tools=[ponder])
HEAD = Agent(model="m", name="head", tools=[THINKER])


def late(request: ModelRequest) -> Any:
    """Play a head that lets a thinker think, and then says what it was sent."""
    if request.agent == "head" and not request.history:
        return call("thinker", {"input": "life"})
    if request.agent == "thinker" and not request.history:
        return call("contract_ponder", {"about": "life"})
    results = [entry.result for entry in request.new if isinstance(entry, FunctionResult)]
    return say(" | ".join(results) or "nothing")


class OverloadedModel(ScriptedSession):
    """A model that wants to be asked again much later."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        raise ModelOverloaded(503, "come back tomorrow", 3600.0)


@workflow.define(name="contract.late")
class Late:
    """Runs an agent with a deadline, and goes on with its conversation after that."""

    @workflow.entrypoint
    async def run(self, is_overloaded: bool = False) -> list[Any]:
        session = OverloadedModel(late) if is_overloaded else ScriptedSession(late)
        began = workflow.now()
        try:
            await Runner.run(HEAD, "Go.", session, deadline=timedelta(seconds=SECONDS))
        except DeadlineExceeded as exceeded:
            produced = [entry.type for entry in exceeded.entries]
            at = round((workflow.now() - began).total_seconds())
            if is_overloaded:
                return [exceeded.agent, at, produced]
            again = await Runner.run(HEAD, "Well?", session)
            return [exceeded.agent, at, produced, again.text]
        return ["in time"]


@workflow.define(name="contract.too_late")
class TooLate:
    """Runs an agent whose deadline is the time at which it starts."""

    @workflow.entrypoint
    async def run(self) -> str:
        try:
            await Runner.run(HEAD, "Go.", ScriptedSession(late), deadline=workflow.now())
        except DeadlineExceeded as exceeded:
            return f"{exceeded.agent}: {list(exceeded.entries)}"
        return "in time"


TOO_LATE = "the deadline of the run has passed; it may or may not have taken effect"
PRODUCED = ["message.input", "function.call"]


class DeadlineContract(DurabilityContractBase):
    """A run ends at its deadline, with all that it has begun."""

    async def test_a_deadline_ends_what_is_under_way_in_a_run_and_within_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Late)
        await stage.worker(Late)
        await stage.soon(world.happened("pondered life"))
        agent, seconds, produced, text = await stage.later(execution.result(), SECONDS + 1)
        assert (agent, produced, text.partition(": ")[2]) == ("head", PRODUCED, TOO_LATE)
        assert seconds >= SECONDS
        await stage.soon(world.idle())
        events = await stage.soon(all_events(execution))
        assert len(data_of(events, TurnStartedData)) == 3
        assert EventKind.TOOL_RETURNED not in {event.kind for event in events}

    async def test_d8_a_deadline_counts_from_the_start_across_crashes_and_never_comes_early(
        self, stage: Stage
    ) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)
        execution, world = await stage.start(Late)
        process = await stage.worker(Late)
        await stage.soon(world.happened("pondered life"))
        await stage.pass_time(SECONDS - 1)
        assert world.running
        await stage.lose(process)
        await stage.worker(Late)
        _, _, produced, text = await stage.later(execution.result(), 1)
        assert (produced, text.partition(": ")[2]) == (PRODUCED, TOO_LATE)

    async def test_a_deadline_ends_a_back_off(self, stage: Stage) -> None:
        execution, _ = await stage.start(Late, True)
        await stage.worker(Late)
        await stage.soon(stage.storage.attempt_failed(execution))
        agent, seconds, produced = await stage.later(execution.result(), SECONDS + 1)
        assert (agent, produced) == ("head", [])
        assert seconds < 60

    async def test_a_run_whose_deadline_has_passed_asks_no_model(self, stage: Stage) -> None:
        execution, _ = await stage.start(TooLate)
        await stage.worker(TooLate)
        assert await stage.soon(execution.result()) == "head: []"
        assert data_of(await stage.soon(all_events(execution)), TurnStartedData) == []

    async def test_a_run_may_answer_in_time(self, stage: Stage) -> None:
        execution, world = await stage.start(Late)
        world.gate("ponder").set()
        await stage.worker(Late)
        assert await stage.soon(execution.result()) == ["in time"]
