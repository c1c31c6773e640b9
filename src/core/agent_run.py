"""The state of one run of an agent, as a value."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from durable_agents.core.agents import AgentGraph
from durable_agents.core.entries import Entry
from durable_agents.core.json import JSON
from durable_agents.core.model import Value
from durable_agents.core.usage import Usage


class Phase(StrEnum):
    """Where a run stands."""

    READY = "ready"
    AWAITING_MODEL = "awaiting_model"
    AWAITING_TOOLS = "awaiting_tools"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CallState(StrEnum):
    """Where one tool call of the current turn stands."""

    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    DONE = "done"


class ToolCall(Value):
    """One call of the current turn; `handoff` names the agent it leads to, if it is a handoff."""

    call_id: str
    tool: str
    arguments: dict[str, JSON] = Field(default_factory=dict)
    handoff: str | None = None
    state: CallState = CallState.RUNNING
    result: str | None = None


class AgentRun(Value):
    """The state of one run. Its size is that of the current turn: the transcript is the driver's."""

    graph: AgentGraph
    max_turns: int = Field(default=10, ge=1)
    raise_on_tool_fail: bool = False
    phase: Phase = Phase.READY
    agent: str = Field(default_factory=lambda given: given["graph"].start)
    """The active agent: that of the graph's start until a handoff."""
    turn: int = 0
    calls: tuple[ToolCall, ...] = ()
    added: tuple[Entry, ...] = ()
    usage: Usage = Usage()

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls without a result, in call order."""
        return tuple(call for call in self.calls if call.state is not CallState.DONE)
