"""Limits of a run, as users give them; tests/core prove that the core keeps them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.adapters.scripted import call, say
from outlast.core.errors import BudgetExceeded, DefinitionError, MaxTurnsExceeded
from outlast.core.failure import Failure
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.runtime.runs.raising import Raise
from outlast.testing.virtual_clock import IdleAwareEventLoop, VirtualClock

made: list[str] = []


@outlast.activity(name="limits_step")
async def one_step(name: str) -> str:
    """Do one thing."""
    made.append(name)
    return f"{name} done"


@outlast.activity(name="limits_nap")
async def nap(seconds: float) -> str:
    """Take so long."""
    await naps[0].sleep(seconds)
    return "woke"


naps: list[VirtualClock] = []


def worker_agent() -> outlast.Agent:
    return outlast.Agent(model="m", name="worker", tools=[one_step, nap])


def busy(request: ModelRequest) -> ModelReply:
    """Call tools for as long as it may; each reply costs ten tokens."""
    usage = outlast.Usage(prompt_tokens=8, completion_tokens=2, total_tokens=10)
    if not request.may_call:
        return ModelReply(entries=(say("So far."),), usage=usage)
    calls = (call("limits_step", {"name": f"{request.turn}{n}"}, call_id=f"{n}") for n in ("a", "b"))
    return ModelReply(entries=tuple(calls), usage=usage)


async def run(**limits: Any) -> outlast.RunResult:
    made.clear()
    return await outlast.Runner.run(worker_agent(), "go", outlast.ScriptedSession(busy), **limits)


async def test_a_run_stops_before_the_call_that_its_tokens_do_not_allow() -> None:
    with pytest.raises(outlast.BudgetExceeded, match="limit of 25 total tokens") as exceeded:
        await run(max_total_tokens=25)
    assert (exceeded.value.limit, exceeded.value.used) == ("total_tokens", 30)
    assert exceeded.value.usage.total_tokens == 30
    assert len(made) == 6
    assert len(exceeded.value.entries) == 1 + 3 * 2 + 2 * 2


async def test_tool_calls_above_the_limit_are_not_made() -> None:
    with pytest.raises(outlast.BudgetExceeded, match="limit of 3 tool calls"):
        await run(max_tool_calls=3)
    assert made == ["1a", "1b", "2a"]


async def test_no_tool_calls_at_all_may_be_allowed() -> None:
    result = await run(max_tool_calls=0, on_limit="finish")
    assert (result.text, made, result.turns) == ("So far.", [], 2)


@pytest.mark.parametrize(
    ("limits", "turns", "calls"),
    [
        ({"max_turns": 2}, 3, 4),
        ({"max_total_tokens": 20}, 3, 4),
        ({"max_tool_calls": 3}, 3, 3),
    ],
)
async def test_a_run_may_finish_with_one_more_call_without_tools(
    limits: dict[str, int], turns: int, calls: int
) -> None:
    result = await run(**limits, on_limit="finish")
    assert (result.text, result.turns, len(made)) == ("So far.", turns, calls)
    results = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    assert sum("is used up" in one for one in results) == len(results) - calls


async def test_a_model_that_calls_tools_all_the_same_gets_none() -> None:
    made.clear()
    session = outlast.ScriptedSession(lambda request: call("limits_step", {"name": "x"}))
    with pytest.raises(outlast.MaxTurnsExceeded):
        await outlast.Runner.run(worker_agent(), "go", session, max_turns=1, on_limit="finish")
    assert made == ["x"]


@outlast.workflow.define(name="limits.slow")
class Slow:
    """Naps for 100 seconds a turn, and may take 250."""

    @outlast.workflow.entrypoint
    async def run(self, on_limit: str) -> list[Any]:
        session = outlast.ScriptedSession(
            lambda request: call("limits_nap", {"seconds": 100.0}) if request.may_call else say("So far.")
        )
        limits: Any = {"max_wall_time": timedelta(seconds=250), "on_limit": on_limit}
        result = await outlast.Runner.run(worker_agent(), "go", session, **limits)
        return [result.text, result.turns]


@pytest.mark.parametrize("on_limit", ["raise", "finish"])
def test_time_is_counted_from_the_journal_also_while_nobody_works(on_limit: str) -> None:
    clock = VirtualClock(auto=True)
    naps[:] = [clock]

    async def program() -> tuple[Any, list[str]]:
        async with JournaledBackend(MemoryStore(clock), clock) as backend:
            execution = await backend.start(Slow, on_limit)
            async with backend.worker([Slow]):
                async for event in execution.events():
                    if event.kind == "tool_returned":
                        break
            await clock.advance(120)
            async with backend.worker([Slow]):
                outcomes = await asyncio.gather(execution.result(), return_exceptions=True)
            return outcomes[0], [event.kind async for event in execution.events()]

    with asyncio.Runner(loop_factory=IdleAwareEventLoop) as runner:
        result, kinds = runner.run(program())
    # Without the pause there would have been time for three.
    assert kinds.count("tool_returned") == 2
    assert kinds.count("limit_reached") == (on_limit == "finish")
    if on_limit == "finish":
        assert result == ["So far.", 3]
    else:
        assert isinstance(result, outlast.ExecutionFailed)
        assert "limit of 250 seconds" in str(result)


async def test_a_durable_run_raises_the_same_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    errors: list[Any] = []
    for _ in range(2):
        with pytest.raises(outlast.BudgetExceeded) as exceeded:
            await run(max_total_tokens=5, id="b-1", backend=url)
        errors.append((str(exceeded.value), exceeded.value.usage, exceeded.value.entries))
    assert errors[0] == errors[1]
    assert errors[0][1].total_tokens == 10
    with pytest.raises(outlast.ExecutionAlreadyExists):
        await run(max_total_tokens=6, id="b-1", backend=url)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_turns": 0},
        {"max_total_tokens": 0},
        {"max_tool_calls": -1},
        {"max_wall_time": 0},
        {"max_wall_time": timedelta(0)},
        {"max_wall_time": float("nan")},
        {"max_wall_time": float("inf")},
        {"max_tool_calls": 1.5},
        {"max_tool_calls": "many"},
        {"max_turns": None},
        {"on_limit": "explode"},
    ],
)
async def test_a_limit_that_makes_no_sense_is_refused_before_anything_happens(limits: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(limits))):
        await run(**limits)
    assert made == []


async def test_nobody_can_be_asked_in_a_plain_script() -> None:
    with pytest.raises(outlast.DefinitionError, match="give it an id and a backend"):
        await run(max_turns=1, on_limit="ask")
    assert made == []


ASKING = outlast.AskPerson()


@pytest.mark.parametrize(
    "tools",
    [
        [ASKING],
        [outlast.ToolIndex([ASKING])],
        [outlast.Agent(model="m", name="within", tools=[ASKING])],
    ],
    ids=["a tool", "in an index", "of an agent within"],
)
async def test_a_tool_that_asks_a_person_is_refused_in_a_plain_script(tools: Any) -> None:
    agent = outlast.Agent(model="m", name="clerk", tools=tools)
    session = outlast.ScriptedSession(lambda request: pytest.fail("a model was asked"))
    with pytest.raises(outlast.NotSupported, match=r"AskPerson waits .* give it an id and a backend"):
        await outlast.Runner.run(agent, "Go.", session)


COST = Failure.of(BudgetExceeded("clerk", "cost", Decimal("0.5"), Decimal("0.51")))
CALLS = Failure.of(BudgetExceeded("clerk", "tool_calls", 3, 5))
TURNS = Failure.of(MaxTurnsExceeded("clerk", 4))


@pytest.mark.parametrize(
    ("limit", "answer", "problem"),
    [
        (COST, 0.52, None),
        (COST, "0.52", "not a number of US dollars"),
        (COST, 1e999999, "not a number"),
        (COST, 0.51, "0.51 are used already"),
        (COST, 0.5, None),
        (COST, None, None),
        (COST, "much", "not a number of US dollars"),
        (COST, 10**400, "not a number"),
        (COST, True, "not a number"),
        (COST, [1], "not a number"),
        (CALLS, 5, None),
        (CALLS, 4, "5 are used already"),
        (CALLS, 5.5, "not a number of tool calls"),
        (TURNS, 5, None),
        (TURNS, 4, None),
    ],
)
def test_an_answer_about_a_limit_is_a_number_that_suffices(
    limit: Failure, answer: Any, problem: str | None
) -> None:
    faults = Raise.of(limit).faults_in(answer)
    assert [problem in fault for fault in faults if problem is not None] == [True] * bool(problem)
    assert bool(faults) == bool(problem)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (COST, "has used 0.51 of 0.5 US dollars"),
        (CALLS, "has used 5 of 3 tool calls"),
        (TURNS, "has used 4 of 4 turns"),
    ],
)
def test_the_question_about_a_limit_says_what_is_used(limit: Failure, words: str) -> None:
    assert words in Raise.of(limit).text


async def test_a_limit_of_money_needs_the_price_of_every_model_of_a_run_before_the_first_call() -> None:
    judge = outlast.Agent(model="judging", name="judge")
    expert = outlast.Agent(model="knowing", name="expert", description="Knows.", input_guardrails=[judge])
    clerk = outlast.Agent(model="m", name="clerk", tools=[expert], fallback_models=["n"])
    asked: list[str] = []

    def script(request: ModelRequest) -> ModelReply:
        asked.append(request.agent)
        return ModelReply(entries=(say("Yes."),))

    session = outlast.ScriptedSession(script, prices={"m": outlast.Price(call=1)})
    with pytest.raises(outlast.UnknownPrice, match="judging, knowing, n;"):
        await outlast.Runner.run(clerk, "go", session, max_cost=5)
    guarded = outlast.Agent(model="m", name="clerk", input_guardrails=[judge])
    with pytest.raises(outlast.UnknownPrice, match="judging;"):
        await outlast.Runner.run(guarded, "go", session, max_cost=5)
    assert asked == []
    result = await outlast.Runner.run(outlast.Agent(model="m", name="alone"), "go", session, max_cost=5)
    assert result.cost == 1
