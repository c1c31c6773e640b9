"""Limits that a person may raise: the run waits in the inbox, across crashes, and so do runs within it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.errors import (
    BudgetExceeded,
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    InvalidArguments,
    RunInterrupted,
)
from outlast.core.events import (
    EventKind,
    LimitReachedData,
    MessageSaidData,
    ModelRepliedData,
    QuestionAnsweredData,
    QuestionWithdrawnData,
)
from outlast.core.json import JSON
from outlast.core.prices import Price
from outlast.core.questions import PendingQuestion
from outlast.core.usage import Usage
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Process,
    Stage,
    all_events,
    data_of,
)
from outlast.testing.contracts.durability.world import World, here

EACH = Decimal("0.1")
"""The cost of every reply."""
TOKENS = 100
"""The tokens of every reply."""
PLACES = ["north", "south", "west"]


@activity(name="contract_walk", retry_policy_initial_interval=AT_ONCE)
async def walk(to: str) -> str:
    """Walk somewhere, once the test allows it."""
    world = here()
    world.happen(f"walked {to}")
    await world.gate("walk").wait()
    return f"saw {to}"


SCOUT = Agent(model="m", name="scout", description="Looks around.", tools=[walk])
LEADER = Agent(model="m", name="leader", tools=[SCOUT, walk])


def expedition(request: ModelRequest) -> ModelReply:
    """Play a leader that sends three scouts at once, then walks by itself, then answers."""
    usage = Usage(completion_tokens=TOKENS, total_tokens=TOKENS)
    match request.agent, request.turn:
        case "leader", 1:
            entries = tuple(call("scout", {"input": place}, call_id=place) for place in PLACES)
        case "leader", 2:
            entries = (call("contract_walk", {"to": "home"}),)
        case "scout", 1:
            entries = (call("contract_walk", {"to": str(getattr(request.new[-1], "content", ""))}),)
        case _:
            return ModelReply(entries=(say("Done."),), usage=usage)
    return ModelReply(entries=entries, usage=usage)


REPLIES = 3 + len(PLACES) * 2
"""Those of the leader and of its scouts."""
WALKS = sorted(f"walked {place}" for place in (*PLACES, "home"))


@workflow.define(name="contract.expedition")
class Expedition:
    """Runs the leader within limits that a person may raise."""

    @workflow.entrypoint
    async def run(self, limits: dict[str, Any]) -> list[Any]:
        session = ScriptedSession(expedition, prices={"m": Price(output=1000)})
        result = await Runner.run(LEADER, "Go.", session, on_limit="ask", **limits)
        return [result.text, result.turns, str(result.cost)]


WHOLE = ["Done.", 3, str(REPLIES * EACH)]
"""The result of the undisturbed run."""


class RaisingContract(DurabilityContractBase):
    """Asking at a limit."""

    async def at_limit(
        self, stage: Stage, **limits: Any
    ) -> tuple[Execution, World, Process, PendingQuestion]:
        """Start an expedition, and return it once a person is asked."""
        execution, world = await stage.start(Expedition, limits)
        process = await stage.worker(Expedition)
        await stage.soon(world.happened_in_all(len(PLACES)))
        world.gate("walk").set()
        return execution, world, process, await self.question_of(stage, execution)

    async def question_of(self, stage: Stage, execution: Execution, times: int = 1) -> PendingQuestion:
        """Return the question that waits, once that number of questions was asked."""
        await stage.event(execution, EventKind.QUESTION_ASKED, times)
        [question] = await stage.soon(execution.questions())
        return question

    async def test_a_run_waits_at_a_limit_across_crashes_until_a_person_raises_it(self, stage: Stage) -> None:
        # The replies of the leader and its scouts use up what is allowed: the leader asks before its second.
        execution, world, process, question = await self.at_limit(stage, max_cost=str(7 * EACH))
        assert "0.7 of 0.7 US dollars" in question.question
        await stage.lose(process)
        process = await stage.worker(Expedition)
        described = await stage.soon(execution.describe())
        if described.waiting_for:
            assert described.waiting_for[0].kind is WaitingKind.ANSWER
        await stage.later(execution.answer(question.key, 0.75, by="Ann"), 1)
        again = await self.question_of(stage, execution, 2)
        assert again.key != question.key
        await stage.lose(process)
        await stage.worker(Expedition)
        await stage.later(execution.answer(again.key, 5), 1)
        assert await stage.later(execution.result(), 1) == WHOLE
        assert sorted(str(effect.what) for effect in world.effects) == WALKS
        events = await stage.soon(all_events(execution))
        assert len(data_of(events, ModelRepliedData)) == REPLIES
        reached = [data.question for data in data_of(events, LimitReachedData)]
        answered = [(data.answer, data.by) for data in data_of(events, QuestionAnsweredData)]
        assert (reached, answered) == ([question.key, again.key], [(0.75, "Ann"), (5, None)])

    async def test_runs_within_wait_at_the_limit_of_the_run_around_them_for_one_answer(
        self, stage: Stage
    ) -> None:
        # The leader and its three scouts have replied once each: no scout may report.
        execution, world, process, question = await self.at_limit(stage, max_total_tokens=4 * TOKENS)
        await stage.event(execution, EventKind.LIMIT_REACHED, len(PLACES))
        await stage.lose(process)
        await stage.worker(Expedition)
        await stage.later(execution.answer(question.key, 100 * TOKENS), 1)
        assert await stage.later(execution.result(), 1) == WHOLE
        assert sorted(str(effect.what) for effect in world.effects) == WALKS
        reached = data_of(await stage.soon(all_events(execution)), LimitReachedData)
        assert [(data.agent, data.question) for data in reached] == [("scout", question.key)] * len(PLACES)

    @pytest.mark.parametrize("answer", [None, 1, 2])
    async def test_an_answer_that_does_not_raise_the_limit_ends_the_run(
        self, stage: Stage, answer: int | None
    ) -> None:
        execution, *_, question = await self.at_limit(stage, max_turns=2)
        await stage.soon(execution.answer(question.key, answer))
        with pytest.raises(ExecutionFailed, match="in 2 turns"):
            await stage.soon(execution.result())
        with pytest.raises(ExecutionAlreadyEnded):
            await stage.soon(execution.answer(question.key, 9))

    async def test_runs_within_end_with_the_limit_that_nobody_raises(self, stage: Stage) -> None:
        execution, *_, question = await self.at_limit(stage, max_cost="0.4")
        await stage.event(execution, EventKind.LIMIT_REACHED, len(PLACES))
        await stage.soon(execution.answer(question.key, None))
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, BudgetExceeded)
        events = await stage.soon(all_events(execution))
        assert len(data_of(events, ModelRepliedData)) == 1 + len(PLACES)

    async def test_an_answer_that_raises_the_limit_by_too_little_is_refused(self, stage: Stage) -> None:
        execution, *_, question = await self.at_limit(stage, max_cost="0.65")
        with pytest.raises(InvalidArguments, match=r"0\.7 are used already"):
            await stage.soon(execution.answer(question.key, 0.7))
        wrong: JSON
        for wrong in ("much", "2", "1e999999", 10**400, True):
            with pytest.raises(InvalidArguments, match="not a number"):
                await stage.soon(execution.answer(question.key, wrong))
        await stage.soon(execution.answer(question.key, 2))
        assert await stage.soon(execution.result()) == WHOLE

    async def test_d10_the_question_is_withdrawn_when_the_execution_is_cancelled(self, stage: Stage) -> None:
        execution, *_, question = await self.at_limit(stage, max_total_tokens=4 * TOKENS)
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        withdrawn = data_of(await stage.soon(all_events(execution)), QuestionWithdrawnData)
        assert [data.key for data in withdrawn] == [question.key]

    async def test_what_is_said_at_a_limit_is_sent_when_it_is_raised(self, stage: Stage) -> None:
        execution, *_, question = await self.at_limit(stage, max_turns=1)
        await stage.soon(execution.say("Mind the swamp.", by="Ann"))
        await stage.soon(execution.answer(question.key, 5))
        assert await stage.soon(execution.result()) == WHOLE
        said = [data.text for data in data_of(await stage.soon(all_events(execution)), MessageSaidData)]
        assert said == ["Mind the swamp."]

    async def test_a_run_at_a_limit_can_be_interrupted(self, stage: Stage) -> None:
        execution, *_, question = await self.at_limit(stage, max_turns=1)
        await stage.soon(execution.interrupt("too far"))
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, RunInterrupted)
        withdrawn = data_of(await stage.soon(all_events(execution)), QuestionWithdrawnData)
        assert [data.key for data in withdrawn] == [question.key]

    async def test_d2_a_run_by_an_id_waits_for_the_answer_of_another_process(self, stage: Stage) -> None:
        backend, run_id = await stage.backend(), stage.new_id()

        def script(request: ModelRequest) -> ModelReply:
            entry = say("Done.") if request.turn > 1 else call("contract_nothing", {})
            return ModelReply(entries=(entry,))

        agent, session = Agent(model="m", name="alone"), ScriptedSession(script, may_call_unknown_tools=True)

        async def run() -> Any:
            return await Runner.run(
                agent, "Go.", session, max_turns=1, on_limit="ask", id=run_id, backend=backend
            )

        async def found() -> Execution | None:
            try:
                return await backend.get(run_id)
            except ExecutionNotFound:
                return None

        async def answered() -> None:
            execution = await stage.until(found)
            question = await self.question_of(stage, execution)
            await execution.answer(question.key, 2)

        result, _ = await stage.soon(asyncio.gather(run(), answered()))
        assert (result.text, result.turns) == ("Done.", 2)
