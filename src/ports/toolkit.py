"""The parts of the runtime that an adapter with an engine of its own needs but may not import.

Temporal schedules, retries and replays by itself; but definitions, the performing of one attempt and the
meaning of an execution's records to a reader are the same everywhere. The composition root fills this in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from outlast.core.failure import Failure
from outlast.core.records import AnyRecord
from outlast.core.trace_context import TraceContext
from outlast.ports.definitions import ActivityDefinition, WorkflowDefinition
from outlast.ports.durability.steps import Performer
from outlast.ports.live_code import MakeLiveCode
from outlast.ports.resources import Resources

Contained = Callable[[Callable[[BaseException], bool]], AbstractContextManager[None]]
"""Takes a function that returns True for further exceptions to let out, because they unwind the code: see
`StepContext.unwinds`."""


class FailureOf(Protocol):
    """Makes an exception data."""

    @abstractmethod
    def __call__(self, error: BaseException, limit_bytes: int, *, final: Collection[str] = ()) -> Failure:
        """Return the failure for `error`; see `core.failure.failure_of`."""


class DefinedActivity(Protocol):
    """Finds an activity of this process."""

    @abstractmethod
    def __call__(self, name: str, called: ActivityDefinition | None = None) -> ActivityDefinition:
        """Return the activity of that name; if there are several, the one that is `called`, or its copy.

        Raises:
            UnknownDefinition: there is none.
            DefinitionError: there are several, and none of them is `called`.
        """


@dataclass(frozen=True, slots=True)
class Toolkit:
    """The runtime's part of a backend with an engine of its own."""

    definition_of: Callable[[Any], WorkflowDefinition]
    """Returns the definition of a workflow class or name; raises `DefinitionError`."""
    known_definition: Callable[[str], WorkflowDefinition | None]
    defined_activity: DefinedActivity
    check_edits: Callable[[Sequence[AnyRecord], Mapping[str, Any]], None]
    """Raises `CannotRerun` unless each edit, by the key of a step, is of the type of what it replaces."""
    live_code: MakeLiveCode
    """Makes the code of one execution in memory, for a driver in the adapter."""
    perform: Performer
    """Performs one attempt within its timeouts; raises the attempt's error, or `ActivityTimedOut`."""
    open_resources: Callable[[], AbstractAsyncContextManager[Resources]]
    """Returns the resources of one worker."""
    contained: Contained
    """Returns the context manager around user code; it turns all that the code raises into `Exception`s."""
    failure_of: FailureOf
    """Returns the failure for an exception, with the frames of user code."""
    calling_span: Callable[[], TraceContext | None]
    """Returns the span in which it is called, if an observer knows one: what starts there belongs to it."""
    ignore_definitions_where: Callable[[Callable[[], bool]], None]
    """Definitions that are made while the given function returns True then replace no existing ones."""
