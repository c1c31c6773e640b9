"""MCP servers as places where tools come from: over stdio, SSE and streamable HTTP."""

from outlast.adapters.mcp.config import MCPSSEConfig, MCPStdioConfig, MCPStreamableHTTPConfig

__all__ = ["MCPSSEConfig", "MCPStdioConfig", "MCPStreamableHTTPConfig"]
