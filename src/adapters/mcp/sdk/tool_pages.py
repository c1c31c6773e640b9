"""Makes, of a page of a server's list of tools, one that is safe to read.

One tool that breaks the protocol would make the SDK refuse the whole list, and a tool in a list costs time
before anybody asks for it. So each tool is taken apart here, before the SDK sees it: it keeps what we use,
and a tool that cannot be read costs only itself. The SDK also checks every result of a tool against its
output schema, in the event loop and with all its regular expressions. So it does not get that schema; we do,
in `_meta`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.types import ListToolsResult, Tool

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.server import McpServer

KEY = "outlast"
"""The key in `_meta` for what we add."""
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
NAME_CHARACTERS_SHOWN = 100

Page = dict[str, Any]


@dataclass(frozen=True)
class ToolPage:
    """A page as it came through the SDK."""

    tools: list[Tool]
    left_out: Mapping[str, str]
    """The tools that cannot be read, by their names, perhaps shortened, with the reasons."""
    number: int
    """The number of tools that the page had and that the configuration offers."""
    next_cursor: str | None

    @classmethod
    def of(cls, result: ListToolsResult) -> ToolPage:
        """Return the page of a result that `trimmed` has made."""
        ours: Mapping[str, Any] = (result.meta or {}).get(KEY, {})
        return cls(result.tools, ours.get("left_out", {}), ours.get("number", 0), result.next_cursor)


def trimmed(server: McpServer, page: Page) -> Page:
    """Return the page with those tools that `server` offers and that can be read."""
    tools: list[Page] = []
    left_out: dict[str, str] = {}
    number = 0
    for tool in page["tools"]:
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str) and not server.offers(name):
            continue
        number += 1
        if len(tools) > limits.TOOLS_MAX:
            continue  # The list is too long already.
        try:
            tools.append(_readable(tool))
        except ValueError as error:
            left_out[str(name)[:NAME_CHARACTERS_SHOWN]] = str(error)
    meta = page.get("_meta")
    ours = {"left_out": left_out, "number": number}
    return {**page, "tools": tools, "_meta": {**(meta if isinstance(meta, dict) else {}), KEY: ours}}


def output_schema_of(tool: Tool) -> dict[str, Any] | None:
    """Return the output schema of a tool in a page that `trimmed` has made."""
    schema: dict[str, Any] | None = (tool.meta or {}).get(KEY, {}).get("output_schema")
    return schema


def size_of(tool: Tool) -> int:
    """Return the number of bytes of a tool in a page that `trimmed` has made."""
    size: int = (tool.meta or {}).get(KEY, {}).get("size", 0)
    return size


def _readable(tool: Any) -> Page:
    """Return the tool with what we use; raise ValueError if it cannot be used."""
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise ValueError("it has no name")
    if len(tool["name"]) > limits.NAME_CHARACTERS_MAX:
        raise ValueError(f"its name has more than {limits.NAME_CHARACTERS_MAX} characters")
    schema = tool.get("inputSchema")
    if not _is_schema_of_object(schema):
        raise ValueError('its inputSchema is not valid MCP: it must be a schema with the type "object"')
    kept: Page = {"name": tool["name"], "inputSchema": schema}
    kept |= {key: tool[key] for key in ("title", "description") if isinstance(tool.get(key), str)}
    output = tool.get("outputSchema")
    size = len(json.dumps([kept, output]))
    if size > limits.TOOL_BYTES_MAX:
        raise ValueError(
            f"its description and its schemas have {size} bytes, and at most {limits.TOOL_BYTES_MAX} are read"
        )
    hints, execution = tool.get("annotations"), tool.get("execution")
    if isinstance(hints, dict):
        kept["annotations"] = {key: hints[key] for key in HINTS if isinstance(hints.get(key), bool)}
    if isinstance(execution, dict) and execution.get("taskSupport") == "required":
        kept["execution"] = {"taskSupport": "required"}
    ours = {"size": size, "output_schema": output if isinstance(output, dict) else None}
    return {**kept, "_meta": {KEY: ours}}


def _is_schema_of_object(schema: Any) -> bool:
    """Return whether the SDK takes this as the schema of arguments. It refuses a list for one that is not."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    return (
        isinstance(schema.get("$schema", ""), str)
        and isinstance(properties, dict)
        and all(isinstance(one, dict | bool) for one in properties.values())
        and isinstance(required, list)
        and all(isinstance(one, str) for one in required)
    )
