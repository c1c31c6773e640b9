"""The public names of Mistral's plugin for agents, `mistralai.workflows.plugins.mistralai`."""

from outlast.compat.mistral_workflows.plugins.mistralai.agents import Agent, Runner
from outlast.compat.mistral_workflows.plugins.mistralai.mcp_servers import (
    MCPSSEConfig,
    MCPStdioConfig,
    MCPStreamableHTTPConfig,
)
from outlast.compat.mistral_workflows.plugins.mistralai.sessions import (
    LocalSession,
    RemoteSession,
    Session,
)
from outlast.compat.mistral_workflows.refusals import PLUGIN, refusing
from outlast.core.chunks import Chunk as ContentChunk
from outlast.core.chunks import TextChunk

__all__ = [
    "Agent",
    "ContentChunk",
    "LocalSession",
    "MCPSSEConfig",
    "MCPStdioConfig",
    "MCPStreamableHTTPConfig",
    "RemoteSession",
    "Runner",
    "Session",
    "TextChunk",
]

__getattr__ = refusing(__name__, PLUGIN)
