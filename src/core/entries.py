"""Entries: the items of a conversation, in the wire format of Mistral's Conversations API.

A conversation of any session is a sequence of these; a session that speaks another protocol translates at
its own door. Types this library does not know are kept as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Tag, TypeAdapter, field_validator

from outlast.core.chunks import Chunk, Content, chunks, text_of
from outlast.core.json import JSON, encode
from outlast.core.values import WireValue


class MessageInput(WireValue):
    """A message given to the model."""

    type: Literal["message.input"] = "message.input"
    role: Literal["user", "assistant"] = "user"
    content: Content
    always_written: ClassVar[frozenset[str]] = frozenset({"type", "role"})


class MessageOutput(WireValue):
    """A message that the model wrote."""

    type: Literal["message.output"] = "message.output"
    content: Content


class FunctionCall(WireValue):
    """The model asks for a tool that runs on our side; `arguments` is the text it wrote, JSON or not.

    Arguments that come as an object, which the API's description allows, are put into text.
    """

    type: Literal["function.call"] = "function.call"
    tool_call_id: str
    name: str
    arguments: str

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return encode(dict(value)).decode() if isinstance(value, Mapping) else value

    @property
    def awaits_confirmation(self) -> bool:
        """True if the server will run it by itself, once a person allows it."""
        return (self.model_extra or {}).get("confirmation_status") == "pending"


class FunctionResult(WireValue):
    """The answer to one `FunctionCall`."""

    type: Literal["function.result"] = "function.result"
    tool_call_id: str
    result: str


class ToolConfirmation(WireValue):
    """The permission for a `FunctionCall` that the server runs. The API does not have this entry."""

    type: Literal["tool.confirmation"] = "tool.confirmation"
    tool_call_id: str
    confirmation: Literal["allow", "deny"]


class ToolExecution(WireValue):
    """A built-in tool that the server ran."""

    type: Literal["tool.execution"] = "tool.execution"
    name: str
    arguments: str = ""
    info: dict[str, JSON] | None = None
    always_written: ClassVar[frozenset[str]] = frozenset({"type", "arguments"})


class AgentHandoff(WireValue):
    """The server went over from one agent to another."""

    type: Literal["agent.handoff"] = "agent.handoff"
    previous_agent_name: str
    next_agent_name: str


class UnknownEntry(WireValue):
    """An entry of a type this library does not know, kept as it came."""

    type: str


_KNOWN = {
    "message.input",
    "message.output",
    "function.call",
    "function.result",
    "tool.confirmation",
    "tool.execution",
    "agent.handoff",
}


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _KNOWN else "unknown"


Entry = Annotated[
    Annotated[MessageInput, Tag("message.input")]
    | Annotated[MessageOutput, Tag("message.output")]
    | Annotated[FunctionCall, Tag("function.call")]
    | Annotated[FunctionResult, Tag("function.result")]
    | Annotated[ToolConfirmation, Tag("tool.confirmation")]
    | Annotated[ToolExecution, Tag("tool.execution")]
    | Annotated[AgentHandoff, Tag("agent.handoff")]
    | Annotated[UnknownEntry, Tag("unknown")],
    Discriminator(_tag),
]
"""One item of a conversation."""

entries: TypeAdapter[tuple[Entry, ...]] = TypeAdapter(tuple[Entry, ...])


def to_wire(items: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return the entries as JSON objects, in order."""
    return [item.to_wire() for item in items]


def last_text(conversation: Sequence[Entry]) -> str:
    """Return the text of the last message of the user; "" if there is none."""
    for entry in reversed(conversation):
        if isinstance(entry, MessageInput) and entry.role == "user":
            return text_of(entry.content)
    return ""


def last_results(conversation: Sequence[Entry]) -> dict[str, str]:
    """Return the results of calls since the last reply, by call id, in order."""
    results: dict[str, str] = {}
    for entry in reversed(conversation):
        if isinstance(entry, FunctionResult):
            results[entry.tool_call_id] = entry.result
        elif not isinstance(entry, MessageInput):
            break
    return dict(reversed(results.items()))


def replies_in(conversation: Sequence[Entry]) -> int:
    """Return the number of replies of a model: what it wrote without an input between."""
    written = [not isinstance(entry, (MessageInput, FunctionResult)) for entry in conversation]
    return sum(one and not before for before, one in zip([False, *written], written, strict=False))


def messages(inputs: str | Sequence[Entry | Chunk | Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Return what a caller gave as inputs, as entries.

    A text is one user message. A sequence holds entries, or chunks that together make one user message;
    mappings are read as either, by their `type` (and as messages when they have a `role`).

    Raises:
        ValueError: when nothing is there to say, or an item is neither an entry nor a chunk.
    """
    if isinstance(inputs, str):
        if not inputs.strip():
            raise ValueError("the input is empty; give the agent something to do")
        return (MessageInput(content=inputs),)
    found: list[Entry] = []
    pieces: list[Any] = []

    def flush() -> None:
        if pieces:
            found.append(MessageInput(content=chunks.validate_python(tuple(pieces))))
            pieces.clear()

    for item in inputs:
        match item:
            case Mapping():
                wire = {"type": "message.input", **item} if "role" in item else dict(item)
            case WireValue():
                wire = item.to_wire()
            case _:
                what = type(item).__name__
                raise ValueError(f"an input is of type {what}; give entries, chunks or their JSON objects")
        if isinstance(item, UnknownEntry) or wire.get("type") in _KNOWN:
            flush()
            found.append(_entry.validate_python(wire))
        else:
            pieces.append(wire)
    flush()
    if not found:
        raise ValueError("the input is empty; give the agent something to do")
    return tuple(found)


_entry: TypeAdapter[Entry] = TypeAdapter(Entry)
