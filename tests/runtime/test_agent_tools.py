"""Agents as tools of other agents, in plain scripts: what their models see, and the bounds they share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

import outlast
from outlast.adapters.scripted import Reply, ScriptedSession, call, say
from outlast.core.entries import Entry, FunctionResult
from outlast.core.events import ToolCalledData, ToolFailedData, TurnStartedData
from outlast.core.json import JSON
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions.agent import AgentTool
from outlast.runtime.definitions.agent_binding import bind_agents


class Topic(BaseModel):
    """A subject to look into."""

    subject: str
    depth: int = 1


def agent(name: str, *tools: Any, **more: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name=name, tools=tools, **more)


def costing_ten(replies: dict[str, list[Reply]]) -> Any:
    """Return a script in which every reply takes ten tokens; every run of an agent begins it anew."""

    def script(request: ModelRequest) -> ModelReply:
        reply = replies[request.agent][min(request.turn, len(replies[request.agent])) - 1]
        entries: list[Entry] = [*reply] if isinstance(reply, list) else [reply]  # type: ignore[list-item]
        return ModelReply(entries=tuple(entries), usage=outlast.Usage(total_tokens=10))

    return script


def results_of(result: outlast.RunResult[Any]) -> list[str]:
    return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


def spec_of(tool: Any) -> Any:
    return bind_agents(agent("caller", tool), {}).graph["caller"].tools[0]


async def run(start: outlast.Agent, script: Any, **more: Any) -> outlast.RunResult[Any]:
    return await outlast.Runner.run(start, "Go.", ScriptedSession(script), **more)


def ask(tool: str, text: str = "Go.", *, call_id: str = "") -> Any:
    return call(tool, {"input": text}, call_id=call_id)


def test_the_callers_model_sees_the_agent_by_its_name_and_description() -> None:
    spec = spec_of(agent("the poet", description="Writes poems."))
    assert (spec.name, spec.description) == ("the_poet", "Writes poems.")
    assert spec.parameters["properties"] == {"input": {"type": "string"}}
    assert spec.parameters["required"] == ["input"]
    renamed = spec_of(agent("poet").as_tool("rhyme", "Finds rhymes.", input=Topic))
    assert (renamed.name, renamed.description) == ("rhyme", "Finds rhymes.")
    assert list(renamed.parameters["properties"]) == ["subject", "depth"]


async def test_the_answer_of_the_agent_is_the_result_of_the_call() -> None:
    script = {
        "caller": [call("poet", {"input": "rain"}), say("Here it is.")],
        "poet": [say("Rain, rain.")],
    }
    result = await run(agent("caller", agent("poet")), script)
    assert (result.text, results_of(result), result.turns) == ("Here it is.", ["Rain, rain."], 2)


@pytest.mark.parametrize(
    ("type_", "arguments", "sent"),
    [
        (str, {"input": "the moon"}, "the moon"),
        (Topic, {"subject": "moon"}, '{"subject":"moon","depth":1}'),
        (list[int], {"input": [1, 2]}, "[1,2]"),
    ],
)
async def test_an_agent_is_sent_a_text_as_it_is_and_every_other_value_as_json(
    type_: Any, arguments: dict[str, JSON], sent: str
) -> None:
    def script(request: ModelRequest) -> Any:
        if request.agent == "echo":
            return say(str(request.new[0].content))  # type: ignore[union-attr]
        return call("echo", arguments) if request.turn == 1 else say("Done.")

    assert results_of(await run(agent("caller", agent("echo").as_tool(input=type_)), script)) == [sent]


async def test_arguments_that_do_not_fit_are_answered_without_asking_the_agent() -> None:
    script = {"caller": [call("poet", {"topic": 1}), say("Done.")], "poet": []}
    [answer] = results_of(await run(agent("caller", agent("poet")), script))
    assert "there is no argument" in answer
    assert "input: missing" in answer


async def test_agents_of_one_turn_run_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def meet() -> str:
        """Wait for the other one."""
        await both.wait()
        return "met"

    helper = agent("helper", meet)
    script = {
        "caller": [[ask("helper"), ask("helper")], say("Done.")],
        "helper": [call("meet"), say("We met.")],
    }
    async with asyncio.timeout(10):
        result = await run(agent("caller", helper), script)
    assert results_of(result) == ["We met.", "We met."]


async def test_the_failure_of_the_agent_is_the_failure_of_the_call() -> None:
    def look() -> str:
        """Look."""
        return "seen"

    caller = agent("caller", agent("poet", look).as_tool(max_turns=2))
    script = costing_ten({"caller": [ask("poet"), say("It could not.")], "poet": [call("look")]})
    result = await run(caller, script)
    [answer] = results_of(result)
    assert "MaxTurnsExceeded" in answer
    assert (result.text, result.usage.total_tokens) == ("It could not.", 40)
    with pytest.raises(outlast.ToolFailed, match="MaxTurnsExceeded"):
        await outlast.Runner.run(caller, "Go.", ScriptedSession(script, raise_on_tool_fail=True))


async def test_tokens_and_calls_within_count_for_the_runs_around() -> None:
    def look() -> str:
        """Look."""
        return "seen"

    inner = agent("inner", look)
    outer = agent("outer", agent("middle", inner))
    script = costing_ten(
        {
            "outer": [ask("middle"), say("Done.")],
            "middle": [ask("inner"), say("Asked.")],
            "inner": [call("look"), say("Looked.")],
        }
    )
    assert (await run(outer, script)).usage.total_tokens == 60
    with pytest.raises(outlast.BudgetExceeded, match="limit of 50 total tokens") as raised:
        await run(outer, script, max_total_tokens=50)
    assert raised.value.usage.total_tokens == 50
    finished = await run(outer, script, max_total_tokens=30, on_limit="finish")
    assert (finished.text, finished.usage.total_tokens) == ("Done.", 40)
    with pytest.raises(outlast.BudgetExceeded, match="limit of 2 tool calls"):
        await run(outer, script, max_tool_calls=2)
    assert (await run(outer, script, max_tool_calls=3)).text == "Done."


async def test_a_call_within_that_is_over_the_limit_of_a_run_around_is_not_made() -> None:
    made: list[int] = []

    def look(number: int) -> str:
        """Look."""
        made.append(number)
        return "seen"

    many = [call("look", {"number": number}) for number in range(4)]
    script = costing_ten({"outer": [ask("inner"), say("Done.")], "inner": [many, say("Looked.")]})
    result = await run(agent("outer", agent("inner", look)), script, max_tool_calls=3, on_limit="finish")
    assert (made, result.text) == ([0, 1], "Done.")


async def test_a_conversation_is_new_for_each_call_unless_the_tool_keeps_it() -> None:
    def script(request: ModelRequest) -> Any:
        if request.agent == "poet":
            return say(f"{len(request.history)} before")
        return ask("poet") if request.turn <= 2 else say("Done.")

    assert results_of(await run(agent("caller", agent("poet")), script)) == ["0 before", "0 before"]
    kept = agent("caller", agent("poet").as_tool(keeps_conversation=True))
    session = ScriptedSession(script)
    assert results_of(await outlast.Runner.run(kept, "Go.", session)) == ["0 before", "2 before"]
    assert results_of(await outlast.Runner.run(kept, "Go.", session)) == ["4 before", "6 before"]


async def test_calls_of_one_turn_that_share_a_conversation_wait_for_each_other() -> None:
    script = {
        "caller": [[ask("poet"), ask("poet"), ask("poet")], say("Done.")],
        "poet": [say("one"), say("two"), say("three")],
    }
    result = await run(agent("caller", agent("poet").as_tool(keeps_conversation=True)), script)
    assert results_of(result) == ["one", "two", "three"]


async def test_an_agent_may_call_itself_as_deep_as_the_tool_says() -> None:
    def planner() -> outlast.Agent:
        return boss

    boss = agent("boss", AgentTool(planner, name="again", max_depth=2))
    script = costing_ten({"boss": [ask("again"), say("Done.")]})
    run = outlast.Runner.run_streamed(boss, "Go.", ScriptedSession(script))
    events = [event.data async for event in run.events()]
    assert (await run.result()).text == "Done."
    [failed] = [data.failure for data in events if isinstance(data, ToolFailedData)]
    assert failed.message == (
        "the call of 'again' was not made: runs of it are already nested 2 deep, which is the limit; "
        "answer without it"
    )
    called = {data.nested_run: data.run for data in events if isinstance(data, ToolCalledData)}
    turns = [data.run for data in events if isinstance(data, TurnStartedData)]
    assert len(called) == len(set(turns)) == 3
    assert all(inner is None or inner.startswith(outer) for inner, outer in called.items())


@pytest.mark.parametrize("direct", [True, False])
def test_an_agent_that_is_a_tool_of_itself_needs_a_bound(direct: bool) -> None:
    tools: list[Any] = []
    boss = outlast.Agent(model="m", name="boss", tools=tools)
    tools.append(AgentTool(lambda: boss if direct else middle, name="again"))
    middle = agent("middle", boss)
    with pytest.raises(outlast.DefinitionError, match=r"'(boss|middle)' is a tool of itself.*max_depth"):
        asyncio.run(run(boss, {}))


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda: agent("poet").as_tool(max_turns=0), "max_turns of an agent tool is 0"),
        (lambda: agent("poet").as_tool(max_depth=0), "max_depth of an agent tool is 0"),
        (lambda: spec_of(agent("poet").as_tool("bad name")), "name the model API refuses"),
        (lambda: spec_of(agent("poet").as_tool(input=asyncio.Event)), "JSON"),
    ],
)
def test_a_tool_that_cannot_be_is_refused(made: Any, match: str) -> None:
    with pytest.raises(outlast.DefinitionError, match=match):
        made()


async def test_what_is_wrong_with_an_agent_within_is_found_before_anything_is_asked() -> None:
    inner = agent("inner", handoffs=["nobody"])
    with pytest.raises(outlast.DefinitionError, match="agent 'inner' hands off to 'nobody'"):
        await run(agent("outer", agent("middle", inner)), lambda request: pytest.fail("asked"))
    paying = agent("inner", agent("inner most"), requires_approval={"inner_most": True})
    with pytest.raises(outlast.NotSupported, match="requires approval"):
        await run(agent("outer", paying), lambda request: pytest.fail("asked"))


async def test_a_run_that_is_cancelled_cancels_those_within() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait for ever."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    script = {"caller": [ask("inner")], "inner": [call("wait")]}
    task = asyncio.ensure_future(run(agent("caller", agent("inner", wait)), script))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        await ended.wait()
