"""Observers: they see what executions do, while workers of this process carry them on, and change nothing.

An observer reads the records of each execution that is in memory here. Those that were written before show
where the execution stands; those that this process writes are news. In a fleet, each record is news in
exactly one process, unless that process dies right after it has written the record.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from outlast.core.records import AnyRecord
from outlast.core.trace_context import TraceContext

attempt_span: ContextVar[TraceContext | None] = ContextVar("attempt_span", default=None)
"""The span of the attempt that is made in this context, if somebody observes. Requests that the attempt sends
to servers of models have it in the header `traceparent`."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """The load of one worker at this moment."""

    identity: str
    task_queue: str
    executions: int
    """The executions that it carries on."""
    cached: int
    """The executions that it keeps in memory although they have nothing to do."""
    claims: int
    """The executions that it has claimed since it began, each as often as it was claimed."""


class Watch(Protocol):
    """An observer's view of one execution in memory."""

    @abstractmethod
    def read(self, records: Sequence[AnyRecord]) -> None:
        """Take the next records, which were written before."""

    @abstractmethod
    def wrote(self, records: Sequence[AnyRecord]) -> None:
        """Take the next records, which this process has just written: they are durable.

        It must be quick and must not raise: the execution waits for it.
        """


class Observer(Protocol):
    """Sees the executions of this process."""

    @abstractmethod
    def watch(self, execution_id: str) -> Watch:
        """Return a view of an execution that is being loaded; it gets the records from the first."""

    @abstractmethod
    def run(self, run_id: str, caller: TraceContext | None, began_at: float) -> Watch:
        """Return a view of a run in a plain script, which `caller` has begun: all its records are news."""

    @abstractmethod
    def attempt(self, context: TraceContext) -> AbstractContextManager[None]:
        """Return a context in which one attempt at a step is made, which is the span `context` of a trace."""

    @abstractmethod
    def caller(self) -> TraceContext | None:
        """Return the span in which this is called, if any: an execution started there is its child."""

    @abstractmethod
    def worker(self, load: Callable[[], WorkerLoad]) -> Callable[[], None]:
        """Take a worker that has begun, and return a function to call when it has stopped."""
