"""One execution in memory: its workflow object, its loop, and the machine that holds both to the journal.

Nothing here waits. A driver delivers inputs one by one. After each, the code runs until it is at rest; the
workflow machine then holds the requests of the code, which must be written before any of them may begin.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from outlast.core.approvals import DECISION_SIGNAL, read_decision
from outlast.core.children import OpenChild
from outlast.core.errors import (
    ActivityInterrupted,
    BusyWorkflow,
    CodeInterrupted,
    DefinitionError,
    ForeignError,
    InvalidArguments,
    OutcomeUnknown,
    PayloadTooLarge,
    check_size,
)
from outlast.core.failure import Failure, step_error
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    CancelRequested,
    ChildStarted,
    ExecutionEnded,
    ExecutionStarted,
    Input,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)
from outlast.core.reruns import counted
from outlast.core.spans import attempt_context, trace_in
from outlast.core.trace_context import TraceContext
from outlast.core.updates import GAVE_UP
from outlast.core.workflow_machine import MachinePhase, OpenStep, WorkflowMachine
from outlast.ports.definitions import HandlerDefinition, WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.live_code import START, Beginning, KeptHistory, LiveCode
from outlast.runtime.attempts.observing import Watches
from outlast.runtime.definitions.determinism_guard import own_code, user_code, workflow_code
from outlast.runtime.executions.back_offs import BackOffs
from outlast.runtime.executions.child_looks import Looks
from outlast.runtime.executions.execution_log import ExecutionLog
from outlast.runtime.executions.handler_calls import known_handler, load_handler_arguments, update_call
from outlast.runtime.executions.live_context import LiveContext
from outlast.runtime.executions.questions import ANSWER_HANDLER
from outlast.runtime.executions.steering import INTERRUPT_HANDLER, SAY_HANDLER
from outlast.runtime.isolation.at_work import mark_of
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.pace import PORTION_SECONDS
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.isolation.watchdog import Section, watched

T = TypeVar("T")

logger = logging.getLogger("outlast.workflow")

RUNNING_SECONDS_MAX = 10.0
"""The default for the time of the processor that code may take between two inputs."""
CALLBACKS_AT_ONCE = 64
"""The number of callbacks that run between two readings of the clock."""


class LiveExecution(LiveCode):
    """The workflow code of one execution, in memory.

    The code runs for short moments. The driver calls `go_on` until the code is `at_rest`, first to catch up
    with the journal, then after each delivered input. Between two calls, other executions can run.

    Raises `NonDeterminismError` from `go_on` and `deliver` when the code departs from the journal, and
    `BusyWorkflow` when it has taken the processor for longer than `running_seconds_max` since the last input.
    Afterwards the object can only be closed.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        info: WorkflowInfo,
        records: Sequence[AnyRecord],
        *,
        limit_bytes: int,
        running_seconds_max: float | None = None,
        history: KeptHistory | None = None,
        beginning: Beginning = START,
    ) -> None:
        self.definition = definition
        journal = counted(records)
        self.machine = WorkflowMachine(
            info.execution_id,
            journal.records,
            length=journal.length,
            places=journal.places,
            reopened=journal.reopened,
            void=journal.void,
        )
        self._undelivered = list(journal.undelivered)
        self._journal = journal
        started = records[0] if records and isinstance(records[0], ExecutionStarted) else None
        self._context = LiveContext(
            info,
            started,
            journal,
            self.machine,
            limit_bytes=limit_bytes,
            history=history,
            has_journal=history is None or len(records) > 1,
            beginning=beginning,
        )
        self._loop = self._context.loop
        self.encoder = self._context.encoder
        self.requested = self._context.requested
        self.consumed = 0
        """The number of the last message that was delivered."""
        self.back_offs = BackOffs()
        self.looks = Looks()
        self.started = started
        self.task_queue = info.task_queue
        self._info = info
        self._mark = mark_of(info.execution_id)
        self._limit_bytes = limit_bytes
        self._running_seconds_max = (
            RUNNING_SECONDS_MAX if running_seconds_max is None else running_seconds_max
        )
        # On a busy machine, code that takes little of the processor may take long all the same. But an engine
        # that has a history gives a task up by the wall clock, so the code must be given up before.
        self._taken = time.thread_time if history is None else time.monotonic
        self._running = False
        """True while the code still works on the last input."""
        self._input: Input | None = None
        """The last input, until the code has got it."""
        self._seconds = 0.0
        """The time for which the code has run since the last input."""
        self._beginning = beginning
        is_first = started is not None and len(records) == 1
        self._log = ExecutionLog(
            info.execution_id, definition.name, self.requested, started if is_first else None
        )
        self._watches = Watches(info.execution_id, records)
        self._trace = trace_in(info.execution_id, records)
        self._cancelled = False
        self._failure: BaseException | None = None
        self._root: asyncio.Task[Any] | None = None
        self._instance: Any = None

    @property
    def at_rest(self) -> bool:
        """True if the code has caught up with its journal, and waits for an input or has ended."""
        return not self._running and self.machine.phase is not MachinePhase.REPLAYING

    def report(self, records: Sequence[AnyRecord], now: float | None = None) -> None:
        if self._context.is_replaying:
            self._watches.read(records)
        else:
            self._log.wrote(records, now)
            self._watches.wrote(records)

    def child_context(self, child: OpenChild) -> TraceContext:
        key = f"{self._info.execution_id}/{child.scheduled.idempotency_key}"
        return attempt_context(self._trace, key, child.number + 1, self.reopened)

    def attempt_context(self, opened: OpenStep) -> TraceContext:
        key = f"{self._info.execution_id}/{opened.scheduled.idempotency_key}"
        return attempt_context(self._trace, key, opened.attempt, self.reopened)

    def go_on(self) -> bool:
        """Let the code run for a moment, and return whether it is at rest."""
        deadline = time.monotonic() + PORTION_SECONDS
        while True:
            if self._running and not self._run(deadline):
                return False
            # This is checked also after the code has ended: nothing may be left in the journal then.
            record = None if self.machine.phase is MachinePhase.LIVE else self.machine.advance()
            if record is None:
                return True
            self._begin(record)
            if time.monotonic() >= deadline:
                return False

    def deliver(self, record: Input) -> bool:
        """Give the code an input and let it run for a moment; False if nobody waits for it any more.

        Only code that is at rest can be given an input. Code that continues as new gets no more.
        """
        if self._context.carried is not None or self.machine.phase is not MachinePhase.LIVE:
            return False
        if not self.machine.accept(record):
            return False
        self._begin(record)
        self.go_on()
        return True

    def deliver_update(self, update: UpdateAccepted) -> None:
        """Give the code an update, unless it has it already; if it is rejected, a note says why."""
        if self.machine.phase is not MachinePhase.LIVE or not self.machine.takes_update(update.update_id):
            return
        objection = self.objection(update)
        if objection is None:
            self.deliver(update)
        else:
            note = UpdateNotAccepted(at=update.at, update_id=update.update_id, failure=objection)
            self.machine.note(note)

    def taken_up(self, now: float) -> Iterator[Input]:
        yield from self._void_inputs(now)
        yield from self._given_up(now)

    def _void_inputs(self, now: float) -> Iterator[Input]:
        while self._undelivered:
            yield self._undelivered.pop(0).with_(at=now)

    def _given_up(self, now: float) -> Iterator[Input]:
        """Yield the ends of the steps that a lost worker may have run and that must not be run again."""
        for key, opened in list(self.machine.steps.items()):
            # The failure of one step may have made the code give up another one.
            if key not in self.machine.steps or not opened.in_doubt:
                continue
            step, attempts = self.requested[key], opened.attempt - 1
            error: Exception | None = None
            if step.options.effect == "once":
                error = OutcomeUnknown(step.name)
            elif opened.losses and opened.counted > step.options.retry.max_attempts:
                error = ActivityInterrupted(step.name, opened.counted - 1)
            if error is not None:
                yield StepFailed(at=now, key=key, attempts=attempts, failure=Failure.of(error))

    def ask(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> JSON:
        """Return the answer of the query handler `name`.

        Raises:
            OutlastError: the workflow does not have that handler, or the arguments do not fit it.
            Exception: the exception of the handler.
        """
        with contained(self._context.unwinds):
            return self._watched(self._asked, name, arguments, named)

    def _asked(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> JSON:
        handler = self.definition.queries.get(name)
        if handler is None:
            raise InvalidArguments(
                f"query {name}", [f"workflow {self.definition.name!r} has no query of that name"]
            )
        args, kwargs = load_handler_arguments(handler, arguments, named)
        if self._instance is None:
            raise InvalidArguments(f"query {name}", ["the workflow failed before it could be asked anything"])
        method = getattr(self._instance, handler.method)
        with self._context.reading():
            answer = self._context.run(functools.partial(method, *args, **kwargs))
        return handler.signature.dump_result(answer)

    def close(self) -> None:
        """Drop the code from memory; no part of it runs any longer."""
        with workflow_code(), suppress(CodeInterrupted):
            watched(Section(self._mark), self._loop.close)
        while self._loop.dropped_at:
            place = self._loop.dropped_at.pop()
            logger.warning(
                "execution %s leaves this worker, but its code catches that and goes on at %s; it is dropped "
                "as it stands. Let `except:` and `except BaseException:` re-raise what is not an Exception",
                self._info.execution_id,
                place,
            )

    # Running the code

    def _begin(self, record: Input) -> None:
        self._loop.advance(self.machine.now)
        self._input = record
        self._running = True
        self._seconds = 0.0

    def _run(self, deadline: float) -> bool:
        """Run until the code is at rest, and return True; or, once the deadline has passed, False."""
        began = self._taken()
        with workflow_code(), own_code():
            self._running = not self._watched(self._run_portion, deadline)
        if self._context.departure is not None:
            raise self._context.departure
        if self._running:
            self._check_seconds(self._taken() - began)
            return False
        if self._root is not None and self.machine.end is None:
            self._close_if_ended(self._root)
        if self.machine.phase is MachinePhase.REPLAYING:
            self.encoder.forget()
        return True

    def _watched(self, run: Callable[..., T], *arguments: Any) -> T:
        """Return `run(*arguments)`; code that held the thread for too long is dropped, whatever it returned.

        Other workers may interrupt the code elsewhere or not at all, so it must not be seen in the journal.
        """
        section = Section(self._mark)
        try:
            return watched(section, run, *arguments)
        finally:
            if section.interruptions:
                raise BusyWorkflow(self._info.execution_id, section.seconds, section.place)

    def _run_portion(self, deadline: float) -> bool:
        if self._input is not None:
            record, self._input = self._input, None
            self._context.run(self._hand_over, record)
        return self._drain(deadline)

    def _drain(self, deadline: float) -> bool:
        while True:
            while not self._loop.drain(CALLBACKS_AT_ONCE):
                if time.monotonic() >= deadline:
                    return False
            if not self._context.settle_conditions():
                return True
            # Code whose conditions make each other true has no end to its callbacks either.
            if time.monotonic() >= deadline:
                return False

    def _end(self, key: str) -> Step | None:
        step = self.requested.pop(key, None)
        if not self._context.is_replaying:
            self._log.ends(step)
        return step

    def _check_seconds(self, more: float) -> None:
        self._seconds += more
        if self._seconds > self._running_seconds_max:
            raise BusyWorkflow(self._info.execution_id, self._seconds, self._loop.place())

    def _hand_over(self, record: Input) -> None:
        match record:
            case ExecutionStarted(arguments=arguments):
                self._start(arguments)
            case StepCompleted(key=key, result=result):
                self._end(key)
                self._context.complete(key, result)
            case StepFailed(key=key):
                step = self._end(key)
                if step is not None and step.kind is StepKind.CHILD:
                    self._context.fail(key, record.failure.error())
                else:
                    name = key if step is None else step.name
                    self._context.fail(key, step_error(record.failure, name, record.attempts))
            case ChildStarted(key=key, child=child):
                self._context.child_started(key, child)
            case TimerFired(key=key):
                self._loop.fire(key)
            case SignalReceived():
                self._signal(record)
            case UpdateAccepted():
                self._loop.create_task(self._answer(record))
            case CancelRequested():
                # Only the first request interrupts the code: a second one must not interrupt its cleanup.
                if self._root is not None and not self._cancelled:
                    self._cancelled = True
                    self._root.cancel()

    def _start(self, arguments: Mapping[str, JSON]) -> None:
        self._root = self._loop.start(self._main(dict(arguments)))

    async def _main(self, arguments: dict[str, JSON]) -> JSON:
        self._instance = self.definition.cls()
        args, kwargs = self.definition.signature.load_arguments(arguments)
        result = await getattr(self._instance, self.definition.entrypoint)(*args, **kwargs)
        return self.definition.signature.dump_result(result)

    def _signal(self, record: SignalReceived) -> None:
        try:
            if record.name == DECISION_SIGNAL:
                self._context.decisions.keep(read_decision(record.named))
                return
            handler = known_handler(self.definition.signals, "signal", record.name)
            with contained(self._context.unwinds), user_code():
                args, kwargs = load_handler_arguments(handler, record.arguments, record.named)
        except (InvalidArguments, DefinitionError, ForeignError) as error:
            # The sender's mistake must not end an execution that others rely on.
            if not self._context.is_replaying:
                logger.warning("execution %s drops a signal: %s", self._info.execution_id, error)
            return
        self._loop.create_task(self._handle(handler, args, kwargs))

    async def _handle(
        self, handler: HandlerDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Run a signal handler; an exception of the handler ends the execution, as in Temporal."""
        with self._context.handling():
            try:
                with contained(self._context.unwinds):
                    answer = getattr(self._instance, handler.method)(*args, **kwargs)
                    if inspect.isawaitable(answer):
                        await answer
            except Exception as error:
                self._failure = self._failure or error

    def objection(self, update: UpdateAccepted) -> Failure | None:
        """Return the reason to reject an update, or None; this does not change the execution."""
        try:
            with contained(self._context.unwinds), self._context.reading():
                self._watched(self._context.run, self._validate, update)
        except Exception as error:
            return failure_of(error, self._limit_bytes)
        return None

    def _validate(self, update: UpdateAccepted) -> None:
        handler, args, kwargs = update_call(self.definition, update.name, update.arguments, update.named)
        if handler.validator is not None:
            getattr(self._owner_of(handler), handler.validator)(*args, **kwargs)

    async def _answer(self, update: UpdateAccepted) -> None:
        """Run the handler of an update; the caller gets its exception, and the execution goes on."""
        with self._context.handling():
            try:
                with contained(self._context.unwinds):
                    try:
                        completed = await self._answered(update)
                    except asyncio.CancelledError:
                        completed = UpdateCompleted(update_id=update.update_id, failure=GAVE_UP)
            except Exception as error:
                failure = failure_of(error, self._limit_bytes)
                completed = UpdateCompleted(update_id=update.update_id, failure=failure)
        self._context.request(completed)

    async def _answered(self, update: UpdateAccepted) -> UpdateCompleted:
        handler, args, kwargs = update_call(self.definition, update.name, update.arguments, update.named)
        answer = getattr(self._owner_of(handler), handler.method)(*args, **kwargs)
        if inspect.isawaitable(answer):
            answer = await answer
        result = handler.signature.dump_result(answer)
        completed = UpdateCompleted(update_id=update.update_id, result=result)
        check_size(f"the result of update {update.name!r}", self.encoder.size(completed), self._limit_bytes)
        return completed

    def _owner_of(self, handler: HandlerDefinition) -> Any:
        """Return the object whose method the handler of an update is."""
        if handler is ANSWER_HANDLER:
            return self._context.questions
        return self._context.runs if handler in (SAY_HANDLER, INTERRUPT_HANDLER) else self._instance

    def _close_if_ended(self, root: asyncio.Task[Any]) -> None:
        if self._failure is None and not root.done():
            return
        closed = self._outcome(root)
        size = self.encoder.size(closed)
        if size > self._limit_bytes:
            what = f"the result of workflow {self.definition.name!r}"
            closed = self._failed(PayloadTooLarge(what, size, self._limit_bytes))
        self.machine.request(closed)
        is_new = self.machine.phase is MachinePhase.ENDING and not self._context.is_replaying
        if closed.failure is not None and is_new:
            logger.error("execution %s failed:\n%s", self._info.execution_id, closed.failure.traceback())

    def _outcome(self, root: asyncio.Task[Any]) -> ExecutionEnded:
        if self._failure is not None:
            return self._failed(self._failure)
        if root.cancelled():
            if self._cancelled:
                return ExecutionEnded(status=Status.CANCELLED)
            lost = ForeignError("CancelledError", "the workflow let a CancelledError of its own escape")
            return self._failed(lost)
        error = root.exception()
        if error is not None:
            return self._failed(error)
        return ExecutionEnded(status=Status.COMPLETED, result=root.result())

    def _failed(self, error: BaseException) -> ExecutionEnded:
        return ExecutionEnded(status=Status.FAILED, failure=failure_of(error, self._limit_bytes))

    # Its journal, and the history that follows it

    @property
    def reopened(self) -> int:
        """How often the execution was opened again after its end."""
        return self._journal.reopened

    @property
    def void_mail(self) -> int:
        """The number of the last message of which only a signal still counts."""
        return self._journal.mail

    def recalled(self, scheduled: StepScheduled) -> StepCompleted | None:
        done = self._journal.recalled.get(scheduled.key)
        if done is None or self._journal.void[scheduled.key].reopened != scheduled.reopened:
            return None
        return done

    @property
    def carried(self) -> dict[str, JSON] | None:
        return self._context.carried

    def next_beginning(self, records: int) -> Beginning:
        before = self._beginning
        return Beginning(before.histories + 1, self._context.emitted, before.records + records)
