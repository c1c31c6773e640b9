"""The input of the durability contract: storage that several processes use, any of which may be killed."""

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
    LISTS_WORKERS = "it lists the workers that are alive, and the executions that each carries on"
    DROPS_STUBBORN_CODE = "code that catches everything, also what unwinds it, leaves memory when it must"
    HOLDS = "an execution that ends one worker after the other is held, until somebody resumes it"
    HOLDS_FAILURES = 'an execution of a workflow with on_failure="hold" is held when it fails'
    GIVES_UP_BUSY_CODE = "code that never comes to rest is given up, and described with its place"
    INTERRUPTS_CODE = "workflow code without awaits is interrupted where it is, by our own watchdog"
    PAUSES_BEFORE_THE_START = "a pause that was asked for before any worker came lets no step begin"
    RERUNS = "an execution can be terminated, retried, forked, exported and imported"
    TAGS_WHAT_HAS_ENDED = "the tags of an execution can be changed after its end"
    FINDS_WAITS = "executions are found by what they wait for"
    LISTS_IN_ORDER = "a list has the newest execution first, on every page"
    SHOWS_ITS_BYTES = "what is stored can be looked at, byte by byte"


ALL = frozenset(BackendCapability)


class DurabilityStorage(Protocol):
    """A fresh, empty place for executions, made for one test and gone after `dispose`."""

    @property
    @abstractmethod
    def clock(self) -> MovableClock:
        """The clock of timers, timeouts and leases here."""

    @abstractmethod
    def open(self) -> Backend:
        """Return a backend for one more process, not yet entered."""

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Let time pass; when this returns, workers have done all that was due meanwhile."""

    @abstractmethod
    async def kill(self, backend: Backend) -> None:
        """Act as if the process of `backend` had been killed: nothing it does reaches the storage any more.

        Tasks of the dead process are cancelled by the caller afterwards. The backend will still be exited.
        """

    async def pause(self, backend: Backend) -> None:
        """Stop the process of `backend` where it is; called only with `PAUSABLE`."""
        raise NotImplementedError

    async def resume(self, backend: Backend) -> None:
        """Let the process go on: it now does everything that it had to do meanwhile."""
        raise NotImplementedError

    async def stored_bytes(self) -> bytes:
        """Return all stored bytes; called only with `SHOWS_ITS_BYTES`."""
        raise NotImplementedError

    async def attempt_failed(self, execution: Execution) -> None:
        """Return when it is durable that an attempt has failed; override it if no event shows that."""
        async for event in execution.events():
            if event.kind == EventKind.ATTEMPT_FAILED:
                return
        raise AssertionError("the execution ended without a failed attempt")

    @abstractmethod
    async def dispose(self) -> None:
        """Remove all data of the storage; every backend has been exited."""
