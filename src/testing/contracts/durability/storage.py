"""What the durability contract is given: storage that several processes have open, one of which may die."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import Protocol

from outlast.core.events import EventKind
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.journal.storage import MovableClock


class BackendCapability(Enum):
    """A behaviour that a backend under test may lack; the value is the reason that a skipped test prints."""

    MOVABLE_CLOCK = "time passes only when the test moves it"
    STEADY_LEASES = "leases go by a clock that no step of the wall clock changes"
    PAUSABLE = "a process can be stopped for a while and go on afterwards, as by SIGSTOP and SIGCONT"
    LISTS_WORKERS = "it tells which workers are alive and what each carries on"
    DROPS_STUBBORN_CODE = "code that catches everything, also what unwinds it, leaves memory when it must"
    HOLDS = "an execution that ends one worker after the other is held, until somebody resumes it"
    GIVES_UP_BUSY_CODE = "code that never comes to rest is given up, and described with its place"
    SHOWS_ITS_BYTES = "what is stored can be looked at, byte by byte"


ALL = frozenset(BackendCapability)


class DurabilityStorage(Protocol):
    """A fresh, empty place for executions, made for one test and gone after `dispose`."""

    @property
    @abstractmethod
    def clock(self) -> MovableClock:
        """The clock by which timers, time-outs and leases go here."""

    @abstractmethod
    def open(self) -> Backend:
        """Return a backend as one more process would have it, not yet entered."""

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Let time pass; when it returns, workers have done what they had to do meanwhile."""

    @abstractmethod
    async def kill(self, backend: Backend) -> None:
        """Make it as if the process of `backend` had died: nothing it does reaches the storage any more.

        Tasks of the dead process are cancelled by the caller afterwards. The backend will still be exited.
        """

    async def pause(self, backend: Backend) -> None:
        """Stop the process of `backend` where it is; asked for only with `PAUSABLE`."""
        raise NotImplementedError

    async def resume(self, backend: Backend) -> None:
        """Let it go on: what it wanted to do meanwhile, it does now."""
        raise NotImplementedError

    async def stored_bytes(self) -> bytes:
        """Return all that is stored; asked for only with `SHOWS_ITS_BYTES`."""
        raise NotImplementedError

    async def attempt_failed(self, execution: Execution) -> None:
        """Return once it is durable that an attempt has failed; to be overridden where no event tells."""
        async for event in execution.events():
            if event.kind == EventKind.ATTEMPT_FAILED:
                return
        raise AssertionError("the execution ended without a failed attempt")

    @abstractmethod
    async def dispose(self) -> None:
        """Remove what the storage occupies; every backend has been exited."""
