"""Agent graphs: closed, and nothing in them that a model API would refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.agents import TOOL_NAME, AgentGraph, AgentSpec, ToolSpec, agent_tool_name, handoff_tool
from outlast.core.errors import DefinitionError
from outlast.core.json import decode
from tests.core.strategies import agent_graphs, json_objects, unicode_text


def agent(name: str, *, tools: tuple[str, ...] = (), handoffs: tuple[str, ...] = ()) -> AgentSpec:
    """Return an agent with tools of these names."""
    specs = tuple(ToolSpec(name=tool, parameters={}) for tool in tools)
    return AgentSpec(name=name, model="m", tools=specs, handoffs=handoffs)


def graph(*agents: AgentSpec) -> AgentGraph:
    """Return the graph that starts with the first of the agents."""
    return AgentGraph(start=agents[0].name, agents={one.name: one for one in agents})


def test_a_tool_in_an_index_is_a_tool_of_the_agent_with_a_name_of_its_own() -> None:
    hidden = ToolSpec(name="hidden", parameters={})
    clerk = agent("clerk", tools=("seen",)).with_(indexed=(hidden,))
    assert (clerk.tool("hidden"), clerk.tool("nothing")) == (hidden, None)
    graph(clerk)
    with pytest.raises(DefinitionError, match="two tools or handoffs called 'hidden'"):
        graph(agent("clerk", tools=("hidden",)).with_(indexed=(hidden,)))


def test_an_agent_must_call_a_tool_if_its_choice_says_so() -> None:
    choices = (None, "auto", "none", "any", "required", "look_up")
    must = [agent("clerk").with_(tool_choice=choice).must_call for choice in choices]
    assert must == [False, False, False, True, True, True]


@given(agent_graphs())
def test_a_graph_is_the_same_after_json(one: AgentGraph) -> None:
    assert AgentGraph.model_validate(decode(one.to_json())) == one
    for name in one.agents:
        assert name in one
        assert one[name].name == name
    assert "nobody" not in one


@given(tool=st.builds(ToolSpec, name=st.text(), description=st.text(), parameters=json_objects))
def test_a_tool_has_another_fingerprint_just_where_its_description_for_the_model_differs(
    tool: ToolSpec,
) -> None:
    again = ToolSpec.model_validate(decode(tool.to_json()))
    backwards = again.with_(parameters=dict(reversed(again.parameters.items())))
    for same in (again, backwards, tool.with_(effect="read", timeout_seconds=5.0, requires_approval=True)):
        assert same.fingerprint == tool.fingerprint
    for other in (
        tool.with_(name=f"{tool.name}s"),
        tool.with_(description=f"{tool.description}."),
        tool.with_(parameters={**tool.parameters, "more than six": None}),
    ):
        assert other.fingerprint != tool.fingerprint


@given(unicode_text | st.text(min_size=60))
def test_the_function_of_a_handoff_has_a_name_that_the_api_takes(name: str) -> None:
    assert TOOL_NAME.match(handoff_tool(name))


def with_connector(authorization: Any) -> dict[str, Any]:
    """Return a graph of an agent with a connector that logs in so."""
    tool = {"type": "connector", "connector_id": "crm", "authorization": authorization}
    return {"start": "a", "agents": {"a": AgentSpec(name="a", model="m", built_in_tools=(tool,))}}


def test_a_connector_may_say_where_its_secret_is() -> None:
    AgentGraph(**with_connector({"type": "api-key", "value": "env:TOKEN"}))
    AgentGraph(**with_connector(None))


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        (with_connector(authorization), "env:NAME")
        for authorization in ({"type": "api-key", "value": "s3cret"}, {"type": "api-key"}, "s3cret")
    ),
    ({"start": "b", "agents": {"a": agent("a")}}, "start agent 'b'"),
    ({"start": "a", "agents": {"a": agent("b")}}, "use its own name"),
    ({"start": "a", "agents": {"a": agent("a", handoffs=("a",))}}, "hands off to itself"),
    ({"start": "a", "agents": {"a": agent("a", handoffs=("b",))}}, "cannot reach"),
    *(
        ({"start": "a", "agents": {"a": agent("a", tools=(name,))}}, "the model API refuses")
        for name in ("", "a b", "é", "x" * 65, "search\n")
    ),
    ({"start": "a", "agents": {"a": agent("a", tools=("x", "x"))}}, "two tools or handoffs called 'x'"),
]


@pytest.mark.parametrize(("given_graph", "message"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_a_graph_that_no_run_could_use_is_refused(given_graph: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        AgentGraph(**given_graph)


def test_two_agents_whose_handoffs_would_have_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="transfer_to_b_c"):
        graph(agent("a", handoffs=("b c", "b_c")), agent("b c"), agent("b_c"))
    with pytest.raises(DefinitionError, match="transfer_to_b"):
        graph(agent("a", tools=("transfer_to_b",), handoffs=("b",)), agent("b"))


@given(unicode_text)
def test_the_tool_that_asks_an_agent_has_a_name_that_tools_may_have(name: str) -> None:
    assert not name or TOOL_NAME.match(agent_tool_name(name))
    assert agent_tool_name("the poet") == "the_poet"
