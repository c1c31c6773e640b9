"""The log of an execution: a line for its start and end, each turn, tool, approval and failed attempt.

Each line has its numbers and names in `extra` as well, for a formatter that writes for machines. It holds
nothing of prompts and results. Lines are logged for what is written, so a replay logs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.events import EventKind
from outlast.core.json import JSON
from outlast.core.money import plain
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionEnded,
    ExecutionPaused,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionResumed,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
)
from outlast.core.usage import usage_in
from outlast.ports.durability.steps import AskModel, Step

logger = logging.getLogger("outlast.execution")

_APPROVALS: dict[str, str] = {
    EventKind.APPROVAL_REQUESTED: "waits for approval",
    EventKind.APPROVAL_GIVEN: "is allowed",
    EventKind.APPROVAL_DENIED: "is denied",
}


class ExecutionLog:
    """Logs what one execution does, from the records that are written while it is in memory here."""

    def __init__(
        self,
        execution_id: str,
        workflow: str,
        open_steps: Mapping[str, Step],
        started: ExecutionStarted | None = None,
    ) -> None:
        """Begin; `started` is the first record if it is the only one so far."""
        self._open = open_steps
        self._ended: dict[str, Step] = {}
        """The steps that have ended, until the records that say so are written."""
        self._id = execution_id
        self._workflow = workflow
        self._started = started
        self._now: float | None = None
        """The time of the last input."""
        self._began_at: float | None = None
        """The time of the start, if this process saw it."""
        self._begun: dict[str, float] = {}
        """The times at which open steps could begin, as far as this process saw it."""
        self._attempts: dict[str, int] = {}

    def ends(self, step: Step | None) -> None:
        """Note that the code gets the outcome of a step; `wrote` is called for its record next."""
        if step is not None and logger.isEnabledFor(logging.INFO):
            self._ended[step.key] = step

    def wrote(self, records: Sequence[AnyRecord], now: float | None = None) -> None:
        """Log what these records say; they are durable.

        The steps that they ask for begin `now`. Without it, they begin with the last input; but an execution
        may have waited long for this worker since it was started.
        """
        if not logger.isEnabledFor(logging.INFO):
            return
        started, self._started = self._started, None
        for record in records if started is None else (started, *records):
            self._wrote(record, now)

    def _wrote(self, record: AnyRecord, now: float | None) -> None:
        match record:
            case ExecutionStarted(at=at):
                self._now = self._began_at = at
                self._log("started", f"of {self._workflow} begins")
            case StepScheduled(key=key):
                began_at = self._now if now is None else now
                if began_at is not None:
                    self._begun[key] = began_at
            case StepCompleted(key=key, at=at):
                self._now = at
                self._step_ended(key, at, record.result, None)
            case StepFailed(key=key, at=at):
                self._now = at
                self._step_ended(key, at, None, record)
            case AttemptFailed(key=key):
                # A second record of one attempt corrects a date.
                if self._attempts.get(key) != record.attempt + 1:
                    self._attempts[key] = record.attempt + 1
                    self._attempt_failed(record)
            case EventEmitted(kind=kind, data=data) if kind in _APPROVALS:
                name = data.get("tool")
                self._log(kind, f"call {data.get('call_id')} of tool {name} {_APPROVALS[kind]}", tool=name)
            case ExecutionRecovered():
                self._now = record.at
                self._log("recovered", "is taken over from a worker that was lost", worker=record.worker)
            case ExecutionPaused():
                self._now = record.at
                self._log("paused", "is paused")
            case ExecutionResumed():
                self._now = record.at
                self._log("resumed", "is resumed")
            case ExecutionReopened():
                self._now = record.at
            case ExecutionEnded():
                self._execution_ended(record)
            case _:
                self._now = getattr(record, "at", self._now)

    def _step_ended(self, key: str, at: float, result: JSON, failed: StepFailed | None) -> None:
        step, asked_at = self._ended.pop(key, None), self._begun.pop(key, None)
        attempt = max(self._attempts.pop(key, 1), 1 if failed is None else failed.attempts)
        if step is None:
            return  # The code no longer waits for it.
        fields: dict[str, Any] = {"step": key, **_about(step)}
        after = ""
        if asked_at is not None:
            fields["seconds"] = seconds = round(max(0.0, at - asked_at), 3)
            after = f" after {seconds:.1f} s"
        if attempt > 1:
            fields["attempt"] = attempt
            after += f", at attempt {attempt}"
        if failed is not None:
            self._log("step_failed", f"{_named(step)} failed{after} with {failed.failure.kind}", **fields)
            return
        if step.kind is StepKind.MODEL and isinstance(result, dict):
            usage = usage_in(result)
            if usage.total_tokens:
                fields["tokens"] = usage.total_tokens
                after += f", {usage.total_tokens} tokens"
            if usage.has_cost:
                fields["cost"] = plain(usage.cost)
            if usage.cost_in_words:
                after += f", {usage.cost_in_words}"
        self._log("step_completed", f"{_named(step)} ended{after}", **fields)

    def _attempt_failed(self, record: AttemptFailed) -> None:
        step = self._open.get(record.key) or self._ended.get(record.key)
        what = f"step {record.key}" if step is None else _named(step)
        wait = max(0.0, record.retry_at - record.at)
        self._log(
            EventKind.ATTEMPT_FAILED,
            f"{what} failed at attempt {record.attempt} with {record.failure.kind}; "
            f"the next attempt begins in {wait:.1f} s",
            step=record.key,
            attempt=record.attempt,
            **({} if step is None else _about(step)),
        )

    def _execution_ended(self, record: ExecutionEnded) -> None:
        if record.status is Status.FAILED:
            return  # Its error is logged, with where it came from.
        after = ""
        fields: dict[str, Any] = {"status": record.status.value}
        if self._began_at is not None and self._now is not None:
            fields["seconds"] = round(self._now - self._began_at, 3)
            after = f" after {fields['seconds']:.1f} s"
        self._log("ended", f"{record.status}{after}", **fields)

    def _log(self, event: str, text: str, **fields: Any) -> None:
        extra = {"execution_id": self._id, "workflow": self._workflow, "event": event, **fields}
        logger.info("execution %s %s", self._id, text, extra=extra)


def _about(step: Step) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": step.kind.value, "activity": step.name}
    if "agent" in step.about:
        about["agent"] = step.about["agent"]
    if isinstance(step.call, AskModel):
        about["model"] = step.call.model
    return about


def _named(step: Step) -> str:
    match step.kind:
        case StepKind.MODEL:
            model = f" ({step.call.model})" if isinstance(step.call, AskModel) else ""
            return f"turn of agent {step.about.get('agent')}{model} at {step.key}"
        case StepKind.TOOL:
            return f"tool {step.about.get('tool', step.name)}"
        case StepKind.SUMMARY:
            return "summary of the conversation"
        case StepKind.ACTIVITY:
            return f"activity {step.name}"
        case StepKind.CHILD:
            return f"child of {step.name}"
