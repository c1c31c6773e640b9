"""Agents as tools of agents: runs within a run, in its journal, with its end, its bounds and its inbox."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import Entry, FunctionResult
from outlast.core.errors import BudgetExceeded, ExecutionCancelled, ExecutionFailed, RunInterrupted
from outlast.core.events import EventKind, ModelRepliedData, ToolCalledData, ToolFailedData, TurnStartedData
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.world import here

TOPICS = ["tides", "ferries", "lighthouses"]
EACH = 10
"""The tokens of every reply."""


@activity(name="contract_search", retry_policy_initial_interval=AT_ONCE)
async def search(topic: str) -> str:
    """Look something up, once the test allows it."""
    world = here()
    world.happen(f"asked {topic}")
    await world.gate("search").wait()
    world.happen(f"found {topic}")
    return f"all about {topic}"


@activity(name="contract_publish", retry_policy_initial_interval=AT_ONCE, requires_approval=True)
async def publish(text: str) -> str:
    """Publish a text, if a person allows it."""
    here().happen(f"published {text}")
    return "published"


RESEARCHER = Agent(model="m", name="researcher", description="Looks things up.", tools=[search])
EDITOR = Agent(
    model="m", name="editor", tools=[publish, RESEARCHER.as_tool("fact_check", keeps_conversation=True)]
)
CHIEF = Agent(model="m", name="chief", tools=[RESEARCHER, EDITOR])


def newsroom(request: ModelRequest) -> ModelReply:
    """Play a chief that has three things looked up at once, and lets an editor publish them."""
    results = [entry.result for entry in request.new if isinstance(entry, FunctionResult)]
    entries: tuple[Entry, ...]
    match request.agent, request.turn:
        case "researcher", 1:
            topic = str(getattr(request.new[-1], "content", ""))
            entries = (call("contract_search", {"topic": topic}),)
        case "researcher", _:
            seen = sum(isinstance(entry, FunctionResult) for entry in request.history)
            entries = (say(f"{results[0]}, after {seen}"),)
        case "chief", 1:
            entries = tuple(call("researcher", {"input": topic}, call_id=topic) for topic in TOPICS)
        case "chief", 2:
            entries = (call("editor", {"input": "; ".join(results)}),)
        case "editor", 1 | 2:
            entries = (call("fact_check", {"input": f"claim {request.turn}"}),)
        case "editor", 3:
            entries = (call("contract_publish", {"text": results[0]}),)
        case _:
            entries = (say(" / ".join(results)),)
    return ModelReply(entries=entries, usage=Usage(total_tokens=EACH))


@workflow.define(name="contract.newsroom")
class Newsroom:
    """Runs an agent with agents as tools, one of which has another one."""

    @workflow.entrypoint
    async def run(self, max_total_tokens: int | None = None) -> list[Any]:
        result = await Runner.run(CHIEF, "Go.", ScriptedSession(newsroom), max_total_tokens=max_total_tokens)
        results = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        return [result.turns, result.usage.total_tokens, *results]


FOUND = [f"all about {topic}, after 0" for topic in TOPICS]
TURNS = 3 + 3 * 2 + 4 + 2 * 2
"""Those of the chief, of its researchers, of the editor and of the researchers that this asks."""


class AgentToolContract(DurabilityContractBase):
    """Runs within a run."""

    async def test_d3_runs_within_a_run_go_on_after_a_crash_and_repeat_nothing(self, stage: Stage) -> None:
        execution, world = await stage.start(Newsroom)
        process = await stage.worker(Newsroom)
        await stage.soon(world.happened_in_all(3))
        assert {effect.what for effect in world.effects} == {f"asked {topic}" for topic in TOPICS}
        world.gate("search").set()
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        await stage.lose(process)
        process = await stage.worker(Newsroom)
        [waiting] = await stage.soon((await stage.again(execution)).pending())
        assert (waiting.agent, waiting.tool) == ("editor", "contract_publish")
        # The second check goes on with the conversation of the first one.
        text = "all about claim 2, after 1"
        assert waiting.arguments == {"text": text}
        await execution.decide(waiting.call_id, "allow")
        assert await stage.later(execution.result(), 1) == [3, TURNS * EACH, *FOUND, "published"]
        topics = [*TOPICS, "claim 1", "claim 2"]
        expected = [f"asked {topic}" for topic in topics] + [f"found {topic}" for topic in topics]
        assert sorted(map(str, (effect.what for effect in world.effects))) == sorted(
            [*expected, f"published {text}"]
        )

    async def test_the_events_of_runs_within_a_run_are_a_tree(self, stage: Stage) -> None:
        execution, world = await stage.start(Newsroom)
        world.gate("search").set()
        await stage.worker(Newsroom)
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        [waiting] = await stage.soon(execution.pending())
        await execution.decide(waiting.key, "allow")
        result = await stage.soon(execution.result())
        events = await stage.soon(all_events(execution))
        calls = data_of(events, ToolCalledData)
        callers = {data.nested_run: (data.run, data.agent) for data in calls if data.nested_run is not None}
        turns = data_of(events, TurnStartedData)
        agents = {data.run: data.agent for data in turns}
        [chief] = [run for run, agent in agents.items() if agent == "chief"]
        [editor] = [run for run, agent in agents.items() if agent == "editor"]
        assert set(agents) == {chief, *callers}
        by_caller = [(agents[run], *caller) for run, caller in callers.items()]
        assert sorted(by_caller) == sorted(
            [
                *[("researcher", chief, "chief")] * 3,
                ("editor", chief, "chief"),
                *[("researcher", editor, "editor")] * 2,
            ]
        )
        assert len(turns) == TURNS
        usage = sum((data.usage for data in data_of(events, ModelRepliedData)), Usage())
        assert usage.total_tokens == result[1]

    async def test_a_limit_of_a_run_bounds_the_runs_within_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Newsroom, 4 * EACH)
        world.gate("search").set()
        await stage.worker(Newsroom)
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, BudgetExceeded)
        events = await stage.soon(all_events(execution))
        # Each researcher had its first reply when the four were used up, and none was asked again.
        assert len(data_of(events, TurnStartedData)) == 4

    async def test_d10_a_run_within_a_run_is_cancelled_with_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Newsroom)
        await stage.worker(Newsroom)
        await stage.soon(world.happened_in_all(3))
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        world.gate("search").set()
        events = await stage.soon(all_events(execution))
        assert len(data_of(events, TurnStartedData)) == 4

    async def test_a_run_that_is_interrupted_ends_the_runs_within_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Newsroom)
        await stage.worker(Newsroom)
        await stage.soon(world.happened_in_all(3))
        await stage.soon(execution.interrupt("stop the press"))
        world.gate("search").set()
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, RunInterrupted)
        events = await stage.soon(all_events(execution))
        assert len(data_of(events, TurnStartedData)) == 4
        assert data_of(events, ToolFailedData) == []

    async def test_d2_a_run_with_runs_within_it_has_the_same_result_for_every_caller(
        self, stage: Stage
    ) -> None:
        backend, run_id = await stage.backend(), stage.new_id()
        caller = Agent(model="m", name="chief", tools=[Agent(model="m", name="researcher")])
        calls = [0]

        def script(request: ModelRequest) -> ModelReply:
            calls[0] += 1
            asks = request.agent == "chief" and request.turn == 1
            entry = call("researcher", {"input": "Look."}, call_id="a") if asks else say(request.agent)
            return ModelReply(entries=(entry,), usage=Usage(total_tokens=EACH))

        async def came_to() -> list[Any]:
            run = Runner.run(caller, "Go.", ScriptedSession(script), id=run_id, backend=backend)
            result = await stage.soon(run)
            return [result.text, result.turns, result.usage, [entry.to_wire() for entry in result.entries]]

        first = await came_to()
        assert (first[:2], first[2].total_tokens) == (["chief", 2], 3 * EACH)
        assert await came_to() == first
        assert calls == [3]
