"""The table of the agent machine: which events a phase accepts, and where each of them leads.

An event alone does not decide the next phase: after `ToolReturned` the run waits for other calls, or asks the
model, or has reached a limit. So the machine first works out the *outcome* of the event, which is one of a
few, and the table has one next phase for each outcome that an event can have. No other code names a phase to
enter: `agent_machine.step` looks it up here, and a test walks every row. A row that is missing is an event
that the machine refuses; a row that no event can reach would be a promise that nobody keeps.

The diagrams in `docs/explanation/agent-machine.md` and in the inspector are drawn from this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from outlast.core.agent_events import (
    AgentEvent,
    AnswerAccepted,
    AnswerBlocked,
    AnswerRejected,
    ApprovalDenied,
    ApprovalGiven,
    LimitAnswered,
    ModelFailed,
    ModelReplied,
    RunCancelled,
    RunStarted,
    SpentWithin,
    ToolCallFailed,
    ToolReturned,
    UserMessageAdded,
)
from outlast.core.agent_run import Phase


class Outcome(StrEnum):
    """The outcome of an event, as far as the next phase depends on it."""

    MODEL_ASKED = "model asked"
    CALLS_OPEN = "calls open"
    ANSWER_TO_CHECK = "answer to check"
    ANSWERED = "answered"
    LIMIT_REACHED = "limit reached"
    PERSON_ASKED = "person asked"
    FAILED = "failed"
    STOPPED = "stopped"
    MESSAGE_KEPT = "message kept"
    COUNTED = "counted"


_ASKED = {
    Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
    Outcome.PERSON_ASKED: Phase.AT_LIMIT,
    Outcome.LIMIT_REACHED: Phase.FAILED,
}
"""The run asks the model, if it may."""
_SETTLED = {Outcome.CALLS_OPEN: Phase.AWAITING_TOOLS, **_ASKED}
"""A call of the turn has moved on: the run waits for it or for others, or asks the model, if it may."""

TRANSITIONS: dict[Phase, dict[type[AgentEvent], dict[Outcome, Phase]]] = {
    Phase.READY: {
        RunStarted: _ASKED,
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.AWAITING_MODEL: {
        ModelReplied: {
            **_SETTLED,
            Outcome.ANSWER_TO_CHECK: Phase.CHECKING_ANSWER,
            Outcome.ANSWERED: Phase.FINISHED,
            Outcome.FAILED: Phase.FAILED,
        },
        ModelFailed: {Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.AWAITING_MODEL},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.AWAITING_TOOLS: {
        ToolReturned: _SETTLED,
        ToolCallFailed: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        SpentWithin: {Outcome.COUNTED: Phase.AWAITING_TOOLS},
        LimitAnswered: {Outcome.COUNTED: Phase.AWAITING_TOOLS},
        ApprovalGiven: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        ApprovalDenied: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.AWAITING_TOOLS},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.CHECKING_ANSWER: {
        AnswerAccepted: {
            Outcome.ANSWERED: Phase.FINISHED,
            Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
            Outcome.PERSON_ASKED: Phase.AT_LIMIT,
        },
        AnswerRejected: {**_ASKED, Outcome.FAILED: Phase.FAILED},
        AnswerBlocked: {Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.CHECKING_ANSWER},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.AT_LIMIT: {
        LimitAnswered: {**_ASKED, Outcome.ANSWERED: Phase.FINISHED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.AT_LIMIT},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.FINISHED: {},
    Phase.FAILED: {},
    Phase.CANCELLED: {},
}
"""For each phase the events that it accepts, and for each of their outcomes the next phase."""


class Transition(NamedTuple):
    """One arrow of the table."""

    before: Phase
    event: str
    """The name of the event's class."""
    outcome: Outcome
    after: Phase


def transitions() -> Iterator[Transition]:
    """Yield every arrow of the table, in its order."""
    for before, accepted in TRANSITIONS.items():
        for event, outcomes in accepted.items():
            for outcome, after in outcomes.items():
                yield Transition(before, event.__name__, outcome, after)
