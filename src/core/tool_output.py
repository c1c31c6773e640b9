"""The output of a tool of a source: as text for a model, and as a value for a reader of the event stream."""

from __future__ import annotations

from typing import cast

from outlast.core.agents import ToolSpec
from outlast.core.chunks import Content, TextChunk, as_chunks, text_of, to_wire
from outlast.core.failure import Failure
from outlast.core.json import JSON, encode
from outlast.core.values import Value

CHARACTERS_SHOWN_MAX = 1000


class ToolOutput(Value):
    """The output of a tool call: `content` is sent to the model, as an error when `is_error`."""

    content: Content
    structured: JSON = None
    is_error: bool = False
    changed: ToolSpec | None = None
    """The tool as it is now, where that is not how the caller knows it."""

    @property
    def failure(self) -> Failure | None:
        """The error that the tool reported, if it reported one."""
        return Failure(kind="ToolError", message=self.text) if self.is_error else None

    @property
    def value(self) -> JSON:
        """The result as a program reads it: the structure if there is one, else the content."""
        if self.structured is not None:
            return self.structured
        return text_of(self.content) if self._is_text else cast(JSON, to_wire(self.content))

    @property
    def text(self) -> str:
        """The result as a model reads it: the content, as text or as JSON.

        The structure mostly says the same as the content, so it is sent only where there is no content.
        """
        if not self.content:
            return "" if self.structured is None else as_text(self.structured)
        return text_of(self.content) if self._is_text else as_text(_brief(cast(JSON, to_wire(self.content))))

    @property
    def _is_text(self) -> bool:
        return all(isinstance(chunk, TextChunk) for chunk in as_chunks(self.content))


def as_text(value: JSON) -> str:
    """Return a tool's result as a model reads it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def _brief(value: JSON) -> JSON:
    """Return `value` without the bytes of images and documents, which are of no use to a model as text."""
    match value:
        case list():
            return [_brief(item) for item in value]
        case dict():
            return {name: item if name == "text" else _brief(item) for name, item in value.items()}
        case str() if len(value) > CHARACTERS_SHOWN_MAX:
            return f"{value[:40]}… ({len(value)} characters, not shown)"
    return value
