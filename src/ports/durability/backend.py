"""The backend as its users see it: starting executions, finding them, and running workers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, TypeVarTuple, overload

from outlast.core.argument_checks import check_whole_number
from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.notebook_html import grid
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.finding import Where
from outlast.ports.journal import DEFAULT_TASK_QUEUE

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class ExecutionPage(Sequence[ExecutionDescription]):
    """A part of a list of executions, in order. It is a sequence of descriptions."""

    executions: tuple[ExecutionDescription, ...]
    cursor: str | None = None
    """The cursor for the next page; None if the list ends here."""

    @overload
    def __getitem__(self, index: int) -> ExecutionDescription: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ExecutionDescription, ...]: ...

    def __getitem__(self, index: int | slice) -> ExecutionDescription | tuple[ExecutionDescription, ...]:
        return self.executions[index]

    def __len__(self) -> int:
        return len(self.executions)

    def _repr_html_(self) -> str:
        rows = [(one.id, one.workflow, one.status, one.created_at, one.error) for one in self.executions]
        more = "" if self.cursor is None else ", and more"
        headings = ("id", "workflow", "status", "created at", "error")
        return grid(f"{len(self)} executions{more}", headings, rows)


PAGE = 500
"""Executions that are read at once where all of them are wanted."""


def check_page(where: Where | None, limit: int) -> None:
    """Refuse a filter or a limit that no list of executions can have.

    Raises:
        DefinitionError: `where` is not a `Where`, or `limit` is not a number, or negative.
    """
    given: Any = where
    if given is not None and not isinstance(given, Where):
        raise DefinitionError(f"a filter is a Where, such as Where(workflow=...), not {given!r}")
    check_whole_number("the limit of a list", limit, 0)


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

    @overload
    async def start(
        self,
        workflow: type[Any] | str,
        /,
        *args: Any,
        id: str | None = None,
        task_queue: str = ...,
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
        task_queue: str = ...,
        tags: Mapping[str, str] | None = None,
    ) -> Execution[R]: ...
    @abstractmethod  # type: ignore[misc]
    async def start(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Execution:
        """Start an execution, durable when this returns (D1); without an id it gets a new one.

        The workflow is its entrypoint, such as `Deal.run`, its class, or its name. From the entrypoint, type
        checkers know the arguments and the result. To them, a call by entrypoint that has an option gives all
        arguments by position.

        `id`, `task_queue` and `tags` are always those of the execution: a parameter of the entrypoint with
        one of these names is given by position. If the execution exists already, its tags stay as they are.

        Raises:
            DefinitionError: it is not a workflow, there are more than 20 tags, or one is not text of at most
                200 characters.
            NotSupported: there are tags, and the backend cannot keep them.
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
        self, where: Where | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> ExecutionPage:
        """Return executions that the filter finds, the newest first, at most `limit`: one page of the list.

        The `cursor` of a page is for the next one. From page to page, each execution that exists all the time
        and that the filter finds all the time comes exactly once (D26).

        Raises:
            DefinitionError: `limit` is negative, or the cursor does not come from this backend.
            NotSupported: the backend cannot find executions by something in the filter.
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


class Overviews(Protocol):
    """Reading what a list may lack, for the few executions of it that somebody looks at."""

    async def with_overviews(
        self, executions: Sequence[ExecutionDescription]
    ) -> Sequence[ExecutionDescription]:
        """Return listed executions, in order, with what they wait for, their agents, turns and tokens (D26).

        A backend whose workers write that down has it in its list already: there, nothing is read. Another
        one reads it for each that runs, a few at a time, and each at a price that has a bound. It needs no
        worker, but a worker may know more. Executions that have ended stay as they are, and so do those that
        cannot be read, or are gone meanwhile.
        """
        return executions


class Backend(Executions, Workers, Overviews, Protocol):
    """A place where executions live. It is an async context manager."""

    @abstractmethod
    async def __aenter__(self) -> Backend:
        """Connect."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Disconnect; executions stay where they are."""


async def every_execution(
    backend: Executions, where: Where | None = None, *, limit: int | None = None
) -> AsyncIterator[ExecutionDescription]:
    """Yield the executions that the filter finds, page by page, the newest first; at most `limit`."""
    cursor: str | None = None
    while limit is None or limit > 0:
        at_once = PAGE if limit is None else min(limit, PAGE)
        page = await backend.list(where, limit=at_once, cursor=cursor)
        for one in page:
            yield one
        if (cursor := page.cursor) is None:
            return
        limit = None if limit is None else limit - len(page)
