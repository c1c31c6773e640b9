"""Mistral's built-in tools, as declared on an agent; they run on the server (OpenAPI: WebSearchTool, ...)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from durable_agents.core.model import WireValue


class BuiltInTool(WireValue):
    """A tool that the model's server runs by itself.

    `tool_configuration` may hold `include` or `exclude` (tool names) and `requires_confirmation`.
    """

    type: str
    tool_configuration: dict[str, Any] | None = None


class WebSearchTool(BuiltInTool):
    """Search the web."""

    type: Literal["web_search"] = "web_search"


class WebSearchPremiumTool(BuiltInTool):
    """Search the web and news agencies."""

    type: Literal["web_search_premium"] = "web_search_premium"


class CodeInterpreterTool(BuiltInTool):
    """Run Python in a sandbox on the server."""

    type: Literal["code_interpreter"] = "code_interpreter"


class ImageGenerationTool(BuiltInTool):
    """Make images; they come back as `ToolFileChunk`s."""

    type: Literal["image_generation"] = "image_generation"


class DocumentLibraryTool(BuiltInTool):
    """Search document libraries that were uploaded before."""

    type: Literal["document_library"] = "document_library"
    library_ids: tuple[str, ...] = Field(min_length=1)


BUILT_IN_TYPES = frozenset(
    {
        "web_search",
        "web_search_premium",
        "code_interpreter",
        "image_generation",
        "document_library",
        "connector",
    }
)
"""The types that a server runs; anything else in an agent's tools must run on our side."""
