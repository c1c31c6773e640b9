"""Workflow code in memory, as a driver with an engine of its own sees it; the runtime implements it.

The code of an execution runs on a loop that does nothing by itself, on every backend. A driver gives it
inputs, one by one, and reads from its machine what it asks for. A backend whose server keeps the history also
answers for that history: a journal is not there to be asked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from outlast.core.children import OpenChild
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import AnyRecord, Encoder, Input, StepCompleted, StepScheduled, UpdateAccepted
from outlast.core.trace_context import TraceContext
from outlast.core.workflow_machine import OpenStep, WorkflowMachine
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.durability.workflow_context import WorkflowInfo


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where in an execution a history begins; not at its start if the execution continued as new."""

    histories: int = 0
    """The number of histories before this one."""
    events: int = 0
    """The number of events that code emitted in them."""
    records: int = 0
    """The number of records that they gave."""


START = Beginning()


class KeptHistory(Protocol):
    """The history of one execution, where a server keeps it instead of a journal."""

    @property
    @abstractmethod
    def is_replaying(self) -> bool:
        """True while the code is given again what it was given before."""

    @abstractmethod
    def takes_patch(self, patch: str) -> bool:
        """Return whether the code behind a patch is to run, not the code that was there before."""

    @property
    @abstractmethod
    def is_long(self) -> bool:
        """True if the server suggests to go on in a new history."""


class LiveCode(Protocol):
    """The code of one execution in memory.

    L1  It runs only inside `go_on` and `deliver`, each for a moment; call `go_on` until it is `at_rest`.
    L2  It is given inputs one by one, while it is at rest; in equal order they make it do the same.
    L3  After `close`, no part of it runs any longer.
    """

    machine: WorkflowMachine
    encoder: Encoder
    requested: Mapping[str, Step]
    """The steps that wait for a result, by key."""

    @property
    @abstractmethod
    def at_rest(self) -> bool:
        """True if the code waits for an input, or has ended."""

    @abstractmethod
    def report(self, records: Sequence[AnyRecord], now: float | None = None) -> None:
        """Let the log and the observers know these records, which are durable now, unless it is a replay.

        The steps that they ask for begin `now`, if given: the last input may be much older.
        """

    @abstractmethod
    def go_on(self) -> bool:
        """Let the code run for a moment, and return whether it is at rest.

        Raises:
            NonDeterminismError: the code departed from its records.
            BusyWorkflow: it has run for too long since the last input.
        """

    @abstractmethod
    def deliver(self, record: Input) -> bool:
        """Give the code an input; return False if nobody waits for it, as when it continues as new."""

    @abstractmethod
    def taken_up(self, now: float) -> Iterator[Input]:
        """Yield the inputs that come first when the code has caught up with a journal, each in its turn.

        These are the inputs that a retry has made void, see `core.reruns`, and the failures of steps in doubt
        that must not be tried again. Deliver each, and let the code come to rest, before the next is taken.
        """

    @abstractmethod
    def recalled(self, scheduled: StepScheduled) -> StepCompleted | None:
        """Return the record of a void step that is this one, if it completed: it must not run again."""

    @abstractmethod
    def attempt_context(self, opened: OpenStep) -> TraceContext:
        """Return the span of the next attempt at a step."""

    @abstractmethod
    def child_context(self, child: OpenChild) -> TraceContext:
        """Return the span that a child is part of."""

    @abstractmethod
    def objection(self, update: UpdateAccepted) -> Failure | None:
        """Return the reason to reject an update, if there is one; this changes nothing."""

    @abstractmethod
    def ask(self, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]) -> JSON:
        """Return the answer of a query handler; raises what the handler raises."""

    @property
    @abstractmethod
    def carried(self) -> dict[str, JSON] | None:
        """The arguments with which the code asked to go on in a new history, if it did."""

    @abstractmethod
    def next_beginning(self, records: int) -> Beginning:
        """Return where the next history begins, if this one gave so many records."""

    @abstractmethod
    def close(self) -> None:
        """Drop the code from memory."""


class MakeLiveCode(Protocol):
    """Makes the code of one execution, which `go_on` then brings to rest."""

    @abstractmethod
    def __call__(
        self,
        definition: WorkflowDefinition,
        info: WorkflowInfo,
        records: Sequence[AnyRecord],
        *,
        limit_bytes: int,
        running_seconds_max: float | None = None,
        history: KeptHistory | None = None,
        beginning: Beginning = ...,
    ) -> LiveCode: ...
