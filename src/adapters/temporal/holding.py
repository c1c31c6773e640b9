"""Holding an execution: which of the inputs that arrive its code gets, and when.

On the other backends an execution that is held has no worker, and what is sent to it waits in its inbox. On
Temporal it stays a running workflow, to which the server delivers what arrives. So whoever gives the code its
inputs keeps those back that arrive while the execution is held: the driver in a worker, `code_replay`, and
`history`, which has no code at all. All three must keep back the same inputs, or a replay would depart from
its history. This machine decides it for them: it takes the inputs in the order in which they arrive, and says
after each what to do.

`TABLE` has three phases:

- AT_WORK: the code gets each input as it arrives.
- HELD: the run began held, as an import does. The code has caught up with its journal, but what the journal
  leaves to be done was not begun.
- PAUSED: somebody has paused the execution in the middle. What its code had begun goes on; its end waits.

Requests to pause and to go on are signals that the code never gets. A request to cancel lets an execution go
on, because its code must clean up. Two requests to pause, with nothing between them, are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from outlast.core.records import (
    CancelRequested,
    ExecutionPaused,
    ExecutionResumed,
    Input,
    SignalReceived,
)

PAUSE_SIGNAL = "outlast.pause"
RESUME_SIGNAL = "outlast.resume"


class HoldingPhase(StrEnum):
    """The phase of this machine."""

    AT_WORK = "at work"
    HELD = "held"
    PAUSED = "paused"


class Arrival(StrEnum):
    """The sort of an input that arrives."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    OTHER = "other"


class Reaction(StrEnum):
    """The part of what follows from an input; a row of the table has several, in order."""

    NOTE_PAUSE = "note the pause"
    NOTE_RESUME = "note that it goes on"
    TAKE_UP = "take up the journal"
    RELEASE = "deliver the inputs that waited"
    DELIVER = "deliver the input"
    KEEP = "let the input wait"


TABLE: Final[Mapping[HoldingPhase, Mapping[Arrival, tuple[HoldingPhase, tuple[Reaction, ...]]]]] = (
    MappingProxyType(
        {
            HoldingPhase.AT_WORK: {
                Arrival.PAUSE: (HoldingPhase.PAUSED, (Reaction.NOTE_PAUSE,)),
                Arrival.RESUME: (HoldingPhase.AT_WORK, ()),
                Arrival.CANCEL: (HoldingPhase.AT_WORK, (Reaction.DELIVER,)),
                Arrival.OTHER: (HoldingPhase.AT_WORK, (Reaction.DELIVER,)),
            },
            HoldingPhase.HELD: {
                Arrival.PAUSE: (HoldingPhase.HELD, ()),
                Arrival.RESUME: (HoldingPhase.AT_WORK, (Reaction.TAKE_UP, Reaction.RELEASE)),
                Arrival.CANCEL: (
                    HoldingPhase.AT_WORK,
                    (Reaction.TAKE_UP, Reaction.RELEASE, Reaction.DELIVER),
                ),
                Arrival.OTHER: (HoldingPhase.HELD, (Reaction.KEEP,)),
            },
            HoldingPhase.PAUSED: {
                Arrival.PAUSE: (HoldingPhase.PAUSED, ()),
                Arrival.RESUME: (HoldingPhase.AT_WORK, (Reaction.NOTE_RESUME, Reaction.RELEASE)),
                Arrival.CANCEL: (
                    HoldingPhase.AT_WORK,
                    (Reaction.NOTE_RESUME, Reaction.RELEASE, Reaction.DELIVER),
                ),
                Arrival.OTHER: (HoldingPhase.PAUSED, (Reaction.KEEP,)),
            },
        }
    )
)
"""For each phase and each sort of input: the phase that follows, and what to do."""


@dataclass(frozen=True, slots=True)
class TakeUp:
    """Let the code go on from its journal, and begin what that leaves to be done."""


Effect = ExecutionPaused | ExecutionResumed | TakeUp | Input
"""One thing to do: note that the execution is paused or goes on, take it up, or give its code an input."""


@dataclass(slots=True)
class Holding:
    """The state of an execution that is held or not, with the inputs that wait meanwhile."""

    phase: HoldingPhase
    waiting: list[Input] = field(default_factory=list)
    """The inputs that still wait for its code, in the order in which they arrived."""

    @classmethod
    def at_start(cls, *, is_held: bool) -> Holding:
        """Return the state in which a history begins."""
        return cls(HoldingPhase.HELD if is_held else HoldingPhase.AT_WORK)

    def arrive(self, arrived: Input) -> Sequence[Effect]:
        """Take an input that has arrived, and return what to do, in order."""
        self.phase, reactions = TABLE[self.phase][arrival_of(arrived)]
        effects: list[Effect] = []
        for reaction in reactions:
            match reaction:
                case Reaction.NOTE_PAUSE:
                    effects.append(ExecutionPaused(at=arrived.at, reason=_reason(arrived)))
                case Reaction.NOTE_RESUME:
                    effects.append(ExecutionResumed(at=arrived.at))
                case Reaction.TAKE_UP:
                    effects.append(TakeUp())
                case Reaction.RELEASE:
                    effects += self.waiting
                    self.waiting = []
                case Reaction.DELIVER:
                    effects.append(arrived)
                case Reaction.KEEP:
                    self.waiting.append(arrived)
        return effects


def arrival_of(record: Input) -> Arrival:
    """Return the sort of an input."""
    match record:
        case SignalReceived(name=name) if name == PAUSE_SIGNAL:
            return Arrival.PAUSE
        case SignalReceived(name=name) if name == RESUME_SIGNAL:
            return Arrival.RESUME
        case CancelRequested():
            return Arrival.CANCEL
        case _:
            return Arrival.OTHER


def is_control(record: Input) -> bool:
    """Return whether it is a request to pause or to go on, which the code never gets."""
    return arrival_of(record) in (Arrival.PAUSE, Arrival.RESUME)


def _reason(asked: Input) -> str | None:
    reason = asked.named.get("reason") if isinstance(asked, SignalReceived) else None
    return reason if isinstance(reason, str) else None
