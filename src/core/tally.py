"""A running count of one execution: turns, tokens, open approvals, and when its steps were asked for.

The workflow machine keeps it, a constant piece of work for each record. So a worker can say after each append
what the execution waits for, and nobody has to read the journal for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.core.events import EventKind
from outlast.core.records import (
    EventEmitted,
    Request,
    StepCompleted,
    StepKind,
    StepScheduled,
)
from outlast.core.usage import Usage, usage_in

_ANSWERED = frozenset({EventKind.QUESTION_ANSWERED, EventKind.QUESTION_WITHDRAWN})
_SETTLED = frozenset({EventKind.APPROVAL_GIVEN, EventKind.APPROVAL_DENIED, EventKind.RESULT_UNSENT})


@dataclass(frozen=True, slots=True)
class OpenApproval:
    """A tool call that waits for a decision; `since` is workflow time."""

    agent: str
    tool: str
    call_id: str
    since: float


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that waits for an answer; `since` is workflow time."""

    question: str
    since: float


@dataclass(slots=True)
class Tally:
    """The count, as far as the records go that were taken."""

    turns: int = 0
    """The replies of models that the code has got; summaries do not count."""
    usage: Usage = field(default_factory=Usage)
    """The tokens of these replies, and of summaries."""
    agent: str | None = None
    """The agent whose turn began last."""
    forked_from: str | None = None
    """The execution whose journal this one begins with, if it is a fork."""
    parent: str | None = None
    """The execution that this one is a child of."""
    asked_at: dict[str, float] = field(default_factory=dict)
    """The workflow times at which the open steps were asked for, by key."""
    approvals: dict[tuple[str, str], OpenApproval] = field(default_factory=dict)
    """The approvals that are open, by run and call id, the first asked first."""

    questions: dict[str, OpenQuestion] = field(default_factory=dict)
    """The questions that are open, by key, the first asked first."""

    def ask(self, request: Request, now: float) -> None:
        """Count what the code asks for."""
        match request:
            case StepScheduled(key=key, kind=kind, about=about):
                self.asked_at[key] = now
                if kind is StepKind.MODEL and isinstance(agent := about.get("agent"), str):
                    self.agent = agent
            case EventEmitted(kind=kind, data=data):
                call = str(data.get("run")), str(data.get("call_id"))
                if kind == EventKind.APPROVAL_REQUESTED:
                    agent, tool = str(data.get("agent")), str(data.get("tool"))
                    self.approvals[call] = OpenApproval(agent, tool, call[1], now)
                elif kind in _SETTLED:
                    self.approvals.pop(call, None)
                elif kind == EventKind.QUESTION_ASKED:
                    self.questions[str(data.get("key"))] = OpenQuestion(str(data.get("question")), now)
                elif kind in _ANSWERED:
                    self.questions.pop(str(data.get("key")), None)
            case _:
                pass  # Timers, answers to updates and the end are not counted.

    def complete(self, step: StepScheduled, completed: StepCompleted) -> None:
        """Count the result of a step."""
        if step.kind not in (StepKind.MODEL, StepKind.SUMMARY):
            return
        self.turns += step.kind is StepKind.MODEL
        self.usage += usage_in(completed.result, step.model)
