"""Mistral's built-in tools, as declared on an agent; they run on the server (OpenAPI: WebSearchTool, ...)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from outlast.core.json import JSON
from outlast.core.values import WireValue


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


class ConnectorTool(BuiltInTool):
    """Tools of a connector that was registered with the server, by its name or id.

    `authorization` is `{"type": "api-key" or "oauth2-token", "value": "env:NAME"}`: the variable in which the
    worker finds the secret. The secret itself is refused, because it would be stored with the agent.
    """

    type: Literal["connector"] = "connector"
    connector_id: str
    authorization: dict[str, str] | None = None


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
"""The types of tools that a server runs; every other tool of an agent must run on our side."""

SECRET_REFERENCE = re.compile(r"env:(?P<variable>[A-Za-z_][A-Za-z0-9_]*)\Z")
"""The form in which a declared tool names the variable with a secret."""


def holds_a_secret(tool: Mapping[str, JSON]) -> bool:
    """Return whether a tool's wire form holds credentials that are not just a reference."""
    authorization = tool.get("authorization")
    if authorization is None:
        return False
    value = authorization.get("value") if isinstance(authorization, Mapping) else None
    return not (isinstance(value, str) and SECRET_REFERENCE.match(value))
