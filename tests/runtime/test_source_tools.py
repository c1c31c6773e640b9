"""The tools of sources that an agent has: a source that is not required cannot end a run by its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import outlast
from outlast.core.agents import TOOL_NAME, TOOLS_MAX, ToolSpec, handoff_tool
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.definitions.agent_binding import BoundAgents, bind_agents

OBJECT: dict[str, JSON] = {"type": "object", "properties": {}}


class Names(ToolSource):
    """A source that lists tools with these names."""

    def __init__(self, name: str, tools: Sequence[str], *, required: bool = False) -> None:
        self._name = name
        self._required = required
        self.tools = [ToolSpec(name=tool, description="", parameters=OBJECT) for tool in tools]

    @property
    def name(self) -> str:
        return self._name

    @property
    def required(self) -> bool:
        return self._required

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return self.tools

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        return ToolOutput(content=f"{self._name}: {tool}")

    def effect(self, tool: str) -> Effect:
        return "read"


def own() -> str:
    """Be a tool of the agent."""
    return "own"


OTHER = outlast.Agent(model="m", name="other")


def bound(*sources: Names, **options: object) -> BoundAgents:
    agent = outlast.Agent(
        model="m",
        name="solo",
        tools=[own],
        handoffs=[OTHER],
        mcp_clients=sources,
        **options,  # type: ignore[arg-type]  # whatever a test gives
    )
    agents = bind_agents(agent, {source.name: source.tools for source in sources})
    agents.check_checked(())
    return agents


def tools_of(agents: BoundAgents) -> list[str]:
    return [tool.name for tool in agents.graph["solo"].tools]


names = (
    st.sampled_from(["own", handoff_tool("other"), "s_a", "s_b", "", "a b", "é", "n" * 65, "n" * 10_000])
    | st.text()
)


@given(first=st.lists(names, max_size=8), second=st.lists(names, max_size=8))
@example(first=["own", "", "s_a", "s_a"], second=["s_a", "s_b"])
def test_whatever_optional_sources_call_their_tools_the_agent_has_those_it_can_have(
    first: list[str], second: list[str]
) -> None:
    agents = bound(Names("s", first), Names("t", second))
    taken = {"own", handoff_tool("other")}
    fitting = dict.fromkeys(name for name in (*first, *second) if TOOL_NAME.match(name) and name not in taken)
    assert tools_of(agents) == ["own", *fitting]
    assert len(agents.left_out) == len(first) + len(second) - len(fitting)
    assert all(len(sentence) < 300 for sentence in agents.left_out)


def test_what_is_left_out_is_said_with_the_reason() -> None:
    agents = bound(Names("s", ["own", "a b", "s_a"]), Names("t", ["s_a"]))
    assert list(agents.left_out) == [
        "agent 'solo' does not have tool 'own' of tool source 's': the agent itself has a tool or a handoff "
        "with this name",
        "agent 'solo' does not have tool 'a b' of tool source 's': model APIs refuse its name",
        "agent 'solo' does not have tool 's_a' of tool source 't': tool source 's' has a tool or a handoff "
        "with this name",
    ]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_required_source_keeps_its_names_wherever_it_stands(is_first: bool) -> None:
    sources = [Names("s", ["x"], required=True), Names("t", ["x", "y"])]
    agents = bound(*(sources if is_first else reversed(sources)))
    assert sorted(tools_of(agents)) == ["own", "x", "y"]
    assert agents.bindings["solo", "x"].source is sources[0]  # type: ignore[union-attr]  # the test is about that


@pytest.mark.parametrize(
    ("sources", "both"),
    [
        ([Names("s", ["own"], required=True)], "one of the agent itself and one of tool source 's'"),
        (
            [Names("s", ["x"], required=True), Names("t", ["x"], required=True)],
            "one of tool source 's' and one of tool source 't'",
        ),
    ],
)
def test_two_names_of_required_sources_are_an_error_that_names_both(sources: list[Names], both: str) -> None:
    with pytest.raises(DefinitionError, match=both):
        bound(*sources)


def test_an_optional_source_with_very_many_tools_fills_only_the_room_that_is_left() -> None:
    many = Names("many", [f"m{number}" for number in range(10_000)])
    agents = bound(many, Names("s", ["x"], required=True))
    assert len(tools_of(agents)) + 1 == TOOLS_MAX  # and the handoff
    assert "x" in tools_of(agents)
    assert len(agents.left_out) == 10_000 - (TOOLS_MAX - 3)
    assert agents.left_out[0].endswith(f"an agent can have {TOOLS_MAX} tools and handoffs")


def test_a_source_that_does_not_list_a_tool_that_needs_approval_is_withdrawn() -> None:
    agents = bound(Names("s", ["s_pay2"]), Names("t", ["t_a"]), requires_approval={"s_pay": True})
    assert tools_of(agents) == ["own", "t_a"]
    assert agents.withdrawn == {"s"}
    assert "The tools of s are not available" in agents.graph["solo"].instructions
    assert "does not list 's_pay', whose calls need approval" in agents.left_out[0]


def test_an_approval_of_a_tool_that_no_optional_source_could_have_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="requires approval of a tool 'pay' that it does not have"):
        bound(Names("s", ["s_pay"]), requires_approval={"pay": True})
    with pytest.raises(DefinitionError, match="requires approval of a tool 's_pay' that it does not have"):
        bound(Names("s", ["s_pay2"], required=True), requires_approval={"s_pay": True})
