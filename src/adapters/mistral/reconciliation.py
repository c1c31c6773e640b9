"""Whether a request was applied, read from the conversation's history.

Nobody offers an idempotency key: a start or append whose answer was lost may have been applied or not, and
sending it again would add a second turn. So the history is asked, from the last entry we know on.

One gap is left, since no append can be made conditional: where the history does not show the inputs of a
request that is still worked on, that request may end between this look and the repetition, and both count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable_agents.adapters.mistral.api_errors import BUSY_SECONDS
from durable_agents.core.errors import ModelOverloaded

Wire = dict[str, Any]

_NEVER_LAST = frozenset({"agent.handoff", "tool.execution"})
"""After these the server goes on by itself."""


def outputs_behind(history: Sequence[Wire], anchor: str | None, inputs: Sequence[Wire]) -> list[Wire] | None:
    """Return what the model answered to `inputs`, or None if they are not in the history after `anchor`.

    `anchor` is the id of the last entry known from before; None, or an id that the history does not have,
    stands for the beginning.

    Raises:
        ModelOverloaded: the inputs are there, but the server is still answering them.
    """
    begin = next((at + 1 for at, entry in enumerate(history) if anchor and entry.get("id") == anchor), 0)
    for at in range(len(history) - len(inputs), begin - 1, -1):
        behind = at + len(inputs)
        if all(map(_is_same, history[at:behind], inputs)):
            outputs = list(history[behind:])
            if not outputs or outputs[-1].get("type") in _NEVER_LAST:
                raise ModelOverloaded(409, "the request is still being answered", BUSY_SECONDS)
            return outputs
    return None


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
