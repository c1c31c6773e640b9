"""The observers of this process, and how the runtime lets them see what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from outlast.core.records import AnyRecord
from outlast.core.trace_context import TraceContext
from outlast.ports.observers import Observer, Watch, WorkerLoad, attempt_span

_observers: list[Observer] = []


def observe(observer: Observer) -> Callable[[], None]:
    """Let an observer see the executions that are loaded from now on; return a function that ends that."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def is_observed() -> bool:
    """Return whether anybody observes."""
    return bool(_observers)


class Watches(Watch):
    """The views that all observers have of one execution."""

    def __init__(self, execution_id: str, records: Sequence[AnyRecord]) -> None:
        """Begin with the records that there are."""
        self._watches = [observer.watch(execution_id) for observer in _observers]
        self.read(records)

    @classmethod
    def of_run(cls, run_id: str, began_at: float) -> Self:
        """Return the views of a run in a plain script that begins now."""
        watches = cls.__new__(cls)
        caller = calling_span()
        watches._watches = [observer.run(run_id, caller, began_at) for observer in _observers]
        return watches

    def read(self, records: Sequence[AnyRecord]) -> None:
        for watch in self._watches:
            watch.read(records)

    def wrote(self, records: Sequence[AnyRecord]) -> None:
        for watch in self._watches:
            watch.wrote(records)


@contextmanager
def observed_attempt(context: TraceContext | None) -> Iterator[None]:
    """Let each observer surround the attempt that is made in the block, if the attempt has a context."""
    if context is None or not _observers:
        yield
        return
    with ExitStack() as stack:
        for observer in _observers:
            stack.enter_context(observer.attempt(context))
        token = attempt_span.set(calling_span())
        try:
            yield
        finally:
            attempt_span.reset(token)


def calling_span() -> TraceContext | None:
    """Return the span in which this is called, as far as an observer knows one."""
    for observer in _observers:
        if (caller := observer.caller()) is not None:
            return caller
    return None


@contextmanager
def observed_worker(load: Callable[[], WorkerLoad]) -> Iterator[None]:
    """Let each observer see the load of the worker that runs in the block."""
    with ExitStack() as stack:
        for observer in _observers:
            stack.callback(observer.worker(load))
        yield
