"""LLM agents that survive crashes: agents, tools and handoffs in durable workflows.

Every public name is here, and is loaded from where it lives when it is first used, so that importing the
package costs next to nothing and loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_agents.adapters.mcp import MCPSSEConfig, MCPStdioConfig, MCPStreamableHTTPConfig
    from durable_agents.adapters.mistral import LocalSession, RemoteSession
    from durable_agents.adapters.scripted import ScriptedSession
    from durable_agents.composition.agent_workflow import AgentWorkflow
    from durable_agents.composition.backends import connect
    from durable_agents.composition.running import Runner, execute_workflow, run_worker
    from durable_agents.composition.temporal import DurableAgentsPlugin
    from durable_agents.core.approvals import PendingApproval
    from durable_agents.core.built_in_tools import (
        CodeInterpreterTool,
        ConnectorTool,
        DocumentLibraryTool,
        ImageGenerationTool,
        WebSearchPremiumTool,
        WebSearchTool,
    )
    from durable_agents.core.chunks import (
        DocumentURLChunk,
        ImageURLChunk,
        TextChunk,
        ThinkingChunk,
        ToolFileChunk,
        ToolReferenceChunk,
        UnknownChunk,
    )
    from durable_agents.core.context import KeepLastTurns, TokenBudget
    from durable_agents.core.entries import (
        AgentHandoff,
        FunctionCall,
        FunctionResult,
        MessageInput,
        MessageOutput,
        ToolExecution,
        UnknownEntry,
    )
    from durable_agents.core.errors import (
        ActivityError,
        ActivityFailed,
        ActivityTimedOut,
        BudgetExceeded,
        ConfigurationError,
        DefinitionError,
        DeterminismError,
        DurabilityError,
        DurableAgentsError,
        ExecutionAlreadyExists,
        ExecutionCancelled,
        ExecutionClosed,
        ExecutionFailed,
        ExecutionNotFound,
        InputRejected,
        InvalidArguments,
        InvalidOutput,
        LimitExceeded,
        MaxTurnsExceeded,
        MissingCredentials,
        MissingExtra,
        ModelError,
        NonDeterminismError,
        NotInWorkflow,
        NotPending,
        NotSupported,
        OutcomeUnknown,
        OutputRejected,
        PayloadTooLarge,
        RunError,
        StorageError,
        ToolError,
        ToolFailed,
        ToolServerError,
        ToolServerUnavailable,
        UnknownBackend,
        UnknownDefinition,
        UnknownTool,
        Unserialisable,
        UpdateAbandoned,
        UpdateFailed,
        UpdateRejected,
    )
    from durable_agents.core.summaries import SummariseHistory
    from durable_agents.core.usage import Usage
    from durable_agents.ports.durability import Backend, Event, Execution, ExecutionDescription
    from durable_agents.runtime import workflow
    from durable_agents.runtime.activity import activity
    from durable_agents.runtime.agent import Agent
    from durable_agents.runtime.guardrails import Reject, Replace
    from durable_agents.runtime.results import RunResult
    from durable_agents.runtime.streamed import StreamedRun

__all__ = [
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "Agent",
    "AgentHandoff",
    "AgentWorkflow",
    "Backend",
    "BudgetExceeded",
    "CodeInterpreterTool",
    "ConfigurationError",
    "ConnectorTool",
    "DefinitionError",
    "DeterminismError",
    "DocumentLibraryTool",
    "DocumentURLChunk",
    "DurabilityError",
    "DurableAgentsError",
    "DurableAgentsPlugin",
    "Event",
    "Execution",
    "ExecutionAlreadyExists",
    "ExecutionCancelled",
    "ExecutionClosed",
    "ExecutionDescription",
    "ExecutionFailed",
    "ExecutionNotFound",
    "FunctionCall",
    "FunctionResult",
    "ImageGenerationTool",
    "ImageURLChunk",
    "InputRejected",
    "InvalidArguments",
    "InvalidOutput",
    "KeepLastTurns",
    "LimitExceeded",
    "LocalSession",
    "MCPSSEConfig",
    "MCPStdioConfig",
    "MCPStreamableHTTPConfig",
    "MaxTurnsExceeded",
    "MessageInput",
    "MessageOutput",
    "MissingCredentials",
    "MissingExtra",
    "ModelError",
    "NonDeterminismError",
    "NotInWorkflow",
    "NotPending",
    "NotSupported",
    "OutcomeUnknown",
    "OutputRejected",
    "PayloadTooLarge",
    "PendingApproval",
    "Reject",
    "RemoteSession",
    "Replace",
    "RunError",
    "RunResult",
    "Runner",
    "ScriptedSession",
    "StorageError",
    "StreamedRun",
    "SummariseHistory",
    "TextChunk",
    "ThinkingChunk",
    "TokenBudget",
    "ToolError",
    "ToolExecution",
    "ToolFailed",
    "ToolFileChunk",
    "ToolReferenceChunk",
    "ToolServerError",
    "ToolServerUnavailable",
    "UnknownBackend",
    "UnknownChunk",
    "UnknownDefinition",
    "UnknownEntry",
    "UnknownTool",
    "Unserialisable",
    "UpdateAbandoned",
    "UpdateFailed",
    "UpdateRejected",
    "Usage",
    "WebSearchPremiumTool",
    "WebSearchTool",
    "activity",
    "connect",
    "execute_workflow",
    "run_worker",
    "workflow",
]

_HOMES = (
    "core.errors",
    "core.usage",
    "core.chunks",
    "core.entries",
    "core.built_in_tools",
    "core.approvals",
    "core.context",
    "core.summaries",
    "ports.durability",
    "runtime.activity",
    "runtime.agent",
    "runtime.guardrails",
    "runtime.results",
    "runtime.streamed",
    "adapters.scripted",
    "adapters.mcp",
    "adapters.mistral",
    "composition.backends",
    "composition.running",
    "composition.agent_workflow",
    "composition.temporal",
)
"""The modules where the public names live, the light ones first."""


def __getattr__(name: str) -> Any:
    value: Any
    if name == "workflow":
        value = import_module(f"{__name__}.runtime.workflow")
    elif name in __all__:
        homes = (import_module(f"{__name__}.{home}") for home in _HOMES)
        value = next(getattr(home, name) for home in homes if hasattr(home, name))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
