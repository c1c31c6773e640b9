"""The content of a reply as OpenTelemetry's conventions for generative AI write it: a message of parts.

Source: GenAI semantic conventions, the JSON schema of `gen_ai.output.messages`. Parts that it does not name
keep the form that they have in the journal, which the schema allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from outlast.core.json import JSON
from outlast.core.replies import parsed_arguments

_PARTS = frozenset({"text", "reasoning", "tool_call", "server_tool_call"})
"""The types of parts whose fields the schema names. An entry of such a type is something else."""


def output_messages(reply: Mapping[str, JSON]) -> list[JSON]:
    """Return what a journaled reply says, as the one message that it is. Nothing in it is validated."""
    entries = reply.get("entries")
    parts: list[JSON] = []
    calls = False
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            parts += _parts_of(entry)
            calls = calls or entry.get("type") == "function.call"
    cut = reply.get("cut")
    finish = cut if isinstance(cut, str) else "tool_call" if calls else "stop"
    return [{"role": "assistant", "parts": parts, "finish_reason": finish}]


def _parts_of(entry: dict[str, Any]) -> Iterator[JSON]:
    match entry:
        case {"type": "message.output", "content": str(text)}:
            yield {"type": "text", "content": text}
        case {"type": "message.output", "content": list(chunks)}:
            yield from (_part_of(chunk) for chunk in chunks if isinstance(chunk, dict))
        case {"type": "function.call", "name": str(name)}:
            arguments = _read(entry.get("arguments"))
            yield {
                "type": "tool_call",
                "id": entry.get("tool_call_id"),
                "name": name,
                "arguments": arguments,
            }
        case {"type": "tool.execution", "name": str(name)}:
            call = {"type": name, "arguments": _read(entry.get("arguments")), "info": entry.get("info")}
            yield {"type": "server_tool_call", "name": name, "server_tool_call": call}
        case {"type": str(kind)} if kind not in _PARTS:
            yield entry
        case _:
            pass


def _part_of(chunk: dict[str, Any]) -> JSON:
    match chunk:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "content": text}
        case {"type": "thinking", "thinking": list(thoughts)}:
            texts = [str(one.get("text", "")) for one in thoughts if isinstance(one, dict)]
            return {"type": "reasoning", "content": "".join(texts)}
    kind = chunk.get("type")
    is_known = isinstance(kind, str) and kind not in _PARTS
    return chunk if is_known else {**chunk, "type": "unknown"}


def _read(arguments: JSON) -> JSON:
    """Return arguments as an object; the text that the model wrote if they are not one."""
    parsed = parsed_arguments(arguments) if isinstance(arguments, str) else None
    return arguments if parsed is None else parsed
