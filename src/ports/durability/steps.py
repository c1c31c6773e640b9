"""Steps, the attempts at them, and the context through which workflow code asks for them."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self, TypeVar

from outlast.core.approvals import Decision
from outlast.core.errors import NotSupported
from outlast.core.events import AnyEventData
from outlast.core.json import JSON
from outlast.core.records import StepKind
from outlast.core.trace_context import TraceContext
from outlast.ports.definitions import ActivityDefinition, ActivityOptions, CallArguments, PythonArguments
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolSource

E = TypeVar("E", bound=AnyEventData)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts about an attempt at a step that its code can read; `activity.info()` returns them."""

    execution_id: str
    activity: str
    attempt: int
    idempotency_key: str
    heartbeat: Callable[[tuple[JSON, ...]], None] = field(repr=False, default=lambda details: None)
    heartbeat_details: tuple[JSON, ...] = ()
    """The details of the previous attempt's last heartbeat, if they are known."""
    earlier: int = 0
    """The attempts under the same idempotency key that `attempt` does not count: a retry of the execution
    counts from 1 again."""
    trace: TraceContext | None = field(repr=False, default=None)
    """The span of the attempt, if somebody observes."""
    publish: Publish | None = field(repr=False, default=None)
    """Takes the text of a model's reply while it is being written; None if the text is not published."""


@dataclass(frozen=True, slots=True)
class RunActivity:
    """Run an activity with these arguments (by parameter name)."""

    definition: ActivityDefinition
    arguments: dict[str, JSON]
    _unused: list[PythonArguments] = field(default_factory=list, repr=False, compare=False)
    """The Python arguments that came with these, until an attempt takes them."""

    @classmethod
    def of(cls, definition: ActivityDefinition, arguments: CallArguments) -> Self:
        """Return the call with arguments that have just been validated for it."""
        return cls(definition, arguments.written, [arguments.python])

    def python_arguments(self) -> PythonArguments:
        """Return the arguments for one attempt, which may change them: every attempt gets its own.

        Raises:
            DefinitionError: they do not fit the activity any more.
        """
        try:
            return self._unused.pop()
        except IndexError:
            return self.definition.signature.load_arguments(self.arguments)


@dataclass(frozen=True, slots=True)
class AskModel:
    """Ask a model. `request` is made when an attempt starts, so that it is never stored."""

    session: Session
    request: Callable[[Attempt], ModelRequest]
    model: str
    """The name of the model that is asked first."""
    must_have_price: tuple[str, ...] = ()
    """The models without whose prices no model is asked."""


@dataclass(frozen=True, slots=True)
class CallSourceTool:
    """Call a tool of a source."""

    source: ToolSource
    tool: str
    arguments: dict[str, JSON]
    known: str
    """The fingerprint of the tool as the model knows it."""


@dataclass(frozen=True, slots=True)
class ListTools:
    """Ask a source for its tools."""

    source: ToolSource


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start a child, and wait for its end; the record of the step says all about it.

    It is not an attempt: no part of it runs in the parent's worker.
    """


@dataclass(frozen=True, slots=True)
class MessageChild:
    """Send a child a signal, with its arguments as they were given; without one, a request to end."""

    child: str
    signal: str | None = None
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = field(default_factory=dict)


Call = RunActivity | AskModel | CallSourceTool | ListTools | StartChild | MessageChild


@dataclass(frozen=True, slots=True)
class Step:
    """Something whose result is journaled under `key`. `arguments` is the journaled part of its input."""

    key: str
    kind: StepKind
    name: str
    call: Call
    options: ActivityOptions
    arguments: JSON = None
    about: dict[str, JSON] = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """The model that is asked first, if one is."""
        return self.call.model if isinstance(self.call, AskModel) else None

    @property
    def publishes_text(self) -> bool:
        """True if the text of the reply is published while it is being written."""
        return self.kind is StepKind.MODEL and isinstance(self.call, AskModel) and self.call.session.stream


class HeldBack(Exception):
    """The attempt was not begun: the models that it would ask are to be left alone for some more seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asked to be left alone for another {seconds:.1f} s")
        self.seconds = seconds


Performer = Callable[[Call, Attempt, ActivityOptions, Resources], Awaitable[JSON]]
"""Performs one attempt of a call; given to adapters that have an engine of their own.

It raises `HeldBack` if the attempt must wait; then nothing was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to a question, as it was sent."""

    value: JSON
    by: str | None = None
    """The person who answered, in the words of the sender."""


class Steered(Protocol):
    """A run at work, which a person may steer."""

    @property
    @abstractmethod
    def takes_steering(self) -> bool:
        """True while the run goes on, once its input was let in."""

    @property
    @abstractmethod
    def is_checking_input(self) -> bool:
        """True before that: it cannot be steered yet."""

    @abstractmethod
    def say(self, text: str, by: str | None) -> None:
        """Give the run a message of a user; its model gets it with the next call."""

    @abstractmethod
    def interrupt(self, reason: str | None, by: str | None) -> None:
        """End the turn at work, and the run with it."""


class StepContext(Protocol):
    """The services that a run of an agent uses: durable in workflow code, undurable in a plain script."""

    @abstractmethod
    async def run_step(self, step: Step) -> JSON:
        """Return the step's result; raises an `ActivityError` or `ModelError` if it fails for good."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the time (UTC); in workflow code, the time of the execution's last input."""

    @abstractmethod
    def next_key(self) -> str:
        """Return a key for what the current task does next: its path and position, never used before."""

    @abstractmethod
    async def decision(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision:
        """Wait for the first decision that `fits`, about the call at `key` with that fingerprint."""

    @abstractmethod
    def emit(self, data: E) -> E:
        """Add an event to the execution's stream, and return it as the stream has it.

        In a replay that is what was added before, whose words may be others: go on with those.
        """

    @property
    def takes_answers(self) -> bool:
        """True if a person can answer questions here."""
        return False

    async def answer_to(self, key: str, faults_in: Callable[[JSON], list[str]]) -> Answer:
        """Wait for the first answer to the question at `key` in which `faults_in` finds nothing wrong.

        Raises:
            NotSupported: the backend cannot take answers here.
        """
        raise NotSupported("questions to people are not supported here")

    def at_work(self, key: str, run: Steered) -> AbstractContextManager[None]:
        """Return a context manager: during its block a person may steer the run that has that key."""
        return nullcontext()

    def inherited(self, key: str) -> bool:
        """Return whether the step ended in another execution, of which this one is a fork."""
        return False

    def outlived(self, key: str) -> bool:
        """Return whether the step ended before the execution did, which was opened again since.

        What came after the step may be void, but it was done.
        """
        return False

    def unwinds(self, error: BaseException) -> bool:
        """Return whether the backend uses `error` to end code; then it is not an error of the code itself.

        Cancellation by asyncio always ends code; a backend adds the `BaseException`s that it throws.
        """
        return isinstance(error, (asyncio.CancelledError, GeneratorExit))
