"""What of the runtime an adapter with an engine of its own is given, since it may not import it.

Temporal schedules, retries and replays by itself; but what a definition is, how one attempt is performed and
what an execution's records mean to a reader is the same everywhere. The composition root fills this in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from outlast.core.event_stream import Delta, Event
from outlast.core.json import JSON
from outlast.core.records import Input, Note, Request
from outlast.ports.definitions import ActivityDefinition, HandlerDefinition, WorkflowDefinition
from outlast.ports.durability.steps import Performer
from outlast.ports.resources import Resources


class RecordReader(Protocol):
    """Turns the records of one execution, given in order from the first, into its events."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the last event of the stream has been given."""

    @abstractmethod
    def read(self, record: Input | Request | Note) -> Iterator[Event]:
        """Yield the event that `record` is, if it is one; its position is that of the record, from 1."""

    @abstractmethod
    def hear(self, deltas: Sequence[Delta]) -> None:
        """Take pieces of text of replies that are being written."""

    @abstractmethod
    def text(self) -> Iterator[Event]:
        """Yield the events that the text is which was heard of steps that are still open."""


HandlerArguments = Callable[
    [HandlerDefinition, Sequence[JSON], Mapping[str, JSON]], tuple[tuple[Any, ...], dict[str, Any]]
]


Contained = Callable[[Callable[[BaseException], bool]], AbstractContextManager[None]]
"""Takes a function that says which other exceptions come out, since they unwind the code: see
`StepContext.unwinds`."""


@dataclass(frozen=True, slots=True)
class Toolkit:
    """The runtime's part of a backend with an engine of its own."""

    definition_of: Callable[[Any], WorkflowDefinition]
    """Returns the definition of a workflow class or name; raises `DefinitionError`."""
    known_definition: Callable[[str], WorkflowDefinition | None]
    defined_activity: Callable[[str], ActivityDefinition]
    """Returns the activity of that name; raises `UnknownDefinition`."""
    handler_arguments: HandlerArguments
    """Returns the Python arguments of a signal or query; raises `InvalidArguments` or `DefinitionError`."""
    perform: Performer
    """Performs one attempt within its timeouts; raises what it raises, or `ActivityTimedOut`."""
    open_resources: Callable[[], AbstractAsyncContextManager[Resources]]
    """Returns the resources of one worker."""
    contained: Contained
    """Returns what stands around user code, so that all it raises are `Exception`s."""
    workflow_code: Callable[[], AbstractContextManager[None]]
    """Returns the guard that stands around workflow code in the thread that runs it."""
    own_code: Callable[[], AbstractContextManager[None]]
    """Returns what may stand, within that guard, around code that calls nothing of a user's, to save time."""
    record_reader: Callable[[], RecordReader]
    ignore_definitions_where: Callable[[Callable[[], bool]], None]
    """Lets definitions that are made while the given function returns True replace none that there are."""
