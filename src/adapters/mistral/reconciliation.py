"""Whether a request was applied, read from the conversation's history: pure.

Nobody offers an idempotency key: a start or append whose answer was lost may have been applied or not, and
sending it again would add a second turn. So the history is asked, from the last entry we know on. It shows
the inputs of a request at once or only together with the outputs, and a busy conversation refuses everything
with a 409; both are answers. What can be found behind the anchor:

- nothing: the request was not applied, or is still being worked on unseen. Sending it again is then
  safe: it is refused with a 409 as long as the first one runs.
- its inputs, and what the model answered: that is the reply, and nothing is sent.
- its inputs alone: the server is still answering; come back later.
- anything else: the conversation has gone a way of its own, and is left to itself.

One gap cannot be closed beforehand, since no append can be made conditional: a request that runs unseen may
end between the look and the repetition, and then both count. So after a repetition the history is read once
more; the reply that was made first is the one that counts, and the conversation is left to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

Wire = dict[str, Any]

_NEVER_LAST = frozenset({"agent.handoff", "tool.execution"})
"""After these the server goes on by itself."""
_INPUTS = frozenset({"message.input", "function.result"})


class Sight(Enum):
    """What the history shows of a request."""

    NOTHING = auto()
    PENDING = auto()
    ANSWERED = auto()
    SOMETHING_ELSE = auto()


@dataclass(frozen=True, slots=True)
class Trace:
    """What is behind the anchor; `has_more` tells that other requests follow the one looked for."""

    sight: Sight
    outputs: tuple[Wire, ...] = ()
    has_more: bool = False


def trace_of(history: Sequence[Wire], anchor: str | None, inputs: Sequence[Wire]) -> Trace:
    """Return what the history shows of a request with `inputs`, made when `anchor` was the last entry.

    `anchor` is an entry's id; None stands for an empty conversation.
    """
    begin = _behind(history, anchor)
    if begin is None:
        return Trace(Sight.SOMETHING_ELSE)
    seen = history[begin : begin + len(inputs)]
    if not history[begin:]:
        return Trace(Sight.NOTHING)
    if len(seen) < len(inputs) or not all(map(_is_same, seen, inputs)):
        return Trace(Sight.SOMETHING_ELSE)
    rest = history[begin + len(inputs) :]
    length = next((at for at, entry in enumerate(rest) if _type(entry) in _INPUTS), len(rest))
    outputs, has_more = tuple(rest[:length]), length < len(rest)
    if not outputs or _type(outputs[-1]) in _NEVER_LAST:
        return Trace(Sight.SOMETHING_ELSE if has_more else Sight.PENDING)
    return Trace(Sight.ANSWERED, outputs, has_more)


def _type(entry: Wire) -> str:
    return str(entry.get("type"))


def _behind(history: Sequence[Wire], anchor: str | None) -> int | None:
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
    """Return content in the one form that two spellings of it share: one text chunk is a string, no nulls."""
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
