"""Summaries: a model writes a short text that stands for the older part of a long conversation.

This module decides from the entries alone which part is summarised. A run then asks the model, in a step of
its own, and from then on the model gets the summary in place of the entries that it covers. The conversation
itself stays whole: a summary is a text, and positions in the conversation. It covers whole blocks, so that no
call is separated from its result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.core.agents import AgentSpec
from outlast.core.argument_checks import check_text, check_whole_number
from outlast.core.chunks import Content, TextChunk, as_chunks, text_of
from outlast.core.context_processors import ContextProcessor, KeepLastTurns, blocks_of, estimated_tokens
from outlast.core.entries import Entry, FunctionCall, FunctionResult, MessageInput, MessageOutput
from outlast.core.errors import ConfigurationError, DefinitionError
from outlast.core.failure import named_message_of
from outlast.core.values import Value

SUMMARISER = "summariser"
HEADING = "Summary of the conversation so far:"

INSTRUCTIONS = (
    "You are given the older part of a conversation between a user and an assistant that calls tools. "
    "Summarise it for the assistant, which will not see it any more: what the user wants, what was found and "
    "decided, what was done and what came of it, and what is still open. Keep names, numbers and identifiers "
    "as they are. Answer with the summary alone."
)


class Summary(Value):
    """The text that is sent instead of a conversation's first `length` entries, except the `kept` ones."""

    text: str
    length: int
    kept: tuple[int, ...] = ()
    """The positions of the entries that are still sent unchanged, in order."""

    @property
    def heading(self) -> MessageInput:
        """The message that holds the summary."""
        return heading_of(self.text)

    def without(self, kept: Sequence[int]) -> Summary:
        """Return the summary for a conversation of which only the entries at these positions are left."""
        places = {position: place for place, position in enumerate(kept)}
        return Summary(
            text=self.text,
            length=sum(position < self.length for position in kept),
            kept=tuple(places[position] for position in self.kept if position in places),
        )


def heading_of(text: str) -> MessageInput:
    """Return the message that holds a summary."""
    return MessageInput(content=f"{HEADING}\n{text}")


def visible_entries(history: Sequence[Entry], summary: Summary | None) -> tuple[Entry, ...]:
    """Return the entries of a conversation that are sent to a model, with the summary for the older ones."""
    if summary is None:
        return tuple(history)
    return (summary.heading, *(history[position] for position in _uncovered(history, summary)))


def _uncovered(history: Sequence[Entry], summary: Summary | None) -> list[int]:
    if summary is None:
        return list(range(len(history)))
    return [*summary.kept, *range(summary.length, len(history))]


@dataclass(frozen=True, slots=True)
class Split:
    """The part to summarise, as `transcript`, and the entries of the conversation that stay unchanged."""

    transcript: str
    length: int
    kept: tuple[int, ...]

    def summarised(self, text: str) -> Summary:
        """Return the summary with this text."""
        return Summary(text=text, length=self.length, kept=self.kept)


@dataclass(frozen=True, slots=True)
class SummariseHistory:
    """Summarises what is older than the last `keep_turns` turns once all is more than `over_tokens`.

    It comes first among the context processors of a session. The run asks a model for the summary, before it
    makes the call that would have been too long. That is a step like any other, journaled once, but it does
    not count as a turn. The next summary covers the last one and the entries since. The messages that led to
    the kept turns are kept as well. The usage of a summary counts with the turn that it is made for. If a
    summary fails, the run goes on with the whole conversation, and tries again at its next turn.

    Args:
        over_tokens: The number of tokens that may be sent without a summary, as `count` counts an entry. Make
            it a few times the size of the kept turns, or there is a summary at every turn.
        keep_turns: The number of last replies that stay unchanged, with their results.
        model: The model that makes the summary; by default the model of the active agent.
        instructions: The instructions of that model, which gets the transcript.
        count: The tokens of an entry; a pure function.

    Raises:
        DefinitionError: a number is less than 1, or a text is empty.
    """

    over_tokens: int
    keep_turns: int = 4
    model: str | None = None
    instructions: str = INSTRUCTIONS
    count: Callable[[Entry], int] = estimated_tokens

    def __post_init__(self) -> None:
        for name in ("over_tokens", "keep_turns"):
            check_whole_number(f"{name} of SummariseHistory", getattr(self, name), 1)
        if self.model is not None:
            check_text("the model of SummariseHistory", self.model, may_be_empty=False)
        check_text("the instructions of SummariseHistory", self.instructions, may_be_empty=False)

    def __call__(self, conversation: Sequence[Entry]) -> Sequence[Entry]:
        """Return the conversation unchanged: the run has already put the summary in."""
        return conversation

    def asked(self, active: AgentSpec) -> AgentSpec:
        """Return the agent that makes a summary for the active one."""
        fallback_models = active.fallback_models if self.model is None else ()
        return AgentSpec(
            name=SUMMARISER,
            model=self.model or active.model,
            fallback_models=fallback_models,
            instructions=self.instructions,
        )

    def split(
        self, history: Sequence[Entry], summary: Summary | None, new: Sequence[Entry] = ()
    ) -> Split | None:
        """Return the part of `history` to summarise before it and the `new` entries are sent to a model.

        Return None if all is short enough, or if nothing is older than the kept turns.

        Raises:
            DefinitionError: the tokens cannot be counted.
        """
        try:
            size = sum(map(self.count, (*visible_entries(history, summary), *new)))
        except Exception as error:
            raise DefinitionError(
                f"the count of SummariseHistory failed with {named_message_of(error)}"
            ) from error
        if size <= self.over_tokens:
            return None
        uncovered = _uncovered(history, summary)
        conversation = [*(history[position] for position in uncovered), *new]
        old = set(older(conversation, self.keep_turns, len(uncovered)))
        if not old:
            return None
        earlier = [] if summary is None else [summary.heading]
        return Split(
            transcript((*earlier, *(conversation[position] for position in sorted(old)))),
            len(history),
            tuple(known for position, known in enumerate(uncovered) if position not in old),
        )


def older(conversation: Sequence[Entry], keep_turns: int, until: int | None = None) -> list[int]:
    """Return the positions, before `until`, of entries older than the last turns and their messages.

    An earlier summary counts as older, even if it is among those messages.
    """
    until = len(conversation) if until is None else until
    kept = set(KeepLastTurns(keep_turns).positions(conversation))
    old = {
        position
        for block in blocks_of(conversation)
        if block[-1] < until and not kept.intersection(block)
        for position in block
    }
    if old:
        old |= {position for position in range(until) if _is_heading(conversation[position])}
    return sorted(old)


def _is_heading(entry: Entry) -> bool:
    return isinstance(entry, MessageInput) and text_of(entry.content).startswith(f"{HEADING}\n")


def transcript(entries: Iterable[Entry]) -> str:
    """Return a conversation as text, a line for each thing said, called and answered.

    A chunk that is not text, such as an image, is shown by its type.
    """
    lines: list[str] = []
    names: dict[str, str] = {}
    for entry in entries:
        match entry:
            case MessageInput(role=role, content=content):
                lines.append(f"{role}: {_said(content)}")
            case MessageOutput(content=content):
                lines.append(f"assistant: {_said(content)}")
            case FunctionCall(name=name, arguments=arguments):
                names[entry.tool_call_id] = name
                lines.append(f"assistant called {name}: {arguments}")
            case FunctionResult(result=result):
                lines.append(f"{names.get(entry.tool_call_id, 'a tool')} returned: {result}")
            case _:
                continue  # The reply that follows says what a server did by itself.
    return "\n".join(lines)


def _said(content: Content) -> str:
    chunks = as_chunks(content)
    return "".join(chunk.text if isinstance(chunk, TextChunk) else f"[{chunk.type}]" for chunk in chunks)


def checked_context(context: Sequence[ContextProcessor]) -> tuple[ContextProcessor, ...]:
    """Return a session's context processors.

    Raises:
        ConfigurationError: one is not a function, or a `SummariseHistory` does not come first.
    """
    given: Any = context
    if callable(given) or not isinstance(given, Collection) or not all(map(callable, given)):
        raise ConfigurationError("context must be a list of functions of a conversation's entries")
    if any(isinstance(processor, SummariseHistory) for processor in context[1:]):
        raise ConfigurationError(
            "SummariseHistory must come first in context, and once: a summary stands for entries as they are "
            "in the conversation, before any processor has changed them"
        )
    return tuple(context)


def summariser_in(context: Sequence[ContextProcessor]) -> SummariseHistory | None:
    """Return the `SummariseHistory` among the context processors, if any."""
    first = next(iter(context), None)
    return first if isinstance(first, SummariseHistory) else None
