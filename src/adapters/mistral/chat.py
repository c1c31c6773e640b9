"""Translates between our entries and the messages of chat completions, without I/O.

The server keeps nothing, so every request carries the whole conversation, in the only order that it accepts:

- first the instructions of the active agent;
- the text and the calls of one reply in one assistant message;
- directly after it, one result for each call, in call order;
- no user message between the results and the next reply. A message that came while tools were running is
  moved before the chain of replies that called tools, one after another. So the results stay the last thing
  that the model sees.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from outlast.adapters.mistral.api_errors import error_in, readable
from outlast.adapters.mistral.definitions import completion_args, function_tools, handoff_tools
from outlast.adapters.mistral.streams import REASONING, text_in
from outlast.adapters.mistral.wire import FIELD, model_content, plain, repaired, usage_of, user_content
from outlast.core.agents import AgentGraph
from outlast.core.chunks import to_wire
from outlast.core.entries import (
    Entry,
    FunctionResult,
    MessageInput,
    MessageOutput,
    entries,
)
from outlast.core.errors import MalformedReply, ModelOverloaded
from outlast.core.json import encode
from outlast.core.replies import open_function_calls
from outlast.ports.llm import Cut, ModelReply

Wire = dict[str, Any]

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
_CUT: dict[str, Cut] = {
    **dict.fromkeys(("length", "model_length", "max_tokens", "max_output_tokens"), "length"),
    **dict.fromkeys(("content_filter", "safety", "recitation", "prohibited_content"), "content_filter"),
}
"""The reason why a reply was cut, by its `finish_reason`."""
_WHY_CUT: dict[Cut, str] = {
    "length": "it was cut at the token limit",
    "content_filter": "it was cut by the content filter of the server",
}
_STOPPED = frozenset({"error", "abort", "aborted", "cancelled", "insufficient_system_resource"})
"""Values of `finish_reason` of a reply that the server did not finish."""


def call_id_of(tool_call_id: str) -> str:
    """Return a call id that the API accepts: nine letters and digits, the same ones for the same id."""
    if _CALL_ID.fullmatch(tool_call_id):
        return tool_call_id
    digest = sha256(tool_call_id.encode("utf-8", "surrogatepass")).digest()
    return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in digest[:9])


def request_of(
    graph: AgentGraph, active: str, conversation: Sequence[Entry], *, has_reasoning_fields: bool = True
) -> Wire:
    """Return the body of a completion request for the active agent, without `stream`.

    `has_reasoning_fields` is False for a server that refuses messages with fields for reasoning.
    """
    agent = graph[active]
    system = [{"role": "system", "content": agent.instructions}] if agent.instructions else []
    tools = function_tools([*agent.tools, *handoff_tools(graph, active)])
    body: Wire = {
        "model": agent.model,
        "messages": [*system, *messages_of(conversation, has_reasoning_fields)],
    }
    body |= completion_args(agent)
    return {
        name: plain(value)
        for name, value in (body | ({"tools": tools} if tools else {})).items()
        if value is not None
    }


def messages_of(conversation: Iterable[Entry], has_reasoning_fields: bool = True) -> list[Wire]:
    """Return the conversation as messages, in an order that the API accepts.

    A call without a result is left out (a server abandons calls at a handoff), and so is a result without a
    call. Built-in tools and handoffs of a server become no messages: the text of the reply covers them.

    Reasoning that came in a field of its own goes back in that field, together with the calls of its reply:
    servers that need it need it there, and others ignore it.
    """
    messages: list[Wire] = []
    chain_start = 0
    for reply in _replies(conversation):
        made = reply.messages(has_reasoning_fields)
        if made and not _is_result(messages):
            chain_start = len(messages)
        messages += made
        for message in reply.followed_by:
            if _is_result(messages):
                messages.insert(chain_start, message)
                chain_start += 1
            else:
                messages.append(message)
    return messages


def _is_result(messages: Sequence[Wire]) -> bool:
    return bool(messages) and messages[-1]["role"] == "tool"


class _Reply:
    """One reply of the model, with the results of its calls and the messages that came after it."""

    def __init__(self) -> None:
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
        message: Wire = {"role": "assistant", "content": content, "prefix": False}
        if not calls:
            return [message] if content else []
        message |= reasoning
        message["tool_calls"] = [
            {
                "id": call_id_of(call.tool_call_id),
                "type": "function",
                "index": index,
                "function": {"name": call.name, "arguments": repaired(call.arguments)},
            }
            for index, call in enumerate(calls)
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


def _replies(conversation: Iterable[Entry]) -> list[_Reply]:
    """Return the replies in order. The first is empty: the first messages of the conversation follow it."""
    replies = [_Reply()]
    for entry in conversation:
        reply = replies[-1]
        if isinstance(entry, FunctionResult):
            reply.results.setdefault(entry.tool_call_id, entry.result)
        elif isinstance(entry, MessageInput):
            message: Wire = {"role": entry.role, "content": user_content(to_wire(entry.content), _CHUNKS)}
            if entry.role == "assistant":
                message["prefix"] = (entry.model_extra or {}).get("prefix") is True
            reply.followed_by.append(message)
        else:
            if reply.results or reply.followed_by:
                replies.append(reply := _Reply())
            reply.outputs.append(entry)
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


def reply_of(completion: Any) -> ModelReply:
    """Return the first choice of a completion as a reply, with warnings if it was cut or is a refusal.

    Raises:
        MalformedReply: the message is missing, does not match the API, or was cut inside its tool calls.
        ModelRefused, ModelOverloaded: the completion reports an error.
        ModelOverloaded: the server stopped while it was generating.
    """
    entries = entries_of(completion)
    choice = completion["choices"][0]
    cut = _cut_of(choice.get("finish_reason"))
    warnings = [] if cut is None else [f"{_WHY_CUT[cut]} (finish_reason {choice['finish_reason']!r})"]
    if _refusal_in(choice["message"]):
        warnings.append("the model refused to answer")
    return ModelReply(
        entries=entries, usage=usage_of(completion.get("usage")), cut=cut, warnings=tuple(warnings)
    )


def entries_of(completion: Any) -> tuple[Entry, ...]:
    """Return the first choice of a completion as entries: its reasoning and text, then its calls.

    Raises what `reply_of` raises.
    """
    with readable("the answer"):
        if (error := error_in(completion, "choices")) is not None:
            raise error
        choices = completion.get("choices")
        if not choices:
            raise MalformedReply("it has no choices")
        if (error := error_in(choices[0])) is not None:
            raise error
        message, finish_reason = choices[0]["message"], choices[0].get("finish_reason")
        calls = message.get("tool_calls") or []
        if _plain_reason(finish_reason) in _STOPPED:
            raise ModelOverloaded(500, "the server stopped while it was generating")
        cut = _cut_of(finish_reason)
        if cut is not None and calls:
            advice = "; raise max_tokens" if cut == "length" else ""
            raise MalformedReply(f"{_WHY_CUT[cut]} inside its tool calls{advice}")
        content = _content_of(message)
        texts = [{"type": "message.output", "content": content}] if content or not calls else []
        return entries.validate_python((*texts, *(_call(call) for call in calls)))


def _cut_of(finish_reason: Any) -> Cut | None:
    """Return why a reply ends early; None if it is whole."""
    return _CUT.get(_plain_reason(finish_reason))


def _plain_reason(finish_reason: Any) -> str:
    return finish_reason.lower() if isinstance(finish_reason, str) else ""


def _content_of(message: Wire) -> Any:
    """Return the content of a message, with a refusal as text, and reasoning in its own field as thinking."""
    content: Any = message.get("content") or ""
    refusal = _refusal_in(message)
    if refusal:
        content = refusal if not content else [*_chunks_of(content), {"type": "text", "text": refusal}]
    for field in REASONING:
        reasoning = message.get(field)
        if reasoning and isinstance(reasoning, str):
            thoughts = [{"type": "text", "text": reasoning}]
            thinking = {"type": "thinking", "thinking": thoughts, FIELD: field}
            return [thinking, *_chunks_of(content)]
    return content


def _refusal_in(message: Wire) -> str:
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _chunks_of(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _call(call: Any) -> Wire:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    identifier = call.get("id")
    return {
        "type": "function.call",
        # Mistral's SDK writes "null" for a missing id. The core makes an id for both cases.
        "tool_call_id": identifier if identifier and identifier != "null" else "",
        "name": function.get("name"),
        "arguments": encode(arguments).decode() if isinstance(arguments, dict) else arguments or "",
    }
