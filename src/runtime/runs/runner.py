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
from outlast.runtime.definitions.agent import Agent, bind_agents, sources_of
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.conversation import (
    Conversation,
    conversation_of,
    messages_of,
    set_messages,
)
from outlast.runtime.runs.run import Run
from outlast.runtime.runs.run_result import RunResult
from outlast.runtime.runs.tool_lists import log_left_out, tool_lists_of
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
    agent: Agent[T],
    inputs: Any,
    session: Session,
    bounds: Bounds,
    context: StepContext,
    key: str | None = None,
) -> RunResult[T]:
    """Run `agent` until it answers. The steps are journaled as far as `context` journals.

    The run is known by `key`, which no other run of the execution may have; by default by its place there.

    Raises:
        DefinitionError: the agent, the inputs or the session cannot be used so; nothing was done.
        LimitExceeded: no answer came within the bounds; `.entries` and `.usage` say what did.
        InvalidOutput: the answers were not of the agent's output type.
        InputRejected, OutputRejected: a guardrail rejected what was given or answered.
        ModelError: the model gave no usable reply.
        ToolError: a tool failed, and the session says `raise_on_tool_fail`.
        ToolServerError: a server that is required cannot be used.
    """
    given = check_run(agent, inputs)
    conversation = conversation_of(session, current_context.get())
    if conversation.in_use:
        raise DefinitionError(
            "this session is being used by another run; runs at the same time need sessions of their own"
        )
    conversation.in_use = True
    try:
        return await run_in(conversation, agent, given, session, bounds, context, key)
    finally:
        conversation.in_use = False


async def run_in(
    conversation: Conversation,
    agent: Agent[T],
    given: tuple[Entry, ...],
    session: Session,
    bounds: Bounds,
    context: StepContext,
    key: str | None = None,
) -> RunResult[T]:
    """Run `agent` in a conversation of its own choice; else as `run_agent`."""
    tool_lists = await tool_lists_of(sources_of(agent), context)
    agents = bind_agents(agent, tool_lists.tools, tool_lists.missing)
    log_left_out(agents.left_out)
    session.check(agents.graph)
    agents.check_approvals(tool_lists.missing)
    if isinstance(context, PlainContext) and _requires_approval(agents.graph):
        raise NotSupported(NO_APPROVALS)
    own_key = run_key(context.next_key()) if key is None else key

    async def run_alone(other: Agent[Any], asked: tuple[Entry, ...]) -> RunResult[Any]:
        within = run_key(context.next_key(), own_key)
        return await run_in(Conversation(), other, asked, session, Bounds(), context, within)

    return await Run(agents, session, conversation, bounds, context, own_key, run_alone).to_the_end(given)


def _requires_approval(graph: AgentGraph) -> bool:
    """Return whether some call, made here or by the server, is known to need a person's approval."""
    for agent in graph.agents.values():
        if any(tool.requires_approval for tool in agent.tools):
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
