"""Giving the code of an execution the inputs of its history again: in any process, and without any effect.

Afterwards the process has all that only code can say: the records of the execution, with the events that the
code emitted, and the steps that it waits for. If the code asks for something else than the history has, the
difference is an error, as on every other backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from outlast.adapters.temporal.child_workflows import known_beforehand
from outlast.adapters.temporal.history import HistoryTask, TemporalHistory
from outlast.adapters.temporal.holding import HoldingPhase, TakeUp, is_control
from outlast.adapters.temporal.payloads import check_payload
from outlast.adapters.temporal.portions import Portions, brings_next
from outlast.adapters.temporal.requests import Past, payload_of, seconds_until
from outlast.core.departures import departure, differences
from outlast.core.errors import NonDeterminismError, PayloadTooLarge
from outlast.core.events import EventKind
from outlast.core.failure import Failure
from outlast.core.records import (
    REQUESTS,
    AnyRecord,
    EventEmitted,
    ExecutionPaused,
    ExecutionResumed,
    Input,
    Request,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.live_code import START, KeptHistory, LiveCode, MakeLiveCode

TIMER_SECONDS = 0.001
"""The most by which the length of a timer differs that Temporal has rounded."""


class CodeReplay(KeptHistory):
    """The code of one history, run again."""

    def __init__(self, execution_id: str, history: TemporalHistory, limit_bytes: int) -> None:
        self.records: list[AnyRecord] = []
        self.requested: Mapping[str, Step] = {}
        """The steps that the code waits for, by key."""
        self.reached = 0
        """The number of workflow tasks whose inputs the code has got."""
        self._execution_id = execution_id
        self._history = history
        self._holding = history.held_at_start()
        self._limit_bytes = limit_bytes
        self._task: HistoryTask | None = None
        self._ever_asked: set[str] = set()
        self._seconds: dict[str, float] = {}
        """The length of each timer."""
        self._portions = Portions()
        self._answered_before: set[str] = set()
        """The keys of the answers to updates of the journal; Temporal sees those that are sent again."""

    @property
    def is_replaying(self) -> bool:
        return True

    def takes_patch(self, patch: str) -> bool:
        return patch in self._history.patches

    @property
    def is_long(self) -> bool:
        return self._task is not None and self._task.suggests_new

    async def run(
        self,
        make: MakeLiveCode,
        definition: WorkflowDefinition,
        then: Callable[[LiveCode], object] = lambda live: None,
    ) -> None:
        """Run the code, and `then` a function that looks at it; other tasks go on meanwhile.

        Raises:
            NonDeterminismError: the code departs from the history. `records` is what came before.
            BusyWorkflow: the code does not come to rest.
        """
        history = self._history
        assert history.started is not None
        carried = history.carried
        journal = [history.started] if carried is None else carried.journal
        self.records.extend(journal)
        if not history.tasks:
            return
        for record in journal:
            if isinstance(record, UpdateAccepted):
                self._answered_before.add(UpdateCompleted(update_id=record.update_id).key)
        live = make(
            definition,
            WorkflowInfo(self._execution_id, history.workflow, history.task_queue),
            journal or [history.started],
            limit_bytes=self._limit_bytes,
            history=self,
            beginning=START if carried is None else carried.beginning,
        )
        try:
            self._task = history.tasks[0]
            window = _TaskWindow()
            await self._catch_up(live)
            if self._holding.phase is not HoldingPhase.HELD:
                await self._take_up(live, window)
            self._portions.begin_task()
            for record in () if carried is None else carried.inputs:
                await self._arrive(live, record, window)
            for task in history.tasks:
                if self.reached:
                    self._portions.begin_task()
                self._task = task
                self.reached += 1
                for record in task.inputs:
                    await self._arrive(live, record, window)
                window = _TaskWindow(self._compare(window, task))
            self.requested = dict(live.requested)
            then(live)
        finally:
            live.close()

    async def _take_up(self, live: LiveCode, window: _TaskWindow) -> None:
        """Let the code go on from its journal."""
        assert self._task is not None
        await self._come_to_rest(live, window)
        if live.machine.end is not None:
            self._answered_before.add(live.machine.end.key)
        for record in live.taken_up(self._task.at):
            await self._deliver(live, record, window)
        await self._begin_what_was_open(live, window)

    async def _begin_what_was_open(self, live: LiveCode, window: _TaskWindow) -> None:
        """Ask for what the code waits for since before this history."""
        machine, now = live.machine, 0.0 if self._task is None else self._task.at
        for key in list(machine.steps):
            if key in machine.steps and key not in window.asked:
                self._ask(machine.steps[key].scheduled, window)
                await self._look_at(live, live.requested[key], window)
        for key, child in list(machine.children.items()):
            if key not in window.asked:
                if child.id is not None:
                    child.lose()  # As the driver does.
                self._ask(child.scheduled, window)
                await self._look_at_child(live, key, window)
        for key, due_at in machine.timers.items():
            if key not in window.asked:
                self._ask(TimerStarted(key=key, due_at=due_at), window)
                self._seconds[key] = seconds_until(due_at, now)

    def _ask(self, request: Request, window: _TaskWindow) -> None:
        self._ever_asked.add(request.key)
        window.asked[request.key] = request

    async def _arrive(self, live: LiveCode, record: Input, window: _TaskWindow) -> None:
        """Take an input of the history, as the driver took it."""
        if is_control(record):
            await self._admit(live, record, window)
        elif brings_next(record):
            for waited in self._portions.next():
                await self._admit(live, waited, window)
        else:
            await self._give(live, record, window)

    async def _give(self, live: LiveCode, record: Input, window: _TaskWindow) -> None:
        """Give the code an input that has come, in this workflow task or a later one."""
        if self._portions.has_room_for(record):
            await self._admit(live, record, window)

    async def _admit(self, live: LiveCode, record: Input, window: _TaskWindow) -> None:
        """Give the code an input, unless it waits because the execution is held: see `holding`."""
        if live.machine.end is not None or live.carried is not None:
            return
        for effect in self._holding.arrive(record):
            match effect:
                case ExecutionPaused() | ExecutionResumed():
                    live.machine.note(effect)
                    await self._come_to_rest(live, window)
                case TakeUp():
                    await self._take_up(live, window)
                case _ if effect is record:
                    await self._deliver(live, record, window)
                case _:
                    await self._give(live, effect, window)

    async def _deliver(self, live: LiveCode, record: Input, window: _TaskWindow) -> None:
        if isinstance(record, StepCompleted | StepFailed | TimerFired):
            window.ended.add(record.key)
        live.deliver(record)
        await self._come_to_rest(live, window)

    async def _catch_up(self, live: LiveCode) -> None:
        while not live.go_on():  # noqa: ASYNC110  # others run between two portions
            await asyncio.sleep(0)

    async def _come_to_rest(self, live: LiveCode, window: _TaskWindow) -> None:
        await self._catch_up(live)
        machine = live.machine
        batch = machine.take_batch()
        self.records.extend(batch.records)
        for record in batch.records:
            if (
                isinstance(record, REQUESTS)
                and _is_in_history(record)
                and record.key not in self._answered_before
            ):
                self._ask(record, window)
                if isinstance(record, TimerStarted):
                    self._seconds[record.key] = record.due_at - machine.now
        for key, record in list(window.asked.items()):
            waited_for: Container[str] = machine.timers
            if isinstance(record, StepScheduled):
                waited_for = machine.children if record.kind is StepKind.CHILD else machine.steps
            if isinstance(record, StepScheduled | TimerStarted) and not (
                key in waited_for or key in window.ended
            ):
                # Temporal leaves out what is asked for and given up in one task.
                del window.asked[key]
        for key in batch.steps:
            # The failure of one step may have made the code give up another one.
            if (step := live.requested.get(key)) is not None:
                await self._look_at(live, step, window)

        for record in batch.records:
            if isinstance(record, StepScheduled) and record.key in machine.children:
                await self._look_at_child(live, record.key, window)

    async def _look_at_child(self, live: LiveCode, key: str, window: _TaskWindow) -> None:
        """Look whether the history has a child from the time when it was asked for."""
        at = live.machine.now if self._task is None else max(live.machine.now, self._task.at)
        _, known = known_beforehand(self._execution_id, live, key, at, self._limit_bytes)
        if known:
            window.asked.pop(key, None)
        for record in known:
            await self._deliver(live, record, window)

    async def _look_at(self, live: LiveCode, step: Step, window: _TaskWindow) -> None:
        """Look whether the history has a step from the time when it was asked for."""
        key, opened = step.key, live.machine.steps[step.key]
        at = live.machine.now if self._task is None else max(live.machine.now, self._task.at)
        if (done := live.recalled(opened.scheduled)) is not None:
            window.asked.pop(key, None)
            await self._deliver(live, done.with_(at=at), window)
            return
        if step.options.local:
            window.asked.pop(key, None)  # It is in the history once it has ended.
        try:
            arguments = payload_of(step, Past.of(self._execution_id, live, opened))
            check_payload(f"the arguments of {step.name!r}", list(arguments), self._limit_bytes)
        except PayloadTooLarge as error:
            window.asked.pop(key, None)
            failure = Failure.of(error)
            await self._deliver(live, StepFailed(at=at, key=key, attempts=0, failure=failure), window)

    def _compare(self, window: _TaskWindow, task: HistoryTask) -> dict[str, Request]:
        """Compare what the code asked for with what the history has, field by field.

        Return what the next task may have: a task can be completed right after a local activity has ended,
        before the code gets its result.
        """
        for key, recorded in task.requests.items():
            attempted = window.asked.get(key)
            if attempted is not None and differences(self._completed(recorded, attempted, task), attempted):
                raise self._departure(recorded, attempted)
            if attempted is None and not (key in self._ever_asked or key in self._answered_before):
                instead = next((one for key, one in window.asked.items() if key not in task.requests), None)
                raise self._departure(recorded, instead or "nothing more: the code waits or has ended")
        missing = {key: one for key, one in window.asked.items() if key not in task.requests}
        if missing and not task.local:
            attempted = next(iter(missing.values()))
            raise self._departure("nothing: the code asked for no more", attempted)
        return missing

    def _completed(self, recorded: Request, attempted: Request, task: HistoryTask) -> Request:
        """Return what is recorded, with those fields of the attempted request that no history holds."""
        match recorded, attempted:
            case StepScheduled(arguments=None), StepScheduled():
                known = {"about": attempted.about, "arguments": attempted.arguments}
                # The history of a local activity does not have its options.
                return recorded.with_(**known, effect=recorded.effect or attempted.effect)
            case StepScheduled(), StepScheduled():
                return recorded.with_(about=attempted.about)
            case TimerStarted(key=key, due_at=due), TimerStarted():
                # After a local activity, the time that the code saw is not in the history; lengths are.
                if abs(due - task.at - self._seconds[key]) < TIMER_SECONDS:
                    return attempted
        return recorded

    def _departure(self, recorded: AnyRecord | str, attempted: AnyRecord | str) -> NonDeterminismError:
        carried = self._history.carried
        before = 0 if carried is None else carried.beginning.records
        return departure(self._execution_id, before + len(self.records), recorded, attempted)


@dataclass(slots=True)
class _TaskWindow:
    """The requests of the code in one workflow task."""

    asked: dict[str, Request] = field(default_factory=dict)
    """The requests that the history must have, by key."""
    ended: set[str] = field(default_factory=set)
    """The keys of the steps and timers that ended in it."""


def _is_in_history(request: Request) -> bool:
    return not isinstance(request, EventEmitted) or request.kind == EventKind.PATCHED
