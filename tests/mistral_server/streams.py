"""A client's half of streaming: entries put together from events."""

from __future__ import annotations

from typing import Any

from tests.mistral_server.cloud import Json


def rebuilt(events: list[Any]) -> list[Json]:
    """Put entries together from events, by the rules that the API documents."""
    entries: dict[int, Json] = {}
    for event in events:
        data = event.model_dump(mode="json")
        if "output_index" not in data:
            continue
        kind = data["type"].rsplit(".", 1)[0]
        entry = entries.setdefault(data["output_index"], {"id": data["id"], "type": kind})
        if kind == "message.output":
            _add_content(entry.setdefault("content", []), data["content_index"], data["content"])
        for field in ("name", "tool_call_id", "info", "previous_agent_name", "next_agent_name"):
            if data.get(field) is not None:
                entry[field] = data[field]
        if "arguments" in data:
            entry["arguments"] = entry.get("arguments", "") + data["arguments"]
    return [entries[index] for index in sorted(entries)]


def _add_content(content: list[Any], index: int, piece: str | Json) -> None:
    if index == len(content):
        content.append(piece)
    else:
        content[index] += piece


def shown(entry: Json) -> Json:
    """Reduce an entry of the history to the fields that a stream shows."""
    fields = (
        "id",
        "type",
        "name",
        "tool_call_id",
        "info",
        "arguments",
        "previous_agent_name",
        "next_agent_name",
    )
    fields_shown = {field: entry[field] for field in fields if entry.get(field) is not None}
    if "content" in entry:
        content = entry["content"]
        chunks = [content] if isinstance(content, str) else content
        fields_shown["content"] = [_text_or_chunk(chunk) for chunk in chunks]
    return fields_shown


def _text_or_chunk(chunk: str | Json) -> str | Json:
    return chunk["text"] if isinstance(chunk, dict) and chunk["type"] == "text" else chunk
