"""Driving the code of one execution from inside a Temporal workflow.

The code runs on our own loop, as on every backend; Temporal's loop, which is deterministic too, only carries
this driver. Signals, activity results, timers, cancellation and updates come in as inputs, in that order if
one workflow task brings several; if it brings many, in portions (`portions`). After each, the code runs until
it is at rest, and then this driver asks Temporal for what the code asks for: activities and timers. So the
records of an execution are those that it would have elsewhere.

An error in here never gets lost: the workflow task fails with it, once for each try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow

from outlast.adapters.temporal.carried import Carried
from outlast.adapters.temporal.child_workflows import PARENT, AskedChildren, link_in
from outlast.adapters.temporal.failures import StepLimits, step_failure
from outlast.adapters.temporal.holding import Holding, HoldingPhase, TakeUp, is_control
from outlast.adapters.temporal.input_order import turn_of
from outlast.adapters.temporal.kept_records import KeptRecords
from outlast.adapters.temporal.memo import HELD
from outlast.adapters.temporal.messages import TAG_SIGNAL, signal_id
from outlast.adapters.temporal.payloads import check_payload
from outlast.adapters.temporal.portions import NEXT_INPUTS, Portions, brings_next
from outlast.adapters.temporal.requests import (
    TRACE,
    LengthWarning,
    Past,
    payload_of,
    seconds_until,
    start,
)
from outlast.adapters.temporal.search_attributes import tags_in, update_of
from outlast.adapters.temporal.steps import OpenSteps, Place, activity_id_of
from outlast.core.errors import ActivityInterrupted, NotSupported, PayloadTooLarge
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
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
)
from outlast.core.tags import changed, changes_in
from outlast.core.waiting import overview_of, pause_in_words
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.live_code import START, KeptHistory, MakeLiveCode

RUNNING_SECONDS_MAX = 1.8
"""The longest time for which code may compute after one input; see also `worker.DEADLOCK_SECONDS`."""


@dataclass(slots=True)
class _Requested:
    """An activity that the code waits for."""

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
        self._takes_messages = bool(definition.signals or definition.updates)
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
        """The inputs that this workflow task has brought, beside signals."""
        self._portions = Portions()
        self._task_length = -1
        """The number of events in the history when the present workflow task began."""
        self._is_closed = False
        beginning = START if carried is None else carried.beginning
        self._histories = beginning.histories
        self._signals = 0
        """The number of signals that this history has brought, without those that are for the driver."""
        self.records = KeptRecords(writes_json, beginning.records)
        """The records of this history."""
        started = ExecutionStarted(
            at=workflow.time(),
            workflow=definition.name,
            arguments=arguments,
            trace=workflow.memo_value(TRACE, None, type_hint=str),
            parent=link_in(workflow.memo_value(PARENT, None)),
        )
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
        first = journal[0] if journal else started
        since = first.at if isinstance(first, ExecutionStarted) else started.at
        self._children = AskedChildren(
            self._execution_id, since, self._live, limit_bytes, lambda record: self._arrived.append(record)
        )
        self._holding = Holding.at_start(is_held=carried is not None and carried.held is not None)
        self._act(self._live.go_on)
        if self._is_taken_up:
            self._take_up()
        for record in () if carried is None else carried.inputs:
            self._arrive(record)

    @property
    def _is_taken_up(self) -> bool:
        return self._holding.phase is not HoldingPhase.HELD

    def _take_up(self) -> None:
        """Let the code go on from its journal."""
        self._act(lambda: None)
        for record in self._live.taken_up(workflow.time()):
            self._deliver(record)
        self._begin_what_was_open()

    # What comes from Temporal

    def signal(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> None:
        """Take a signal: for the code, or for this driver."""
        if name == TAG_SIGNAL:
            self._tag({tag: value for tag, value in named.items() if isinstance(value, str | None)})
            return
        self._signals += 1
        self._arrive(
            SignalReceived(
                at=workflow.time(),
                message_id=signal_id(self._histories, self._signals),
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
            self._arrived.append(update)
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
        check_payload(f"the answer to query {name!r}", answer, self._limit_bytes)
        return answer

    def overview(self) -> JSON:
        """Return the overview as text, and the number of histories before, whose turns are not in it."""
        overview = overview_of(self._live.machine, takes_messages=self._takes_messages)
        return {"overview": overview.to_text(), "before": self._histories}

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
            arrived = sorted(self._arrived, key=lambda record: turn_of(record, self._children.keys))
            self._arrived = []
            for record in arrived:
                self._arrive(record)
        if self._error is not None:
            raise self._error
        if (end := self._live.machine.end) is not None:
            return end
        assert self._live.carried is not None
        self._left += [
            one for one in self._portions.rest() if isinstance(one, (SignalReceived, CancelRequested))
        ]
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
        final = None if error is None else step_failure(error, StepLimits.of(step))
        failure, attempts = final or (Failure.of(ActivityInterrupted(step.name)), 1)
        self._arrived.append(StepFailed(at=at, key=step.key, attempts=attempts, failure=failure))

    def _timer_done(self, key: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._timers.pop(key, None) is not None:
            self._arrived.append(TimerFired(at=workflow.time(), key=key))

    def _arrive(self, record: Input) -> None:
        """Take an input that Temporal has brought."""
        if is_control(record):
            self._admit(record)
        elif brings_next(record):
            self._give_next()
        else:
            self._give(record)

    def _give(self, record: Input) -> None:
        """Give the code an input that has come, in this workflow task or a later one."""
        self._look_for_new_task()
        if self._portions.has_room_for(record):
            self._admit(record)
        elif NEXT_INPUTS not in self._timers:
            self._start_timer(NEXT_INPUTS, workflow.time())

    def _give_next(self) -> None:
        """Give the code the next portion of the inputs that wait."""
        self._look_for_new_task()
        for record in self._portions.next():
            self._admit(record)
        if self._portions and not self._is_over:
            self._start_timer(NEXT_INPUTS, workflow.time())

    def _look_for_new_task(self) -> None:
        length = workflow.info().get_current_history_length()
        if length != self._task_length:
            self._task_length = length
            self._portions.begin_task()

    def _admit(self, record: Input) -> None:
        """Give the code an input, unless it waits because the execution is held: see `holding`."""
        if self._is_over:
            self._deliver(record)
            return
        for effect in self._holding.arrive(record):
            match effect:
                case ExecutionPaused():
                    self._note(effect)
                    workflow.upsert_memo({HELD: pause_in_words(effect.reason)})
                case ExecutionResumed():
                    workflow.upsert_memo({HELD: None})
                    self._note(effect)
                case TakeUp():
                    workflow.upsert_memo({HELD: None})
                    self._take_up()
                case _ if effect is record:
                    self._deliver(record)
                case _:
                    self._give(effect)

    def _note(self, note: ExecutionPaused | ExecutionResumed) -> None:
        self._act(lambda: self._live.machine.note(note))

    def _deliver(self, record: Input) -> None:
        """Give the code an input."""
        if self._live.carried is not None and isinstance(record, (SignalReceived, CancelRequested)):
            self._left.append(record)
        else:
            self._act(lambda: self._live.deliver(record))

    def _begin_what_was_open(self) -> None:
        """Ask Temporal for what the code waits for since before this history."""
        machine = self._live.machine
        for key in list(machine.steps):
            if key in machine.steps and key not in self._activities and (end := self._begin(key)) is not None:
                self._deliver(end)
        for key in list(machine.children):
            if key not in self._children.keys:
                for record in self._children.begin(key):
                    self._deliver(record)
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
            if self._is_taken_up:
                self._ask_temporal()
        except Exception as error:
            self._error = error
            self._is_over = True

    # What is asked of Temporal

    def _ask_temporal(self) -> None:
        machine = self._live.machine
        batch = machine.take_batch()
        known: list[Input] = []
        """The ends of steps that are known already, and of children their starts."""
        for record, written in zip(batch.records, self._live.encoder.take(batch.records), strict=True):
            self.records.keep(written)
            match record:
                case StepScheduled(key=key) if key in machine.children:
                    known += self._children.begin(key)
                case StepScheduled(key=key) if key in machine.steps:
                    if (end := self._begin(key)) is not None:
                        known.append(end)
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
        for key in [key for key in self._timers if key not in machine.timers and key != NEXT_INPUTS]:
            self._timers.pop(key).cancel()
        if machine.end is not None or self._live.carried is not None:
            self._is_over = True
        for record in known:
            self._deliver(record)

    def _begin(self, key: str) -> Input | None:
        """Start the activity for a step; return the step's end, if that is known already."""
        step, opened = self._live.requested[key], self._live.machine.steps[key]
        done: Input | None = self._live.recalled(opened.scheduled)
        if done is None:
            try:
                self._start_activity(step, Past.of(self._execution_id, self._live, opened))
            except PayloadTooLarge as error:
                done = StepFailed(at=0.0, key=key, attempts=0, failure=Failure.of(error))
        return None if done is None else done.with_(at=workflow.time())

    def _start_activity(self, step: Step, past: Past | None) -> None:
        arguments = payload_of(step, past)
        check_payload(f"the arguments of {step.name!r}", list(arguments), self._limit_bytes)
        self._length.look()
        place = Place(self._execution_id, self._run_id, activity_id_of(step))
        task = start(step, place.activity_id, arguments, self._lease)
        self._activities[step.key] = _Requested(place, task)
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
            self._children.close()
            for requested in self._activities.values():
                self._steps.drop(requested.place)
            self._live.close()
