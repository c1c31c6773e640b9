"""An argument of a wrong type is refused where it is given, with its name and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import outlast as typed
from outlast import testing
from outlast import workflow as decorators
from outlast.core.errors import ConfigurationError, DefinitionError

outlast: Any = typed
"""The package as somebody uses it who has no type checker."""
workflow: Any = typed.workflow
call: Any = testing.call
handoff: Any = testing.handoff
override: Any = testing.override

pytestmark = pytest.mark.anyio

SESSION = outlast.ScriptedSession({"a": ["Hello."]})


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def two(text: str, more: str) -> None:
    """Take two arguments."""


def agent(**options: Any) -> Any:
    return outlast.Agent(model="m", name="a", **options)


class Plain:
    @decorators.entrypoint
    async def run(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("start_to_close_timeout", 30, "is 30; give a timedelta: timedelta(seconds=30)"),
        ("start_to_close_timeout", "30s", "is '30s'; give a timedelta"),
        ("heartbeat_timeout", 5, "is 5; give a timedelta: timedelta(seconds=5)"),
        ("retry_policy_initial_interval", 1, "is 1; give a timedelta"),
        ("retry_policy_initial_interval", timedelta(-1), "must not be negative"),
        ("retry_policy_max_interval", None, "is None; give a timedelta"),
        ("retry_policy_max_attempts", "3", "is '3'; use a whole number, 1 or more"),
        ("retry_policy_max_attempts", 2.5, "is 2.5; use a whole number, 1 or more"),
        ("retry_policy_backoff_coefficient", "2", "is '2'; it must be a number of at least 1"),
        ("retries", 3, "activity has no option 'retries'; its options: name, description, start_to_close_"),
    ],
)
def test_an_option_of_an_activity(option: str, given: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        outlast.activity(**{option: given})
    assert option in str(refused.value)
    assert said in str(refused.value)


def test_a_workflow_is_defined_without_parentheses_too() -> None:
    defined = workflow.define(type("Bare", (Plain,), {}))
    assert isinstance(defined, type)
    parentheses = workflow.define()(type("Bare", (Plain,), {}))
    assert isinstance(parentheses, type)

    class Called:
        @decorators.entrypoint()
        async def run(self) -> None:
            """Do nothing."""

        @decorators.query(name="size")
        def size_of(self) -> int:
            return 0

    workflow.define(Called)


@pytest.mark.parametrize(
    ("define", "said"),
    [
        (lambda: workflow.define("deal"), "'deal' is not a class; a name is given as define(name=...)"),
        (lambda: workflow.define(double), "is not a class"),
        (lambda: workflow.define(keep=3)(Plain), "keep is 3; give a timedelta: timedelta(seconds=3)"),
    ],
)
def test_the_definition_of_a_workflow(define: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        define()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_retries": "2"}, "output_retries of agent 'a' is '2'; use a whole number, 0 or more"),
        ({"max_parallel_tools": "3"}, "max_parallel_tools of agent 'a' is '3'; use a whole number, 1 or"),
        ({"completion_args": 3}, "completion_args of agent 'a': expected a mapping"),
        ({"id": 3}, "id of agent 'a' must be text, not int"),
        ({"tool_input_guardrails": {"double": 3}}, "guardrail 'int' of agent 'a' is not a guardrail"),
        (
            {"tool_input_guardrails": {"double": two}},
            "guardrail 'two' of agent 'a' must take one argument, a dict of the call's arguments by name,",
        ),
        (
            {"tool_output_guardrails": {"double": two}},
            "guardrail 'two' of agent 'a' must take one argument, the text of the result, beside a RunCont",
        ),
        ({"input_guardrails": [two]}, "guardrail 'two' of agent 'a' must take one argument, the text, besi"),
    ],
)
def test_an_option_of_an_agent(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        agent(tools=[double], **options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: agent().as_tool(name=3), "the name of an agent tool must be text, not int"),
        (lambda: agent().as_tool(max_turns="3"), "max_turns of an agent tool is '3'; use a whole number, 1"),
        (
            lambda: outlast.Handoff("b", input_filter=3),
            "the input_filter of a handoff must be a list, not int",
        ),
        (lambda: outlast.ToolIndex(3), "the tools of a tool index must be a list, not int"),
        (lambda: outlast.ToolIndex([], name=3), "the name of a tool index must be text, not int"),
        (lambda: outlast.ToolIndex([], limit="8"), "limit of tool index 'search_tools' is '8'; use a whole"),
        (lambda: outlast.ToolIndex([], search=lambda: []), "must be a plain function of a query and the"),
        (lambda: outlast.KeepLastTurns("3"), "turns of KeepLastTurns is '3'; use a whole number, 1 or more"),
        (lambda: outlast.TokenBudget("3"), "tokens of TokenBudget is '3'; use a whole number, 1 or more"),
        (lambda: outlast.SummariseHistory("3"), "over_tokens of SummariseHistory is '3'; use a whole"),
        (
            lambda: outlast.ScriptedSession(["x"]),
            'the script must be a dict, not list: write {"the agent": [',
        ),
        (lambda: outlast.ScriptedSession({"a": 3}), "the script of agent 'a' must be a list, not int"),
        (
            lambda: outlast.ScriptedSession({"a": call("x")}),
            "the script of agent 'a' must be a list, not Fun",
        ),
        (lambda: outlast.ScriptedSession({}, context=3), "context must be a list of functions"),
        (lambda: outlast.LocalSession(prices=3), "prices must be a dict, not int: write prices={"),
        (lambda: outlast.LocalSession(server_url=3), "server_url must be text, not int"),
        (lambda: outlast.LocalSession(timeout="3"), "timeout is '3'; give a positive number of seconds"),
        (lambda: outlast.LocalSession(api_key=3), "api_key must be text, not int"),
        (lambda: outlast.MCPStdioConfig(name="s", command="c", args=3), "args must be a list of strings"),
        (lambda: outlast.MCPStdioConfig(name="s", command="c", env=3), "env must be a dict of names and val"),
        (lambda: outlast.MCPSSEConfig(name="s", url="http://h", timeout="x"), "timeout is 'x'; give a posit"),
        (
            lambda: outlast.MCPSSEConfig(name="s", url="http://h", effects=3),
            "effects must be a dict, not int",
        ),
        (lambda: outlast.connect(3), "the URL of a backend must be text, not int"),
        (lambda: call("look_up", 3), "the arguments of a call must be a dict, not int"),
        (lambda: call(3), "the tool of a call must be text, not int"),
        (lambda: handoff(agent()), "the agent of a handoff must be text, not Agent"),
        (
            lambda: outlast.Runner.messages("x"),
            "the session must be one, such as outlast.LocalSession(...), not",
        ),
        (
            override(session=outlast.ScriptedSession).__enter__,
            "the session is the class ScriptedSession; make on",
        ),
    ],
)
def test_an_argument(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((DefinitionError, ConfigurationError)) as refused:
        make()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session": "x"}, "the session must be one, such as outlast.LocalSession(...), not str"),
        (
            {"session": outlast.LocalSession},
            "the session is the class LocalSession; make one: LocalSession(...)",
        ),
        (
            {"session": SESSION, "id": "x", "backend": 3},
            "the backend must be a URL, or what connect(url) gives",
        ),
        ({"session": SESSION, "id": 3, "backend": "memory:"}, "an id is text, not int"),
    ],
)
async def test_an_argument_of_a_run(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        await outlast.Runner.run(agent(), "Go.", **options)
    assert said in str(refused.value)


@decorators.define(name="wrong_types")
class Waits:
    @decorators.entrypoint
    async def run(self, what: str) -> str:
        ways: dict[str, Callable[[], Any]] = {
            "a value": lambda: workflow.wait_condition(True),
            "a timeout": lambda: workflow.wait_condition(bool, timeout="3"),
            "seconds": lambda: workflow.ask("Well?", timeout=3),
            "a question": lambda: workflow.ask(3),
            "items": lambda: workflow.map(Waits, 3),
        }
        try:
            await ways[what]()
        except DefinitionError as error:
            return str(error)
        return "it is taken"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "a value",
            "wait_condition takes a function that returns a bool, such as `lambda: self.done`, not True",
        ),
        ("a timeout", "the timeout of wait_condition is '3'; give a timedelta: timedelta(seconds=30)"),
        ("seconds", "the timeout of a question is 3; give a timedelta: timedelta(seconds=3)"),
        ("a question", "the question to a person must be text, not int"),
        ("items", "workflow.map takes a list of items, one for each child, not 3"),
    ],
)
async def test_an_argument_in_workflow_code(what: str, said: str) -> None:
    assert await outlast.execute_workflow(Waits, what, backend="memory:") == said
