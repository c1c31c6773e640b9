"""The tools and handoffs of an agent as data, and agents that are refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import outlast
from outlast.core.agents import ToolSpec
from outlast.core.errors import DefinitionError, NotSupported
from outlast.runtime.definitions.agent_binding import bind_agents, reachable


@outlast.activity(name="agent_look_up")
async def look_up(city: str) -> str:
    """Look something up.

    Args:
        city: Where
    """
    return city


def double(x: int) -> int:
    """Twice."""
    return 2 * x


class Odd:
    """Nothing that pydantic knows."""


def agent(name: str, **more: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name=name, **more)


def graph(start: outlast.Agent) -> Any:
    return bind_agents(start, {}).graph


def test_a_model_gets_activities_and_functions_alike() -> None:
    spec = graph(agent("a", tools=[look_up, double]))["a"]
    assert [tool.name for tool in spec.tools] == ["agent_look_up", "double"]
    assert spec.tools[0] == ToolSpec(
        name="agent_look_up",
        description="Look something up.",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    )


def test_built_in_tools_come_as_ours_as_mistrals_or_as_mappings() -> None:
    from mistralai.client import models

    tools = [
        outlast.WebSearchTool(),
        models.CodeInterpreterTool(),
        {"type": "document_library", "library_ids": ["l"]},
        outlast.DocumentLibraryTool(library_ids=("l",)),
    ]
    spec = graph(agent("a", tools=tools))["a"]
    assert [tool["type"] for tool in spec.built_in_tools] == [
        "web_search",
        "code_interpreter",
        "document_library",
        "document_library",
    ]
    assert spec.built_in_tools[2] == spec.built_in_tools[3]


def test_a_graph_with_cycles_is_walked_once() -> None:
    a: outlast.Agent = agent("a", handoffs=[lambda: b])
    b: outlast.Agent = agent("b", handoffs=["a", lambda: c])
    c: outlast.Agent = agent("c", handoffs=[a, b])
    assert list(reachable(a)) == ["a", "b", "c"]
    assert graph(a)["c"].handoffs == ("a", "b")


def test_completion_args_may_be_the_apis_own_object() -> None:
    from mistralai.client import models

    spec = graph(agent("a", completion_args=models.CompletionArgs(temperature=0.1)))["a"]
    assert spec.completion_args["temperature"] == 0.1
    mapping: Mapping[str, Any] = {"temperature": 0.2}
    assert graph(agent("a", completion_args=mapping))["a"].completion_args == mapping


@pytest.mark.parametrize(
    ("start", "wording"),
    [
        (
            lambda: agent("a", handoffs=[agent("b"), agent("c", handoffs=[agent("b", tools=[double])])]),
            "two agents",
        ),
        (lambda: agent("a", handoffs=["a"]), "itself"),
        (lambda: agent("a", handoffs=["nobody"]), "cannot reach"),
        (lambda: agent("a", handoffs=[7]), "a handoff must be"),
        (lambda: agent("a", tools=[double, double]), "two tools or handoffs called 'double'"),
        (lambda: agent("a", tools=[lambda x: x]), "type hint"),
        (lambda: agent("a", tools=[7]), "something in tools that is not a tool: int"),
        (lambda: agent("a", tools=[{"type": "nonsense"}]), "something in tools that is not a tool: dict"),
        (lambda: agent(""), "name"),
        (lambda: agent("a", output_type=Odd), "JSON schema"),
        (lambda: agent("a", completion_args=3), "expected a mapping"),
    ],
)
def test_an_agent_that_no_run_could_use_is_refused(start: Any, wording: str) -> None:
    with pytest.raises((DefinitionError, TypeError), match=wording):
        graph(start())


def test_a_tool_name_that_the_api_refuses_is_refused_first() -> None:
    @outlast.activity(name="not a name")
    async def spaced() -> None: ...

    with pytest.raises(DefinitionError, match="'not a name'"):
        graph(agent("a", tools=[spaced]))


async def test_a_session_refuses_what_it_cannot_do_before_the_first_call() -> None:
    session = outlast.LocalSession(server_url="http://127.0.0.1:9", api_key="k")
    with pytest.raises(NotSupported, match="web_search"):
        await outlast.Runner.run(agent("a", tools=[outlast.WebSearchTool()]), "go", session)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_parallel_tools": 0}, "max_parallel_tools of agent 'a' is 0; use a whole number, 1 or more"),
        (
            {"tool_choice": "use the best"},
            "tool_choice of agent 'a' is 'use the best'; use one of auto, none",
        ),
        ({"tool_choice": "auto", "completion_args": {"tool_choice": "any"}}, "has tool_choice twice"),
        ({"parallel_tool_calls": True, "completion_args": {"parallel_tool_calls": False}}, "twice"),
        ({"tool_choice": "auto", "completion_args": 7}, "expected a mapping"),
    ],
)
def test_tool_options_are_checked_where_the_agent_is_defined(options: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        agent("a", **options)


async def test_an_agent_cannot_have_to_call_a_tool_that_it_does_not_have() -> None:
    with pytest.raises(DefinitionError, match="'pay', which is not one of its tools: transfer_to_b"):
        agent("a", tool_choice="pay", handoffs=[agent("b")])
    payer = agent("a", tool_choice="pay", handoffs=[lambda: agent("b")])
    with pytest.raises(DefinitionError, match="'pay', which is not one of its tools: transfer_to_b"):
        await outlast.Runner.run(payer, "Go.", outlast.ScriptedSession({"a": ["Hi."]}))


def index(*tools: Any) -> outlast.ToolIndex:
    return outlast.ToolIndex(tools)


@pytest.mark.parametrize(
    ("options", "wording"),
    [
        (
            {"tools": ["nope"]},
            "something in tools that is not a tool: 'nope'; give an activity",
        ),
        ({"tools": [index("nope")]}, "something in tools that is not a tool: 'nope'"),
        ({"tools": [index(outlast.WebSearchTool())]}, "something in tools that is not a tool: WebSearchTool"),
        ({"tools": [dict]}, "something in tools that is not a tool: type"),
        ({"tools": "nope"}, r"tools of agent 'a' must be a list, not 'nope': write \[...\]"),
        ({"tools": double}, "tools of agent 'a' must be a list, not function"),
        ({"tools": [lambda x: x]}, "no type hint on 'x'"),
        ({"tools": [double, double]}, "two tools or handoffs called 'double'"),
        (
            {"tools": [agent("b").as_tool(name="b c")]},
            "has a name the model API refuses",
        ),
        ({"tools": [agent("b"), agent("b")]}, "two tools or handoffs called 'b'"),
        ({"handoffs": [7]}, "a handoff must be an Agent, its name, or a function that returns it; not int"),
        ({"handoffs": [outlast.Handoff(agent("a"))]}, "agent 'a' hands off to itself"),
        ({"handoffs": agent("b")}, "handoffs of agent 'a' must be a list, not Agent"),
        ({"input_guardrails": print}, "input_guardrails of agent 'a' must be a list"),
        ({"requires_approval": ["double"]}, "requires_approval of agent 'a' must be a dict, not list"),
        (
            {"tools": [double], "requires_approval": {"duoble": True}},
            "agent 'a' requires approval of a tool 'duoble' that it does not have; its tools: double",
        ),
        ({"tool_choice": 7}, "tool_choice of agent 'a' must be text, not int"),
        (
            {"max_parallel_tools": "3"},
            "max_parallel_tools of agent 'a' is '3'; use a whole number, 1 or more",
        ),
        ({"fallback_models": [7]}, "fallback_models of agent 'a' must be text, not int"),
        ({"description": 7}, "description of agent 'a' must be text, not int"),
        ({"output_type": "Answer"}, "output_type of agent 'a' has no JSON schema: it is 'Answer'"),
        ({"output_type": agent}, "output_type of agent 'a' has no JSON schema: it is a function"),
        ({"completion_args": 3}, "expected a mapping"),
    ],
)
def test_a_mistake_in_an_agent_is_an_error_where_it_is_written(options: Any, wording: str) -> None:
    with pytest.raises(DefinitionError, match=wording):
        agent("a", **options)


def test_what_only_a_run_can_know_is_not_refused_where_it_is_written() -> None:
    later = outlast.AgentTool(lambda: agent("b"))
    agent("a", tools=[later], requires_approval={"b": True}, tool_choice="b")
    agent("a", handoffs=[lambda: agent("b")], tool_choice="transfer_to_b")
    agent("a", handoffs=["b", outlast.Handoff("c"), outlast.Handoff(lambda: agent("d"))])
