"""Agents as users write them, alone and as tools of other agents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic

from outlast.core.agents import TOOL_CHOICES, TOOL_NAME, agent_tool_name, handoff_tool
from outlast.core.argument_checks import check_list, check_text, check_whole_number
from outlast.core.context_processors import ContextProcessor
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.core.limits import DEFAULT_MAX_TURNS
from outlast.core.summaries import SummariseHistory
from outlast.ports.tools import ToolSource
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.agent_checks import (
    as_json_object,
    built_in,
    check_checked,
    check_choice,
    check_lists,
    check_mappings,
    check_names,
    check_output_type,
    check_texts,
    name_of_function,
)
from outlast.runtime.definitions.approvals import Approval, check_approval
from outlast.runtime.definitions.callables import is_async, name_of
from outlast.runtime.definitions.depends import refuse_dependencies
from outlast.runtime.definitions.guardrails import Guardrail, check_guardrail, check_tool_guardrail
from outlast.runtime.definitions.output_type import T_co
from outlast.runtime.definitions.run_context import C_contra, RunContext, takes_context
from outlast.runtime.definitions.signature import CallableSignature
from outlast.runtime.definitions.source_tools import is_source
from outlast.runtime.definitions.tool_index import ToolIndex

if TYPE_CHECKING:
    from typing import _SpecialForm


ALL_TOOLS = "*"
"""The name that stands for all tools of an agent."""


@dataclass(frozen=True, kw_only=True)
class Agent(Generic[C_contra, T_co]):
    """A model with instructions, tools, and other agents that it may hand off to.

    Args:
        model: The model's name.
        fallback_models: Models to ask, in this order, when the one before is overloaded, unreachable or
            unknown to the server; for sessions that keep the conversation here (`LocalSession`).
        name: The agent's name, unique among the agents that can reach each other.
        description: Its abilities; agents that may hand off to it see this text.
        instructions: The system prompt; or a pure function that makes it for each call of the model, from the
            `RunContext` of that turn.
        tools: Activities; plain functions, which run inside the workflow and so must be pure (or `async`,
            using activities themselves); other agents, see `as_tool`; built-in tools; tool sources; a
            `ToolIndex` of many of these. A model can call only these tools, never an activity that is merely
            defined somewhere.
        handoffs: Agents; or, where they do not exist yet, functions that return them; or the names of
            agents that can be reached another way; or a `Handoff` of one of these. Cycles are fine.
        mcp_clients: MCP servers whose tools the agent has.
        completion_args: Sampling parameters, as the API names them.
        tool_choice: "auto" if the model may call tools, "none" if it must not, "required" (or "any") if it
            must call one, or the name of the tool that it must call. Once the agent has called a tool in a
            run, it may answer.
        parallel_tool_calls: False if the model may ask for one call at a time only.
        max_parallel_tools: The most calls of one turn that are made at the same time; the others wait for
            them, in the order in which the model asked. None: all of them.
        requires_approval: Tools of any kind, by name, whose calls a person must allow: True for each call, or
            a pure function that decides for one call by its arguments, which it gets as one dict. It
            overrides the setting of an activity or a tool source.
        output_type: The type of the answer; it is asked for as JSON and parsed.
        output_retries: How often the model may answer again after an answer that is not of the output type,
            before the run fails with `InvalidOutput`.
        input_guardrails: Checks of a run's inputs, when this agent starts it; see `outlast.guardrail`.
        output_guardrails: Checks of this agent's answers.
        tool_input_guardrails: Checks of the calls of this agent's tools, before they are made: by the name of
            the tool, or "*" for all of them; pure functions of the arguments (a dict).
        tool_output_guardrails: Checks of the results of this agent's tools, by the same names; pure functions
            of the text that the model would get.
        id: An agent that exists on Mistral's side and is used as it is.
        metadata: Kept with the agent on Mistral's side.
    """

    model: str
    name: str
    description: str = ""
    instructions: str | Callable[[RunContext[C_contra]], str] = ""
    tools: Sequence[Any] = ()
    handoffs: Sequence[Agent[Any] | Handoff | str | Callable[[], Agent[Any]]] = ()
    mcp_clients: Sequence[ToolSource] = ()
    completion_args: Any = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    max_parallel_tools: int | None = None
    fallback_models: Sequence[str] = ()
    requires_approval: Mapping[str, Approval] = field(default_factory=dict)
    output_type: type[T_co] | UnionType | _SpecialForm | None = None
    output_retries: int = 2
    input_guardrails: Sequence[Guardrail | Agent[Any]] = ()
    output_guardrails: Sequence[Guardrail | Agent[Any]] = ()
    tool_input_guardrails: Mapping[str, Guardrail | Sequence[Guardrail]] = field(default_factory=dict)
    tool_output_guardrails: Mapping[str, Guardrail | Sequence[Guardrail]] = field(default_factory=dict)
    id: str | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "name"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise DefinitionError(f"an agent's {name} must be a text that is not empty")
        if not isinstance(self.instructions, str) and not takes_context(self.instructions):
            raise DefinitionError(
                f"the instructions of agent {self.name!r} must be a text, or a function of a RunContext"
            )
        if not isinstance(self.instructions, str):
            refuse_dependencies(self.instructions, f"the function that makes instructions of {self.name!r}")
        if isinstance(self.fallback_models, str):
            raise DefinitionError(f"fallback_models of agent {self.name!r} is a text; give a list of names")
        self._check_shapes()
        check_whole_number(f"output_retries of agent {self.name!r}", self.output_retries, 0)
        self._check_tool_options()
        for guardrail in (*self.input_guardrails, *self.output_guardrails):
            check_guardrail(guardrail, self.name, isinstance(guardrail, Agent))
        for tool in (*self.tool_input_guardrails, *self.tool_output_guardrails):
            for of in ("call", "result"):
                for guardrail in self.tool_guardrails(tool, of):
                    is_plain = not isinstance(guardrail, (Agent, Activity))
                    check_tool_guardrail(guardrail, self.name, tool, of, is_plain)
        for tool, approval in self.requires_approval.items():
            check_approval(approval, f"requires_approval of {tool!r}, a tool of agent {self.name!r},")
        for client in self.mcp_clients:
            if not is_source(client):
                raise DefinitionError(
                    f"agent {self.name!r} has something in mcp_clients that is not a tool source: "
                    f"{type(client).__name__}"
                )
        self._check_tools()

    def _check_shapes(self) -> None:
        check_lists(
            self.name,
            tools=self.tools,
            handoffs=self.handoffs,
            mcp_clients=self.mcp_clients,
            fallback_models=self.fallback_models,
            input_guardrails=self.input_guardrails,
            output_guardrails=self.output_guardrails,
        )
        check_mappings(
            self.name,
            requires_approval=self.requires_approval,
            tool_input_guardrails=self.tool_input_guardrails,
            tool_output_guardrails=self.tool_output_guardrails,
            metadata=self.metadata,
        )
        choices = () if self.tool_choice is None else (self.tool_choice,)
        check_texts(
            self.name,
            description=(self.description,),
            fallback_models=self.fallback_models,
            tool_choice=choices,
            id=() if self.id is None else (self.id,),
        )
        check_output_type(self.name, self.output_type)
        try:
            as_json_object({} if self.completion_args is None else self.completion_args)
        except DefinitionError as error:
            raise DefinitionError(f"completion_args of agent {self.name!r}: {error}") from None

    def _check_tools(self) -> None:
        """Check the tools and handoffs as far as they are known before a run."""
        tools: list[str] = [index.name for index in self.indexes]
        is_whole = not self.sources
        given = [tool for tool in self.tools if not isinstance(tool, ToolIndex) and built_in(tool) is None]
        indexed = [tool for index in self.indexes for tool in index.tools]
        for tool in (*given, *indexed):
            if is_source(tool):
                continue
            if not isinstance(tool, (Agent, AgentTool)):
                tools.append(name_of_function(self.name, tool))
            elif (name := tool_name(tool)) is not None:
                tools.append(name)
            else:
                is_whole = False
        targets = [target_of(handoff) for handoff in self.handoffs]
        handoffs = [handoff_tool(target) for target in targets if target is not None]
        check_names(self.name, tools, handoffs)
        if self.name in targets:
            raise DefinitionError(f"agent {self.name!r} hands off to itself; remove it from its handoffs")
        if is_whole:
            check_checked(self.name, self.checked_tools, self.requires_approval, tools)
        if is_whole and None not in targets:
            check_choice(self.name, self.tool_choice, [*tools, *handoffs])

    def _check_tool_options(self) -> None:
        choice = self.tool_choice
        most: Any = self.max_parallel_tools
        if most is not None:
            check_whole_number(f"max_parallel_tools of agent {self.name!r}", most, 1)
        if choice is not None and not TOOL_NAME.match(choice):
            raise DefinitionError(
                f"tool_choice of agent {self.name!r} is {choice!r}; use one of {', '.join(TOOL_CHOICES)}, or "
                "the name of a tool"
            )
        for option in ("tool_choice", "parallel_tool_calls"):
            if getattr(self, option) is not None and option in self.completion_arguments:
                raise DefinitionError(
                    f"agent {self.name!r} has {option} twice, once in its completion_args; remove one of them"
                )

    def tool_guardrails(self, tool: str, of: str) -> tuple[Guardrail, ...]:
        """Return the guardrails of a tool's calls, or results (`of`), in order: those of all tools first."""
        given = self.tool_input_guardrails if of == "call" else self.tool_output_guardrails
        if not given:
            return ()
        found: list[Guardrail] = []
        for name in dict.fromkeys((ALL_TOOLS, tool)):
            one = given.get(name, ())
            found += one if isinstance(one, Sequence) else [one]
        return tuple(found)

    @property
    def checked_tools(self) -> dict[str, str]:
        """The tools whose calls are checked, each with how, in words."""
        guarded = (*self.tool_input_guardrails, *self.tool_output_guardrails)
        checked = {tool: "are checked by a guardrail" for tool in guarded if tool != ALL_TOOLS}
        return checked | dict.fromkeys(self.requires_approval, "need approval")

    @property
    def completion_arguments(self) -> dict[str, JSON]:
        """The completion arguments, as the API names them."""
        return {} if self.completion_args is None else as_json_object(self.completion_args)

    @property
    def sources(self) -> tuple[ToolSource, ...]:
        """The tool sources, which must be asked for their tools before a run."""
        return (*(tool for tool in self.every_tool if is_source(tool)), *self.mcp_clients)

    @property
    def indexes(self) -> tuple[ToolIndex, ...]:
        """The indexes among its tools."""
        return tuple(tool for tool in self.tools if isinstance(tool, ToolIndex))

    @property
    def every_tool(self) -> tuple[Any, ...]:
        """Its tools, with those in indexes instead of the indexes."""
        return (
            *(tool for tool in self.tools if not isinstance(tool, ToolIndex)),
            *(tool for index in self.indexes for tool in index.tools),
        )

    def as_tool(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        input: Any = str,
        max_turns: int = DEFAULT_MAX_TURNS,
        max_depth: int | None = None,
        keeps_conversation: bool = False,
    ) -> AgentTool:
        """Return this agent as a tool of other agents; see `AgentTool` for the arguments.

        `tools=[agent]` is the same as `tools=[agent.as_tool()]`.

        Raises:
            DefinitionError: an argument that a tool cannot have.
        """
        return AgentTool(
            self,
            name=name,
            description=description,
            input=input,
            max_turns=max_turns,
            max_depth=max_depth,
            keeps_conversation=keeps_conversation,
        )


@dataclass(frozen=True, kw_only=True)
class AgentTool:
    """An agent as a tool of another one: each call is a run within the caller's run, in the same journal.

    The run has a conversation of its own, and the caller's model gets its answer as the result of the call.
    Its tokens, tool calls and seconds count for the runs around it too, and it stops asking the model when
    one of their limits is reached. If it fails, the call fails; if the caller is cancelled, so is it.

    Args:
        agent: The agent; or, where it does not exist yet, a function that returns it.
        name: The name of the tool; by default that of the agent, as far as tools may have it.
        description: The text that the caller's model reads; by default the agent's description.
        input: The type of what the caller's model must give. A text is sent to the agent as it is, every
            other value as JSON.
        max_turns: The most calls of the agent's model in one run.
        max_depth: The most runs of this tool within one another. An agent that can reach itself through
            tools needs such a bound.
        keeps_conversation: True if a later call goes on with the conversation of the earlier one, in later
            runs with the same session too. Calls at the same time wait for each other then.
    """

    agent: Agent[Any] | Callable[[], Agent[Any]] = field(kw_only=False)
    name: str | None = None
    description: str | None = None
    input: Any = str
    max_turns: int = DEFAULT_MAX_TURNS
    max_depth: int | None = None
    keeps_conversation: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.agent, Agent) and not inspect.isroutine(self.agent):
            raise DefinitionError(
                "an agent tool needs an Agent, or a function that returns it; "
                f"not {type(self.agent).__name__}"
            )
        for text in ("name", "description"):
            if getattr(self, text) is not None:
                check_text(f"the {text} of an agent tool", getattr(self, text))
        for bound in ("max_turns", "max_depth"):
            if getattr(self, bound) is not None:
                check_whole_number(f"{bound} of an agent tool", getattr(self, bound), 1)

    @property
    def target(self) -> Agent[Any]:
        """The agent.

        Raises:
            DefinitionError: the function for it returns something else.
        """
        target = self.agent if isinstance(self.agent, Agent) else self.agent()
        if not isinstance(target, Agent):
            raise DefinitionError(
                f"the function of an agent tool must return an Agent, not {type(target).__name__}"
            )
        return target

    @cached_property
    def signature(self) -> CallableSignature:
        """The parameters of the tool, as the caller's model sees them."""
        agent = self.target
        parameter = Parameter(INPUT, Parameter.POSITIONAL_OR_KEYWORD, annotation=self.input)
        description = self.description or agent.description or f"Asks the agent {agent.name!r}."
        return CallableSignature(
            name=self.name or agent_tool_name(agent.name),
            function=_answer,
            python=inspect.Signature([parameter]),
            given_description=description,
            local_hints={INPUT: self.input, "return": str},
        )


@dataclass(frozen=True, kw_only=True)
class Handoff:
    """A handoff to an agent that sees only a part of the conversation.

    What the agent sees is decided when the handoff is made, and it sees all that comes after. The
    conversation itself stays whole: `result.entries` has all of it, and an agent that is handed it without a
    filter sees all of it. With `RemoteSession` this needs `handoff_execution="client"`.

    Args:
        agent: The agent; or a function that returns it; or its name.
        input_filter: A pure function of the conversation's entries, up to the results of the turn, that
            returns those which the agent sees; or a list of such functions, in their order. `KeepLastTurns`,
            `TokenBudget`, `without_tool_calls` and `as_one_message` are such functions.
    """

    agent: Agent[Any] | str | Callable[[], Agent[Any]] = field(kw_only=False)
    input_filter: ContextProcessor | Sequence[ContextProcessor] = ()

    def __post_init__(self) -> None:
        given: Any = self.input_filter
        if not callable(given):
            check_list("the input_filter of a handoff", given)
        one: Any
        for one in self.filters:
            if (
                not callable(one)
                or isinstance(one, (type, Agent, Activity, SummariseHistory))
                or is_async(one)
            ):
                raise DefinitionError(
                    f"the input_filter {name_of(one)!r} of a handoff must be a plain function of a "
                    "conversation's entries, such as KeepLastTurns(3), or a list of them"
                )
            refuse_dependencies(one, f"the input_filter {name_of(one)!r} of a handoff")

    @property
    def filters(self) -> tuple[ContextProcessor, ...]:
        """The functions of the input filter, in order."""
        given = self.input_filter
        return (given,) if callable(given) else tuple(given)


def tool_name(tool: Agent[Any] | AgentTool) -> str | None:
    """Return the name of a tool that is an agent; None if only a function knows the agent."""
    if isinstance(tool, AgentTool):
        if tool.name is not None:
            return tool.name
        if not isinstance(tool.agent, Agent):
            return None
        tool = tool.agent
    return agent_tool_name(tool.name)


def target_of(handoff: Any) -> str | None:
    """Return the name of the agent that a handoff leads to; None if only a function knows the agent.

    Raises:
        DefinitionError: it does not lead to an agent.
    """
    target = handoff.agent if isinstance(handoff, Handoff) else handoff
    if isinstance(target, Agent):
        return target.name
    if isinstance(target, str):
        return target
    if inspect.isroutine(target):
        return None
    raise DefinitionError(
        f"a handoff must be an Agent, its name, or a function that returns it; not {type(target).__name__}"
    )


INPUT = "input"
"""The parameter of an agent tool."""


def _answer(input: Any) -> str:
    """Stand for the run in the signature of an agent tool; nobody calls it."""
    raise NotImplementedError
