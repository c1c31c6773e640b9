"""The conversation of a chat completion as messages.

The server keeps nothing, so every request carries the whole conversation, in the only order that it accepts:

- first the instructions of the active agent;
- the text and the calls of one reply in one assistant message;
- directly after it, one result for each call, in call order;
- no user message between the results and the next reply. A message that came while tools were running is
  moved before the chain of replies that called tools, one after another. So the results stay the last thing
  that the model sees.

What says no more than its absence is left out (`prefix: false`, the `index` of a call): Mistral's own SDK
sends it, and servers of others that check their requests refuse names that they do not know.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, Generic, TypeVar

from outlast.adapters.mistral.streams import REASONING, text_in
from outlast.adapters.mistral.wire import FIELD, model_content, repaired, user_content
from outlast.core.chunks import to_wire
from outlast.core.entries import Entry, FunctionResult, MessageInput, MessageOutput
from outlast.core.replies import open_function_calls

Wire = dict[str, Any]
T = TypeVar("T")

_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
_ALPHANUMERICS = string.ascii_letters + string.digits
_CHUNKS = frozenset(
    {
        "text",
        "image_url",
        "document_url",
        "reference",
        "file",
        "thinking",
        "input_audio",
        "resource",
        "resource_link",
    }
)


def call_id_of(tool_call_id: str) -> str:
    """Return a call id that the API accepts: nine letters and digits, the same ones for the same id."""
    if _CALL_ID.fullmatch(tool_call_id):
        return tool_call_id
    digest = sha256(tool_call_id.encode("utf-8", "surrogatepass")).digest()
    return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in digest[:9])


def messages_of(conversation: Iterable[Entry], has_reasoning_fields: bool = True) -> list[Wire]:
    """Return the conversation as messages, in an order that the API accepts.

    A call without a result is left out (a server abandons calls at a handoff), and so is a result without a
    call. Built-in tools and handoffs of a server become no messages: the text of the reply covers them.

    Reasoning that came in a field of its own goes back in that field, together with the calls of its reply:
    servers that need it need it there, and others ignore it.
    """
    ordered = OrderedMessages[Wire](lambda message: message)
    for reply in replies_in(conversation):
        ordered.add(reply, has_reasoning_fields)
    return ordered.messages


class OrderedMessages(Generic[T]):
    """Messages in the order that the API accepts, each as `write` makes it."""

    def __init__(self, write: Callable[[Wire], T]) -> None:
        self.messages: list[T] = []
        self._write = write
        self._chain_start = 0
        self._ends_with_result = False

    def add(self, reply: Reply, has_reasoning_fields: bool) -> None:
        """Add a reply, with its results and what followed it."""
        made = reply.messages(has_reasoning_fields)
        if made:
            if not self._ends_with_result:
                self._chain_start = len(self.messages)
            self.messages += map(self._write, made)
            self._ends_with_result = made[-1]["role"] == "tool"
        for message in map(self._write, reply.followed_by):
            if self._ends_with_result:
                self.messages.insert(self._chain_start, message)
                self._chain_start += 1
            else:
                self.messages.append(message)

    def with_(self, reply: Reply, has_reasoning_fields: bool) -> list[T]:
        """Return the messages with one more reply; these stay as they are."""
        more = OrderedMessages(self._write)
        more.messages = list(self.messages)
        more._chain_start, more._ends_with_result = self._chain_start, self._ends_with_result
        more.add(reply, has_reasoning_fields)
        return more.messages


class Reply:
    """One reply of the model, with the results of its calls and the messages that came after it."""

    def __init__(self) -> None:
        self.length = 0
        """The number of entries that it is made of."""
        self.outputs: list[Entry] = []
        self.results: dict[str, str] = {}
        self.followed_by: list[Wire] = []

    def messages(self, has_reasoning_fields: bool) -> list[Wire]:
        """Return the reply and the results as messages; none for a reply without text and calls."""
        calls = [
            call for call in open_function_calls(tuple(self.outputs)) if call.tool_call_id in self.results
        ]
        contents = [output.content for output in self.outputs if isinstance(output, MessageOutput)]
        wires = [to_wire(one) for one in contents]
        reasoning: dict[str, str] = {}
        if has_reasoning_fields:
            wires, reasoning = _without_reasoning(wires)
        content = _joined([model_content(wire, _CHUNKS) for wire in wires])
        message: Wire = {"role": "assistant", "content": content}
        if not calls:
            return [message] if content else []
        message |= reasoning
        message["tool_calls"] = [
            {
                "id": call_id_of(call.tool_call_id),
                "type": "function",
                "function": {"name": call.name, "arguments": repaired(call.arguments)},
            }
            for call in calls
        ]
        results = [
            {
                "role": "tool",
                "tool_call_id": call_id_of(call.tool_call_id),
                "name": call.name,
                "content": self.results[call.tool_call_id],
            }
            for call in calls
        ]
        return [message, *results]


def replies_in(conversation: Iterable[Entry]) -> list[Reply]:
    """Return the replies in order. The first is empty: the first messages of the conversation follow it."""
    replies = [Reply()]
    for entry in conversation:
        reply = replies[-1]
        if isinstance(entry, FunctionResult):
            reply.results.setdefault(entry.tool_call_id, entry.result)
        elif isinstance(entry, MessageInput):
            message: Wire = {"role": entry.role, "content": user_content(to_wire(entry.content), _CHUNKS)}
            if entry.role == "assistant" and (entry.model_extra or {}).get("prefix") is True:
                message["prefix"] = True
            reply.followed_by.append(message)
        else:
            if reply.results or reply.followed_by:
                replies.append(reply := Reply())
            reply.outputs.append(entry)
        reply.length += 1
    return replies


def _without_reasoning(contents: Sequence[str | list[Wire]]) -> tuple[list[str | list[Wire]], dict[str, str]]:
    """Return the contents without reasoning that came in fields of its own, and the text of each field."""
    kept: list[str | list[Wire]] = []
    fields: dict[str, str] = {}
    for content in contents:
        if isinstance(content, str):
            kept.append(content)
            continue
        for chunk in content:
            if chunk.get(FIELD) in REASONING:
                fields[chunk[FIELD]] = fields.get(chunk[FIELD], "") + text_in(chunk.get("thinking"))
        rest = [chunk for chunk in content if chunk.get(FIELD) not in REASONING]
        is_text = all(set(chunk) == {"type", "text"} for chunk in rest)
        kept.append("".join(map(text_in, rest)) if is_text else rest)
    return kept, fields


def _joined(contents: Sequence[str | list[Wire]]) -> str | list[Wire]:
    """Return the contents of several messages of one reply as the content of one message."""
    if all(isinstance(content, str) for content in contents):
        return "\n".join(content for content in contents if isinstance(content, str) and content)
    chunks: list[Wire] = []
    for content in contents:
        chunks += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [chunk for chunk in chunks if chunk.get("type") != "text" or chunk.get("text")]
