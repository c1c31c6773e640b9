"""Choosing which part of a long conversation the model sees: pure functions of its entries.

A context processor takes the entries and returns those that the model sees; the conversation itself stays
unchanged. Entries that must stay together are a block: a reply of the model with the results of its calls, or
one message. The processors here keep and drop whole blocks, and always keep the messages that led to the kept
blocks, so that the model knows its task. After every processor, also a user's own, calls without a result and
results without a call are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from outlast.core.argument_checks import check_whole_number
from outlast.core.entries import (
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    ToolConfirmation,
    entries,
)
from outlast.core.errors import DefinitionError
from outlast.core.failure import named_message_of
from outlast.core.json import encode
from outlast.core.values import faults

ContextProcessor = Callable[[Sequence[Entry]], Sequence[Entry]]
"""Returns the part of a conversation that the model sees; a function of the entries and of nothing else."""

Block = tuple[int, ...]
"""The positions of entries that belong together, in order."""

ANSWERS = (FunctionResult, ToolConfirmation)
"""The entries that answer a call: its result, or whether the server may make it."""

_CHARACTERS_PER_TOKEN = 4


def estimated_tokens(entry: Entry) -> int:
    """Return an estimate of the tokens of an entry, by its length, without a tokeniser."""
    return 1 + len(encode(entry.to_wire())) // _CHARACTERS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class KeepLastTurns:
    """Keeps the last `turns` replies with their results, and the messages that led to them.

    Raises:
        DefinitionError: `turns` is not a whole number of 1 or more.
    """

    turns: int

    def __post_init__(self) -> None:
        check_whole_number("turns of KeepLastTurns", self.turns, 1)

    def __call__(self, conversation: Sequence[Entry]) -> Sequence[Entry]:
        return [conversation[position] for position in self.positions(conversation)]

    def positions(self, conversation: Sequence[Entry]) -> Sequence[int]:
        """Return the positions of the entries that are kept."""
        blocks = blocks_of(conversation)
        replies = [n for n, block in enumerate(blocks) if not _is_message(conversation, block)]
        if len(replies) <= self.turns:
            return range(len(conversation))
        first = replies[-self.turns]
        return sorted(sum([*_leading_to(conversation, blocks, first), *blocks[first:]], ()))


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Drops the oldest blocks until the rest is at most `tokens`, as `count` counts an entry.

    The last reply with its results, what came after it, and the message that led to it are kept even if they
    alone are more.

    Raises:
        DefinitionError: `tokens` is not a whole number of 1 or more.
    """

    tokens: int
    count: Callable[[Entry], int] = estimated_tokens

    def __post_init__(self) -> None:
        check_whole_number("tokens of TokenBudget", self.tokens, 1)

    def __call__(self, conversation: Sequence[Entry]) -> Sequence[Entry]:
        return [conversation[position] for position in self.positions(conversation)]

    def positions(self, conversation: Sequence[Entry]) -> Sequence[int]:
        """Return the positions of the entries that are kept."""
        blocks = blocks_of(conversation)
        replies = [n for n, block in enumerate(blocks) if not _is_message(conversation, block)]
        first = replies[-1] if replies else max(len(blocks) - 1, 0)
        pinned = [*_leading_to(conversation, blocks, first), *blocks[first:]]
        left = self.tokens - sum(self._size(conversation, block) for block in pinned)
        kept = list(pinned)
        for block in reversed(blocks[:first]):
            if block in pinned:
                continue
            left -= self._size(conversation, block)
            if left < 0:
                break
            kept.append(block)
        return sorted(sum(kept, ()))

    def _size(self, conversation: Sequence[Entry], block: Block) -> int:
        return sum(self.count(conversation[position]) for position in block)


def processed(processors: Sequence[ContextProcessor], conversation: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of a conversation that are left after each processor, in order.

    Raises:
        DefinitionError: a processor failed, or returned something that is not entries.
    """
    for processor in processors:
        name = getattr(processor, "__name__", type(processor).__name__)
        try:
            given: Any = processor(conversation)
            conversation = paired(entries.validate_python(tuple(given)))
        except (ValidationError, TypeError) as error:
            wrong = "; ".join(faults(error)) if isinstance(error, ValidationError) else str(error)
            raise DefinitionError(
                f"context processor {name!r} returned something that is not entries: {wrong}"
            ) from error
        except Exception as error:
            raise DefinitionError(
                f"context processor {name!r} failed with {named_message_of(error)}"
            ) from error
    return tuple(conversation)


def paired(conversation: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the conversation without calls that no result follows and without results that lack a call."""
    kept: list[Entry | None] = []
    open_calls: dict[str, int] = {}
    for entry in conversation:
        if isinstance(entry, ANSWERS):
            position = open_calls.pop(entry.tool_call_id, None)
            kept.append(None if position is None else entry)
            continue
        if isinstance(entry, FunctionCall):
            # An id that is used again while its first call is open leaves that one without a result.
            if (before := open_calls.get(entry.tool_call_id)) is not None:
                kept[before] = None
            open_calls[entry.tool_call_id] = len(kept)
        kept.append(entry)
    for position in open_calls.values():
        kept[position] = None
    return tuple(entry for entry in kept if entry is not None)


def blocks_of(conversation: Sequence[Entry]) -> list[Block]:
    """Return the blocks of a conversation: messages, and replies with the results of their calls."""
    blocks: list[list[int]] = []
    calls: dict[str, list[int]] = {}
    reply: list[int] | None = None
    for position, entry in enumerate(conversation):
        if isinstance(entry, ANSWERS) and entry.tool_call_id in calls:
            calls.pop(entry.tool_call_id).append(position)
            reply = None
        elif isinstance(entry, (MessageInput, *ANSWERS)):
            blocks.append([position])
            reply = None
        else:
            if reply is None:
                blocks.append(reply := [])
            reply.append(position)
            if isinstance(entry, FunctionCall):
                calls[entry.tool_call_id] = reply
    return [tuple(block) for block in blocks]


def _leading_to(conversation: Sequence[Entry], blocks: Sequence[Block], first: int) -> Sequence[Block]:
    """Return the messages that led to a block: the last ones before it that stand together."""
    end = first
    while end and not _is_message(conversation, blocks[end - 1]):
        end -= 1
    start = end
    while start and _is_message(conversation, blocks[start - 1]):
        start -= 1
    return blocks[start:end]


def _is_message(conversation: Sequence[Entry], block: Block) -> bool:
    return isinstance(conversation[block[0]], MessageInput)
