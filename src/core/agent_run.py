"""The state of one run of an agent, as a value."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.limits import DEFAULT_MAX_TURNS, Limits, OnLimit, RunAllowance
from outlast.core.usage import Usage
from outlast.core.values import Value


class Phase(StrEnum):
    """The phase of a run."""

    READY = "ready"
    AWAITING_MODEL = "awaiting_model"
    AWAITING_TOOLS = "awaiting_tools"
    CHECKING_ANSWER = "checking_answer"
    AT_LIMIT = "at_limit"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CallState(StrEnum):
    """The state of one tool call of the current turn."""

    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class ToolCall(Value):
    """One call of the current turn; `handoff` names the agent it leads to, if it is a handoff."""

    call_id: str
    tool: str
    arguments: dict[str, JSON] = Field(default_factory=dict)
    handoff: str | None = None
    by_server: bool = False
    """True if the server runs the call, and only asks whether it may."""
    state: CallState = CallState.RUNNING
    result: str | None = None


class KeptAtLimit(Value):
    """The entries that wait at a limit, while a person may raise it."""

    entries: tuple[Entry, ...]
    """The model is sent these if the run goes on."""
    unsent: tuple[Entry, ...]
    """The next run of the conversation sends these if it does not."""


class AgentRun(Value):
    """The state of one run. It grows only with the current turn: the driver keeps the conversation."""

    graph: AgentGraph
    max_turns: int = Field(default=DEFAULT_MAX_TURNS, ge=1)
    limits: Limits = Limits()
    allowance: RunAllowance = RunAllowance()
    """The bounds that the runs around this one leave it, as of the last event."""
    on_limit: OnLimit = "raise"
    checked: dict[str, int] = Field(default_factory=dict)
    """The agents whose answers are checked, each with the number of times that it may answer again."""
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
    """The time of the last event; it never goes back."""
    tool_calls: int = 0
    """The number of tool calls that the model asked for, including those above the limit."""
    kept_at_limit: KeptAtLimit | None = None
    """The entries that wait, in the phase in which a person is asked to raise a limit."""
    limit: Failure | None = None
    """The limit that is reached, once the last call of the model has been made because of it."""
    answer: tuple[Entry, ...] | None = None
    """The answer that is being checked, or that stands if the model may not be asked again."""
    rejections: int = 0
    """The number of answers of the active agent that were rejected."""

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls without a result, in call order."""
        return tuple(call for call in self.calls if call.state is not CallState.DONE)
