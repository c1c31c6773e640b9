"""Reads the whole list of a server's tools, however many pages it claims to have."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcp import Client
from mcp.types import Tool

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.sdk.tool_pages import ToolPage, size_of
from outlast.adapters.mcp.server import McpServer
from outlast.core.errors import ToolServerError

LEFT_OUT_MAX = 100
"""The number of tools that are named in the log as left out."""
CURSOR_CHARACTERS_MAX = 10_000


@dataclass
class ToolsRead:
    """The tools that a server has listed, and those that cannot be used."""

    tools: list[Tool] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Tools that cannot be read, by their names, with the reasons; at most `LEFT_OUT_MAX`."""
    excess: str | None = None
    """Why the rest of the list was not read, or some tools of it are not named."""
    _number: int = 0
    _size: int = 0

    def add(self, page: ToolPage) -> None:
        """Add the tools of a page, as far as there is room; set `excess` if there is none."""
        self._number += page.number
        for name, reason in page.left_out.items():
            if len(self.left_out) < LEFT_OUT_MAX:
                self.left_out[name] = reason
        for tool in page.tools:
            self._size += size_of(tool)
            if self._size > limits.LIST_BYTES_MAX or len(self.tools) == limits.TOOLS_MAX:
                break
            self.tools.append(tool)
        if self._number > limits.TOOLS_MAX:
            self.excess = f"it offers more than {limits.TOOLS_MAX} tools"
        elif self._size > limits.LIST_BYTES_MAX:
            self.excess = f"its list of tools has more than {limits.LIST_BYTES_MAX >> 20} MiB"


async def read_tools(client: Client, server: McpServer) -> ToolsRead:
    """Return the tools that `server` lists and the configuration offers.

    If there are too many, a server that is not required gives those at the beginning of its list.

    Raises:
        ToolServerError: the list does not end, or there are too many tools.
    """
    read = ToolsRead()
    cursor: str | None = None
    cursors: set[int] = set()
    for _ in range(limits.PAGES_MAX):
        page = ToolPage.of(await client.list_tools(cursor=cursor, cache_mode="bypass"))
        read.add(page)
        cursor = page.next_cursor
        if read.excess is not None:
            if server.required:
                raise ToolServerError(server.name, f"{read.excess}; name those that you need in include")
            return read
        if cursor is None:
            return read
        if hash(cursor) in cursors:
            problem = "its list of tools does not end: a page leads back to one that was read"
            raise ToolServerError(server.name, problem)
        if len(cursor) > CURSOR_CHARACTERS_MAX:
            raise ToolServerError(server.name, "the address of a page of its list of tools is too long")
        cursors.add(hash(cursor))
    problem = f"its list of tools does not end: after {limits.PAGES_MAX} pages there are more"
    raise ToolServerError(server.name, problem)
