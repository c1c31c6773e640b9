"""Reconciliation: finding out from a conversation's history whether a request was applied. Without I/O.

The API has no idempotency key. When the answer to a start or an append is lost, the request may have been
applied or not, and sending it again could add a second turn. So the history on the server is read first, from
the anchor on: the last entry that we know. Servers differ: some show the inputs of a request at once, others
only together with its outputs. A conversation that is busy refuses every request with status 409. The history
after the anchor can have:

- nothing: the request was not applied, or the server is working on it but does not show it. It is safe to
  send the request again: while the first one runs, the server refuses the second one with status 409.
- the inputs and the outputs: the outputs are the reply, and nothing is sent.
- only the inputs: the server is still working on the reply; try again later.
- anything else: someone else has added to the conversation, and it is not used any more.

One gap is left, because an append cannot be conditional. A request that the history does not show may end
between the look at the history and the repeated request; then both are applied. So the history is read once
more after a repeated request. If both were applied, the first reply counts, and the conversation is not used
any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

Wire = dict[str, Any]

_NEVER_LAST = frozenset({"agent.handoff", "tool.execution"})
"""Outputs after which the server goes on by itself, so they never end a reply."""
_INPUTS = frozenset({"message.input", "function.result"})


class Finding(Enum):
    """The state of a request, as the history shows it."""

    NOTHING = auto()
    PENDING = auto()
    ANSWERED = auto()
    SOMETHING_ELSE = auto()


@dataclass(frozen=True, slots=True)
class Trace:
    """The part of the history that belongs to a request; `has_more` means that other requests follow it."""

    finding: Finding
    outputs: tuple[Wire, ...] = ()
    has_more: bool = False


def trace_of(history: Sequence[Wire], anchor: str | None, inputs: Sequence[Wire]) -> Trace:
    """Return the trace of a request with `inputs` that was sent when `anchor` was the last entry.

    `anchor` is the id of an entry; None means that the conversation was empty.
    """
    begin = _after(history, anchor)
    if begin is None:
        return Trace(Finding.SOMETHING_ELSE)
    seen = history[begin : begin + len(inputs)]
    if not history[begin:]:
        return Trace(Finding.NOTHING)
    if len(seen) < len(inputs) or not all(map(_is_same, seen, inputs)):
        return Trace(Finding.SOMETHING_ELSE)
    rest = history[begin + len(inputs) :]
    length = next((at for at, entry in enumerate(rest) if _type(entry) in _INPUTS), len(rest))
    outputs, has_more = tuple(rest[:length]), length < len(rest)
    if not outputs or _type(outputs[-1]) in _NEVER_LAST:
        return Trace(Finding.SOMETHING_ELSE if has_more else Finding.PENDING)
    return Trace(Finding.ANSWERED, outputs, has_more)


def _type(entry: Wire) -> str:
    return str(entry.get("type"))


def _after(history: Sequence[Wire], anchor: str | None) -> int | None:
    if anchor is None:
        return 0
    return next((at + 1 for at, entry in enumerate(history) if entry.get("id") == anchor), None)


def _is_same(seen: Wire, sent: Wire) -> bool:
    if seen.get("type") != sent["type"]:
        return False
    if "tool_call_id" in sent:
        return bool(seen.get("tool_call_id") == sent["tool_call_id"])
    if "content" in sent:
        return bool(_plain(seen.get("content")) == _plain(sent["content"]))
    return True


def _plain(content: Any) -> Any:
    """Return content in a normal form, for comparison: a single text chunk as a string, and without nulls."""
    if not isinstance(content, list):
        return content
    chunks = [
        {name: value for name, value in chunk.items() if value is not None}
        if isinstance(chunk, dict)
        else chunk
        for chunk in content
    ]
    if len(chunks) == 1 and isinstance(chunks[0], dict) and set(chunks[0]) == {"type", "text"}:
        return chunks[0]["text"]
    return chunks
