"""The part of a conversation that the next agent sees after a handoff: pure functions of its entries."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.core.context_processors import ANSWERS, ContextProcessor, paired, processed
from outlast.core.entries import AgentHandoff, Entry, FunctionCall, MessageInput, ToolExecution
from outlast.core.summaries import transcript

TRANSCRIPT = "[The conversation so far, which another agent has handed off:]"
GO_ON = "[The conversation was handed off to you. Go on with it.]"
_OF_TOOLS = (FunctionCall, ToolExecution, AgentHandoff, *ANSWERS)


def without_tool_calls(conversation: Sequence[Entry]) -> Sequence[Entry]:
    """Return the messages of a conversation, without calls, their results and handoffs."""
    return [entry for entry in conversation if not isinstance(entry, _OF_TOOLS)]


def as_one_message(conversation: Sequence[Entry]) -> Sequence[Entry]:
    """Return one message with the whole conversation as text, a line for each thing said and called."""
    if not conversation:
        return ()
    return (MessageInput(content=f"{TRANSCRIPT}\n{transcript(conversation)}"),)


def shown_to_next(filters: Sequence[ContextProcessor], conversation: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of a conversation that the next agent sees.

    Calls without a result and results without a call are left out. If an agent had the last word, a message
    asks the next one to go on: model servers refuse a conversation in which nobody waits for an answer.

    Raises:
        DefinitionError: a filter failed, or returned something that is not entries.
    """
    seen = paired(processed(filters, conversation))
    if seen and isinstance(seen[-1], (MessageInput, *ANSWERS)):
        return seen
    return (*seen, MessageInput(content=GO_ON))
