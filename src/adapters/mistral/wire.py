"""Between the Conversations API's JSON and our entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from outlast.core.json import encode, whole_characters
from outlast.core.replies import has_own_id, open_function_calls, parsed_arguments
from outlast.core.usage import Usage

Wire = dict[str, Any]
Content = str | list[Wire]

_CHUNKS = frozenset({"text", "image_url", "document_url", "thinking", "tool_file"})
_SENT_BACK = frozenset(
    {"message.input", "message.output", "function.call", "function.result", "tool.execution", "agent.handoff"}
)
_NEEDED: dict[str, dict[str, Any]] = {
    "message.input": {"role": "user"},
    "message.output": {"content": ""},
    "function.call": {"arguments": "", "tool_call_id": ""},
    "tool.execution": {"arguments": ""},
}
"""What an entry must have to be one of ours, or to be sent back, and a server may leave out."""


def entries_of(outputs: Sequence[Any], names: Mapping[str, str]) -> tuple[Entry, ...]:
    """Return the outputs of a conversation as entries, without nulls; `names` leads from agent ids to names.

    Entries and chunks of unknown types are kept as they came.

    Raises:
        MalformedReply: an output that is no entry at all.
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

    Left out are those of types that the API does not take, and calls that wait for a confirmation, which no
    other conversation could give.
    """
    sent = []
    for entry in new:
        wire = entry.to_wire()
        if wire["type"] not in _SENT_BACK or (isinstance(entry, FunctionCall) and entry.awaits_confirmation):
            continue
        if isinstance(entry, MessageInput):
            wire["content"] = said_by_user(wire["content"], _CHUNKS)
        elif "content" in wire:
            wire["content"] = said_by_model(wire["content"], _CHUNKS | {"tool_reference"})
        elif isinstance(entry, FunctionCall):
            wire["arguments"] = repaired(entry.arguments)
        sent.append(plain({**_NEEDED.get(wire["type"], {}), **wire}))
    return sent


def confirmations_of(new: Iterable[Entry]) -> list[Wire]:
    """Return what is said of calls that the server runs, once it may, as it takes it."""
    return [
        {"tool_call_id": entry.tool_call_id, "confirmation": entry.confirmation}
        for entry in new
        if isinstance(entry, ToolConfirmation)
    ]


def said_by_user(content: Content, taken: frozenset[str]) -> Content:
    """Return content that the API takes.

    Raises:
        ModelRefused: a chunk of another type, which must not be left out in silence.
    """
    for chunk in content if isinstance(content, list) else ():
        if chunk.get("type") not in taken:
            raise ModelRefused(
                422,
                f"it takes no chunks of type {chunk.get('type')!r} in messages; "
                f"it takes {', '.join(sorted(taken))}",
            )
    return content


def said_by_model(content: Content, taken: frozenset[str]) -> Content:
    """Return content without the chunks that the API gives but does not take back."""
    return (
        [chunk for chunk in content if chunk.get("type") in taken] if isinstance(content, list) else content
    )


def plain(value: Any) -> Any:
    """Return a copy that UTF-8 can carry: half a surrogate pair, which models do write, becomes U+FFFD."""
    match value:
        case str():
            return whole_characters(value)
        case dict():
            return {plain(name): plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def without_abandoned(new: Sequence[Entry], history: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return `new` without results of calls that the server gave up when it handed off.

    Such a call stands in the last reply before a handoff; answering it is an error to the API.
    """
    reply = last_reply(history)
    is_open = {call.tool_call_id for call in open_function_calls(reply)}
    abandoned = {entry.tool_call_id for entry in reply if isinstance(entry, FunctionCall)} - is_open
    return tuple(
        entry for entry in new if not (isinstance(entry, FunctionResult) and entry.tool_call_id in abandoned)
    )


def last_reply(history: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return what the model said and called last, at the end of the history."""
    length = 0
    for entry in reversed(history):
        if isinstance(entry, (FunctionResult, MessageInput)):
            break
        length += 1
    return tuple(history[len(history) - length :])


def is_poisoned(history: Sequence[Entry]) -> bool:
    """Whether the last reply has a call with arguments that are no JSON: the API takes nothing after it."""
    return any(
        isinstance(entry, FunctionCall) and parsed_arguments(entry.arguments) is None
        for entry in last_reply(history)
    )


def has_own_call_ids(reply: Sequence[Entry]) -> bool:
    """Whether every call that waits for a result has an id that we can keep, and one of its own."""
    seen: set[str] = set()
    for call in open_function_calls(tuple(reply)):
        if not has_own_id(call, seen):
            return False
        seen.add(call.tool_call_id)
    return True


def repaired(arguments: str) -> str:
    """Return arguments that can be sent back: what the model wrote, within an object if it is none."""
    if parsed_arguments(arguments) is None:
        return encode({"arguments": arguments}).decode()
    return arguments if arguments.strip() else "{}"


def usage_of(wire: Any) -> Usage:
    """Return the usage that an answer reports; what it leaves out counts as nothing."""
    counts = wire if isinstance(wire, Mapping) else {}
    connectors = counts.get("connectors")
    uses = connectors if isinstance(connectors, Mapping) else {}
    return Usage(
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
        total_tokens=_count(counts.get("total_tokens")),
        connector_tokens=_count(counts.get("connector_tokens")),
        connectors={str(name): _count(number) for name, number in uses.items()},
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value is not True and value > 0 else 0
