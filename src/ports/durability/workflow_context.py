"""What workflow code can ask of its backend, and where it finds it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, NoReturn, Protocol

from outlast.core.json import JSON
from outlast.ports.durability.steps import StepContext
from outlast.ports.journal import DEFAULT_TASK_QUEUE


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """What `workflow.info()` tells."""

    execution_id: str
    workflow: str
    task_queue: str = DEFAULT_TASK_QUEUE


class WorkflowContext(StepContext, Protocol):
    """What workflow code can ask of its backend. `asyncio` does the rest: sleeping, tasks, events, queues.

    W1  Everything here gives the same answers when the execution is replayed.
    W2  `run_step` returns the journaled result if there is one, and performs the step otherwise (D3, D4).
    """

    @abstractmethod
    async def wait_condition(self, condition: Callable[[], bool], timeout: timedelta | None = None) -> None:
        """Return once `condition` holds; raises `TimeoutError` if it does not within `timeout`."""

    @property
    @abstractmethod
    def is_replaying(self) -> bool:
        """Whether the code is only catching up with what has happened before."""

    @property
    @abstractmethod
    def info(self) -> WorkflowInfo:
        """The execution's identity."""

    @property
    @abstractmethod
    def random(self) -> Random:
        """A source of numbers that are the same in every replay, and others in every execution."""

    @property
    @abstractmethod
    def all_handlers_finished(self) -> bool:
        """Whether no handler of a signal or an update is at work."""

    @abstractmethod
    def patched(self, patch: str) -> bool:
        """Return whether to run the code that the patch of that name brought; see `workflow.patched`."""

    @property
    @abstractmethod
    def should_continue_as_new(self) -> bool:
        """Whether the backend would rather have what follows in a history of its own."""

    @abstractmethod
    async def continue_as_new(self, arguments: dict[str, JSON]) -> NoReturn:
        """End here, and let the execution go on from its entrypoint with these arguments, by name.

        It keeps its id, its messages and its event stream; idempotency keys stay unique. Let nothing be open.

        Raises:
            PayloadTooLarge: the arguments are over the backend's limit; the execution goes on here.
            NotSupported: the backend's journals have no length at which it would help.
        """

    @property
    @abstractmethod
    def state(self) -> dict[Any, Any]:
        """A place for the library's own in-memory state of this execution (conversations)."""


current_context: ContextVar[WorkflowContext | None] = ContextVar("current_context", default=None)
"""The context of the workflow code that is running, or None outside of any."""
