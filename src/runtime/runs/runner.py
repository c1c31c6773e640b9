"""Running agents: what is checked before anything happens, and in which conversation a run takes place."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from outlast.core import entries as wire
from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry, MessageInput
from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.step_keys import run_key
from outlast.core.summaries import heading_of, older, transcript
from outlast.core.values import faults
from outlast.ports.durability.steps import StepContext
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.llm import Session
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.agent_binding import (
    BoundAgents,
    FunctionTool,
    bind_agents,
    every_agent,
    sources_of,
    starts_within,
)
from outlast.runtime.definitions.ask_person import NOBODY_ANSWERS, asks_a_person
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.conversation import (
    Conversation,
    conversation_of,
    messages_of,
    set_messages,
)
from outlast.runtime.runs.raising import NOBODY_TO_ASK
from outlast.runtime.runs.run import Around, Run
from outlast.runtime.runs.run_result import RunResult
from outlast.runtime.runs.standing_in import session_to_use
from outlast.runtime.runs.tool_lists import ToolLists, log_left_out, tool_lists_of
from outlast.runtime.runs.undurable_context import NO_APPROVALS, PlainContext

T = TypeVar("T")


def check_run(agent: Agent, inputs: Any) -> tuple[Entry, ...]:
    """Return the inputs as entries.

    Raises:
        DefinitionError: the agent is not an Agent, or the input is empty or not a message.
    """
    if not isinstance(agent, Agent):
        raise DefinitionError(f"the agent must be an Agent, not {type(agent).__name__}")
    return as_entries(inputs)


def as_entries(inputs: Any) -> tuple[Entry, ...]:
    """Return what a caller gave as entries.

    Raises:
        DefinitionError: it is empty, or not messages.
    """
    try:
        return wire.messages(inputs)
    except ValidationError as error:
        raise DefinitionError(f"the inputs are not messages: {'; '.join(faults(error))}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DefinitionError(f"the inputs cannot be used: {error}") from error


async def run_agent(
    agent: Agent[Any, T],
    inputs: Any,
    session: Session,
    bounds: Bounds,
    context: StepContext,
    key: str | None = None,
    given_context: Any = None,
) -> RunResult[T]:
    """Run `agent` until it answers. The steps are journaled as far as `context` journals.

    `given_context` is the object that the caller gives to the code of the run.

    The run is known by `key`, which no other run of the execution may have; by default by its place there.

    Raises:
        DefinitionError: the agent, the inputs or the session cannot be used so; nothing was done.
        NotSupported: a person is to be asked at a limit, and cannot be asked in this context.
        LimitExceeded: no answer came within the bounds; `.entries` and `.usage` say what did.
        InvalidOutput: the answers were not of the agent's output type.
        InputRejected, OutputRejected: a guardrail rejected what was given or answered.
        ModelError: the model gave no usable reply.
        ToolError: a tool failed, and the session says `raise_on_tool_fail`.
        WorkflowError: code of the run, such as a tool, does what workflow code cannot do.
        ToolServerError: a server that is required cannot be used.
    """
    given = check_run(agent, inputs)
    if bounds.on_limit == "ask" and not context.takes_answers:
        raise NotSupported(NOBODY_TO_ASK)
    conversation = conversation_of(session, current_context.get())
    if conversation.in_use:
        raise DefinitionError(
            "this session is being used by another run; runs at the same time need sessions of their own"
        )
    conversation.in_use = True
    try:
        return await run_in(
            conversation, agent, given, session, bounds, context, key, given_context=given_context
        )
    finally:
        conversation.in_use = False


async def run_in(
    conversation: Conversation,
    agent: Agent[Any, T],
    given: tuple[Entry, ...],
    session: Session,
    bounds: Bounds,
    context: StepContext,
    key: str | None = None,
    around: Around | None = None,
    given_context: Any = None,
    must_have_price: tuple[str, ...] = (),
) -> RunResult[T]:
    """Run `agent` in a conversation of its own choice; else as `run_agent`.

    `around` says for which call of another run this one is made, if it is. Then the agents were checked.
    `must_have_price` are the models whose prices a limit of money needs, if it is that of another run.
    """
    session = session_to_use(session)
    if bounds.max_cost is not None:
        must_have_price = _models_of(agent)
    tool_lists = await tool_lists_of(sources_of(agent), context)
    if around is None:
        for other in starts_within(agent)[1:]:
            _checked(other, tool_lists, session, context)
    agents = _checked(agent, tool_lists, session, context)
    own_key = run_key(context.next_key()) if key is None else key

    async def run_within(
        other: Agent[Any],
        asked: tuple[Entry, ...],
        conversation: Conversation,
        *,
        key: str | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        around: Around | None = None,
    ) -> RunResult[Any]:
        within = run_key(context.next_key(), own_key) if key is None else key
        return await run_in(
            conversation,
            other,
            asked,
            session,
            bounds,
            context,
            within,
            around,
            given_context,
            must_have_price,
        )

    run = Run(
        agents,
        session,
        conversation,
        bounds,
        context,
        own_key,
        run_within,
        around,
        given_context,
        must_have_price,
    )
    return await run.to_the_end(given)


DEFAULT_BOUNDS = Bounds()


def _models_of(start: Agent[Any]) -> tuple[str, ...]:
    """Return the models that a run may ask which starts with that agent, sorted."""
    agents = list(every_agent(start))
    guardrails = [one for agent in agents for one in (*agent.input_guardrails, *agent.output_guardrails)]
    agents += [judge for judge in guardrails if isinstance(judge, Agent)]
    return tuple(sorted({model for agent in agents for model in (agent.model, *agent.fallback_models)}))


def _checked(agent: Agent[Any], tool_lists: ToolLists, session: Session, context: StepContext) -> BoundAgents:
    """Return the agents of a run of `agent`, bound.

    Raises:
        DefinitionError: they cannot be used so, or not with this session.
        NotSupported: a tool needs an approval or an answer for which this context cannot wait.
    """
    agents = bind_agents(agent, tool_lists.tools, tool_lists.missing)
    log_left_out(agents.left_out)
    session.check(agents.graph)
    agents.check_checked(tool_lists.missing)
    agents.check_tool_choices(tool_lists.missing)
    if isinstance(context, PlainContext) and _requires_approval(agents.graph):
        raise NotSupported(NO_APPROVALS)
    if not context.takes_answers and _asks_a_person(agents):
        raise NotSupported(NOBODY_ANSWERS)
    return agents


def _asks_a_person(agents: BoundAgents) -> bool:
    bound = agents.bindings.values()
    return any(isinstance(tool, FunctionTool) and asks_a_person(tool.fn) for tool in bound)


def _requires_approval(graph: AgentGraph) -> bool:
    """Return whether some call, made here or by the server, is known to need a person's approval."""
    for agent in graph.agents.values():
        if any(tool.requires_approval for tool in (*agent.tools, *agent.indexed)):
            return True
        for built_in in agent.built_in_tools:
            configuration = built_in.get("tool_configuration")
            if isinstance(configuration, dict) and configuration.get("requires_confirmation"):
                return True
    return False


async def summarise(
    session: Session, agent: Agent[Any], keep_turns: int, bounds: Bounds, context: StepContext
) -> str | None:
    """Replace all but the last turns of a conversation by a summary, and return it; None if nothing is older.

    The agent is given what is replaced as text, in a conversation of its own; its reply is a step like any
    other. The messages that led to the turns that are kept stay as they are.

    Raises:
        DefinitionError: the conversation is being used.
        RunError: the agent gave no summary; the conversation is as it was.
    """
    whole = messages_of(session, current_context.get())
    old = older(whole, keep_turns)
    if not old:
        return None
    asked = (MessageInput(content=transcript(whole[position] for position in old)),)
    result = await run_in(Conversation(), agent, asked, session, bounds, context)
    new = [entry for position, entry in enumerate(whole) if position not in old]
    set_messages(session, current_context.get(), (heading_of(result.text), *new))
    return result.text
