"""Agents as users write them, and the binding of their tools to code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic

from pydantic import BaseModel

from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec, handoff_tool
from outlast.core.built_in_tools import BUILT_IN_TYPES
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.ports import definitions as ports
from outlast.ports.definitions import Approval
from outlast.ports.tools import ToolSource
from outlast.runtime.definitions.activity import Activity, check_approval
from outlast.runtime.definitions.guardrails import Guardrail, check_guardrail
from outlast.runtime.definitions.output_type import OutputType, T_co
from outlast.runtime.definitions.signature import CallableSignature
from outlast.runtime.definitions.source_tools import SourceTools, choose_tools

if TYPE_CHECKING:
    from typing import _SpecialForm


@dataclass(frozen=True, kw_only=True)
class Agent(Generic[T_co]):
    """A model with instructions, tools, and other agents that it may hand off to.

    Args:
        model: The model's name.
        fallback_models: Models to ask, in this order, when the one before is overloaded, unreachable or
            unknown to the server; for sessions that keep the conversation here (`LocalSession`).
        name: The agent's name, unique among the agents that can reach each other.
        description: Its abilities; agents that may hand off to it see this text.
        instructions: The system prompt.
        tools: Activities; plain functions, which run inside the workflow and so must be pure (or `async`,
            using activities themselves); built-in tools; tool sources. A model can call only these tools,
            never an activity that is merely defined somewhere.
        handoffs: Agents; or, where they do not exist yet, functions that return them; or the names of
            agents that can be reached another way. Cycles are fine.
        mcp_clients: MCP servers whose tools the agent has.
        completion_args: Sampling parameters, as the API names them.
        requires_approval: Tools of any kind, by name, whose calls a person must allow: True for each call, or
            a pure function of the arguments (a dict) that decides for one call. It overrides the setting of
            an activity or a tool source.
        output_type: The type of the answer; it is asked for as JSON and parsed.
        output_retries: How often the model may answer again after an answer that is not of the output type,
            before the run fails with `InvalidOutput`.
        input_guardrails: Checks of a run's inputs, when this agent starts it; see `runtime.guardrails`.
        output_guardrails: Checks of this agent's answers.
        id: An agent that exists on Mistral's side and is used as it is.
        metadata: Kept with the agent on Mistral's side.
    """

    model: str
    name: str
    description: str = ""
    instructions: str = ""
    tools: Sequence[Any] = ()
    handoffs: Sequence[Agent[Any] | str | Callable[[], Agent[Any]]] = ()
    mcp_clients: Sequence[ToolSource] = ()
    completion_args: Any = None
    fallback_models: Sequence[str] = ()
    requires_approval: Mapping[str, Approval] = field(default_factory=dict)
    output_type: type[T_co] | UnionType | _SpecialForm | None = None
    output_retries: int = 2
    input_guardrails: Sequence[Guardrail | Agent[Any]] = ()
    output_guardrails: Sequence[Guardrail | Agent[Any]] = ()
    id: str | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "name"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise DefinitionError(f"an agent's {name} must be a text that is not empty")
        if isinstance(self.fallback_models, str):
            raise DefinitionError(f"fallback_models of agent {self.name!r} is a text; give a list of names")
        if self.output_retries < 0:
            raise DefinitionError(
                f"output_retries of agent {self.name!r} is {self.output_retries}; use 0 or more"
            )
        for guardrail in (*self.input_guardrails, *self.output_guardrails):
            check_guardrail(guardrail, self.name, isinstance(guardrail, Agent))
        for tool, approval in self.requires_approval.items():
            check_approval(approval, f"requires_approval of {tool!r}, a tool of agent {self.name!r},")
        for client in self.mcp_clients:
            if not _is_source(client):
                raise DefinitionError(
                    f"agent {self.name!r} has something in mcp_clients that is not a tool source: "
                    f"{type(client).__name__}"
                )

    @property
    def sources(self) -> tuple[ToolSource, ...]:
        """The tool sources, which must be asked for their tools before a run."""
        return (*(tool for tool in self.tools if _is_source(tool)), *self.mcp_clients)


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


Binding = ActivityTool | FunctionTool | SourceTool


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

    def check_approvals(self, missing: Collection[str]) -> None:
        """Refuse approvals of tools that do not exist: a misspelt name would let every call through.

        An agent with a source that is `missing`, or withdrawn, may name any tool, because it has none of that
        source's.

        Raises:
            DefinitionError: an agent names a tool that it does not have.
        """
        for name, agent in self.by_name.items():
            if any(source.name in missing or source.name in self.withdrawn for source in agent.sources):
                continue
            for tool in agent.requires_approval:
                if self.graph[name].tool(tool) is None:
                    known = ", ".join(sorted(one.name for one in self.graph[name].tools)) or "none"
                    raise DefinitionError(
                        f"agent {name!r} requires approval of a tool {tool!r} that it does not have; "
                        f"its tools: {known}"
                    )


def reachable(start: Agent) -> dict[str, Agent]:
    """Return the agents that a run starting with `start` may reach, by name.

    Raises:
        DefinitionError: two different agents have one name, or a handoff is not of a type that it may be.
    """
    found: dict[str, Agent] = {}
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
        waiting += [target for target in map(_target, agent.handoffs) if isinstance(target, Agent)]
    return found


def sources_of(start: Agent) -> dict[str, ToolSource]:
    """Return the tool sources of the agents that a run starting with `start` may reach, by name.

    Raises:
        DefinitionError: two different sources have one name, or `reachable` raises it.
    """
    found: dict[str, ToolSource] = {}
    for agent in reachable(start).values():
        for source in agent.sources:
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
    return BoundAgents(graph, agents, bindings, outputs, left_out, withdrawn)


@dataclass(frozen=True, slots=True)
class _OwnTools:
    """The tools of an agent that are not from sources."""

    functions: Sequence[tuple[ToolSpec, Binding]]
    built_in: Sequence[dict[str, JSON]]

    @classmethod
    def of(cls, agent: Agent) -> _OwnTools:
        functions: list[tuple[ToolSpec, Binding]] = []
        built_in: list[dict[str, JSON]] = []
        for tool in agent.tools:
            if _is_source(tool):
                continue
            if (wire := _built_in(tool)) is not None:
                built_in.append(wire)
            else:
                functions.append(_function(agent, tool))
        return cls(functions, built_in)


def _chosen(agent: Agent, own: _OwnTools, tool_lists: Mapping[str, Sequence[ToolSpec]]) -> SourceTools:
    names = [spec.name for spec, _ in own.functions]
    names += [handoff_tool(_name_of(_target(handoff))) for handoff in agent.handoffs]
    approvals = agent.requires_approval
    return choose_tools(agent.name, agent.sources, tool_lists, names, len(own.built_in), approvals)


def _spec(
    agent: Agent,
    own_tools: _OwnTools,
    chosen: SourceTools,
    missing: Collection[str],
    bindings: dict[tuple[str, str], Binding],
) -> AgentSpec:
    bound = [*own_tools.functions]
    bound += [(spec, SourceTool(source, spec.name)) for source, spec in chosen.tools]
    bindings.update({(agent.name, spec.name): binding for spec, binding in bound})
    tools = [spec for spec, _ in bound]
    own = agent.requires_approval
    tools = [
        tool.with_(requires_approval=own[tool.name] is not False) if tool.name in own else tool
        for tool in tools
    ]
    return AgentSpec(
        name=agent.name,
        model=agent.model,
        fallback_models=tuple(agent.fallback_models),
        description=agent.description,
        instructions=_instructions(agent, {*missing, *chosen.withdrawn}),
        tools=tuple(tools),
        built_in_tools=tuple(own_tools.built_in),
        handoffs=tuple(_name_of(_target(handoff)) for handoff in agent.handoffs),
        completion_args=_wire(agent.completion_args) if agent.completion_args is not None else {},
        output_schema=None if (output := _output(agent)) is None else output.schema,
        id=agent.id,
        metadata=dict(agent.metadata),
    )


def _instructions(agent: Agent, missing: Collection[str]) -> str:
    names = sorted({source.name for source in agent.sources} & set(missing))
    if not names:
        return agent.instructions
    sentence = (
        f"The tools of {', '.join(names)} are not available in this conversation; do without, and say so."
    )
    return f"{agent.instructions}\n\n{sentence}".strip()


def _function(agent: Agent, tool: Any) -> tuple[ToolSpec, Binding]:
    if isinstance(tool, Activity):
        spec = _tool_spec(tool.definition.signature)
        needed = tool.definition.options.requires_approval is not False
        return spec.with_(requires_approval=needed), ActivityTool(tool)
    if callable(tool) and not isinstance(tool, type):
        signature = CallableSignature.of(tool)
        return _tool_spec(signature), FunctionTool(tool, signature)
    raise DefinitionError(
        f"agent {agent.name!r} has something in tools that is not a tool: {type(tool).__name__}; "
        "give an activity, a function with type hints, or a built-in tool"
    )


def _tool_spec(signature: ports.Signature) -> ToolSpec:
    return ToolSpec(
        name=signature.name,
        description=signature.description,
        parameters=dict(signature.parameters),
    )


def _built_in(tool: Any) -> dict[str, JSON] | None:
    """Return the wire form of a built-in tool: ours, Mistral's own object, or a mapping."""
    if isinstance(tool, (BaseModel, Mapping)):
        wire = _wire(tool)
        if wire.get("type") in BUILT_IN_TYPES:
            return wire
    return None


def _wire(value: Any) -> dict[str, JSON]:
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json", by_alias=True)
        return {name: item for name, item in dumped.items() if item is not None}
    if isinstance(value, Mapping):
        return dict(value)
    raise DefinitionError(f"expected a mapping or one of the API's own objects, not {type(value).__name__}")


def _is_source(tool: Any) -> bool:
    if isinstance(tool, type):
        return False  # The class of a source has the methods too, but they need an instance.
    return all(callable(getattr(tool, name, None)) for name in ("list_tools", "call", "effect"))


def _target(handoff: Any) -> Agent | str:
    target = handoff() if inspect.isroutine(handoff) else handoff
    if not isinstance(target, (Agent, str)):
        raise DefinitionError(
            f"a handoff must be an Agent, its name, or a function that returns it; "
            f"not {type(target).__name__}"
        )
    return target


def _name_of(target: Agent | str) -> str:
    return target.name if isinstance(target, Agent) else target


def _output(agent: Agent) -> OutputType | None:
    return OutputType.of(agent.output_type, agent.name)
