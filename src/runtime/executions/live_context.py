"""The context that workflow code runs in: what it can ask for, and what it waits for.

Whatever the code asks for goes to the workflow machine, and becomes a record. Whatever it waits for is a
future here, until `LiveExecution` hands over the input that settles it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NoReturn, TypeVar, cast

from outlast.core.approvals import Decision, Decisions
from outlast.core.errors import DeterminismError, NonDeterminismError, NotSupported, check_size
from outlast.core.json import JSON, encode
from outlast.core.records import (
    Encoder,
    EventEmitted,
    ExecutionStarted,
    Request,
    StepScheduled,
    TimerStarted,
)
from outlast.core.reruns import Counted
from outlast.core.workflow_machine import MachinePhase, WorkflowMachine
from outlast.ports.durability.steps import Answer, E, Steered, Step
from outlast.ports.durability.workflow_context import (
    AwaitedChild,
    WorkflowContext,
    WorkflowInfo,
    current_context,
)
from outlast.ports.live_code import Beginning, KeptHistory
from outlast.runtime.attempts.threads import storable
from outlast.runtime.definitions.determinism_guard import own_code, user_code, workflow_code
from outlast.runtime.executions.questions import OpenQuestions
from outlast.runtime.executions.steering import RunsAtWork
from outlast.runtime.executions.unwinding import ExecutionEvicted
from outlast.runtime.executions.workflow_loop import WorkflowLoop
from outlast.runtime.isolation.exits import contained

T = TypeVar("T")

_handles: ContextVar[bool] = ContextVar("handles", default=False)
"""True in the handler of a signal or an update."""


class _Departed(BaseException):
    """Unwinds workflow code that left its journal. Not an Exception, so that the code cannot swallow it."""


class LiveContext(WorkflowContext):
    """The context of one execution's code, and the loop on which the code runs."""

    def __init__(
        self,
        info: WorkflowInfo,
        started: ExecutionStarted | None,
        journal: Counted,
        machine: WorkflowMachine,
        *,
        limit_bytes: int,
        history: KeptHistory | None,
        has_journal: bool,
        beginning: Beginning,
    ) -> None:
        """Make the context of code that begins with `started`; a kept history may come after a journal."""
        self._info = info
        self._journal = journal
        self._machine = machine
        self._limit_bytes = limit_bytes
        self._history = history
        self._has_journal = has_journal
        self.encoder = Encoder()
        self.requested: dict[str, Step] = {}
        """The steps that wait for a result, by key."""
        self.decisions = Decisions()
        self.questions = OpenQuestions(info.execution_id)
        self.runs = RunsAtWork(info.execution_id)
        self.departure: NonDeterminismError | None = None
        """The difference between the code and its journal, once there is one."""
        self.carried: dict[str, JSON] | None = None
        """The arguments with which the code asked to continue as new."""
        self.emitted = beginning.events
        """The number of events that the code has emitted since the execution's start."""
        seed = info.execution_id if started is None or started.seed is None else started.seed
        # A later history of an execution must not draw the numbers of the first one again.
        seed = f"{seed}\0{beginning.histories}" if beginning.histories else seed
        self._random = Random(hashlib.sha256(seed.encode()).digest())
        self._state: dict[Any, Any] = {}
        self._futures: dict[str, asyncio.Future[JSON]] = {}
        self._children: dict[str, AwaitedChild] = {}
        self._conditions: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._handling = 0
        self._only_reads = False
        self._variables = copy_context()
        self._variables.run(current_context.set, self)
        self.loop = WorkflowLoop(
            on_timer=self._start_timer,
            on_timer_cancelled=machine.abandon,
            start_time=0.0 if started is None else started.at,
            root_path=f"c{beginning.histories}" if beginning.histories else "",
        )

    # For the execution that this is the context of

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return `function(*arguments)`, called where this is the current context."""
        return self._variables.copy().run(function, *arguments)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the block run code that may only read: a query, or the validator of an update."""
        self._only_reads = True
        try:
            with workflow_code():
                yield
        finally:
            self._only_reads = False

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Let the block run the handler of a message, in a task of its own."""
        _handles.set(True)
        self._handling += 1
        try:
            yield
        finally:
            self._handling -= 1

    def complete(self, key: str, result: JSON) -> None:
        """Give the code the result of a step."""
        if (child := self._children.pop(key, None)) is not None:
            child.ended.set_result(result)
        else:
            self._futures.pop(key).set_result(result)

    def fail(self, key: str, error: BaseException) -> None:
        """Give the code the error of a step."""
        if (child := self._children.pop(key, None)) is None:
            self._futures.pop(key).set_exception(error)
            return
        for future in (child.started, child.ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # The code may never ask for it.

    def child_started(self, key: str, child: str) -> None:
        """Give the code the id of a child that exists."""
        awaited = self._children[key]
        awaited.id = child
        if not awaited.started.done():
            awaited.started.set_result(None)

    def settle_conditions(self) -> bool:
        """Wake those whose condition holds; return whether there are any."""
        if not self._conditions:
            return False
        with user_code():
            return self._settle_conditions()

    def _settle_conditions(self) -> bool:
        open_before, self._conditions = self._conditions, []
        moved = False
        for condition, future in open_before:
            if future.done():
                continue
            try:
                with contained(self.unwinds):
                    holds = self.run(condition)
            except Exception as error:
                future.set_exception(storable(error))
                moved = True
                continue
            if holds:
                future.set_result(None)
                moved = True
            else:
                self._conditions.append((condition, future))
        return moved

    def request(self, request: Request) -> Request:
        """Take a request of the code; where that departs from the journal, the code is unwound."""
        try:
            return self._machine.request(request)
        except NonDeterminismError as error:
            self._depart(error)

    def _depart(self, error: NonDeterminismError) -> NoReturn:
        self.departure = self.departure or error
        raise _Departed from error

    def _start_timer(self, key: str, when: float) -> None:
        self.request(TimerStarted(key=key, due_at=when))

    def _check_may_change(self, what: str) -> None:
        if self._only_reads:
            raise DeterminismError(f"{what} in a validator or a query", "it only reads; do it in a handler")

    # For the code

    def unwinds(self, error: BaseException) -> bool:
        return isinstance(error, (ExecutionEvicted, _Departed)) or super().unwinds(error)

    async def run_step(self, step: Step) -> JSON:
        with own_code():
            future = self._schedule(step)
        try:
            return await future
        finally:
            if future.cancelled() and not self.loop.is_closed():
                self._futures.pop(step.key, None)
                self.requested.pop(step.key, None)
                self._machine.abandon(step.key)

    def start_child(self, step: Step) -> AwaitedChild:
        with own_code():
            started: asyncio.Future[None] = self.loop.create_future()
            child = AwaitedChild(started, self._schedule(step))
            if self._futures.pop(step.key, None) is not None:
                self._children[step.key] = child
        return child

    def _schedule(self, step: Step) -> asyncio.Future[JSON]:
        scheduled = StepScheduled(
            key=step.key,
            kind=step.kind,
            name=step.name,
            arguments=step.arguments,
            about=step.about,
            effect="once" if step.options.effect == "once" else None,
            model=step.model,
        )
        check_size(f"the arguments of {step.name!r}", self.encoder.size(scheduled), self._limit_bytes)
        future: asyncio.Future[JSON] = self.loop.create_future()
        if self.loop.is_closed():
            return future
        self.request(scheduled)
        self._futures[step.key] = future
        self.requested[step.key] = step
        return future

    def next_key(self) -> str:
        self._check_may_change("asking for anything")
        return self.loop.next_key()

    def emit(self, data: E) -> E:
        self._check_may_change("an event")
        self.emitted += 1
        with own_code():
            event = EventEmitted.of(f"event:{self.emitted}", data)
            check_size(f"an event of kind {event.kind!r}", self.encoder.size(event), self._limit_bytes)
            recorded = self.request(event)
        if isinstance(recorded, EventEmitted) and recorded.data != event.data:
            return cast(E, type(data).model_validate(recorded.data))
        return data

    async def decision(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision:
        awaited = self.decisions.awaited(key, fingerprint, fits)
        await self.wait_condition(awaited.has_come)
        return awaited.taken

    @property
    def takes_answers(self) -> bool:
        return True

    async def answer_to(self, key: str, faults_in: Callable[[JSON], list[str]]) -> Answer:
        return await self.questions.answer_to(key, faults_in)

    def at_work(self, key: str, run: Steered) -> AbstractContextManager[None]:
        return self.runs.at_work(key, run)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._machine.now, UTC)

    async def wait_condition(self, condition: Callable[[], bool], timeout: timedelta | None = None) -> None:
        if condition():
            return
        future: asyncio.Future[None] = self.loop.create_future()
        self._conditions.append((condition, future))
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            await future

    def inherited(self, key: str) -> bool:
        return key in self._journal.inherited

    def outlived(self, key: str) -> bool:
        return key in self._journal.outlived

    @property
    def is_replaying(self) -> bool:
        if self.loop.is_closed() or (self._machine.phase is MachinePhase.REPLAYING and self._has_journal):
            return True
        return self._history is not None and self._history.is_replaying

    @property
    def info(self) -> WorkflowInfo:
        return self._info

    @property
    def random(self) -> Random:
        self._check_may_change("a random number")
        return self._random

    @property
    def all_handlers_finished(self) -> bool:
        return self._handling == 0

    def patched(self, patch: str) -> bool:
        self._check_may_change("a patch")
        try:
            if self._history is None:
                return self._machine.takes_patch(patch)
            return self._machine.takes_patch(patch, self._history.takes_patch)
        except NonDeterminismError as error:
            self._depart(error)

    @property
    def should_continue_as_new(self) -> bool:
        return self._history is not None and self._history.is_long

    async def continue_as_new(self, arguments: dict[str, JSON]) -> NoReturn:
        if self._history is None:
            raise NotSupported(
                "a journal here may have any length; continue as new only where "
                "workflow.should_continue_as_new()"
            )
        if _handles.get():
            raise NotSupported("a handler cannot continue as new, for it is waited for; let the entrypoint")
        check_size("what is carried along to continue as new", len(encode(arguments)), self._limit_bytes)
        await self.wait_condition(lambda: self.all_handlers_finished)
        self.carried = arguments
        while True:
            await self.loop.create_future()

    @property
    def state(self) -> dict[Any, Any]:
        return self._state
