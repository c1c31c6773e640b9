"""The context through which workflow code uses its backend, and the variable that holds it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, NoReturn, Protocol

from outlast.core.errors import NotSupported
from outlast.core.json import JSON
from outlast.ports.durability.steps import Step, StepContext
from outlast.ports.journal import DEFAULT_TASK_QUEUE


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """The identity of an execution, as `workflow.info()` returns it."""

    execution_id: str
    workflow: str
    task_queue: str = DEFAULT_TASK_QUEUE


@dataclass(slots=True)
class AwaitedChild:
    """The news of a child for workflow code: that it exists, and its result; or the error."""

    started: asyncio.Future[None]
    ended: asyncio.Future[JSON]
    id: str = ""
    """The id of the child once it has started; another one after a retry has started another child."""


class WorkflowContext(StepContext, Protocol):
    """The backend's services for workflow code. `asyncio` does the rest: sleeping, tasks, events, queues.

    W1  Every method returns the same values when the execution is replayed.
    W2  `run_step` returns the journaled result if there is one, and performs the step otherwise (D3, D4).
    """

    @abstractmethod
    async def wait_condition(self, condition: Callable[[], bool], timeout: timedelta | None = None) -> None:
        """Return once `condition` holds; raises `TimeoutError` if it does not within `timeout`."""

    def start_child(self, step: Step) -> AwaitedChild:
        """Ask for the child that `step` says; it goes on when nobody waits for it.

        Raises:
            NotSupported: the backend cannot start children here.
        """
        raise NotSupported("children are not supported in this workflow")

    @property
    @abstractmethod
    def is_replaying(self) -> bool:
        """True while the code is replayed."""

    @property
    @abstractmethod
    def info(self) -> WorkflowInfo:
        """The execution's identity."""

    @property
    @abstractmethod
    def random(self) -> Random:
        """A source of random numbers: the same in every replay, different in every execution."""

    @property
    @abstractmethod
    def all_handlers_finished(self) -> bool:
        """True if no handler of a signal or an update is running."""

    @abstractmethod
    def patched(self, patch: str) -> bool:
        """Return whether to run the code that the patch of that name brought; see `workflow.patched`."""

    @property
    @abstractmethod
    def should_continue_as_new(self) -> bool:
        """True if the backend suggests to go on in a new history."""

    @abstractmethod
    async def continue_as_new(self, arguments: dict[str, JSON]) -> NoReturn:
        """End here, and let the execution go on from its entrypoint with these arguments, by name.

        It keeps its id, its messages and its event stream; idempotency keys stay unique. No step may be open.

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
