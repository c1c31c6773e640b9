"""Values of a wrong type are refused where they are written, and the error says what to write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import workflow

AGENT: Any = outlast.Agent(model="m", name="clerk")
UNTYPED: Any = outlast
"""The library as a caller without a type checker sees it."""


@pytest.mark.parametrize(
    ("define", "problem"),
    [
        (lambda: AGENT.as_tool(max_turns=1.5), "max_turns of an agent tool is 1.5; use a whole number"),
        (lambda: AGENT.as_tool(max_turns="x"), "max_turns of an agent tool is 'x'"),
        (lambda: AGENT.as_tool(max_depth="x"), "max_depth of an agent tool is 'x'"),
        (lambda: AGENT.as_tool(name=5), "name of an agent tool must be text, not int"),
        (lambda: AGENT.as_tool(description=5), "description of an agent tool must be text"),
        (lambda: UNTYPED.ToolIndex(5), "the tools of a tool index must be a list, not int"),
        (lambda: UNTYPED.ToolIndex([], limit="8"), "limit of tool index 'search_tools' is '8'"),
        (lambda: UNTYPED.ToolIndex([], name=5), "the name of a tool index must be text"),
        (lambda: UNTYPED.Handoff(AGENT, input_filter=5), "input_filter of a handoff must be a list, not int"),
        (lambda: UNTYPED.KeepLastTurns("3"), "turns of KeepLastTurns is '3'"),
        (lambda: UNTYPED.TokenBudget(1.5), "tokens of TokenBudget is 1.5"),
        (lambda: UNTYPED.SummariseHistory(over_tokens="9"), "over_tokens of SummariseHistory is '9'"),
        (lambda: UNTYPED.AskPerson(timeout=5), r"timeout of a question is 5; give a timedelta"),
        (lambda: UNTYPED.AskPerson(to=5), r"the people to ask \(to\) must be text"),
        (lambda: UNTYPED.workflow.define(keep=5), "keep is 5; give a timedelta"),
        (
            lambda: UNTYPED.Agent(model="m", name="a", output_retries="2"),
            "output_retries of agent 'a' is '2'",
        ),
    ],
)
def test_a_definition_refuses_it(define: Callable[[], Any], problem: str) -> None:
    with pytest.raises(outlast.DefinitionError, match=problem):
        define()


@pytest.mark.parametrize("prices", [[outlast.Price(input=1)], 5])
def test_a_session_refuses_prices_that_are_not_by_name(prices: Any) -> None:
    with pytest.raises(outlast.ConfigurationError, match=r'write prices=\{"the model"'):
        outlast.LocalSession(prices=prices)


@pytest.mark.parametrize(
    ("bound", "problem"),
    [
        ({"deadline": 3600}, r"deadline of the run is 3600; use a datetime .* or a timedelta"),
        ({"deadline": "2030-01-01"}, "deadline of the run is '2030-01-01'"),
        ({"max_turns": 1.5}, "max_turns"),
        ({"max_turns": "3"}, "max_turns"),
        ({"max_turns": True}, "max_turns"),
    ],
)
async def test_a_run_refuses_it(bound: Any, problem: str) -> None:
    with pytest.raises(outlast.DefinitionError, match=problem):
        await outlast.Runner.run(AGENT, "Go.", outlast.ScriptedSession({"clerk": ["Done."]}), **bound)


@workflow.define(name="wrong_values")
class Wrong:
    """Gives wrong values, and returns the errors."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        ask, child = UNTYPED.workflow.ask, UNTYPED.workflow.execute_child
        tries: list[Callable[[], Any]] = [
            lambda: ask("Why?", timeout=0.1),
            lambda: ask(5),
            lambda: ask(""),
            lambda: ask("Why?", to=5),
            lambda: child(Wrong, id=5),
            lambda: child(Wrong, task_queue=5),
        ]
        return [await self._refused(one) for one in tries]

    async def _refused(self, wrong: Callable[[], Any]) -> str:
        try:
            return str(await wrong())
        except outlast.DefinitionError as error:
            return str(error)


async def test_workflow_code_is_refused_it() -> None:
    timeout, question, empty, to, child, queue = await outlast.execute_workflow(Wrong, backend="memory:")
    assert "timedelta(seconds=0.1)" in timeout
    assert question.startswith("the question to a person must be text")
    assert empty.startswith("the question to a person is ''")
    assert "must be text" in to
    assert child.startswith("the id of a child must be text")
    assert queue.startswith("the task_queue of a child must be text")


@pytest.mark.parametrize("text", ["", " ", 5])
async def test_nothing_to_say_is_refused(text: Any) -> None:
    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Wrong)
        with pytest.raises(outlast.DefinitionError, match=r"the text to say (is|must be)"):
            await execution.say(text)


async def test_a_question_may_have_no_time_left() -> None:
    @workflow.define(name="wrong_values.late")
    class Late:
        @workflow.entrypoint
        async def run(self) -> str:
            try:
                return await workflow.ask("Why?", timeout=timedelta(seconds=-1))
            except TimeoutError:
                return "too late"

    assert await outlast.execute_workflow(Late, backend="memory:") == "too late"
