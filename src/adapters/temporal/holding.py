"""Executions that are paused: from the start of a run if they are imported, or when somebody pauses them.

A held run has caught up with its journal. It begins no step and takes no input, until somebody sends it the
signal to go on. Its memo says that it is held, so this is known without a worker.
"""

from __future__ import annotations

from collections.abc import Iterator

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from outlast.core.records import (
    AnyRecord,
    CancelRequested,
    ExecutionPaused,
    ExecutionResumed,
    Input,
    SignalReceived,
)

PAUSE_SIGNAL = "outlast.pause"
RESUME_SIGNAL = "outlast.resume"

HELD = "outlast_held"
"""The memo field with the reason, while the run is held."""


def in_words(reason: object) -> str:
    """Return the reason that the memo has, of an execution that somebody pauses."""
    return f"paused: {reason}" if isinstance(reason, str) else "paused"


async def held_because(found: WorkflowExecution) -> str | None:
    """Return why an open execution is held; None if it is not."""
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return None
    reason: str | None = await found.memo_value(HELD, None)
    return reason


class WaitingInputs:
    """The order in which code gets the inputs of a history: those that come while the run is held wait."""

    def __init__(self, *, is_held: bool) -> None:
        self._is_held = is_held
        self._is_paused = False
        self._waiting: list[Input] = []

    def take(self, record: Input) -> Iterator[AnyRecord]:
        """Yield the records that an input of the history gives; none while the run is held."""
        name = record.name if isinstance(record, SignalReceived) else None
        if self._is_held and (name == RESUME_SIGNAL or isinstance(record, CancelRequested)):
            if self._is_paused:
                yield ExecutionResumed(at=record.at)
            yield from self._waiting
            self._waiting.clear()
            self._is_held = self._is_paused = False
        if isinstance(record, SignalReceived) and name == PAUSE_SIGNAL:
            if not self._is_held:
                reason = record.named.get("reason")
                yield ExecutionPaused(at=record.at, reason=reason if isinstance(reason, str) else None)
                self._is_held = self._is_paused = True
        elif self._is_held:
            self._waiting.append(record)
        elif name != RESUME_SIGNAL:
            yield record
