"""Steering a run at work: a message for its model, and an interruption, each once, across crashes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult, MessageInput
from outlast.core.errors import ExecutionAlreadyEnded, NoRunAtWork, RunInterrupted
from outlast.core.events import EventKind, MessageSaidData, RunInterruptedData, TurnStartedData
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.world import here, worlds


@activity(name="contract_drive", retry_policy_initial_interval=AT_ONCE)
async def drive(to: str) -> str:
    """Drive somewhere, as long as the test wants."""
    world = here()
    world.happen(f"left for {to}")
    await world.gate(to).wait()
    return f"in {to}"


@activity(name="contract_weigh", retry_policy_initial_interval=AT_ONCE)
async def weigh(text: str) -> None:
    """Let a text pass, when the test wants it."""
    world = here()
    world.happen(f"weighs {text}")
    await world.gate(text).wait()


DRIVER = Agent(model="m", name="driver", tools=[drive])


def driving(request: ModelRequest) -> Any:
    """Drive to Lyon, and then answer with what came since the last reply."""
    if not request.history:
        return call("contract_drive", {"to": "Lyon"})
    seen = [
        entry.result if isinstance(entry, FunctionResult) else str(entry.content)
        for entry in request.new
        if isinstance(entry, (FunctionResult, MessageInput))
    ]
    return say(" | ".join(seen))


@workflow.define(name="contract.driven")
class Driven:
    """Runs an agent; if it is interrupted, another run goes on with the conversation."""

    @workflow.entrypoint
    async def run(self, runs: int = 1) -> list[str]:
        return await asyncio.gather(*(self._driven() for _ in range(runs)))

    async def _driven(self) -> str:
        session = ScriptedSession(driving)
        try:
            return (await Runner.run(DRIVER, "Go.", session)).text
        except RunInterrupted as interrupted:
            again = await Runner.run(DRIVER, "Where are you?", session)
            return f"{interrupted.reason} by {interrupted.by}: {again.text}"


@workflow.define(name="contract.driven_once")
class DrivenOnce:
    """Runs an agent that has two turns, and then another run with the same conversation."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        session = ScriptedSession(driving)
        agent = Agent(
            model="m", name="driver", tools=[drive], input_guardrails=[weigh], output_guardrails=[weigh]
        )
        first = await Runner.run(agent, "Go.", session, max_turns=2)
        return [first.text, (await Runner.run(DRIVER, "Where are you?", session)).text]


class SteeringContract(DurabilityContractBase):
    """Messages to a run at work, and interruptions."""

    async def test_what_is_said_to_a_run_reaches_its_model_once_behind_the_results(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Driven)
        process = await stage.worker(Driven)
        await stage.soon(world.happened("left for Lyon"))
        await stage.soon(execution.say("Hurry.", by="Ann"))
        await stage.lose(process)
        await stage.worker(Driven)
        await stage.soon((await stage.again(execution)).say("Stop at Dijon."))
        world.gate("Lyon").set()
        assert await stage.later(execution.result(), 1) == ["in Lyon | Hurry. | Stop at Dijon."]
        events = await stage.soon(all_events(execution))
        said = data_of(events, MessageSaidData)
        assert [(data.text, data.by, data.turn) for data in said] == [
            ("Hurry.", "Ann", 1),
            ("Stop at Dijon.", None, 1),
        ]
        assert len(data_of(events, TurnStartedData)) == 2

    async def test_a_run_that_is_interrupted_ends_its_turn_and_the_conversation_goes_on(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Driven)
        process = await stage.worker(Driven)
        await stage.soon(world.happened("left for Lyon"))
        await stage.lose(process)
        process = await stage.worker(Driven)
        await stage.soon(execution.interrupt("too far", by="Ann"))
        [answer] = await stage.soon(execution.result())
        assert answer.startswith("too far by Ann: ")
        assert "the run was interrupted by Ann: too far" in answer
        assert answer.endswith(" | Where are you?")
        interrupted = data_of(await stage.soon(all_events(execution)), RunInterruptedData)
        assert [(data.reason, data.by, data.agent) for data in interrupted] == [("too far", "Ann", "driver")]

    async def test_a_run_whose_input_is_checked_hears_nothing_and_what_is_said_too_late_opens_the_next_one(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(DrivenOnce)
        process = await stage.worker(DrivenOnce)
        world.gate("Lyon").set()
        await stage.soon(world.happened("weighs Go."))
        for steer in (partial(execution.say, "Hurry."), execution.interrupt):
            with pytest.raises(
                NoRunAtWork, match=r"those at work: none; the input of .+ is still being checked"
            ):
                await stage.soon(steer())
        world.gate("Go.").set()
        await stage.soon(world.happened("weighs in Lyon"))
        await stage.soon(execution.say("Hurry."))
        await stage.lose(process)
        await stage.worker(DrivenOnce)
        world.gate("in Lyon").set()
        assert await stage.later(execution.result(), 1) == ["in Lyon", "Hurry. | Where are you?"]

    async def test_a_run_is_steered_only_while_it_is_at_work_and_if_it_is_clear_which(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Driven, 2)
        await stage.worker(Driven)
        await stage.soon(world.happened("left for Lyon", 2))
        for steer in (partial(execution.say, "Hurry."), execution.interrupt):
            with pytest.raises(NoRunAtWork, match="several runs"):
                await stage.soon(steer())
        with pytest.raises(NoRunAtWork, match="no run 'another'"):
            await stage.soon(execution.say("Hurry.", run="another"))
        turns = data_of([event async for event in execution.events(follow=False)], TurnStartedData)
        await stage.soon(execution.say("Hurry.", run=turns[0].run))
        world.gate("Lyon").set()
        assert sorted(await stage.soon(execution.result())) == ["in Lyon", "in Lyon | Hurry."]
        with pytest.raises(ExecutionAlreadyEnded):
            await stage.soon(execution.say("Hurry."))
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert kinds.count(EventKind.MESSAGE_SAID) == 1

    async def test_d2_what_was_said_is_in_the_result_that_every_caller_gets(self, stage: Stage) -> None:
        backend, run_id = await stage.backend(), stage.new_id()
        world = worlds[run_id]

        async def entries() -> list[Any]:
            result = await Runner.run(DRIVER, "Go.", ScriptedSession(driving), id=run_id, backend=backend)
            return [entry.to_wire() for entry in result.entries]

        running = asyncio.ensure_future(entries())
        await stage.soon(world.happened("left for Lyon"))
        await stage.soon((await backend.get(run_id)).say("Hurry."))
        world.gate("Lyon").set()
        first = await stage.soon(running)
        assert [entry.get("content") for entry in first][-2:] == ["Hurry.", "in Lyon | Hurry."]
        assert await stage.soon(entries()) == first
