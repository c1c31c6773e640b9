"""A place to run durable programs in a test: a store in memory, workers that can crash, and time that jumps.

    async def test_a_reminder_goes_out_every_week(env: Environment) -> None:
        trial = await env.start(Trial.run, "ada@example.com")
        await env.skip(days=15)
        assert [effect.activity for effect in env.effects] == ["send_reminder", "send_reminder"]

The engine is the one that runs in production, with leases, retries, timers and takeovers. Only its clock is
virtual. Time stands still while anything can run: code, a call in a thread, an attempt at an activity that
waits for a socket or a real timer. When nothing can, it jumps to the next date at which something happens: a
timer, a retry, the end of a lease whose worker has crashed, the end of `skip`. It does not step over the
beats of idle workers, which is why a month takes no longer than what happens in it.

A date exists only if something is due then. If nothing is, and a test waits for the end of an execution, no
time will bring it: the wait fails at once with `Stalled`, which says what the execution waits for. An error
in a script of a model is a mistake of the test, not a failure of a model that a program must survive: it is
raised with its own traceback from whatever the test waits for.

Rejected: to wait a moment of real time before each jump (slow, and still a guess); to run the worker on a
loop of its own (then activities cannot share clients with the test); to make time pass faster (then what
happens depends on the speed of the machine).
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, TypeVarTuple, overload

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.adapters.memory.store import Medium, MemoryStore, StoredExecution
from outlast.core.errors import ConfigurationError
from outlast.core.waiting import WAITS_MAX, WaitingKind
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.journal import DEFAULT_TASK_QUEUE
from outlast.runtime.attempts.attempt import watch_attempts
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.known_workflows import definition_of, known_workflows
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.effects import AttemptLog, Effect
from outlast.testing.idleness import when_idle
from outlast.testing.jumping_clock import JumpingClock
from outlast.testing.mortal_worker import MortalWorker
from outlast.testing.recordings import Exported, export_in, turn_begins, with_queue
from outlast.testing.replaying import carried
from outlast.testing.stalls import Stalled, in_words, waits_in

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

PATIENCE_SECONDS = 1.0
"""The real time for which the clock waits for sockets and real timers before it moves all the same."""

RECENT_SECONDS = 3.0
"""An execution that has been claimable for longer than this, in virtual time, has no worker."""

JUMPS_MAX = 100_000
"""The most jumps while a test waits for one thing; after that, it is not going to come."""


class Environment:
    """A place to run durable programs in a test; see the module. It is an async context manager.

    Its worker runs every workflow of this process. An environment belongs to one event loop of asyncio.
    """

    def __init__(self, *, start: datetime | None = None, lease: timedelta = timedelta(seconds=10)) -> None:
        """`start` is the first virtual time (by default some day in 2023), `lease` the lease of the
        worker."""
        if start is not None and start.tzinfo is None:
            raise ConfigurationError("give `start` with a timezone, such as datetime(2030, 1, 1, tzinfo=UTC)")
        self._clock = JumpingClock() if start is None else JumpingClock(start.timestamp())
        self._lease = lease
        self._medium = Medium()
        self._deltas = MemoryDeltas(self._clock)
        self._log = AttemptLog(self._clock, self._medium.executions.__contains__, self._note)
        self._mistakes: list[BaseException] = []
        """Mistakes of the test that it has not seen yet."""
        self._waiting: dict[asyncio.Future[BaseException | None], str] = {}
        """Those who wait for an execution, and its id."""
        self._settling: list[asyncio.Future[None]] = []
        self._jumps = 0
        self._classes: dict[str, type[Any]] = {}
        self._worker: MortalWorker | None = None
        self._workers = 0
        self._dead: set[str] = set()
        """The identities of the workers that have crashed."""
        self._reaping: set[asyncio.Task[None]] = set()
        self._open = ExitStack()
        self._is_open = False
        self._opens_itself = False
        self.backend = JournaledBackend(
            _Watched(self, self._clock, medium=self._medium), self._clock, self._deltas
        )
        """The backend, for what the environment has no method for."""

    @classmethod
    def of_a_fixture(cls) -> Self:
        """Return an environment that opens itself when it is first used, for the plugin: it sees no loop."""
        environment = cls()
        environment._opens_itself = True
        return environment

    async def __aenter__(self) -> Self:
        if not (self._is_open and self._opens_itself):
            self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; then raise a mistake of the test that nothing has raised yet, if all else is
        well."""
        try:
            self._kill()
            while self._reaping:
                await asyncio.wait(self._reaping)
        finally:
            self._is_open = self._opens_itself = False
            self._open.close()
        if error is None:
            self._raise_mistake()

    @property
    def now(self) -> datetime:
        """The virtual time (UTC)."""
        return self._clock.date

    @property
    def effects(self) -> list[Effect]:
        """The attempts at activities so far, in the order in which they began."""
        return list(self._log.effects)

    @overload
    async def start(
        self,
        workflow: type[Any] | str,
        /,
        *args: Any,
        id: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Execution: ...
    @overload
    async def start(
        self, workflow: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Execution[R]: ...
    @overload
    async def start(
        self,
        workflow: Callable[[Any, *Ts], Awaitable[R]],
        /,
        *args: *Ts,
        id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Execution[R]: ...
    async def start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Execution:  # type: ignore[misc]
        """Start an execution, and a worker for it; the arguments are those of `Backend.start`."""
        self._check_open()
        await self._have_worker_for(workflow)
        return await self.backend.start(workflow, *args, **kwargs)

    @overload
    async def execute(
        self,
        workflow: type[Any] | str,
        /,
        *args: Any,
        id: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Any: ...
    @overload
    async def execute(
        self, workflow: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def execute(
        self,
        workflow: Callable[[Any, *Ts], Awaitable[R]],
        /,
        *args: *Ts,
        id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> R: ...
    async def execute(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Start an execution, and return its result; time passes as it needs to.

        Raises:
            ExecutionFailed: it failed; a note has the frames of the code that raised.
            Stalled: it waits for something that does not come.
        """
        execution = await self.start(workflow, *args, **kwargs)
        return await execution.result()

    async def fork(
        self, exported: Exported, /, *, turn: int, run: int = 1, agent: Agent[Any, Any] | None = None
    ) -> Execution:
        """Start a fork of an export here, from the beginning of a turn on, and a worker for it.

        What was before that turn is taken from the export and does not happen again. From there on, today's
        code and agents run, with the session of `override` if there is one. `exported` is a path or lines,
        and `agent` is for a run outside any workflow: see `replay`. Runs are counted from 1, in the order in
        which they asked a model first.

        Raises:
            CannotRerun: it is not an export, or has no such turn.
            DefinitionError: this process does not define the workflow, or `agent` is missing.
        """
        self._check_open()
        export = export_in(exported)
        position = turn_begins(export, turn, run=run) - 1
        definition, id = definition_of(export.header.workflow), uuid.uuid4().hex
        self._open.enter_context(carried(definition.cls, id, agent))
        await self._have_worker_for(definition.cls)
        original = await self.backend.import_(with_queue(export, DEFAULT_TASK_QUEUE), id=f"{id}-original")
        return await original.fork(at=position, id=id, again=True)

    async def skip(
        self,
        duration: timedelta = timedelta(0),
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Let that much time pass, with everything that happens in it; return when all of that has come to
        rest.

        An activity of a test may await it too, to take its time.
        """
        self._check_open()
        total = duration + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if total < timedelta(0):
            raise ValueError("time goes one way: skip a positive duration")
        self._jumps = 0
        await self._clock.pass_time(total.total_seconds())
        if not self._log.under_way:
            await self.settle()

    async def settle(self) -> None:
        """Return when nothing more can happen before time passes."""
        self._check_open()
        settled = asyncio.get_running_loop().create_future()
        self._settling.append(settled)
        await settled
        self._raise_mistake()

    def crash_worker(self, *, restart: bool = True) -> None:
        """End the worker as a kill does: what it was about to write is lost, and its leases run out.

        Another one begins at once, unless not `restart`: then the next `start` begins it. An attempt under
        way gets a cancellation, because a test has no other way to end it; a thread goes on.
        """
        self._check_open()
        self._kill()
        if restart:
            self._begin_worker()

    # Workers

    async def _have_worker_for(self, workflow: Any) -> None:
        definition = definition_of(workflow)
        known = self._classes.get(definition.name) is definition.cls
        if self._worker is not None and not known:
            # Another definition of that name came last; the worker must run this one.
            worker, self._worker = self._worker, None
            await worker.stop()
        if not known:
            self._classes = {**known_workflows(), **self._classes, definition.name: definition.cls}
        if self._worker is None:
            self._begin_worker()

    def _begin_worker(self) -> None:
        self._workers += 1
        self._worker = MortalWorker(
            MemoryStore(self._clock, medium=self._medium),
            self._clock,
            self._deltas,
            list(self._classes.values()),
            lease=self._lease,
            identity=f"worker {self._workers}",
            stuck=self._note_stuck,
        )

    def _kill(self) -> None:
        if self._worker is not None:
            self._dead.add(self._worker.identity)
            reaping = asyncio.ensure_future(self._worker.die())
            self._reaping.add(reaping)
            reaping.add_done_callback(self._reaping.discard)
            self._worker = None

    # Opening

    def _enter(self) -> None:
        if self._is_open:
            raise ConfigurationError("this environment is open already; make another one")
        self._open.enter_context(when_idle(self._decide))
        self._open.callback(watch_attempts(self._log.see))
        self._is_open = True

    def _check_open(self) -> None:
        if not self._is_open and self._opens_itself:
            with suppress(RuntimeError):  # A plain function has no event loop.
                asyncio.get_running_loop()
                self._enter()
        if not self._is_open:
            raise ConfigurationError(
                "this environment is not open: write `async with Environment() as env:`, or let an "
                "`async def` test take the fixture `env`"
            )

    # Mistakes

    def _note(self, mistake: BaseException) -> None:
        self._mistakes.append(mistake)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(mistake)
        for settled in self._settling:
            if not settled.done():
                settled.set_result(None)

    def _note_stuck(self, execution_id: str, reason: str) -> None:
        self._note(Stalled(f"execution {execution_id!r} cannot go on: {reason}"))

    def _raise_mistake(self) -> None:
        if self._mistakes:
            mistakes, self._mistakes = self._mistakes, []
            raise mistakes[0]

    # Waiting

    async def wait_for(self, following: Coroutine[Any, Any, None], execution_id: str) -> None:
        """Wait until an execution has gone on. For the store.

        Raises:
            Stalled: it cannot go on.
        """
        self._raise_mistake()
        stalled: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._waiting[stalled] = execution_id
        self._jumps = 0
        task = asyncio.create_task(following)
        waits: set[asyncio.Future[Any]] = {task, stalled}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waiting[stalled]
            task.cancel()
        self._raise_mistake()
        if stalled.done():
            raise await self._stalled(execution_id)

    async def _stalled(self, execution_id: str) -> Stalled:
        description = await (await self.backend.get(execution_id)).describe()
        what = f"execution {execution_id!r} of workflow {description.workflow!r}"
        waits = description.error or await self._waits_of(description)
        if self._jumps >= JUMPS_MAX:
            return Stalled(
                f"{what} has not ended by {self.now:%Y-%m-%d}, after {JUMPS_MAX} jumps of the clock; it "
                f"waits for {waits}. If it is meant to run for ever, let time pass with `env.skip`"
            )
        if self._worker is None:
            waits += "; no worker runs, since `crash_worker(restart=False)` ended it"
        return Stalled(f"{what} cannot go on, however much time passes: it waits for {waits}")

    async def _waits_of(self, description: ExecutionDescription) -> str:
        """Return what an execution waits for, and what its children do."""
        words = []
        for one in description.waiting_for:
            if one.kind is WaitingKind.CHILD and one.step in self._medium.running:
                child = await (await self.backend.get(one.step)).describe()
                words.append(f"child {one.step!r}, which waits for {await self._waits_of(child)}")
            else:
                words.append(in_words(one))
        return "; ".join(words) or "nothing"

    # Time

    def _decide(self, is_waited_for: bool, silent: float) -> float | None:
        """Move the time on if nothing else can happen; see `idleness`."""
        is_patient = is_waited_for and silent < PATIENCE_SECONDS
        is_wanted = bool(self._waiting) or self._clock.next_wanted() < math.inf or bool(self._settling)
        if is_patient and (self._log.under_way or not is_wanted):
            return PATIENCE_SECONDS
        is_busy, date = self._ahead()
        if self._settling and not is_busy:
            settling, self._settling = self._settling, []
            for settled in settling:
                if not settled.done():
                    settled.set_result(None)
            return 0
        due = self._clock.next_sleeper() if is_busy or self._log.under_way else date
        if due < math.inf and self._jumps < JUMPS_MAX:
            self._jumps += 1
            self._clock.jump(due)
            return 0
        if not self._waiting:
            return None
        if is_patient:
            return PATIENCE_SECONDS
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        return 0

    def _ahead(self) -> tuple[bool, float]:
        """Return whether a worker is about to do something, and the next date at which something happens."""
        now, date = self._clock.now(), self._clock.next_wanted()
        for execution in self._medium.running.values():
            at = execution.claimable_at
            if execution.owner is not None and execution.owner not in self._dead:
                if not self._log.under_way:
                    return True, date
            elif at is not None and not self._looks_in_vain(execution):
                if at > now:
                    date = min(date, at)
                elif now - at < RECENT_SECONDS and self._worker is not None:
                    return True, date
        return False, date

    def _looks_in_vain(self, execution: StoredExecution) -> bool:
        """Return whether an execution is due only to look at children, all of which still run."""
        if execution.is_date or execution.waiting != WaitingKind.CHILD:
            return False
        waits = waits_in(execution.overview)
        return 0 < len(waits) < WAITS_MAX and all(
            one.kind is WaitingKind.CHILD and one.step in self._medium.running for one in waits
        )


class _Watched(MemoryStore):
    """The store as a test sees it: a wait for an execution that cannot go on fails."""

    def __init__(self, environment: Environment, clock: JumpingClock, *, medium: Medium) -> None:
        super().__init__(clock, medium=medium)
        self._environment = environment

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        following = super().follow(execution_id, length, math.inf)
        await self._environment.wait_for(following, execution_id)
