"""Our records from a history of Temporal: without a worker, and without the code of the workflow.

A history consists of workflow tasks. Each brings the code some inputs; once the task is completed, the
history also has what the code asked for. Events after the last completed task are not read, because the next
task may still bring more, such as a signal, which goes first.

The code gets the inputs of one task in a fixed order (see `input_order`): signals, results of activities,
timers, cancellation, updates. Local activities, which run inside the task, come last. A history does not say
which of several inputs caused a request, which events the code emitted, and what it keeps of a run in memory,
such as the active agent. Code that gets the same inputs again says that: see `code_replay`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure as TemporalFailure
from temporalio.api.history.v1 import (
    ActivityTaskScheduledEventAttributes,
    HistoryEvent,
)
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, TimeoutError

from outlast.adapters.temporal.carried import Carried
from outlast.adapters.temporal.child_workflows import PARENT, STEP, ended_badly, link_in, not_started
from outlast.adapters.temporal.failures import StepLimits, failure_in, step_failure
from outlast.adapters.temporal.holding import Holding, TakeUp, is_control
from outlast.adapters.temporal.input_order import turn_of
from outlast.adapters.temporal.messages import TAG_SIGNAL, read_sent, signal_id
from outlast.adapters.temporal.portions import NEXT_INPUTS, Portions, brings_next
from outlast.adapters.temporal.requests import TRACE, limits_in
from outlast.adapters.temporal.steps import key_of, name_in
from outlast.core.errors import ExecutionAlreadyExists
from outlast.core.events import PatchedData
from outlast.core.failure import Failure
from outlast.core.json import JSON, decode
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    ChildStarted,
    EventEmitted,
    ExecutionEnded,
    ExecutionStarted,
    Input,
    Request,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.step_keys import place_in, summary_key

UNKNOWN = "?"
"""Stands for the agent of a model call or a tool call, which only code knows."""


@dataclass(slots=True)
class HistoryTask:
    """One completed workflow task."""

    at: float
    """The time that its code saw."""
    length: int
    """The number of events up to its completion."""
    suggests_new: bool
    """True if Temporal suggested to go on in a new history."""
    others: list[Input]
    first: list[tuple[int, Input]] = field(default_factory=list)
    """Signals, each with the event after which it comes."""
    local: list[StepCompleted | StepFailed] = field(default_factory=list)
    """The ends of local activities."""
    requests: dict[str, Request] = field(default_factory=dict)
    """The requests of the code, by key."""
    children: Collection[str] = ()
    """The keys of the steps that are children."""

    @property
    def inputs(self) -> Iterator[Input]:
        """The inputs, in the order in which the code gets them."""
        yield from (record for _, record in sorted(self.first, key=lambda one: one[0]))
        yield from sorted(self.others, key=lambda record: turn_of(record, self.children))
        yield from self.local


@dataclass(slots=True)
class TemporalHistory:
    """One history, as far as its workflow tasks are completed."""

    workflow: str = ""
    task_queue: str = ""
    started: ExecutionStarted | None = None
    carried: Carried | None = None
    """The things that the history before has handed on, if this one continues it."""
    tasks: list[HistoryTask] = field(default_factory=list)
    patches: set[str] = field(default_factory=set)
    untaken: list[Input] = field(default_factory=list)
    """The inputs that no completed workflow task has given to the code."""
    stopped: ExecutionEnded | None = None
    """The end, if it was not the code that asked for it."""

    def held_at_start(self) -> Holding:
        """Return the state of the machine with which the history begins; see `holding`."""
        return Holding.at_start(is_held=self.carried is not None and self.carried.held is not None)

    def records(self) -> Iterator[AnyRecord]:
        """Yield what the history alone says, in order."""
        if self.started is not None and self.carried is None:
            yield self.started
        journal = () if self.carried is None else self.carried.journal
        yield from journal
        if journal and isinstance(journal[-1], ExecutionEnded):
            return  # It was imported after its end.
        holding = self.held_at_start()

        def arrive(record: Input) -> Iterator[AnyRecord]:
            return (effect for effect in holding.arrive(record) if not isinstance(effect, TakeUp))

        for record in () if self.carried is None else self.carried.inputs:
            yield from arrive(record)
        asked: set[str] = set()
        for task in self.tasks:
            # The history has a local activity only with its end.
            local = {record.key for record in task.local}
            for record in task.inputs:
                if brings_next(record):
                    continue
                key = record.key if isinstance(record, StepCompleted | StepFailed | TimerFired) else None
                if key in local and key in task.requests:
                    yield task.requests[key]
                    asked.add(key)
                yield from arrive(record)
            yield from (request for key, request in task.requests.items() if key not in asked)

    def left_over(self) -> Sequence[Input]:
        """Return the inputs that completed tasks have brought, and that still wait for the code."""
        holding, portions = self.held_at_start(), Portions()

        def give(record: Input) -> None:
            if portions.has_room_for(record):
                admit(record)

        def admit(record: Input) -> None:
            for effect in holding.arrive(record):
                if isinstance(effect, INPUTS) and effect is not record:
                    give(effect)

        portions.begin_task()
        for record in () if self.carried is None else self.carried.inputs:
            (admit if is_control(record) else give)(record)
        for number, task in enumerate(self.tasks):
            if number:
                portions.begin_task()
            for record in task.inputs:
                if brings_next(record):
                    for waited in portions.next():
                        admit(waited)
                else:
                    (admit if is_control(record) else give)(record)
        return [*holding.waiting, *portions.rest()]


class _AskedActivity(NamedTuple):
    """An activity in the history."""

    key: str
    limits: StepLimits


class _Reader:
    """Reads the events of one history, in order."""

    def __init__(self, converter: DataConverter) -> None:
        self.history = TemporalHistory()
        self._converter = converter
        self._activities: dict[int, _AskedActivity] = {}
        self._timers: dict[int, str] = {}
        self._children: dict[int, str] = {}
        """The keys of the steps that are children, by the event that asks for each."""
        self._child_keys: set[str] = set()
        self._signals = 0
        """The number of signals so far, without those that are for the driver."""
        self._began: tuple[int, float, bool] = (0, 0.0, False)
        """Event, time and suggestion of the workflow task that was begun last."""
        self.untaken: list[tuple[bool, int, Any]] = []
        """The inputs that no workflow task has brought: whether each goes first, its event, itself."""

    async def read(self, event: HistoryEvent) -> None:
        """Take the next event."""
        attributes = event.WhichOneof("attributes")
        read = getattr(self, f"_{(attributes or '').removesuffix('_event_attributes')}", None)
        if read is not None:
            await read(event, getattr(event, attributes or ""))

    # Workflow tasks

    async def _workflow_execution_started(self, event: HistoryEvent, started: Any) -> None:
        values = await self._values(started.input)
        self.history.workflow = started.workflow_type.name
        self.history.task_queue = started.task_queue.name
        self.history.carried = Carried.read(values[1]) if len(values) > 1 else None
        arguments = values[0] if values and isinstance(values[0], dict) else {}
        given, parent = started.memo.fields.get(TRACE), started.memo.fields.get(PARENT)
        self.history.started = ExecutionStarted(
            at=seconds_of(event),
            workflow=self.history.workflow,
            arguments=arguments,
            trace=None if given is None else (await self._values([given]))[0],
            parent=None if parent is None else link_in((await self._values([parent]))[0]),
        )

    async def _workflow_task_started(self, event: HistoryEvent, started: Any) -> None:
        self._began = (event.event_id, seconds_of(event), started.suggest_continue_as_new)

    async def _workflow_task_completed(self, event: HistoryEvent, _: Any) -> None:
        began, at, suggests_new = self._began
        task = HistoryTask(at, event.event_id, suggests_new, [], children=self._child_keys)
        # What came while the task was under way is for the next one.
        later: list[tuple[bool, int, Any]] = []
        for goes_first, number, record in self.untaken:
            if number > began:
                later.append((goes_first, number, record))
            elif goes_first:
                task.first.append((number, record.with_(at=at)))
            else:
                task.others.append(record.with_(at=at))
        self.untaken = later
        if not self.history.tasks and self.history.started is not None:
            self.history.started = self.history.started.with_(at=at)
        self.history.tasks.append(task)

    # Inputs

    def _input(self, event: HistoryEvent, record: Input, *, goes_first: bool = False) -> None:
        self.untaken.append((goes_first, event.event_id, record))

    async def _workflow_execution_signaled(self, event: HistoryEvent, sent: Any) -> None:
        if sent.signal_name == TAG_SIGNAL:
            return
        self._signals += 1
        carried = self.history.carried
        histories = 0 if carried is None else carried.beginning.histories
        arguments, named = read_sent(await self._values(sent.input))
        signal = SignalReceived(
            at=0.0,
            message_id=signal_id(histories, self._signals),
            name=sent.signal_name,
            arguments=tuple(arguments),
            named=dict(named),
        )
        self._input(event, signal, goes_first=True)

    async def _workflow_execution_cancel_requested(self, event: HistoryEvent, _: Any) -> None:
        self._input(event, CancelRequested(at=0.0, message_id="cancel"))

    async def _workflow_execution_update_accepted(self, _: HistoryEvent, accepted: Any) -> None:
        request = accepted.accepted_request
        arguments, named = read_sent(await self._values(request.input.args))
        task = self.history.tasks[-1]
        update = UpdateAccepted(
            at=task.at,
            update_id=request.meta.update_id,
            name=request.input.name,
            arguments=tuple(arguments),
            named=dict(named),
        )
        task.others.append(update)

    async def _activity_task_completed(self, event: HistoryEvent, completed: Any) -> None:
        key, _ = self._activities[completed.scheduled_event_id]
        [result] = await self._values(completed.result) or [None]
        self._input(event, StepCompleted(at=0.0, key=key, result=result))

    async def _activity_task_failed(self, event: HistoryEvent, failed: Any) -> None:
        key, limits = self._activities[failed.scheduled_event_id]
        failure, attempts = await self._failed(failed.failure, limits)
        self._input(event, StepFailed(at=0.0, key=key, attempts=attempts, failure=failure))

    _activity_task_timed_out = _activity_task_failed

    async def _child_workflow_execution_started(self, event: HistoryEvent, started: Any) -> None:
        if (key := self._children.get(started.initiated_event_id)) is not None:
            self._input(event, ChildStarted(at=0.0, key=key, child=started.workflow_execution.workflow_id))

    async def _start_child_workflow_execution_failed(self, event: HistoryEvent, failed: Any) -> None:
        if (key := self._children.get(failed.initiated_event_id)) is not None:
            refused = ExecutionAlreadyExists(failed.workflow_id, "parent")
            self._input(event, not_started(key, 0.0, refused, failed.workflow_id))

    async def _child_workflow_execution_completed(self, event: HistoryEvent, completed: Any) -> None:
        if (key := self._children.get(completed.initiated_event_id)) is not None:
            [result] = await self._values(completed.result) or [None]
            self._input(event, StepCompleted(at=0.0, key=key, result=result))

    async def _child_workflow_execution_failed(self, event: HistoryEvent, failed: Any) -> None:
        self._child_ended(event, failed, await self._converter.decode_failure(_copy(failed.failure)))

    async def _child_workflow_execution_canceled(self, event: HistoryEvent, ended: Any) -> None:
        self._child_ended(event, ended, CancelledError("cancelled"))

    async def _child_workflow_execution_terminated(self, event: HistoryEvent, ended: Any) -> None:
        self._child_ended(event, ended, TerminatedError("terminated"))

    async def _child_workflow_execution_timed_out(self, event: HistoryEvent, ended: Any) -> None:
        late = TimeoutError("timed out", type=None, last_heartbeat_details=[])
        self._child_ended(event, ended, late)

    def _child_ended(self, event: HistoryEvent, ended: Any, cause: BaseException) -> None:
        if (key := self._children.get(ended.initiated_event_id)) is not None:
            child, name = ended.workflow_execution.workflow_id, ended.workflow_type.name
            self._input(event, ended_badly(key, 0.0, child, name, cause))

    async def _timer_fired(self, event: HistoryEvent, fired: Any) -> None:
        if (key := self._timers.get(fired.started_event_id)) is not None:
            self._input(event, TimerFired(at=0.0, key=key))

    async def _marker_recorded(self, _: HistoryEvent, marker: Any) -> None:
        if marker.marker_name == "core_patch":
            patch = _data(marker.details["patch-data"])["id"]
            self.history.patches.add(patch)
            self._request(EventEmitted.of(f"patch:{patch}", PatchedData(patch=patch)))
        elif marker.marker_name == "core_local_activity":
            await self._local_activity(marker)

    async def _local_activity(self, marker: Any) -> None:
        data, task = _data(marker.details["data"]), self.history.tasks[-1]
        if data.get("backoff"):
            return  # Temporal tries it again, after a timer of its own.
        activity_id, name = data["activity_id"], data["activity_type"]
        key = key_of(activity_id)
        self._request(_scheduled(activity_id, name, None, has_arguments=True))
        if marker.HasField("failure"):
            failure, attempts = await self._failed(marker.failure, StepLimits(name))
            task.local.append(StepFailed(at=task.at, key=key, attempts=attempts, failure=failure))
        else:
            [result] = await self._values(marker.details["result"]) or [None]
            task.local.append(StepCompleted(at=task.at, key=key, result=result))

    # Requests

    def _request(self, request: Request) -> None:
        self.history.tasks[-1].requests[request.key] = request

    async def _activity_task_scheduled(
        self, event: HistoryEvent, scheduled: ActivityTaskScheduledEventAttributes
    ) -> None:
        arguments = (await self._values(scheduled.input) or [None])[0]
        name = scheduled.activity_type.name
        asked = _scheduled(scheduled.activity_id, name, arguments, has_arguments=arguments is not None)
        limits = limits_in(scheduled)
        self._activities[event.event_id] = _AskedActivity(asked.key, limits)
        self._request(asked.with_(effect="once") if limits.is_once else asked)

    async def _start_child_workflow_execution_initiated(self, event: HistoryEvent, asked: Any) -> None:
        if (step := asked.memo.fields.get(STEP)) is None:
            return  # Code of Temporal's own has started it.
        [given] = await self._values([step])
        [arguments] = await self._values(asked.input) or [None]
        key = self._children[event.event_id] = given["key"]
        self._child_keys.add(key)
        self._request(
            StepScheduled(
                key=key,
                kind=StepKind.CHILD,
                name=asked.workflow_type.name,
                arguments=arguments,
                about=given["about"],
            )
        )

    async def _timer_started(self, event: HistoryEvent, started: Any) -> None:
        if event.user_metadata.HasField("summary"):
            [key] = await self._values([event.user_metadata.summary])
            self._timers[event.event_id] = key
            if key == NEXT_INPUTS:
                return  # It is no timer of the code.
            seconds = started.start_to_fire_timeout.ToNanoseconds() / 1e9
            self._request(TimerStarted(key=key, due_at=self.history.tasks[-1].at + seconds))

    async def _workflow_execution_update_completed(self, _: HistoryEvent, completed: Any) -> None:
        update_id, outcome = completed.meta.update_id, completed.outcome
        if outcome.HasField("failure"):
            failure = failure_in(await self._converter.decode_failure(outcome.failure))
            self._request(UpdateCompleted(update_id=update_id, failure=failure))
        else:
            [result] = await self._values(outcome.success) or [None]
            self._request(UpdateCompleted(update_id=update_id, result=result))

    async def _workflow_execution_completed(self, _: HistoryEvent, completed: Any) -> None:
        [result] = await self._values(completed.result) or [None]
        self._request(ExecutionEnded(status=Status.COMPLETED, result=result))

    async def _workflow_execution_failed(self, _: HistoryEvent, failed: Any) -> None:
        failure = failure_in(await self._converter.decode_failure(failed.failure))
        self._request(ExecutionEnded(status=Status.FAILED, failure=failure))

    async def _workflow_execution_canceled(self, _: HistoryEvent, __: Any) -> None:
        self._request(ExecutionEnded(status=Status.CANCELLED))

    async def _workflow_execution_terminated(self, event: HistoryEvent, _: Any) -> None:
        self.history.stopped = stopped_by(event)

    _workflow_execution_timed_out = _workflow_execution_terminated

    # Values

    async def _values(self, payloads: Payloads | Sequence[Payload]) -> list[Any]:
        given = payloads.payloads if isinstance(payloads, Payloads) else payloads
        return await self._converter.decode(given) if given else []

    async def _failed(self, failure: TemporalFailure, limits: StepLimits) -> tuple[Failure, int]:
        error = await self._converter.decode_failure(_copy(failure))
        return step_failure(error, limits) or (failure_in(error), 1)


async def attempt_note(
    key: str, at: float, failure: TemporalFailure, converter: DataConverter
) -> AttemptFailed | None:
    """Return the record of a failed attempt that was tried again; None if it does not count as one."""
    error = await converter.decode_failure(_copy(failure))
    if isinstance(error, ApplicationError) and len(error.details) > 1 and error.details[1]:
        attempt: int = error.details[1]
        return AttemptFailed(at=at, key=key, attempt=attempt, failure=failure_in(error), retry_at=at)
    return None


async def read_history(events: Iterable[HistoryEvent], converter: DataConverter) -> TemporalHistory:
    """Return what a history says; `converter` decodes its payloads."""
    reader = _Reader(converter)
    for event in events:
        await reader.read(event)
    came = (record for _, _, record in reader.untaken if not brings_next(record))
    reader.history.untaken = [*reader.history.left_over(), *came]
    return reader.history


def stopped_by(event: HistoryEvent) -> ExecutionEnded | None:
    """Return the end of an execution that did not ask for it, if this event is one."""
    match event.WhichOneof("attributes"):
        case "workflow_execution_terminated_event_attributes":
            reason = event.workflow_execution_terminated_event_attributes.reason
            return ExecutionEnded(status=Status.TERMINATED, reason=reason or None)
        case "workflow_execution_timed_out_event_attributes":
            return ExecutionEnded(status=Status.TERMINATED, reason="it was ended by Temporal: timed_out")
    return None


def _scheduled(activity_id: str, name: str, arguments: JSON, *, has_arguments: bool) -> StepScheduled:
    """Return the record of a step, as far as the history has it."""
    key = key_of(activity_id)
    if name_in(activity_id) is not None:
        return StepScheduled(key=key, kind=StepKind.ACTIVITY, name=name, arguments=arguments)
    try:
        place = place_in(key)
    except ValueError:
        return StepScheduled(key=key, kind=StepKind.ACTIVITY, name=name)
    about: dict[str, JSON] = {"agent": UNKNOWN}
    if place.call_id is not None:
        source: dict[str, JSON] = {} if has_arguments else {"source": UNKNOWN}
        return StepScheduled(key=key, kind=StepKind.TOOL, name=name, about={**about, **source})
    kind = StepKind.SUMMARY if key == summary_key(place.run, place.turn) else StepKind.MODEL
    return StepScheduled(key=key, kind=kind, name=name, about=about)


def seconds_of(event: HistoryEvent) -> float:
    """Return the time of an event, in seconds since the epoch."""
    return event.event_time.ToNanoseconds() / 1e9


def _data(payloads: Payloads) -> Mapping[str, Any]:
    """Return what Temporal's own library wrote into a marker; no codec of ours sees it."""
    data: Mapping[str, Any] = decode(payloads.payloads[0].data)
    return data


def _copy(failure: TemporalFailure) -> TemporalFailure:
    copy = TemporalFailure()
    copy.CopyFrom(failure)
    return copy
