"""The state of one run of an agent, as a value."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.limits import Limits, OnLimit
from outlast.core.usage import Usage
from outlast.core.values import Value


class Phase(StrEnum):
    """Where a run stands."""

    READY = "ready"
    AWAITING_MODEL = "awaiting_model"
    AWAITING_TOOLS = "awaiting_tools"
    CHECKING_ANSWER = "checking_answer"
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
    by_server: bool = False
    """Whether the server runs it, and only asks whether it may."""
    state: CallState = CallState.RUNNING
    result: str | None = None


class AgentRun(Value):
    """The state of one run. Its size is that of the current turn: the transcript is the driver's."""

    graph: AgentGraph
    max_turns: int = Field(default=10, ge=1)
    limits: Limits = Limits()
    on_limit: OnLimit = "raise"
    checked: dict[str, int] = Field(default_factory=dict)
    """The agents whose answers are checked, each with how often it may answer again."""
    raise_on_tool_fail: bool = False
    phase: Phase = Phase.READY
    agent: str = Field(default_factory=lambda given: given["graph"].start)
    """The active agent: that of the graph's start until a handoff."""
    turn: int = 0
    calls: tuple[ToolCall, ...] = ()
    added: tuple[Entry, ...] = ()
    usage: Usage = Usage()
    started_at: float = 0.0
    now: float = 0.0
    """When the last event happened; time does not go back."""
    tool_calls: int = 0
    """How many calls of tools were asked for, those above the limit included."""
    limit: Failure | None = None
    """The limit that is reached, once the last call of the model has been made because of it."""
    answer: tuple[Entry, ...] = ()
    """The answer that is being checked."""
    rejections: int = 0
    """How many answers of the active agent were rejected."""

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls without a result, in call order."""
        return tuple(call for call in self.calls if call.state is not CallState.DONE)
