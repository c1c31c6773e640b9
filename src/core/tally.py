"""A running count of one execution: turns, tokens, open approvals, and when its steps were asked for.

The workflow machine keeps it, a constant piece of work for each record. So a worker can say after each append
what the execution waits for, and nobody has to read the journal for it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from outlast.core.events import EventKind
from outlast.core.records import (
    EventEmitted,
    Request,
    StepCompleted,
    StepKind,
    StepScheduled,
)
from outlast.core.usage import Usage

_SETTLED = frozenset({EventKind.APPROVAL_GIVEN, EventKind.APPROVAL_DENIED, EventKind.RESULT_UNSENT})


@dataclass(frozen=True, slots=True)
class OpenApproval:
    """A tool call that waits for a decision; `since` is workflow time."""

    agent: str
    tool: str
    call_id: str
    since: float


@dataclass(slots=True)
class Tally:
    """The count, as far as the records go that were taken."""

    turns: int = 0
    """The replies of models that the code has got; summaries do not count."""
    usage: Usage = field(default_factory=Usage)
    """The tokens of these replies, and of summaries."""
    forked_from: str | None = None
    """The execution whose journal this one begins with, if it is a fork."""
    asked_at: dict[str, float] = field(default_factory=dict)
    """The workflow times at which the open steps were asked for, by key."""
    approvals: dict[tuple[str, str], OpenApproval] = field(default_factory=dict)
    """The approvals that are open, by run and call id, the first asked first."""

    def ask(self, request: Request, now: float) -> None:
        """Count what the code asks for."""
        match request:
            case StepScheduled(key=key):
                self.asked_at[key] = now
            case EventEmitted(kind=kind, data=data):
                call = str(data.get("run")), str(data.get("call_id"))
                if kind == EventKind.APPROVAL_REQUESTED:
                    agent, tool = str(data.get("agent")), str(data.get("tool"))
                    self.approvals[call] = OpenApproval(agent, tool, call[1], now)
                elif kind in _SETTLED:
                    self.approvals.pop(call, None)
            case _:
                pass  # Timers, answers to updates and the end are not counted.

    def complete(self, step: StepScheduled, completed: StepCompleted) -> None:
        """Count the result of a step."""
        if step.kind not in (StepKind.MODEL, StepKind.SUMMARY):
            return
        self.turns += step.kind is StepKind.MODEL
        result = completed.result
        usage = result.get("usage") if isinstance(result, dict) else None
        with suppress(ValidationError):  # A reply with counts that are none is still a turn.
            self.usage += Usage.model_validate(usage or {})
