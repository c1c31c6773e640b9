"""Driving the code of one execution from inside a Temporal workflow.

The code runs on our own loop, as on every backend; Temporal's loop, which is deterministic too, only carries
this driver. Signals, updates, activity results, timers and cancellation come in as inputs, in that order if
one workflow task brings several. After each, the code runs until it is at rest, and then this driver asks
Temporal for what the code asks for: activities and timers. So the records of an execution are those that it
would have elsewhere.

An error in here never gets lost: the workflow task fails with it, once for each try.
"""

from __future__ import annotations

import asyncio
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow

from outlast.adapters.temporal.failures import StepLimits, step_failure
from outlast.adapters.temporal.holding import HELD, in_words
from outlast.adapters.temporal.kept_records import KeptRecords
from outlast.adapters.temporal.messages import TAG_SIGNAL
from outlast.adapters.temporal.payloads import check_size
from outlast.adapters.temporal.requests import LengthWarning, Past, payload_of, seconds_until, start
from outlast.adapters.temporal.search_attributes import tags_in, update_of
from outlast.adapters.temporal.steps import OpenSteps, Place, activity_id_of
from outlast.core.errors import ActivityInterrupted, NotSupported, PayloadTooLarge
from outlast.core.failure import Failure
from outlast.core.json import JSON, decode, encode
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    CancelRequested,
    ExecutionEnded,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionStarted,
    Input,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    encode_record,
    read_record,
)
from outlast.core.tags import changed, changes_in
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.live_code import START, Beginning, KeptHistory, MakeLiveCode

RUNNING_SECONDS_MAX = 1.8
"""The longest time for which code may run after one input: Temporal gives up a workflow task after 2 s."""


def turn_of(record: Input) -> int:
    """Return when an input goes to the code, of all that one workflow task brings: the lowest number first.

    Inputs with the same number go in the order of the history. Results go before a time-out or a cancellation
    that would drop them.
    """
    match record:
        case SignalReceived() | UpdateAccepted():
            return 0
        case StepCompleted() | StepFailed():
            return 1
        case TimerFired():
            return 2
        case _:
            return 3


@dataclass(frozen=True, slots=True)
class Carried:
    """The things that a history begins with, beside the entrypoint's arguments."""

    beginning: Beginning = START
    inputs: Sequence[Input] = ()
    """The inputs that came when the code had already asked to continue as new."""
    journal: Sequence[AnyRecord] = ()
    """The records with which a retry, a fork or an import begins; they are from the first one on."""
    held: str | None = None
    """If given, the run begins no step and takes no input until somebody resumes it, for this reason."""

    def written(self, *, is_packed: bool = False) -> JSON:
        """Return it as JSON; the journal may be packed, which takes a fraction of the bytes."""
        start = self.beginning
        written: dict[str, JSON] = {
            "histories": start.histories,
            "events": start.events,
            "records": start.records,
            "inputs": [record.to_data() for record in self.inputs],
        }
        if self.journal:
            journal: JSON = [record.to_data() for record in self.journal]
            written["journal"] = _packed(journal) if is_packed else journal
        if self.held is not None:
            written["held"] = self.held
        return written

    @classmethod
    def read(cls, value: Any) -> Carried | None:
        """Return what `written` gave; None if `value` is something else."""
        match value:
            case {"histories": int(), "events": int(), "records": int(), "inputs": list(inputs)}:
                start = Beginning(value["histories"], value["events"], value["records"])
                read = [read_record(one) for one in inputs]
                written = value.get("journal", [])
                records = _unpacked(written) if isinstance(written, str) else written
                journal = [read_record(one) for one in records]
                inputs = [record for record in read if isinstance(record, INPUTS)]
                return cls(start, inputs, journal, value.get("held"))
        return None


def _packed(value: JSON) -> str:
    return b64encode(zlib.compress(encode(value))).decode()


def _unpacked(text: str) -> Any:
    return decode(zlib.decompress(b64decode(text)))


@dataclass(slots=True)
class _Requested:
    """An activity that the code waits for."""

    step: Step
    place: Place
    task: asyncio.Task[Any] = field(repr=False)


class TemporalDriver(KeptHistory):
    """Drives the code of one execution; used from inside its Temporal workflow only."""

    def __init__(
        self,
        make: MakeLiveCode,
        definition: WorkflowDefinition,
        arguments: dict[str, JSON],
        steps: OpenSteps,
        *,
        lease: timedelta,
        limit_bytes: int,
        writes_json: bool,
        carried: Carried | None = None,
    ) -> None:
        """Begin the execution, or its next history; its code has then run up to where it waits."""
        info = workflow.info()
        self._loop = asyncio.get_running_loop()
        self._execution_id, self._run_id = info.workflow_id, info.run_id
        self._steps = steps
        self._lease = lease
        self._limit_bytes = limit_bytes
        self._length = LengthWarning()
        self._activities: dict[str, _Requested] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[UpdateCompleted]] = {}
        self._left: list[Input] = []
        """The inputs that come after the code has asked to continue as new."""
        self._error: Exception | None = None
        """The reason why this workflow task fails."""
        self._is_over = False
        """True when there is nothing more to drive: the code has ended, or an error came up."""
        self._arrived: list[Input] = []
        """The inputs that this workflow task has brought, beside signals and updates."""
        self._is_closed = False
        beginning = START if carried is None else carried.beginning
        self.records = KeptRecords(writes_json, beginning.records)
        """The records of this history."""
        started = ExecutionStarted(at=workflow.time(), workflow=definition.name, arguments=arguments)
        journal = [] if carried is None else carried.journal
        for record in [started] if carried is None else journal:
            self.records.keep(encode_record(record))
        for record in journal:
            match record:
                case UpdateAccepted(update_id=update_id):
                    self._answer_to(update_id)
                case UpdateCompleted():
                    # If its handler runs again, the first answer is the one that its caller has.
                    self._settle(record)
                case _:
                    pass
        self._live = make(
            definition,
            WorkflowInfo(info.workflow_id, definition.name, info.task_queue),
            journal or [started],
            limit_bytes=limit_bytes,
            running_seconds_max=RUNNING_SECONDS_MAX,
            history=self,
            beginning=beginning,
        )
        self._is_held = carried is not None and carried.held is not None
        self._is_paused = False
        """True if it is held in the middle: what it had begun goes on."""
        self._waiting: list[Input] = []
        """The inputs that came while the run is held."""
        self._act(self._live.go_on)
        if not self._is_held:
            self._take_up()
        for record in () if carried is None else carried.inputs:
            self._give(record)

    def _take_up(self) -> None:
        """Let the code go on from its journal."""
        self._act(lambda: None)
        for record in self._live.taken_up(workflow.time()):
            self._give(record)
        self._begin_what_was_open()

    # What comes from Temporal

    def pause(self, reason: JSON) -> None:
        """Hold the run from now on: inputs wait, also the results of what is under way."""
        if self._is_held or self._is_over or self._live.carried is not None:
            return
        paused = ExecutionPaused(at=workflow.time(), reason=reason if isinstance(reason, str) else None)
        self._act(lambda: self._live.machine.note(paused))
        self._is_held = self._is_paused = True
        workflow.upsert_memo({HELD: in_words(reason)})

    def resume(self) -> None:
        """Let a held run go on."""
        if not self._is_held:
            return
        self._is_held = False
        workflow.upsert_memo({HELD: None})
        if self._is_paused:
            self._is_paused = False
            self._act(lambda: self._live.machine.note(ExecutionResumed(at=workflow.time())))
        else:
            self._take_up()
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._give(record)

    def signal(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> None:
        """Give the code a signal."""
        if name == TAG_SIGNAL:
            self._tag({tag: value for tag, value in named.items() if isinstance(value, str | None)})
            return
        self._give(
            SignalReceived(
                at=workflow.time(),
                message_id=f"signal:{len(self.records)}",
                name=name,
                arguments=tuple(arguments),
                named=dict(named),
            )
        )

    def objection(self, update: UpdateAccepted) -> Failure | None:
        """Return the reason to reject an update, if there is one."""
        if update.update_id in self._answers:
            return None
        if self._live.carried is not None:
            return Failure.of(NotSupported("the execution just continues as new; send the update again"))
        return self._live.objection(update)

    async def update(self, update: UpdateAccepted) -> UpdateCompleted:
        """Give the code an update, and return how its handler ended."""
        is_new = update.update_id not in self._answers
        answer = self._answer_to(update.update_id)
        if is_new:
            self._give(update)
        return await answer

    def _answer_to(self, update_id: str) -> asyncio.Future[UpdateCompleted]:
        """Return the place for the answer to an update."""
        return self._answers.setdefault(update_id, self._loop.create_future())

    def _settle(self, completed: UpdateCompleted) -> None:
        answer = self._answer_to(completed.update_id)
        if not answer.done():
            answer.set_result(completed)

    def ask(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> JSON:
        """Return the answer of a query handler."""
        answer = self._live.ask(name, arguments, named)
        check_size(f"the answer to query {name!r}", answer, self._limit_bytes)
        return answer

    async def run(self) -> ExecutionEnded:
        """Return how the execution ended; if it continues as new, Temporal's exception for that is raised.

        Raises:
            NonDeterminismError, BusyWorkflow: see `LiveCode.go_on`.
        """
        while not self._is_over:
            try:
                await workflow.wait_condition(lambda: self._is_over or bool(self._arrived))
            except asyncio.CancelledError:
                if self._is_closed:
                    raise
                self._arrived.append(CancelRequested(at=workflow.time(), message_id="cancel"))
                continue
            # Temporal looks at conditions when all that a workflow task brings has arrived.
            arrived, self._arrived = sorted(self._arrived, key=turn_of), []
            for record in arrived:
                self._give(record)
        if self._error is not None:
            raise self._error
        if (end := self._live.machine.end) is not None:
            return end
        assert self._live.carried is not None
        along = Carried(self._live.next_beginning(len(self.records)), self._left)
        workflow.continue_as_new(
            args=[self._live.carried, along.written()],
            search_attributes=workflow.info().typed_search_attributes,
        )

    def _activity_done(self, step: Step, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._is_closed or step.key not in self._activities:
            return  # The code no longer waits for it.
        self._steps.drop(self._activities.pop(step.key).place)
        at = workflow.time()
        if error is None and not task.cancelled():
            self._arrived.append(StepCompleted(at=at, key=step.key, result=task.result()))
            return
        ended = None if error is None else step_failure(error, StepLimits.of(step))
        failure, attempts = ended or (Failure.of(ActivityInterrupted(step.name)), 1)
        self._arrived.append(StepFailed(at=at, key=step.key, attempts=attempts, failure=failure))

    def _timer_done(self, key: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._timers.pop(key, None) is not None:
            self._arrived.append(TimerFired(at=workflow.time(), key=key))

    def _give(self, record: Input) -> None:
        if self._is_held and isinstance(record, CancelRequested):
            self.resume()  # Its code must clean up.
        if self._is_held:
            self._waiting.append(record)
        elif self._live.carried is not None and isinstance(record, (SignalReceived, CancelRequested)):
            self._left.append(record)
        else:
            self._act(lambda: self._live.deliver(record))

    def _begin_what_was_open(self) -> None:
        """Ask Temporal for what the code waits for since before this history."""
        machine = self._live.machine
        for key in list(machine.steps):
            if key in machine.steps and key not in self._activities and (end := self._begin(key)) is not None:
                self._give(end)
        for key, due_at in machine.timers.items():
            if key not in self._timers:
                self._start_timer(key, due_at)

    def _act(self, act: Callable[[], object]) -> None:
        """Let the code do something until it is at rest, and ask Temporal for what it asks for."""
        if self._is_over or self._is_closed:
            return
        try:
            act()
            while not self._live.at_rest:
                self._live.go_on()
            if not self._is_held:
                self._ask_temporal()
        except Exception as error:
            self._error = error
            self._is_over = True

    # What is asked of Temporal

    def _ask_temporal(self) -> None:
        machine = self._live.machine
        batch = machine.take_batch()
        ended: list[Input] = []
        for record, written in zip(batch.records, self._live.encoder.take(batch.records), strict=True):
            self.records.keep(written)
            match record:
                case StepScheduled(key=key) if key in machine.steps:
                    if (end := self._begin(key)) is not None:
                        ended.append(end)
                case TimerStarted(key=key, due_at=due_at) if key in machine.timers:
                    self._start_timer(key, due_at)
                case UpdateCompleted():
                    self._settle(record)
        if changes := changes_in(batch.records):
            self._tag(changes)
        self._live.report(batch.records)
        for key in [key for key in self._activities if key not in machine.steps]:
            given_up = self._activities.pop(key)
            self._steps.drop(given_up.place)
            self._steps.give_up(given_up.place)
            given_up.task.cancel()
        for key in [key for key in self._timers if key not in machine.timers]:
            self._timers.pop(key).cancel()
        if machine.end is not None or self._live.carried is not None:
            self._is_over = True
        for record in ended:
            self._give(record)

    def _begin(self, key: str) -> Input | None:
        """Start the activity for a step; return the step's end, if that is known already."""
        step, opened = self._live.requested[key], self._live.machine.steps[key]
        done: Input | None = self._live.recalled(opened.scheduled)
        if done is None:
            try:
                self._start_activity(step, Past.of(opened))
            except PayloadTooLarge as error:
                done = StepFailed(at=0.0, key=key, attempts=0, failure=Failure.of(error))
        return None if done is None else done.with_(at=workflow.time())

    def _start_activity(self, step: Step, past: Past | None) -> None:
        arguments = payload_of(step, past)
        check_size(f"the arguments of {step.name!r}", list(arguments), self._limit_bytes)
        self._length.look()
        place = Place(self._execution_id, self._run_id, activity_id_of(step))
        task = start(step, place.activity_id, arguments, self._lease)
        self._activities[step.key] = _Requested(step, place, task)
        self._steps.keep(place, step)
        task.add_done_callback(lambda done: self._activity_done(step, done))

    def _tag(self, changes: Mapping[str, str | None]) -> None:
        """Change the tags, if that makes a difference: it writes an event into the history."""
        known = tags_in(workflow.info().typed_search_attributes)
        if (tags := changed(known, changes)) != known:
            workflow.upsert_search_attributes([update_of(tags)])

    def _start_timer(self, key: str, due_at: float) -> None:
        delay = seconds_until(due_at, workflow.time())
        task = self._timers[key] = self._loop.create_task(workflow.sleep(delay, summary=key))
        task.add_done_callback(lambda done: self._timer_done(key, done))

    # What the code asks its history (KeptHistory)

    @property
    def is_replaying(self) -> bool:
        with self._temporals_loop():
            return workflow.unsafe.is_replaying()

    def takes_patch(self, patch: str) -> bool:
        with self._temporals_loop():
            return workflow.patched(patch)

    @property
    def is_long(self) -> bool:
        with self._temporals_loop():
            return workflow.info().is_continue_as_new_suggested()

    @contextmanager
    def _temporals_loop(self) -> Iterator[None]:
        """Let Temporal's loop be the running one, by which its SDK knows the workflow."""
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self._loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(running)

    # The end

    def close(self) -> None:
        """Drop the code from memory."""
        if not self._is_closed:
            self._is_closed = True
            for requested in self._activities.values():
                self._steps.drop(requested.place)
            self._live.close()
