"""The table of the agent machine: which events a phase accepts, and where each of them leads.

An event alone does not decide the next phase: after `ToolReturned` the run waits for other calls, or asks the
model, or has reached a limit. So the machine first works out the *outcome* of the event, which is one of a
few, and the table has one next phase for each outcome that an event can have. No other code names a phase to
enter: `agent_machine.step` looks it up here, and a test walks every row. A row that is missing is an event
that the machine refuses; a row that no event can reach would be a promise that nobody keeps.

The diagram in `docs/agent-machine.md` is drawn from this table.
"""

from __future__ import annotations

from enum import StrEnum

from outlast.core.agent_events import (
    AgentEvent,
    AnswerAccepted,
    AnswerBlocked,
    AnswerRejected,
    ApprovalDenied,
    ApprovalGiven,
    ModelFailed,
    ModelReplied,
    RunCancelled,
    RunStarted,
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
    FAILED = "failed"
    STOPPED = "stopped"
    MESSAGE_KEPT = "message kept"


_SETTLED = {
    Outcome.CALLS_OPEN: Phase.AWAITING_TOOLS,
    Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
    Outcome.LIMIT_REACHED: Phase.FAILED,
}
"""A call of the turn has moved on: the run waits for it or for others, or asks the model, if it may."""

TRANSITIONS: dict[Phase, dict[type[AgentEvent], dict[Outcome, Phase]]] = {
    Phase.READY: {
        RunStarted: {Outcome.MODEL_ASKED: Phase.AWAITING_MODEL, Outcome.LIMIT_REACHED: Phase.FAILED},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.AWAITING_MODEL: {
        ModelReplied: {
            Outcome.CALLS_OPEN: Phase.AWAITING_TOOLS,
            Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
            Outcome.ANSWER_TO_CHECK: Phase.CHECKING_ANSWER,
            Outcome.ANSWERED: Phase.FINISHED,
            Outcome.LIMIT_REACHED: Phase.FAILED,
            Outcome.FAILED: Phase.FAILED,
        },
        ModelFailed: {Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.AWAITING_MODEL},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.AWAITING_TOOLS: {
        ToolReturned: _SETTLED,
        ToolCallFailed: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        ApprovalGiven: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        ApprovalDenied: {**_SETTLED, Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.AWAITING_TOOLS},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.CHECKING_ANSWER: {
        AnswerAccepted: {
            Outcome.ANSWERED: Phase.FINISHED,
            Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
            Outcome.LIMIT_REACHED: Phase.FAILED,
        },
        AnswerRejected: {
            Outcome.MODEL_ASKED: Phase.AWAITING_MODEL,
            Outcome.LIMIT_REACHED: Phase.FAILED,
            Outcome.FAILED: Phase.FAILED,
        },
        AnswerBlocked: {Outcome.FAILED: Phase.FAILED},
        UserMessageAdded: {Outcome.MESSAGE_KEPT: Phase.CHECKING_ANSWER},
        RunCancelled: {Outcome.STOPPED: Phase.CANCELLED},
    },
    Phase.FINISHED: {},
    Phase.FAILED: {},
    Phase.CANCELLED: {},
}
"""For each phase the events that it accepts, and for each of their outcomes the next phase."""
