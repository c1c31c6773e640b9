"""Translates between the JSON of the Conversations API and our entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.adapters.mistral.api_errors import readable
from outlast.core.entries import (
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    ToolConfirmation,
    entries,
)
from outlast.core.errors import ModelRefused
from outlast.core.json import encode, quickly_encoded, with_whole_characters
from outlast.core.replies import open_function_calls, own_call_ids, parsed_arguments
from outlast.core.usage import Usage

Wire = dict[str, Any]
Content = str | list[Wire]

_CHUNKS = frozenset({"text", "image_url", "document_url", "thinking", "tool_file"})
_SENT_BACK = frozenset(
    {"message.input", "message.output", "function.call", "function.result", "tool.execution", "agent.handoff"}
)
_MADE = frozenset({"object", "type", "created_at", "completed_at", "id"})
_FIELDS = {
    "message.input": _MADE | {"role", "content", "prefix"},
    "message.output": _MADE | {"agent_id", "model", "role", "content"},
    "function.call": _MADE
    | {"agent_id", "model", "tool_call_id", "name", "arguments", "confirmation_status"},
    "function.result": _MADE | {"tool_call_id", "result"},
    "tool.execution": _MADE | {"agent_id", "model", "name", "arguments", "info"},
    "agent.handoff": _MADE | {"previous_agent_id", "previous_agent_name", "next_agent_id", "next_agent_name"},
}
"""The fields that the API accepts, by the type of the entry. It refuses a request with any other field."""
_CHUNK_FIELDS = {
    "text": frozenset({"type", "text"}),
    "image_url": frozenset({"type", "image_url"}),
    "document_url": frozenset({"type", "document_url", "document_name"}),
    "tool_file": frozenset({"type", "tool", "file_id", "file_name", "file_type"}),
    "tool_reference": frozenset({"type", "tool", "title", "url", "favicon", "description"}),
    "thinking": frozenset({"type", "thinking", "signature", "closed"}),
    "reference": frozenset({"type", "reference_ids"}),
    "file": frozenset({"type", "file_id"}),
    "input_audio": frozenset({"type", "input_audio"}),
}
_NEEDED: dict[str, dict[str, Any]] = {
    "message.input": {"role": "user", "prefix": False},
    "message.output": {"content": "", "role": "assistant"},
    "function.call": {"arguments": "", "tool_call_id": ""},
    "tool.execution": {"arguments": ""},
}
"""The fields that an entry of ours must have, and the API requires, but that a server may leave out."""


def entries_of(outputs: Sequence[Any], names: Mapping[str, str]) -> tuple[Entry, ...]:
    """Return the outputs of a conversation as entries, without nulls; `names` maps agent ids to names.

    Entries and chunks of unknown types stay unchanged.

    Raises:
        MalformedReply: an output is not an entry.
    """
    with readable("an entry of the answer"):
        return entries.validate_python(tuple(_entry(output, names) for output in outputs))


def _entry(output: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(output, Mapping):
        return output
    entry = {name: value for name, value in output.items() if value is not None and name != "object"}
    kind = entry.get("type")
    if isinstance(kind, str):
        entry = {**_NEEDED.get(kind, {}), **entry}
    if isinstance(entry.get("arguments"), Mapping):
        entry["arguments"] = encode(dict(entry["arguments"])).decode()
    if kind == "agent.handoff":
        for end in ("previous", "next"):
            agent_id = entry.get(f"{end}_agent_id")
            known = names.get(agent_id) if isinstance(agent_id, str) else None
            entry[f"{end}_agent_name"] = known or entry.get(f"{end}_agent_name") or agent_id
    return entry


def inputs_of(new: Iterable[Entry]) -> list[Wire]:
    """Return entries as the inputs of a request.

    Entries of types that the API does not accept are left out. So are calls that wait for a confirmation: it
    can only be given in the conversation in which the call was made.
    """
    sent = []
    for entry in new:
        wire = entry.to_wire()
        if wire["type"] not in _SENT_BACK or (isinstance(entry, FunctionCall) and entry.awaits_confirmation):
            continue
        if isinstance(entry, MessageInput):
            wire["content"] = user_content(wire["content"], _CHUNKS)
        elif "content" in wire:
            wire["content"] = model_content(wire["content"], _CHUNKS | {"tool_reference"})
        elif isinstance(entry, FunctionCall):
            wire["arguments"] = repaired(entry.arguments)
        fields = _FIELDS[wire["type"]]
        known = {name: value for name, value in wire.items() if name in fields and value is not None}
        sent.append(plain({"object": "entry", **_NEEDED.get(wire["type"], {}), **known}))
    return sent


def confirmations_of(new: Iterable[Entry]) -> list[Wire]:
    """Return the confirmations of calls that the server runs, in the form of the API."""
    return [
        {"tool_call_id": entry.tool_call_id, "confirmation": entry.confirmation}
        for entry in new
        if isinstance(entry, ToolConfirmation)
    ]


def user_content(content: Content, accepted: frozenset[str]) -> Content:
    """Return the content of a user's message, after checking that the API accepts its chunks.

    Raises:
        ModelRefused: a chunk has another type. (It must not be left out silently.)
    """
    for chunk in content if isinstance(content, list) else ():
        if chunk.get("type") not in accepted:
            raise ModelRefused(
                422,
                f"messages cannot have chunks of type {chunk.get('type')!r}; "
                f"use {', '.join(sorted(accepted))}",
            )
    return [_known(chunk) for chunk in content] if isinstance(content, list) else content


FIELD = "field"
"""The key in a chunk with the field of the message from which the chunk was made."""


def model_content(content: Content, accepted: frozenset[str]) -> Content:
    """Return the content of a model's message, without the chunks that the API does not accept back."""
    if not isinstance(content, list):
        return content
    return [_known(chunk) for chunk in content if chunk.get("type") in accepted]


def _known(chunk: Wire) -> Wire:
    """Return a chunk with the fields that the API accepts."""
    fields = _CHUNK_FIELDS.get(str(chunk.get("type")))
    if fields is None:
        return chunk
    known = {name: value for name, value in chunk.items() if name in fields and value is not None}
    match known:
        case {"image_url": dict(image)}:
            known["image_url"] = {name: value for name, value in image.items() if name in ("url", "detail")}
        case {"thinking": list(thoughts)}:
            known["thinking"] = [_known(one) if isinstance(one, dict) else one for one in thoughts]
    return known


@dataclass(frozen=True, slots=True)
class Written:
    """A value in a body that is JSON already."""

    data: bytes


def plain(value: Any) -> Any:
    """Return JSON that UTF-8 can encode. Models can write half a surrogate pair; it becomes U+FFFD."""
    return with_whole_characters(value) if quickly_encoded(value) is None else value


def without_abandoned(new: Sequence[Entry], history: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return `new` without the results of calls that the server abandoned when it handed off.

    Such a call is in the last reply, before a handoff. The API refuses a result for it.
    """
    reply = last_reply(history)
    is_open = {call.tool_call_id for call in open_function_calls(reply)}
    abandoned = {entry.tool_call_id for entry in reply if isinstance(entry, FunctionCall)} - is_open
    return tuple(
        entry for entry in new if not (isinstance(entry, FunctionResult) and entry.tool_call_id in abandoned)
    )


def last_reply(history: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of the last reply, at the end of the history."""
    length = 0
    for entry in reversed(history):
        if isinstance(entry, (FunctionResult, MessageInput)):
            break
        length += 1
    return tuple(history[len(history) - length :])


def ends_with_unreadable_call(history: Sequence[Entry]) -> bool:
    """Return whether a call in the last reply has arguments that are not a JSON object.

    The API accepts nothing after such a call.
    """
    return any(
        isinstance(entry, FunctionCall) and parsed_arguments(entry.arguments) is None
        for entry in last_reply(history)
    )


def has_own_call_ids(reply: Sequence[Entry]) -> bool:
    """Return whether every call that waits for a result has a usable id that no other call has."""
    given = [call.tool_call_id for call in open_function_calls(tuple(reply))]
    return own_call_ids(given) == given


def repaired(arguments: str) -> str:
    """Return arguments that the API accepts back: text that is not a JSON object is put into one."""
    if parsed_arguments(arguments) is None:
        return encode({"arguments": arguments}).decode()
    return arguments if arguments.strip() else "{}"


def usage_of(wire: Any) -> Usage:
    """Return the usage that an answer reports. A missing total is the sum; other missing numbers are 0."""
    counts = wire if isinstance(wire, Mapping) else {}
    connectors = counts.get("connectors")
    uses = connectors if isinstance(connectors, Mapping) else {}
    prompt, completion = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    total = _count(counts.get("total_tokens"))
    details = counts.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total if total or "total_tokens" in counts else prompt + completion,
        connector_tokens=_count(counts.get("connector_tokens")),
        connectors={str(name): _count(number) for name, number in uses.items()},
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
    )


_COUNT_END = 2**53
"""From here on, JSON numbers are not exact, and no count of tokens is that high."""


def _count(value: Any) -> int:
    """Return the number that a server counts: a whole number, also as a float or as text; otherwise 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0
    return round(number) if 0 < number < _COUNT_END else 0
