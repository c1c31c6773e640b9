"""The stage of a simulation: hosts that begin, die and are replaced, and the world that they change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.core.json import JSON
from outlast.ports.clock import Clock
from outlast.ports.durability.backend import Backend
from outlast.ports.journal import Store
from outlast.runtime.definitions.activity import activity
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Process, Stage, current_process
from outlast.testing.contracts.durability.world import World, worlds
from outlast.testing.contracts.journal.storage import Storage
from outlast.testing.lifeline import ProcessDied
from outlast.testing.simulation.fate import Fate
from outlast.testing.simulation.faults import FaultKind
from outlast.testing.simulation.host import HostClock, SimulatedHost, SimulatedMachine
from outlast.testing.simulation.referee import Referee
from outlast.testing.simulation.scenario import LEASE_SECONDS
from outlast.testing.simulation.store import SimulatedStore

T = TypeVar("T")

NewStore = Callable[[Clock, Medium], Store]
"""Makes the store under test: one more view of the data in the medium."""

PATIENCE_SECONDS = 600.0
"""The simulated time within which every program must end, whatever strikes."""


def memory_store(clock: Clock, medium: Medium) -> Store:
    """Return the store that `memory:` has."""
    return MemoryStore(clock, medium=medium)


class SimulatedMedium(Storage):
    """The data that all hosts share, on a machine that never stands still."""

    def __init__(self, machine: SimulatedMachine, new_store: NewStore) -> None:
        self._clock = HostClock(SimulatedHost("store", machine))
        self._new_store = new_store
        self._medium = Medium()

    @property
    def clock(self) -> HostClock:
        return self._clock

    def open(self) -> Store:
        return self._new_store(self._clock, self._medium)

    async def dispose(self) -> None:
        self._medium.executions.clear()


class SimulatedStorage(InStore):
    """Opens every backend on a host of its own, behind a network that the faults strike."""

    def __init__(self, machine: SimulatedMachine, fate: Fate, referee: Referee, new_store: NewStore) -> None:
        super().__init__(SimulatedMedium(machine, new_store))
        self.fate = fate
        self._machine = machine
        self._referee = referee
        self._numbers = count(1)

    def open(self) -> JournaledBackend:
        return self.open_on_host(
            SimulatedHost(f"caller-{next(self._numbers)}", self._machine), is_worker=False
        )

    def new_host(self) -> SimulatedHost:
        """Return a host for a worker."""
        return SimulatedHost(f"worker-{next(self._numbers)}", self._machine)

    def open_on_host(self, host: SimulatedHost, *, is_worker: bool) -> JournaledBackend:
        store = SimulatedStore(self.storage.open(), host, self.fate, self._referee, is_worker=is_worker)
        backend = JournaledBackend(store, HostClock(host), self.open_deltas())
        self.lifelines[backend] = store
        return backend

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimulatedProcess(Process):
    """A worker process on a host."""

    host: SimulatedHost


class SimulatedStage(Stage):
    """A stage whose workers are ended by faults, and then replaced."""

    def __init__(self, storage: SimulatedStorage) -> None:
        super().__init__(storage, timedelta(seconds=LEASE_SECONDS), PATIENCE_SECONDS)
        self._simulated = storage
        self._replacing: list[asyncio.Task[None]] = []

    async def worker(self, *workflows: type[Any], backend: Backend | None = None, **options: Any) -> Process:
        """Return a new process whose worker runs `workflows`, on a host of its own."""
        host = self._simulated.new_host()
        closing = AsyncExitStack()
        opened = await closing.enter_async_context(self._simulated.open_on_host(host, is_worker=True))
        chosen = {
            "lease": self.lease,
            "identity": host.name,
            # The watchdog looks at the real time, which has no meaning here.
            "holding_limit": timedelta(days=1),
            **options,
        }
        process = SimulatedProcess(self.storage, opened, workflows, chosen, closing)
        process.host = host
        self._processes.append(process)
        self._simulated.fate.note(host, "begins to work")
        self._replacing.append(asyncio.create_task(self._replace(process, opened, workflows, options)))
        return process

    async def _replace(
        self, process: SimulatedProcess, backend: Backend, workflows: tuple[type[Any], ...], options: Any
    ) -> None:
        """Begin another process some time after this one has died."""
        await self._simulated.lifelines[backend].died.wait()
        fate = self._simulated.fate
        fate.note(process.host, "is dead")
        await process.kill()
        crash = [fault for fault in fate.struck if fault.kind is FaultKind.CRASH][-1]
        await asyncio.sleep(crash.seconds)
        await self.worker(*workflows, **options)

    async def later(self, awaited: Awaitable[T], seconds: float) -> T:
        # Time passes by itself here.
        return await self.soon(awaited)

    async def close(self) -> None:
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        await super().close()


class WatchedWorld(World):
    """A world whose effects the referee sees."""

    def __init__(self, referee: Referee, fate: Fate) -> None:
        super().__init__()
        self._referee = referee
        self._fate = fate

    def happen(self, what: JSON) -> None:
        process, info = current_process.get(), activity.info()
        assert isinstance(process, SimulatedProcess)
        if process.host.is_dead:
            raise ProcessDied("this process has died, and has no effects any more")
        key, name = info.idempotency_key, process.host.name
        self._fate.note(name, f"effect {what!r}, attempt {info.attempt} at {key}")
        self._referee.sees(name, info.execution_id, key, info.attempt)
        super().happen(what)


@contextmanager
def watched_worlds(referee: Referee, fate: Fate) -> Iterator[None]:
    """Let the referee see all effects during the block, and forget them afterwards."""
    before, known = worlds.default_factory, set(worlds)
    worlds.default_factory = lambda: WatchedWorld(referee, fate)
    try:
        yield
    finally:
        worlds.default_factory = before
        for execution_id in set(worlds) - known:
            del worlds[execution_id]
