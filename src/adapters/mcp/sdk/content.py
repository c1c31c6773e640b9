"""Turns the answer of a server to a call into content for a model."""

from __future__ import annotations

from typing import assert_never

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from outlast.adapters.mcp.secrets import Redaction
from outlast.core.chunks import Chunk, DocumentURLChunk, ImageURLChunk, TextChunk, UnknownChunk
from outlast.core.json import DEPTH_MAX, check_json
from outlast.ports.tools import ToolOutput


def output_of(result: CallToolResult, redaction: Redaction) -> ToolOutput:
    """Return `result` as the output of a tool, with secrets replaced.

    If `result` has numbers that JSON cannot write, or is nested too deeply, the output is an error.
    """
    try:
        check_json(result.structured_content, depth_max=DEPTH_MAX)
    except ValueError as error:
        return error_output(
            f"the structured content of the tool's answer cannot be stored: {error}", redaction
        )
    content = tuple(_chunk(block) for block in result.content)
    texts = [chunk.text if isinstance(chunk, TextChunk) else None for chunk in content]
    output = ToolOutput(
        content=texts[0] if len(texts) == 1 and texts[0] is not None else content or "",
        structured=result.structured_content,
        is_error=result.is_error,
    )
    if not redaction.hides_anything:
        return output
    return ToolOutput.model_validate(redaction.value(output.model_dump(mode="json")))


def error_output(message: str, redaction: Redaction) -> ToolOutput:
    """Return the output of a call that the server refused, or to which its answer was not a valid result."""
    return ToolOutput(content=redaction.text(message), is_error=True)


def _chunk(block: ContentBlock) -> Chunk:
    match block:
        case TextContent(text=text):
            return TextChunk(text=text)
        case ImageContent(data=data, mime_type=mime_type):
            return ImageURLChunk(image_url=f"data:{mime_type};base64,{data}")
        case AudioContent(data=data):
            return UnknownChunk.model_validate({"type": "input_audio", "input_audio": data})
        case ResourceLink(uri=uri, title=title, name=name):
            return DocumentURLChunk(document_url=str(uri), document_name=title or name)
        case EmbeddedResource(resource=resource):
            return _resource(resource)
        case _:
            assert_never(block)


def _resource(resource: TextResourceContents | BlobResourceContents) -> Chunk:
    if isinstance(resource, TextResourceContents):
        return TextChunk(text=resource.text)
    kind = resource.mime_type or "application/octet-stream"
    url = f"data:{kind};base64,{resource.blob}"
    if kind.startswith("image/"):
        return ImageURLChunk(image_url=url)
    return DocumentURLChunk(document_url=url, document_name=str(resource.uri))
