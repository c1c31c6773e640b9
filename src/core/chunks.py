"""Content chunks, in Mistral's wire format (OpenAPI: TextChunk, ImageURLChunk, DocumentURLChunk, ...)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, TypeAdapter

from outlast.core.json import JSON
from outlast.core.values import WireValue


class TextChunk(WireValue):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class ImageURLChunk(WireValue):
    """An image by its URL (`https:` or `data:`), alone or with a `detail`."""

    type: Literal["image_url"] = "image_url"
    image_url: str | dict[str, JSON]


class DocumentURLChunk(WireValue):
    """A document by its URL."""

    type: Literal["document_url"] = "document_url"
    document_url: str
    document_name: str | None = None


class ToolFileChunk(WireValue):
    """A file that a built-in tool made on the server."""

    type: Literal["tool_file"] = "tool_file"
    tool: str
    file_id: str
    file_name: str | None = None
    file_type: str | None = None


class ToolReferenceChunk(WireValue):
    """A source that a built-in tool found."""

    type: Literal["tool_reference"] = "tool_reference"
    tool: str
    title: str
    url: str | None = None
    favicon: str | None = None
    description: str | None = None


class ThinkingChunk(WireValue):
    """The model's reasoning, as chunks of its own."""

    type: Literal["thinking"] = "thinking"
    thinking: tuple[dict[str, JSON], ...]
    signature: str | None = None
    closed: bool = True


class UnknownChunk(WireValue):
    """A chunk of a type this library does not know, kept as it came."""

    type: str


_KNOWN: dict[str, type[WireValue]] = {
    "text": TextChunk,
    "image_url": ImageURLChunk,
    "document_url": DocumentURLChunk,
    "tool_file": ToolFileChunk,
    "tool_reference": ToolReferenceChunk,
    "thinking": ThinkingChunk,
}


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _KNOWN else "unknown"


Chunk = Annotated[
    Annotated[TextChunk, Tag("text")]
    | Annotated[ImageURLChunk, Tag("image_url")]
    | Annotated[DocumentURLChunk, Tag("document_url")]
    | Annotated[ToolFileChunk, Tag("tool_file")]
    | Annotated[ToolReferenceChunk, Tag("tool_reference")]
    | Annotated[ThinkingChunk, Tag("thinking")]
    | Annotated[UnknownChunk, Tag("unknown")],
    Discriminator(_tag),
]
"""One piece of a message's content."""

Content = str | tuple[Chunk, ...]
"""The content of a message: plain text, or chunks in order."""

chunks: TypeAdapter[tuple[Chunk, ...]] = TypeAdapter(tuple[Chunk, ...])


def as_chunks(content: Content) -> tuple[Chunk, ...]:
    """Return `content` as chunks; empty text gives no chunk."""
    if isinstance(content, str):
        return (TextChunk(text=content),) if content else ()
    return content


def text_of(content: Content | Sequence[Chunk]) -> str:
    """Return the text of `content`: its text chunks, joined."""
    if isinstance(content, str):
        return content
    return "".join(chunk.text for chunk in content if isinstance(chunk, TextChunk))


def to_wire(content: Content) -> str | list[dict[str, Any]]:
    """Return `content` as it stands on the wire."""
    return content if isinstance(content, str) else [chunk.to_wire() for chunk in content]
