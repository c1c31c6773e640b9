"""LLM agents that survive crashes: agents, tools and handoffs in durable workflows.

Every public name is in one table, with the module that it lives in. A name is loaded when it is first used,
so that importing the package costs next to nothing and loads no SDK. Type checkers cannot follow a table;
they read `__init__.pyi`, which a test compares with it.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "ActivityError": "core.errors",
    "ActivityFailed": "core.errors",
    "ActivityTimedOut": "core.errors",
    "Agent": "runtime.definitions.agent",
    "AgentHandoff": "core.entries",
    "AgentTool": "runtime.definitions.agent",
    "AgentWorkflow": "composition.agent_workflow",
    "AlreadyDecided": "core.errors",
    "AskPerson": "runtime.definitions.ask_person",
    "Backend": "ports.durability.backend",
    "BudgetExceeded": "core.errors",
    "CallRejected": "core.errors",
    "CannotRerun": "core.errors",
    "ChildFailed": "core.errors",
    "ChildrenFailed": "core.errors",
    "CodeInterpreterTool": "core.built_in_tools",
    "ConfigurationError": "core.errors",
    "ConnectorTool": "core.built_in_tools",
    "DeadlineExceeded": "core.errors",
    "DefinitionError": "core.errors",
    "Depends": "runtime.definitions.depends",
    "DeterminismError": "core.errors",
    "DocumentLibraryTool": "core.built_in_tools",
    "DocumentURLChunk": "core.chunks",
    "DurabilityError": "core.errors",
    "Event": "core.event_stream",
    "EventKind": "core.events",
    "Execution": "ports.durability.execution",
    "ExecutionAlreadyEnded": "core.errors",
    "ExecutionAlreadyExists": "core.errors",
    "ExecutionCancelled": "core.errors",
    "ExecutionDescription": "ports.durability.execution",
    "ExecutionFailed": "core.errors",
    "ExecutionNotFound": "core.errors",
    "ExecutionPage": "ports.durability.backend",
    "ExecutionTerminated": "core.errors",
    "Failure": "core.failure",
    "ForeignError": "core.errors",
    "FunctionCall": "core.entries",
    "FunctionResult": "core.entries",
    "Handoff": "runtime.definitions.agent",
    "ImageGenerationTool": "core.built_in_tools",
    "ImageURLChunk": "core.chunks",
    "InputRejected": "core.errors",
    "InvalidArguments": "core.errors",
    "InvalidOutput": "core.errors",
    "KeepLastTurns": "core.context_processors",
    "LimitExceeded": "core.errors",
    "LocalSession": "adapters.mistral",
    "MCPSSEConfig": "adapters.mcp",
    "MCPStdioConfig": "adapters.mcp",
    "MCPStreamableHTTPConfig": "adapters.mcp",
    "MaxTurnsExceeded": "core.errors",
    "MessageInput": "core.entries",
    "MessageOutput": "core.entries",
    "MissingCredentials": "core.errors",
    "MissingExtra": "core.errors",
    "ModelError": "core.errors",
    "NonDeterminismError": "core.errors",
    "NoRunAtWork": "core.errors",
    "NotInWorkflow": "core.errors",
    "NotPending": "core.errors",
    "NotSupported": "core.errors",
    "OutcomeUnknown": "core.errors",
    "OutlastError": "core.errors",
    "OutlastPlugin": "composition.temporal",
    "OutputRejected": "core.errors",
    "PayloadTooLarge": "core.errors",
    "PendingApproval": "core.approvals",
    "Price": "core.prices",
    "QuestionNotPending": "core.errors",
    "Reject": "runtime.definitions.guardrails",
    "RemoteSession": "adapters.mistral",
    "Replace": "runtime.definitions.guardrails",
    "RunContext": "runtime.definitions.run_context",
    "RunError": "core.errors",
    "RunInterrupted": "core.errors",
    "RunResult": "runtime.runs.run_result",
    "Runner": "composition.running",
    "ScriptedSession": "adapters.scripted.session",
    "StorageError": "core.errors",
    "StreamedRun": "runtime.runs.streamed_run",
    "SummariseHistory": "core.summaries",
    "SystemClock": "runtime.attempts.system_clock",
    "TextChunk": "core.chunks",
    "ThinkingChunk": "core.chunks",
    "TokenBudget": "core.context_processors",
    "ToolError": "core.errors",
    "ToolExecution": "core.entries",
    "ToolFailed": "core.errors",
    "ToolFileChunk": "core.chunks",
    "ToolIndex": "runtime.definitions.tool_index",
    "ToolReferenceChunk": "core.chunks",
    "ToolServerError": "core.errors",
    "ToolServerUnavailable": "core.errors",
    "ToolSpec": "core.agents",
    "UnknownBackend": "core.errors",
    "UnknownChunk": "core.chunks",
    "UnknownDefinition": "core.errors",
    "UnknownEntry": "core.entries",
    "UnknownPrice": "core.errors",
    "UnknownTool": "core.errors",
    "Unserialisable": "core.errors",
    "UpdateAbandoned": "core.errors",
    "UpdateFailed": "core.errors",
    "UpdateRejected": "core.errors",
    "Usage": "core.usage",
    "WebSearchPremiumTool": "core.built_in_tools",
    "WebSearchTool": "core.built_in_tools",
    "Where": "ports.finding",
    "WouldRepeat": "core.errors",
    "activity": "runtime.definitions.activity",
    "as_one_message": "core.input_filters",
    "connect": "composition.backends",
    "events": "core.events",
    "execute_workflow": "composition.running",
    "instrument": "composition.tracing",
    "journaled_backend": "composition.backends",
    "run_worker": "composition.running",
    "without_tool_calls": "core.input_filters",
    "workflow": "runtime.definitions.workflow",
}

_WHOLE_MODULES = frozenset({"events", "workflow"})
"""The names that are modules; every other name is an object in its module."""

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("outlast")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    value = module if name in _WHOLE_MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
