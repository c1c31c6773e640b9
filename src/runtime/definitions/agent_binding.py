"""The agents of a run, bound: their graph as data, and the code behind each of their tools."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.core.agents import TOOLS_MAX, AgentGraph, AgentSpec, ToolSpec, check_handoff, handoff_tool
from outlast.core.context_processors import ContextProcessor
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.ports import definitions as ports
from outlast.ports.definitions import Approval
from outlast.ports.tools import ToolSource
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.agent import Agent, AgentTool, Handoff
from outlast.runtime.definitions.agent_checks import (
    built_in,
    check_checked,
    check_choice,
    function_signature,
)
from outlast.runtime.definitions.guardrails import Guardrail
from outlast.runtime.definitions.output_type import OutputType
from outlast.runtime.definitions.signature import CallableSignature
from outlast.runtime.definitions.source_tools import SourceTools, choose_tools, is_source
from outlast.runtime.definitions.tool_index import BoundIndex, IndexSource, ToolIndex, index_source_name


@dataclass(frozen=True, slots=True)
class ActivityTool:
    """A tool that is an activity."""

    activity: Activity[..., Any]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool that is a plain function, run inside the workflow."""

    fn: Callable[..., Any]
    signature: CallableSignature


@dataclass(frozen=True, slots=True)
class SourceTool:
    """A tool of a source."""

    source: ToolSource
    name: str


Binding = ActivityTool | FunctionTool | SourceTool | AgentTool | ToolIndex


@dataclass(frozen=True, slots=True)
class BoundAgents:
    """An agent and all agents that it can reach: their graph as data, and the code behind every tool."""

    graph: AgentGraph
    by_name: Mapping[str, Agent]
    bindings: Mapping[tuple[str, str], Binding]
    """By agent and tool name."""
    outputs: Mapping[str, OutputType]
    """The output types of the agents that have one."""
    left_out: Sequence[str] = ()
    """A sentence for each tool of a source that an agent does not have, though the source lists it."""
    indexes: Mapping[tuple[str, str], BoundIndex] = field(default_factory=dict)
    """By the agent, and the tool that searches."""
    input_filters: Mapping[tuple[str, str], Sequence[ContextProcessor]] = field(default_factory=dict)
    """Those of handoffs, by the agent that hands off and the one to which it does."""
    withdrawn: frozenset[str] = frozenset()
    """The sources that are there, but of which an agent has no tools."""

    def checked(self) -> dict[str, int]:
        """Return the agents whose answers are checked, each with how often it may answer again."""
        return {
            name: agent.output_retries if name in self.outputs else 0
            for name, agent in self.by_name.items()
            if name in self.outputs or agent.output_guardrails
        }

    def approval(self, agent: str, tool: str) -> Approval:
        """Return whether calls of a tool need a person's approval, or the function that decides."""
        own = self.by_name[agent].requires_approval
        if tool in own:
            return own[tool]
        match self.bindings.get((agent, tool)):
            case ActivityTool(activity=activity):
                return activity.definition.options.requires_approval
            case _:
                known = self.graph[agent].tool(tool)
                return known is not None and known.requires_approval

    def tool_guardrails(self, agent: str, tool: str, of: str) -> Sequence[Guardrail]:
        """Return the guardrails of a tool's calls, or of its results."""
        return self.by_name[agent].tool_guardrails(tool, of)

    def check_checked(self, missing: Collection[str]) -> None:
        """Refuse checks of tools that do not exist: a misspelt name would let every call through.

        An agent with a source that is `missing`, or withdrawn, may name any tool, because it has none of that
        source's.

        Raises:
            DefinitionError: an agent names a tool that it does not have.
        """
        for name, agent in self.by_name.items():
            if self._lacks_sources(name, missing):
                continue
            spec = self.graph[name]
            known = [one.name for one in (*spec.tools, *spec.indexed)]
            check_checked(name, agent.checked_tools, agent.requires_approval, known)

    def check_tool_choices(self, missing: Collection[str]) -> None:
        """Refuse a tool choice that names no tool of the agent.

        An agent with a source that is `missing`, or withdrawn, may name any tool; it is not forced then.

        Raises:
            DefinitionError: an agent must call a tool that it does not have.
        """
        for name, agent in self.graph.agents.items():
            known = [*(tool.name for tool in agent.tools), *agent.handoff_tools()]
            if not self._lacks_sources(name, missing):
                check_choice(name, agent.tool_choice, known)

    def _lacks_sources(self, name: str, missing: Collection[str]) -> bool:
        """Return whether an agent has a source that is `missing`, or withdrawn."""
        sources = self.by_name[name].sources
        return any(source.name in missing or source.name in self.withdrawn for source in sources)


def reachable(start: Agent) -> dict[str, Agent]:
    """Return the agents that a run starting with `start` may reach, by name.

    Raises:
        DefinitionError: two different agents have one name, or a handoff is not of a type that it may be, or
            names an agent that cannot be reached.
    """
    found: dict[str, Agent] = {}
    named: list[tuple[str, str]] = []
    waiting = [start]
    while waiting:
        agent = waiting.pop(0)
        if agent.name in found:
            if found[agent.name] is not agent and found[agent.name] != agent:
                raise DefinitionError(
                    f"two agents are called {agent.name!r}; agents that can reach each other need own names"
                )
            continue
        found[agent.name] = agent
        targets = [_target(handoff) for handoff in agent.handoffs]
        waiting += [target for target in targets if isinstance(target, Agent)]
        named += [(agent.name, target) for target in targets if isinstance(target, str)]
    for name, target in named:
        check_handoff(name, target, found)
    return found


def starts_within(start: Agent) -> Sequence[Agent]:
    """Return `start`, and the agents that are tools of the agents it can reach, however deep; each once.

    Raises:
        DefinitionError: an agent can reach itself through tools of which none has a `max_depth`, or
            `reachable` raises it.
    """
    found: list[Agent] = []
    _add_starts(start, found, ())
    return found


def _add_starts(start: Agent, found: list[Agent], around: tuple[Agent, ...]) -> None:
    """Add the agent and those within it; `around` are the agents of which it is a tool, without a bound."""
    if any(one is start for one in around):
        raise DefinitionError(
            f"agent {start.name!r} is a tool of itself, directly or through its tools; "
            "give one of these tools a max_depth"
        )
    if not any(one is start for one in found):
        found.append(start)
    for agent in reachable(start).values():
        for tool in map(_agent_tool, agent.every_tool):
            if tool is None:
                continue
            if tool.max_depth is None:
                _add_starts(tool.target, found, (*around, start))
            elif not any(one is tool.target for one in found):
                _add_starts(tool.target, found, ())


def every_agent(start: Agent) -> Iterator[Agent]:
    """Yield the agents that a run starting with `start` may reach, and those of the runs within it."""
    for one in starts_within(start):
        yield from reachable(one).values()


def _agent_tool(tool: Any) -> AgentTool | None:
    """Return the tool as an agent tool, if it is an agent."""
    if isinstance(tool, Agent):
        return tool.as_tool()
    return tool if isinstance(tool, AgentTool) else None


def sources_of(start: Agent) -> dict[str, ToolSource]:
    """Return the tool sources of the agents that a run starting with `start` may reach, by name.

    Those of agents that are tools are among them, and one for the other tools of each index.

    Raises:
        DefinitionError: two different sources have one name, or `starts_within` raises it.
    """
    found: dict[str, ToolSource] = {}
    for agent in every_agent(start):
        for source in (*agent.sources, *_index_sources(agent)):
            known = found.setdefault(source.name, source)
            if known is not source and known != source:
                raise DefinitionError(
                    f"two tool sources are called {source.name!r}; give one of them another name, so that "
                    "each keeps its own tools"
                )
    return found


def bind_agents(
    start: Agent, tool_lists: Mapping[str, Sequence[ToolSpec]], missing: Collection[str] = ()
) -> BoundAgents:
    """Return the agents of a run of `start`; `tool_lists` holds the tools of each source, by its name.

    If a source of an agent is `missing`, a sentence at the end of the agent's instructions says so. Tools of
    a source that is not required are left out where the agent cannot have them.

    Raises:
        DefinitionError: names clash, something in tools is not a tool, or a handoff leads nowhere.
    """
    agents = reachable(start)
    bindings: dict[tuple[str, str], Binding] = {}
    own = {name: _OwnTools.of(agent) for name, agent in agents.items()}
    chosen = {name: _chosen(agent, own[name], tool_lists) for name, agent in agents.items()}
    specs = {name: _spec(agent, own[name], chosen[name], missing, bindings) for name, agent in agents.items()}
    outputs = {name: output for name, agent in agents.items() if (output := _output(agent)) is not None}
    left_out = [sentence for one in chosen.values() for sentence in one.left_out]
    withdrawn = frozenset[str]().union(*(one.withdrawn for one in chosen.values()))
    graph = AgentGraph(start=start.name, agents=specs)
    filters = {(name, to): one for name, agent in agents.items() for to, one in _filters(agent).items()}
    indexes = {
        (name, index.name): BoundIndex(index, _catalogue(agent, index, chosen[name], tool_lists))
        for name, agent in agents.items()
        for index in agent.indexes
    }
    return BoundAgents(graph, agents, bindings, outputs, left_out, indexes, filters, withdrawn)


def _index_sources(agent: Agent) -> Iterator[ToolSource]:
    """Yield a source for each index that has tools which are in no source."""
    for index in agent.indexes:
        specs = tuple(_function(agent, tool)[0] for tool in index.tools if not is_source(tool))
        if specs:
            yield IndexSource(agent.name, index, specs)


def _catalogue(
    agent: Agent, index: ToolIndex, chosen: SourceTools, tool_lists: Mapping[str, Sequence[ToolSpec]]
) -> tuple[ToolSpec, ...]:
    """Return the tools that a search in an index looks through, as this execution has listed them."""
    sources = {source.name for source in index.sources}
    own = tool_lists.get(index_source_name(agent.name, index), ())
    return (*own, *(spec for source, spec in chosen.tools if source.name in sources))


@dataclass(frozen=True, slots=True)
class _OwnTools:
    """The tools of an agent that are not from sources."""

    functions: Sequence[tuple[ToolSpec, Binding]]
    indexed: Sequence[tuple[ToolSpec, Binding]]
    built_in: Sequence[dict[str, JSON]]

    @classmethod
    def of(cls, agent: Agent) -> _OwnTools:
        functions: list[tuple[ToolSpec, Binding]] = []
        indexed: list[tuple[ToolSpec, Binding]] = []
        offered: list[dict[str, JSON]] = []
        for tool in agent.tools:
            if is_source(tool):
                continue
            if isinstance(tool, ToolIndex):
                functions.append((_tool_spec(tool.signature), tool))
                indexed += [_function(agent, one) for one in tool.tools if not is_source(one)]
            elif (wire := built_in(tool)) is not None:
                offered.append(wire)
            else:
                functions.append(_function(agent, tool))
        return cls(functions, indexed, offered)


def _chosen(agent: Agent, own: _OwnTools, tool_lists: Mapping[str, Sequence[ToolSpec]]) -> SourceTools:
    seen = [spec.name for spec, _ in own.functions]
    seen += [handoff_tool(_name_of(_target(handoff))) for handoff in agent.handoffs]
    hidden = [spec.name for spec, _ in own.indexed]
    room = TOOLS_MAX - len(seen) - len(own.built_in)
    indexed = {source.name for index in agent.indexes for source in index.sources}
    names = [*seen, *hidden]
    return choose_tools(agent.name, agent.sources, tool_lists, names, room, agent.checked_tools, indexed)


def _spec(
    agent: Agent,
    own_tools: _OwnTools,
    chosen: SourceTools,
    missing: Collection[str],
    bindings: dict[tuple[str, str], Binding],
) -> AgentSpec:
    in_index = {source.name for index in agent.indexes for source in index.sources}
    seen, indexed = [*own_tools.functions], [*own_tools.indexed]
    for source, spec in chosen.tools:
        (indexed if source.name in in_index else seen).append((spec, SourceTool(source, spec.name)))
    bindings.update({(agent.name, spec.name): binding for spec, binding in (*seen, *indexed)})
    own = agent.requires_approval

    def specs(bound: Sequence[tuple[ToolSpec, Binding]]) -> tuple[ToolSpec, ...]:
        return tuple(
            tool.with_(requires_approval=own[tool.name] is not False) if tool.name in own else tool
            for tool, _ in bound
        )

    return AgentSpec(
        name=agent.name,
        model=agent.model,
        fallback_models=tuple(agent.fallback_models),
        description=agent.description,
        instructions=_instructions(agent, {*missing, *chosen.withdrawn}),
        tools=specs(seen),
        indexed=specs(indexed),
        built_in_tools=tuple(own_tools.built_in),
        handoffs=tuple(_name_of(_target(handoff)) for handoff in agent.handoffs),
        filtered_handoffs=tuple(_filters(agent)),
        completion_args=agent.completion_arguments,
        tool_choice=agent.tool_choice,
        parallel_tool_calls=agent.parallel_tool_calls,
        max_parallel_tools=agent.max_parallel_tools,
        output_schema=None if (output := _output(agent)) is None else output.schema,
        id=agent.id,
        metadata=dict(agent.metadata),
    )


def _instructions(agent: Agent, missing: Collection[str]) -> str:
    """Return the instructions that are the same in every turn; a function of the agent makes the others."""
    written = agent.instructions if isinstance(agent.instructions, str) else ""
    names = sorted({source.name for source in agent.sources} & set(missing))
    if not names:
        return written
    sentence = (
        f"The tools of {', '.join(names)} are not available in this conversation; do without, and say so."
    )
    return f"{written}\n\n{sentence}".strip()


def _function(agent: Agent, tool: Any) -> tuple[ToolSpec, Binding]:
    if isinstance(tool, Activity):
        spec = _tool_spec(tool.definition.signature)
        needed = tool.definition.options.requires_approval is not False
        return spec.with_(requires_approval=needed), ActivityTool(tool)
    if (agent_tool := _agent_tool(tool)) is not None:
        return _tool_spec(agent_tool.signature), agent_tool
    signature = function_signature(agent.name, tool)
    return _tool_spec(signature), FunctionTool(tool, signature)


def _tool_spec(signature: ports.Signature) -> ToolSpec:
    return ToolSpec(
        name=signature.name,
        description=signature.description,
        parameters=dict(signature.parameters),
    )


def _target(handoff: Any) -> Agent | str:
    if isinstance(handoff, Handoff):
        handoff = handoff.agent
    target = handoff() if inspect.isroutine(handoff) else handoff
    if not isinstance(target, (Agent, str)):
        raise DefinitionError(
            f"a handoff must be an Agent, its name, or a function that returns it; "
            f"not {type(target).__name__}"
        )
    return target


def _filters(agent: Agent) -> dict[str, Sequence[ContextProcessor]]:
    """Return the input filters of an agent's handoffs, by the agents to which they lead."""
    return {
        _name_of(_target(handoff)): handoff.filters
        for handoff in agent.handoffs
        if isinstance(handoff, Handoff) and handoff.filters
    }


def _name_of(target: Agent | str) -> str:
    return target.name if isinstance(target, Agent) else target


def _output(agent: Agent) -> OutputType | None:
    return OutputType.of(agent.output_type, agent.name)
