"""Backends that break one promise each, since a part of the engine is replaced by one with a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from outlast.core.approvals import Decision
from outlast.core.errors import ExecutionAlreadyEnded
from outlast.core.event_stream import Event, EventReader
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionHeld,
    Input,
    Status,
    UpdateAccepted,
    decode_record,
    encode_record,
)
from outlast.core.reruns import retried
from outlast.core.retry import RetryPolicy
from outlast.core.updates import UpdateTrace
from outlast.core.workflow_machine import Batch
from outlast.ports.clock import Clock
from outlast.ports.definitions import ActivityOptions
from outlast.ports.deltas import Deltas
from outlast.ports.durability.steps import Attempt, Call, Step
from outlast.ports.journal import Commit, Head
from outlast.ports.resources import Resources
from outlast.runtime.attempts.attempt import Begin, Heartbeat, perform_in_time
from outlast.runtime.executions import execution_driver, step_attempts, worker
from outlast.runtime.executions.journaled_execution import JournaledExecution
from outlast.runtime.executions.live_context import LiveContext
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.step_attempts import StepAttempts
from outlast.runtime.executions.suspects import Placing, Suspects
from outlast.testing.contracts.durability.in_store import SharedDeltas
from tests.broken.broken_backend import BrokenBackend
from tests.broken.deltas import Forgetful

_worker_exit = worker.Worker.__aexit__
_outcome_of = JournaledExecution._outcome
_events_of = JournaledExecution.events
_decision_of = LiveContext.decision
_delay_after = RetryPolicy.delay_after
_close_if_ended = LiveExecution._close_if_ended
_update_of = JournaledExecution.update
_answer_in = UpdateTrace.answer
_try_again = UpdateTrace.try_again
_take_ended = execution_driver.Driver._take
_publisher_of = StepAttempts._publisher
_may_be_released = execution_driver.Driver._may_release


async def _forgets_results(self: worker.Worker, *details: Any) -> None:
    await _worker_exit(self, *details)
    await self._store.prune(float("inf"))


class ForgetsResults(BrokenBackend):
    """A worker that stops deletes executions that have ended."""

    breaks = "d2_"
    replaced = ((worker.Worker, "__aexit__", _forgets_results),)


def _returns_results_as_they_are_stored(self: JournaledExecution, ended: ExecutionEnded, head: Head) -> Any:
    _outcome_of(self, ended, head)
    return ended.result


class ReturnsResultsAsTheyAreStored(BrokenBackend):
    """The result is not read by the workflow's signature."""

    breaks = "d2_"
    replaced = ((JournaledExecution, "_outcome", _returns_results_as_they_are_stored),)


async def _under_another_key(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin,
) -> JSON:
    other = replace(attempt, idempotency_key=f"{attempt.idempotency_key}#{attempt.attempt}")
    return await perform_in_time(call, other, options, resources, clock, pulse, begin)


class MakesAKeyForEachAttempt(BrokenBackend):
    """The idempotency key holds the attempt's number."""

    breaks = "d4_"
    replaced = ((step_attempts, "perform_in_time", _under_another_key),)


def _gives_nothing_up(self: LiveExecution, now: float) -> Iterator[Input]:
    return iter(())


class RepeatsWhatMustNotBeRepeated(BrokenBackend):
    """The effect that an activity declares is not looked at after a crash."""

    breaks = "d4_"
    replaced = ((LiveExecution, "_given_up", _gives_nothing_up),)


def _tries_again_at_once(self: RetryPolicy, attempt: int, failure: Failure) -> float | None:
    return None if _delay_after(self, attempt, failure) is None else 0.0


class TriesAgainAtOnce(BrokenBackend):
    """The back-off is left out."""

    breaks = "d5_"
    replaced = ((RetryPolicy, "delay_after", _tries_again_at_once),)


def _tries_once_too_often(self: RetryPolicy, attempt: int, failure: Failure) -> float | None:
    return _delay_after(self, attempt - 1, failure)


class TriesOnceTooOften(BrokenBackend):
    """The bound on attempts is off by one."""

    breaks = "d5_"
    replaced = ((RetryPolicy, "delay_after", _tries_once_too_often),)


async def _without_end(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin,
) -> JSON:
    endless = replace(options, start_to_close_timeout=1e9)
    return await perform_in_time(call, attempt, endless, resources, clock, pulse, begin)


class HasNoTimeouts(BrokenBackend):
    """An attempt may take as long as it likes."""

    breaks = "d5_"
    replaced = ((step_attempts, "perform_in_time", _without_end),)


class FiresTimersInTheOrderOfTheirMaking(BrokenBackend):
    """Timers that are found due together fire in no order of time."""

    breaks = "d8_"
    replaced = ((execution_driver, "sorted", lambda timers, key: list(timers)),)


def _cancels_without_cleaning_up(self: LiveExecution, root: asyncio.Task[Any]) -> None:
    if self._cancelled:
        self.machine.request(ExecutionEnded(status=Status.CANCELLED))
    else:
        _close_if_ended(self, root)


class CancelsWithoutCleaningUp(BrokenBackend):
    """An execution ends as soon as it is cancelled."""

    breaks = "d10_"
    replaced = ((LiveExecution, "_close_if_ended", _cancels_without_cleaning_up),)


async def _fails_what_departs(self: worker.Worker, activation: Any, reason: str, *_: Any) -> None:
    failure = Failure(kind="NonDeterminismError", message=reason)
    ended = encode_record(ExecutionEnded(status=Status.FAILED, failure=failure))
    claim = activation.claim
    await self._store.append(claim, claim.length, (ended,), Commit(status=Status.FAILED))


class FailsWhatDeparts(BrokenBackend):
    """An execution that cannot go on has failed."""

    breaks = "d11_"
    replaced = ((worker.Worker, "_put_off", _fails_what_departs),)


async def _skips_events(self: JournaledExecution, after: int = 0) -> AsyncIterator[Event]:
    async for event in _events_of(self, after and after + 1):
        yield event


class SkipsEvents(BrokenBackend):
    """A stream that is read from a position leaves one event out."""

    breaks = "d13_"
    replaced = ((JournaledExecution, "events", _skips_events),)


async def _ends_the_stream_where_it_is(self: JournaledExecution, after: int = 0) -> AsyncIterator[Event]:
    reader = EventReader()
    for record in await self._store.read(self.id):
        for event in reader.read(decode_record(record)):
            if event.position > after:
                yield event


class EndsTheStreamWhereItIs(BrokenBackend):
    """The stream has the events so far, and does not wait for more."""

    breaks = "d13_"
    replaced = ((JournaledExecution, "events", _ends_the_stream_where_it_is),)


class KeepsTextToItself(BrokenBackend):
    """The text that a model writes is not published."""

    breaks = "d13_"
    replaced = ((StepAttempts, "_publisher", lambda self, step, attempt: nullcontext()),)


class ForgetsTextThatWasRead(BrokenBackend):
    """A piece of text is given to the first reader only."""

    breaks = "d13_"

    def open_deltas(self) -> Deltas:
        return ForgetfulView(self._text)


class ForgetfulView(Forgetful, SharedDeltas):
    """Text that is gone when somebody has read it."""


def _as_the_first(self: StepAttempts, step: Step, attempt: int) -> Any:
    return _publisher_of(self, step, 1)


class NumbersEveryAttemptAsTheFirst(BrokenBackend):
    """A reader cannot distinguish the text of one attempt from that of another."""

    breaks = "d13_"
    replaced = ((StepAttempts, "_publisher", _as_the_first),)


async def _does_not_record_what_it_cuts_short(self: execution_driver.Driver, key: str, ended: Any) -> None:
    if not ended.interrupted:
        await _take_ended(self, key, ended)


class DoesNotRecordWhatItCutsShort(BrokenBackend):
    """An attempt that is cut short by a stop counts as never made."""

    breaks = "d15_"
    replaced = ((execution_driver.Driver, "_take", _does_not_record_what_it_cuts_short),)


def _keeps_what_waits(self: execution_driver.Driver) -> bool:
    return self._services.stopping.is_set() and _may_be_released(self)


class KeepsWhatWaits(BrokenBackend):
    """An execution that only waits keeps its place."""

    breaks = "d16_"
    replaced = ((execution_driver.Driver, "_may_release", _keeps_what_waits),)


async def _allows_every_call(
    self: LiveContext, key: str, fingerprint: str, fits: Callable[[Decision], bool]
) -> Decision:
    return Decision(key=key, fingerprint=fingerprint, verdict="allow")


class AllowsEveryCall(BrokenBackend):
    """A call that needs approval waits for none."""

    breaks = "d17_"
    replaced = ((LiveContext, "decision", _allows_every_call),)


async def _takes_any_decision(
    self: LiveContext, key: str, fingerprint: str, fits: Callable[[Decision], bool]
) -> Decision:
    await self.wait_condition(lambda: bool(self.decisions._sent))
    return next(iter(self.decisions._sent.values()))[0]


async def _takes_what_does_not_fit(
    self: LiveContext, key: str, fingerprint: str, fits: Callable[[Decision], bool]
) -> Decision:
    return await _decision_of(self, key, fingerprint, lambda decision: True)


class TakesArgumentsThatDoNotFit(BrokenBackend):
    """A decision counts although the tool cannot be called with its arguments."""

    breaks = "d17_"
    replaced = ((LiveContext, "decision", _takes_what_does_not_fit),)


class TakesAnyDecision(BrokenBackend):
    """A decision counts for whichever call waits."""

    breaks = "d17_"
    replaced = ((LiveContext, "decision", _takes_any_decision),)


async def _makes_every_update_a_new_one(
    self: JournaledExecution, name: str, *args: Any, id: str | None = None, **kwargs: Any
) -> Any:
    return await _update_of(self, name, *args, **kwargs)


class MakesEveryUpdateANewOne(BrokenBackend):
    """The id that the caller gives is not looked at."""

    breaks = "d18_"
    replaced = ((JournaledExecution, "update", _makes_every_update_a_new_one),)


class AsksNoValidator(BrokenBackend):
    """Whatever fits the handler is accepted."""

    breaks = "d18_"
    replaced = ((LiveExecution, "objection", lambda self, update: None),)


def _drops_what_it_rejects(self: LiveExecution, update: UpdateAccepted) -> None:
    if self.objection(update) is None:
        self.deliver(update)


class DropsWhatItRejects(BrokenBackend):
    """An update that is not accepted is forgotten, and its caller waits for ever."""

    breaks = "d18_"
    replaced = ((LiveExecution, "deliver_update", _drops_what_it_rejects),)


async def _ends_with_its_handler(self: LiveExecution, update: UpdateAccepted) -> None:
    try:
        self._context.request(await self._answered(update))
    except Exception as error:
        self._failure = error


class EndsWithItsHandler(BrokenBackend):
    """An error in the handler of an update ends the execution, as one in the handler of a signal does."""

    breaks = "d18_"
    replaced = ((LiveExecution, "_answer", _ends_with_its_handler),)


def _answers_at_the_end(self: UpdateTrace, execution_id: str, name: str) -> JSON:
    try:
        return _answer_in(self, execution_id, name)
    except ExecutionAlreadyEnded:
        return None


class AnswersWithNothingAtTheEnd(BrokenBackend):
    """An execution that ends lets all go who wait for it, with nothing."""

    breaks = "d18_"
    replaced = ((UpdateTrace, "answer", _answers_at_the_end),)


def _remembers_rejections(self: UpdateTrace) -> str:
    _try_again(self)
    self._seen = 0
    return f"update:{self._id}"


class RemembersRejections(BrokenBackend):
    """An id that was rejected once is never looked at again."""

    breaks = "d18_"
    replaced = ((UpdateTrace, "try_again", _remembers_rejections),)


def _carries_anything(self: Suspects, execution_id: str, fruitless: int, now: float) -> Placing:
    return Placing.CARRIED


class CarriesWhateverEndsItsWorkers(BrokenBackend):
    """Nobody asks how many workers an execution has ended."""

    breaks = "d19_a_held_execution_goes_on"
    replaced = ((Suspects, "place", _carries_anything),)


def _holds_by_the_count(self: Suspects, execution_id: str, fruitless: int, now: float) -> Placing:
    return Placing.HELD if fruitless >= 2 else Placing.CARRIED


class HoldsWhoeverWasThere(BrokenBackend):
    """Two lost claims are enough for a hold, whatever other executions the workers carried."""

    breaks = "d19_an_execution_that_ends_its_workers"
    replaced = ((Suspects, "place", _holds_by_the_count),)


async def _resumes_in_name(self: JournaledExecution) -> bool:
    return True


class ResumesInName(BrokenBackend):
    """An execution that is resumed is still held."""

    breaks = "d19_a_held_execution_goes_on"
    replaced = ((JournaledExecution, "resume", _resumes_in_name),)


def _no_changes(_driver: execution_driver.Driver, _waiting: str | None) -> dict[str, Any]:
    return {}


class KeepsItsWaitsToItself(BrokenBackend):
    """The driver does not write down what an execution waits for."""

    breaks = "d26_"
    replaced = ((execution_driver.Driver, "_overview_changes", _no_changes),)


def _holds_whatever_fails(
    execution_id: str, records: Sequence[AnyRecord], at: float, *, reason: str
) -> tuple[AnyRecord, ...]:
    return retried(execution_id, records, at, again=True), ExecutionHeld(at=at, reason=reason)


async def _overlooks_cancels(self: execution_driver.Driver) -> int:
    inbox = self._services.store
    page = await inbox.messages(
        self.claim.execution_id, self.claim.consumed, execution_driver.MESSAGES_AT_ONCE
    )
    return max([self._live.consumed, *(one.number for one in page)])


class HoldsWhatWasCancelled(BrokenBackend):
    """A failure is held though there was a request to cancel, which the code did not get before it failed."""

    breaks = "d24_cancel_ends_what_is_held_also"
    replaced = ((execution_driver.Driver, "_seen_without_cancellation", _overlooks_cancels),)


class RepeatsWhatIsDoneOnce(BrokenBackend):
    """A step that must be done once is open again after a hold."""

    breaks = "d24_a_step_that_must_be_done_once"
    replaced = ((execution_driver, "held_at_failure", _holds_whatever_fails),)


async def _ends_what_fails(self: execution_driver.Driver, batch: Batch, end: ExecutionEnded) -> bool:
    return False


class EndsWhatFails(BrokenBackend):
    """A failure ends the execution, whatever its workflow wants."""

    breaks = "d24_an_execution_that_fails_is_held"
    replaced = ((execution_driver.Driver, "_hold_at_failure", _ends_what_fails),)
