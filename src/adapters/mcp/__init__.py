"""MCP servers as tool sources, over stdio, SSE and streamable HTTP."""

from outlast.adapters.mcp.config import MCPSSEConfig, MCPStdioConfig, MCPStreamableHTTPConfig

__all__ = ["MCPSSEConfig", "MCPStdioConfig", "MCPStreamableHTTPConfig"]
