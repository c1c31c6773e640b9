"""Backends that break one promise each where executions end, are opened again, and are copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from outlast.core import reruns
from outlast.core.event_stream import EventReader
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ExecutionReopened,
    ExecutionStarted,
    Input,
    StepScheduled,
    UpdateCompleted,
)
from outlast.core.updates import UpdateTrace
from outlast.core.workflow_machine import OpenStep
from outlast.ports.clock import Clock
from outlast.runtime.definitions import edits as edit_checks
from outlast.runtime.executions.back_offs import BackOffs
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.rerunning import Rerunner
from outlast.runtime.isolation import tracebacks
from tests.broken.broken_backend import BrokenBackend

_read_update = UpdateTrace.read
_data_of = EventReader._data_of
_create = Rerunner._create
_edited = reruns._edited


def _by_the_wall_clock(self: BackOffs, key: str, opened: OpenStep, clock: Clock) -> float:
    return max(0.0, opened.retry_at - clock.now())


class BacksOffByTheWallClock(BrokenBackend):
    """A clock that is set back makes a step wait for hours."""

    breaks = "d20_"
    replaced = ((BackOffs, "seconds_left", _by_the_wall_clock),)


def _no_frames(error: BaseException) -> tuple[Any, ...]:
    return ()


class SaysNotWhere(BrokenBackend):
    """A failure is its class and its message."""

    breaks = "d21_"
    replaced = ((tracebacks, "_frames", _no_frames),)


def _delivers_nothing(self: LiveExecution, now: float) -> Iterator[Input]:
    return iter(())


class ForgetsWhatCameInTheVoidPart(BrokenBackend):
    """Whatever came after the failed step is lost with it."""

    breaks = "d22_messages_of_the_void_part"
    replaced = ((LiveExecution, "_void_inputs", _delivers_nothing),)


def _recalls_nothing(self: LiveExecution, scheduled: StepScheduled) -> None:
    return None


class RunsVoidActivitiesAgain(BrokenBackend):
    """An activity that completed in the void part is run a second time."""

    breaks = "d22_a_retry_goes_on"
    replaced = ((LiveExecution, "recalled", _recalls_nothing),)


def _counts_on(self: OpenStep, *, earlier: int = 0) -> None:
    self.in_doubt, self.retry_at = False, 0.0


class CountsAttemptsOn(BrokenBackend):
    """A failed step has no more attempts after a retry than it had left."""

    breaks = "d22_"
    replaced = ((OpenStep, "begin_anew", _counts_on),)


def _repeats_anything(execution_id: str, steps: Sequence[StepScheduled]) -> None:
    return None


class RepeatsOnARetry(BrokenBackend):
    """The effect that an activity declares is not looked at when its execution is retried."""

    breaks = "d22_a_step_that_must_be_done_once"
    replaced = ((reruns, "_refuse_to_repeat", _repeats_anything),)


def _looks_at_causes_alone(failure: Failure | None) -> Iterator[Any]:
    while failure is not None:
        yield Counter([reruns._identity(failure)])
        failure = failure.cause


class LooksAtNoGroup(BrokenBackend):
    """A step that failed in a task group fails again after a retry, without being tried."""

    breaks = "d22_a_failed_step_is_tried_anew"
    replaced = ((reruns, "_causes", _looks_at_causes_alone),)


class TakesVoidMail(BrokenBackend):
    """A cancel request that came too late for one end ends the execution again."""

    breaks = "d22_a_cancel_request"
    replaced = ((LiveExecution, "void_mail", 0),)


def _answers_anew(self: UpdateTrace, record: AnyRecord) -> None:
    if isinstance(record, UpdateCompleted) and record.update_id == self._id:
        self._completed = None
    _read_update(self, record)


class AnswersAnew(BrokenBackend):
    """After a retry, an update has another answer than its callers got."""

    breaks = "d22_an_update_keeps_its_answer"
    replaced = ((UpdateTrace, "read", _answers_anew),)


def _same_try(self: UpdateTrace) -> str:
    self._seen = len(self._rejections)
    return f"update:{self._id}:{self._seen}"


class SendsNoUpdateTwice(BrokenBackend):
    """An update that came too late for the end is the same message after a retry, so it is dropped."""

    breaks = "d22_an_update_that_came_too_late"
    replaced = ((UpdateTrace, "try_again", _same_try),)


def _says_nothing(self: EventReader, record: AnyRecord) -> Any:
    data = _data_of(self, record)
    return None if isinstance(record, ExecutionReopened) else data


class HidesRetries(BrokenBackend):
    """The stream does not say what is void."""

    breaks = "d22_the_stream"
    replaced = ((EventReader, "_data_of", _says_nothing),)


def _draws_anew(record: AnyRecord, edits: Mapping[str, JSON], execution_id: str) -> AnyRecord:
    copied = _edited(record, edits, execution_id)
    return copied.with_(seed=None) if isinstance(copied, ExecutionStarted) else copied


class DrawsNewNumbersInAFork(BrokenBackend):
    """A fork has random numbers of its own, so its code does not repeat what the copy says."""

    breaks = "d23_random"
    replaced = ((reruns, "_edited", _draws_anew),)


def _believes(records: Sequence[AnyRecord], edits: Mapping[str, Any]) -> None:
    return None


class BelievesEdits(BrokenBackend):
    """A result is replaced by one of another type."""

    breaks = "d23_what_does_not_fit"
    replaced = ((edit_checks, "check_edits", _believes),)


async def _runs_imports(
    self: Rerunner, records: Any, id: str, task_queue: str, tags: Any, *, reason: Any
) -> str:
    return await _create(self, records, id, task_queue, tags, reason=None)


class RunsImports(BrokenBackend):
    """An import runs by itself, beside the original."""

    breaks = "d25_"
    replaced = ((Rerunner, "_create", _runs_imports),)
