"""Making a long conversation short: what is old in it is told again by a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from durable_agents.core.chunks import text_of
from durable_agents.core.context import KeepLastTurns
from durable_agents.core.entries import Entry, FunctionCall, FunctionResult, MessageInput, MessageOutput
from durable_agents.ports.durability import StepContext, current_context
from durable_agents.ports.llm import Session
from durable_agents.runtime.agent import Agent
from durable_agents.runtime.bounds import Bounds
from durable_agents.runtime.conversation import Conversation, messages_of, set_messages
from durable_agents.runtime.runner import run_in

HEADING = "Summary of the conversation so far:"


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
    kept = set(KeepLastTurns(keep_turns).positions(whole))
    old = [entry for position, entry in enumerate(whole) if position not in kept]
    if not old:
        return None
    asked = (MessageInput(content=transcript(old)),)
    result = await run_in(Conversation(), agent, asked, session, bounds, context)
    heading = MessageInput(content=f"{HEADING}\n{result.text}")
    new = [entry for position, entry in enumerate(whole) if position in kept]
    set_messages(session, current_context.get(), (heading, *new))
    return result.text


def transcript(entries: Iterable[Entry]) -> str:
    """Return a conversation as text, a line for each thing said, called and answered."""
    lines: list[str] = []
    names: dict[str, str] = {}
    for entry in entries:
        match entry:
            case MessageInput(role=role, content=content):
                lines.append(f"{role}: {text_of(content)}")
            case MessageOutput(content=content):
                lines.append(f"assistant: {text_of(content)}")
            case FunctionCall(name=name, arguments=arguments):
                names[entry.tool_call_id] = name
                lines.append(f"assistant called {name}: {arguments}")
            case FunctionResult(result=result):
                lines.append(f"{names.get(entry.tool_call_id, 'a tool')} returned: {result}")
            case _:
                continue  # What a server did by itself stands in what it said afterwards.
    return "\n".join(lines)
