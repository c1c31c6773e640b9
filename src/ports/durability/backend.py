"""The backend as its users see it: starting executions, finding them, and running workers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.journal import DEFAULT_TASK_QUEUE


def checked_filter(status: Status | str | None, limit: int) -> Status | None:
    """Return the status to filter by; raises the errors of `Executions.list`."""
    if limit < 0:
        raise DefinitionError(f"the limit of a list is {limit}; use 0 or more")
    try:
        return None if status is None else Status(status)
    except ValueError:
        known = ", ".join(Status)
        raise DefinitionError(f"there is no status {status!r}; use one of: {known}") from None


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """One worker that is alive, as `workers` lists it."""

    identity: str
    task_queue: str
    workflows: Sequence[str]
    """The names of the workflows that it runs, sorted."""
    started_at: datetime
    """Timezone-aware (UTC)."""
    executions: Sequence[str]
    """The ids of the executions that it carries on now, sorted; waiting executions have no worker."""


class Executions(Protocol):
    """Starting executions, finding them, and forgetting them."""

    @abstractmethod
    async def start(
        self,
        workflow: type[Any] | str,
        /,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        **kwargs: Any,
    ) -> Execution:
        """Start an execution, durable when this returns (D1); without an id it gets a new one.

        `id` and `task_queue` are always those of the execution: a parameter of the entrypoint with one of
        these names is given by position.
        """

    @abstractmethod
    async def get(self, execution_id: str) -> Execution:
        """Return a handle on an existing execution; raises `ExecutionNotFound`."""

    async def import_(self, lines: Iterable[str], *, id: str | None = None) -> Execution:
        """Keep an execution that was exported from any backend, under its id or another one (D25).

        It replays to the same state and can be forked. If it had not ended, it is held: it runs only when
        somebody resumes it, and then steps that were under way where it comes from may happen twice.

        Raises:
            CannotRerun: the lines are not a whole export; nothing is kept.
            StorageTooNew: a newer version of this library wrote them.
            ExecutionAlreadyExists: the id is in use.
            NotSupported: this backend cannot import.
        """
        raise NotSupported("this backend cannot import an execution")

    @abstractmethod
    async def list(
        self, *, workflow: str | None = None, status: Status | str | None = None, limit: int = 100
    ) -> Sequence[ExecutionDescription]:
        """Return executions, the newest first, at most `limit`.

        Raises:
            DefinitionError: `limit` is negative, or `status` does not exist.
        """

    @abstractmethod
    async def prune(self, older_than: timedelta) -> int:
        """Forget executions that ended longer ago than that; return their number. Running ones are kept.

        Raises:
            NotSupported: the backend's server forgets by rules of its own.
        """


class Workers(Protocol):
    """Running workers, and seeing which are alive."""

    @abstractmethod
    def worker(
        self,
        workflows: Sequence[type[Any]],
        *,
        lease: timedelta = timedelta(seconds=10),
        max_concurrent_executions: int = 100,
        max_concurrent_activities: int = 100,
        max_cached_executions: int = 1000,
        task_queue: str = DEFAULT_TASK_QUEUE,
        graceful_shutdown_timeout: timedelta = timedelta(seconds=30),
        identity: str | None = None,
    ) -> AbstractAsyncContextManager[Any]:
        """Return a worker that runs while its `async with` block does, and stops gracefully (D15)."""

    @abstractmethod
    async def workers(self) -> Sequence[WorkerDescription]:
        """Return the workers that are alive, in any process; the first to have started comes first.

        A killed worker is listed until its lease has run out, a stopping one until it has stopped.

        Raises:
            NotSupported: the backend's server has tools of its own for this.
        """


class Backend(Executions, Workers, Protocol):
    """A place where executions live. It is an async context manager."""

    @abstractmethod
    async def __aenter__(self) -> Backend:
        """Connect."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Disconnect; executions stay where they are."""
