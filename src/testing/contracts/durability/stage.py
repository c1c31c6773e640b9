"""The stage of a contract test: backends, worker processes that can be killed, and time that passes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ClassVar, NoReturn, TypeVar

import pytest

from outlast.core.errors import StorageError
from outlast.core.event_stream import Event
from outlast.core.events import EventData, EventKind
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.durability.storage import ALL, BackendCapability, DurabilityStorage
from outlast.testing.contracts.durability.world import World, worlds
from outlast.testing.contracts.patience import at_most, in_words

T = TypeVar("T")
D = TypeVar("D", bound=EventData)

EXECUTIONS_SHOWN = 10
EVENTS_SHOWN = 10
EVENT_CHARACTERS_MAX = 200
"""The most characters of an event that the message of a failed test shows."""


current_process: ContextVar[Process] = ContextVar("current_process")
"""The process of the test that runs the present code."""


class Process:
    """A worker with a backend of its own, which can be stopped as an operator would, or killed."""

    def __init__(
        self,
        storage: DurabilityStorage,
        backend: Backend,
        workflows: tuple[type[Any], ...],
        options: Any,
        closing: AsyncExitStack,
    ) -> None:
        """Begin to work; `closing` holds what the process has opened, and is closed when it has ended."""
        self.backend = backend
        self.identity: str | None = None
        """The identity of its worker, where workers have one."""
        self._storage = storage
        self._workflows = workflows
        self._options = options
        self._closing = closing
        self.died = asyncio.Event()
        """Set when code has ended the process from within; `kill` then clears up what is left of it."""
        self._is_up = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        current_process.set(self)
        async with self.backend.worker(self._workflows, **self._options) as worker:
            self.identity = getattr(worker, "identity", None)
            self._is_up.set()
            await self._stop.wait()

    def __str__(self) -> str:
        names = ", ".join(workflow.__name__ for workflow in self._workflows)
        if not self._task.done():
            return f"worker of {names}: {'works' if self._is_up.is_set() else 'has not started yet'}"
        error = None if self._task.cancelled() else self._task.exception()
        return f"worker of {names}: ended" + ("" if error is None else f" by {error!r}")

    async def up(self) -> None:
        """Return when the worker works."""
        up = asyncio.create_task(self._is_up.wait())
        await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Ask the worker to stop, and return when it has."""
        self._stop.set()
        async with self._closing:
            await self._task

    def ask_to_stop(self) -> None:
        """Ask the worker to stop."""
        self._stop.set()

    async def kill(self) -> None:
        """End the process at once, without a graceful stop."""
        async with self._closing:
            if not self._task.done():
                await self._die()

    async def lose(self) -> None:
        """End the process at once, without a graceful stop; a `Supervisor` begins another one."""
        await self._storage.kill(self.backend)
        self.died.set()

    async def end_from_within(self) -> NoReturn:
        """End the process from its own code, with all executions that it carries."""
        await self.lose()
        while True:
            await asyncio.Event().wait()

    async def _die(self) -> None:
        await self._storage.kill(self.backend)
        while not self._task.done():
            # The first cancellation counts as a request for a graceful stop.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.01)
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            assert isinstance(error, StorageError), error


class Supervisor:
    """Keeps some processes alive: begins another one whenever one has been ended by its own code."""

    def __init__(self, stage: Stage, count: int, workflows: tuple[type[Any], ...], options: Any) -> None:
        self.deaths = 0
        """The number of processes that have ended."""
        self.alive: list[Process] = []
        self._stage = stage
        self._workflows = workflows
        self._options = options
        self._keeping = [asyncio.create_task(self._keep()) for _ in range(count)]

    async def _keep(self) -> None:
        while True:
            process = await self._stage.worker(*self._workflows, **self._options)
            self.alive.append(process)
            await process.died.wait()
            self.alive.remove(process)
            self.deaths += 1
            await process.kill()

    async def close(self) -> None:
        """Stop beginning processes; the present ones go on working."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)


class Stage:
    """The storage of one test, and the backends and processes that use it."""

    def __init__(self, storage: DurabilityStorage, lease: timedelta, patience_seconds: float) -> None:
        self.storage = storage
        self.lease = lease
        self._patience_seconds = patience_seconds
        self._stack = AsyncExitStack()
        self._processes: list[Process] = []
        self._supervisors: list[Supervisor] = []

    async def backend(self) -> Backend:
        """Return one more backend, open until the test ends."""
        return await self.enter(self.storage.open())

    async def enter(self, backend: Backend) -> Backend:
        """Open `backend` until the test ends."""
        return await self._stack.enter_async_context(backend)

    async def worker(self, *workflows: type[Any], backend: Backend | None = None, **options: Any) -> Process:
        """Return a new process whose worker runs `workflows`."""
        options = {"lease": self.lease, **options}
        closing = AsyncExitStack()
        if backend is None:
            backend = await closing.enter_async_context(self.storage.open())
        process = Process(self.storage, backend, workflows, options, closing)
        self._processes.append(process)
        await process.up()
        return process

    def supervised(self, count: int, *workflows: type[Any], **options: Any) -> Supervisor:
        """Return a supervisor of `count` processes whose workers run `workflows`."""
        supervisor = Supervisor(self, count, workflows, options)
        self._supervisors.append(supervisor)
        return supervisor

    def new_id(self) -> str:
        """Return an id whose world goes by the clock of the storage."""
        execution_id = f"x-{uuid.uuid4().hex}"
        worlds[execution_id].clock = self.storage.clock
        return execution_id

    async def start(self, workflow: type[Any], *args: Any) -> tuple[Execution, World]:
        """Start an execution from a process of its own; return it and its world."""
        execution_id = self.new_id()
        execution = await (await self.backend()).start(workflow, *args, id=execution_id)
        return execution, worlds[execution_id]

    async def again(self, execution: Execution) -> Execution:
        """Return the execution as yet another process sees it."""
        return await (await self.backend()).get(execution.id)

    async def run(self, workflow: type[Any], *args: Any, **options: Any) -> Any:
        """Return the result of one execution with one worker."""
        execution, _ = await self.start(workflow, *args)
        process = await self.worker(workflow, **options)
        result = await self.soon(execution.result())
        await process.stop()
        return result

    async def soon(self, awaited: Awaitable[T]) -> T:
        """Return the result of `awaited`, which must come without any time passing."""
        return await self._in_time(awaited, in_words(awaited))

    async def _in_time(self, awaited: Awaitable[T], waited_for: str) -> T:
        async with at_most(self._patience_seconds, waited_for, self.state):
            return await awaited

    async def later(self, awaited: Awaitable[T], seconds: float) -> T:
        """Return the result of `awaited`, which must come within `seconds`, and a little."""
        waited_for = in_words(awaited)
        task = asyncio.ensure_future(awaited)
        step = min(1.0, self.lease.total_seconds() / 4)
        passed = 0.0
        while not task.done() and passed < seconds + 4 * step:
            await self.pass_time(step)
            passed += step
            await asyncio.wait([task], timeout=0.001)
        return await self._in_time(task, waited_for)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await self.storage.pass_time(seconds)

    async def lose(self, process: Process) -> None:
        """Kill the process, and let its leases run out."""
        await process.kill()
        await self.pass_time(self.lease.total_seconds() + 0.1)

    async def until(self, find: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of `find`; for things that no backend announces."""
        async with at_most(self._patience_seconds, f"{find.__qualname__}() to find something", self.state):
            while (found := await find()) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return found

    async def event(self, execution: Execution, kind: str, times: int = 1) -> Event:
        """Return the n-th event of that kind, once it has happened."""

        async def find() -> Event:
            left = times
            async for event in execution.events():
                left -= event.kind == kind
                if not left:
                    return event
            raise AssertionError(f"the execution ended without {times} events {kind!r}")

        return await self._in_time(find(), f"event {kind!r} of execution {execution.id}, number {times}")

    async def state(self) -> str:
        """Return the state of the storage and the processes, for the report of a failed test."""
        lines = [str(process) for process in self._processes]
        async with self.storage.open() as backend:
            for one in await backend.list(limit=EXECUTIONS_SHOWN):
                note = "" if one.error is None else f" ({one.error})"
                lines.append(f"execution {one.id} of {one.workflow}: {one.status}{note}")
                execution = await backend.get(one.id)
                events = [event async for event in execution.events(follow=False)]
                lines += [
                    f"    {event.position} {event.kind} {dict(event.data)!r}"[:EVENT_CHARACTERS_MAX]
                    for event in events[-EVENTS_SHOWN:]
                ]
        return "\n".join(["the storage and the processes then:", *lines])

    async def close(self) -> None:
        """End the remaining processes."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.storage.dispose)
            closing.push_async_callback(self._stack.aclose)
            for process in reversed(self._processes):
                closing.push_async_callback(process.kill)
            for supervisor in self._supervisors:
                closing.push_async_callback(supervisor.close)


class DurabilityContractBase(AsyncioTests):
    """The base of all parts of the suite."""

    new_storage: ClassVar[Callable[[], DurabilityStorage]]
    capabilities: ClassVar[frozenset[BackendCapability]] = ALL
    lease: ClassVar[timedelta] = timedelta(seconds=10)
    """The lease of every worker; make it short for a clock that cannot be moved."""
    patience_seconds: ClassVar[float] = 30.0
    """The longest real time that anything which is due may take."""

    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        stage = Stage(type(self).new_storage(), self.lease, self.patience_seconds)
        try:
            yield stage
        finally:
            await stage.close()

    def needs(self, capability: BackendCapability) -> None:
        """Skip the test, with the reason, if a capability is missing."""
        if capability not in self.capabilities:
            pytest.skip(f"not here: {capability.value}")


async def all_events(execution: Execution, after: int = 0) -> list[Event]:
    """Return the whole stream of an execution that has ended, or will."""
    return [event async for event in execution.events(after)]


DEPENDS_ON_WORKERS = frozenset(
    {
        EventKind.EXECUTION_HELD,
        EventKind.EXECUTION_PAUSED,
        EventKind.EXECUTION_RESUMED,
        EventKind.ATTEMPT_FAILED,
        EventKind.EXECUTION_RECOVERED,
    }
)
"""The events about attempts and workers; all others are about the workflow alone."""


def data_of(events: Iterable[Event], kind: type[D]) -> list[D]:
    """Return the data of those events that have data of this class, in order."""
    return [event.data for event in events if isinstance(event.data, kind)]


async def transcript(execution: Execution) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of the workflow as JSON, without times and attempts."""
    return [
        (event.kind, event.data.to_data())
        for event in await all_events(execution)
        if event.kind not in DEPENDS_ON_WORKERS
    ]
