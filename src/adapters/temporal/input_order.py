"""The order in which code gets the inputs that one workflow task brings."""

from __future__ import annotations

from collections.abc import Container

from outlast.core.records import (
    ChildStarted,
    Input,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerFired,
    UpdateAccepted,
)


def turn_of(record: Input, children: Container[str]) -> tuple[int, str]:
    """Return when an input goes to the code, of all that one workflow task brings: the lowest turn first.

    `children` are the keys of steps that are children. Those of one turn go in the order of the history.
    Results go before a timer or a cancellation that would drop them. Temporal's SDK hands over the start and
    the end of a child after different numbers of rounds of its loop, so children go by their keys. Updates go
    last: to a worker that takes an execution over, Temporal may bring an update together with the results of
    the workflow task before it, and in every later replay it brings it after them.
    """
    match record:
        case SignalReceived():
            return 0, ""
        case StepCompleted(key=key) | StepFailed(key=key) if key in children:
            return 3, key
        case StepCompleted() | StepFailed():
            return 1, ""
        case ChildStarted(key=key):
            return 2, key
        case TimerFired():
            return 4, ""
        case UpdateAccepted():
            return 6, ""
        case _:
            return 5, ""
