"""The durability port: what a backend offers, from outside and to workflow code.

Every backend keeps the promises D1 to D18, which stand as tests in `testing.durability_contract`:

D1   `start` with an id that exists returns the same execution when workflow and input are equal, else raises
     `ExecutionAlreadyExists`; two concurrent starts create one execution.
D2   A result, once returned, is the same for every later caller, in any process, after any restart.
D3   An activity whose result is journaled never runs again for that execution.
D4   An activity that may have run is run again with the same idempotency key and a higher attempt number.
D5   Attempts, back-off and timeouts follow the activity's options, also across a crash.
D6   A worker that lost its lease cannot write: its append is refused, its execution goes on elsewhere, once.
D7   A worker is killed: another resumes its executions within the lease time.
D8   Timers survive restarts and never fire early.
D9   Signals are applied once each, in the order sent by one sender, also when sent before a worker starts.
D10  Cancellation raises `CancelledError` in the workflow at its current await; clean-up code may await
     activities, and the execution ends as cancelled.
D11  Workflow code that no longer matches its journal raises `NonDeterminismError`; the execution is kept,
     not failed, and goes on once the code is right again.
D12  What cannot be serialised, or is over the backend's limit, is a clear error at the call.
D13  The event stream of an execution is complete and ordered, and can be read from any position.
D14  A secret given to a session or tool source is in no stored byte.
D15  A worker that is asked to stop finishes or hands over; nothing is lost, nothing runs twice.
D16  N workers share the executions; adding one raises throughput, losing one loses nothing.
D17  A tool call that needs a person's approval waits for it as long as it takes, across crashes; it is made
     only as it was shown, at most once, and never after it was denied.
D18  An update is accepted and answered once: its caller gets what the handler returns or raises, and so does
     whoever sends the same id again, in any process, after any crash. A rejected one changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, NoReturn, Protocol

from outlast.core.approvals import Decision, PendingApproval, Verdict
from outlast.core.event_stream import Event
from outlast.core.json import JSON
from outlast.core.records import Status, StepKind
from outlast.ports.definitions import ActivityDefinition, ActivityOptions
from outlast.ports.deltas import Tell
from outlast.ports.journal import DEFAULT_TASK_QUEUE
from outlast.ports.llm import ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolSource

# From outside ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExecutionDescription:
    """What `describe` tells; times are timezone-aware (UTC)."""

    id: str
    workflow: str
    status: Status
    created_at: datetime
    closed_at: datetime | None
    error: str | None
    """Why it failed, or why it cannot go on at the moment."""


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """What `workers` tells of a worker that is alive."""

    identity: str
    task_queue: str
    workflows: Sequence[str]
    """The names of the workflows that it runs, sorted."""
    started_at: datetime
    """Timezone-aware (UTC)."""
    executions: Sequence[str]
    """The ids of those that it carries on at the moment, sorted; an execution that only waits is nobody's."""


class Execution(Protocol):
    """A handle on one execution. Any number of them, in any processes, may exist."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The execution's id."""

    @abstractmethod
    async def result(self) -> Any:
        """Wait for the end and return the result (D2).

        Raises:
            ExecutionFailed: it failed; the error that ended it is the `__cause__`.
            ExecutionCancelled: it was cancelled.
        """

    @abstractmethod
    async def signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Send a signal; it is durable when this returns (D9)."""

    @abstractmethod
    async def query(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what a query handler says of the execution's present state; nothing is changed."""

    @abstractmethod
    async def update(self, name: str, *args: Any, id: str | None = None, **kwargs: Any) -> Any:
        """Send an update, and return what its handler returns (D18); without an `id` it gets a new one.

        It waits for a worker to accept the update, and for the handler to end. Whoever waited and was cut
        off gets the answer by sending the same id again, also after the execution has ended; what is sent
        with an id that was accepted is not looked at.

        Raises:
            UpdateRejected: the workflow has not accepted it, and nothing has changed: its validator raised,
                or the worker has no such handler. What was raised is the `__cause__`. The id is free again.
            UpdateFailed: the handler raised; what it raised is the `__cause__`. The execution goes on.
            UpdateAbandoned: the execution ended before the handler did.
            ExecutionClosed: the execution has ended, and has not accepted it.
            InvalidArguments: the workflow has no such update, or the arguments do not fit; nothing was sent.
            Unserialisable, PayloadTooLarge: the arguments cannot be sent; nothing was.
        """

    @abstractmethod
    async def cancel(self) -> None:
        """Ask the execution to end (D10); the request is durable when this returns."""

    @abstractmethod
    async def describe(self) -> ExecutionDescription:
        """Return where the execution stands."""

    @abstractmethod
    async def pending(self) -> Sequence[PendingApproval]:
        """Return the tool calls that wait for a person's decision, the first asked first (D17)."""

    @abstractmethod
    async def decide(
        self,
        call_id: str,
        verdict: Verdict,
        reason: str | None = None,
        *,
        edited_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Decide about a call, by its `call_id` or `key`; the decision is durable when this returns (D17).

        A denied call is answered to the model with the reason; an allowed one is made, with the
        `edited_arguments` if there are any. Of two decisions about one call the first counts.

        Raises:
            NotPending: no such call waits, or several do; nothing was sent.
            ExecutionClosed: the execution has ended.
        """

    @abstractmethod
    def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        """Yield the events with a position above `after` as they come, to the execution's end (D13).

        Among them, as far as they can be had, are `text_delta`s of replies that are still being written, by
        sessions that stream: each has the turn's `key`, `run`, `agent` and `turn`, the `attempt`, and from 1
        on the `sequence` of its `text` in that attempt. A higher attempt retracts all text of lower ones,
        and `model_replied` brings the whole. A delta has the position of what came before it: whoever reads
        on from there gets the text of an unfinished turn from its beginning, under the same numbers.

        Without `follow`, only those events that there are, and no deltas.
        """


class Backend(Protocol):
    """A place where executions live. It is an async context manager."""

    @abstractmethod
    async def start(
        self,
        workflow: type[Any] | str,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        **kwargs: Any,
    ) -> Execution:
        """Start an execution, durable when this returns (D1); without an id it gets a new one."""

    @abstractmethod
    async def get(self, execution_id: str) -> Execution:
        """Return a handle on an existing execution; raises `ExecutionNotFound`."""

    @abstractmethod
    async def list(
        self, *, workflow: str | None = None, status: Status | str | None = None, limit: int = 100
    ) -> Sequence[ExecutionDescription]:
        """Return executions, the newest first."""

    @abstractmethod
    async def prune(self, older_than: timedelta) -> int:
        """Forget executions that ended longer ago than that; return how many. None that runs is forgotten.

        Raises:
            NotSupported: the backend's server forgets by rules of its own.
        """

    @abstractmethod
    async def workers(self) -> Sequence[WorkerDescription]:
        """Return the workers that are alive, in any process; the first to have started comes first.

        One that was killed is listed until its lease has run out, one that stops until it has stopped.

        Raises:
            NotSupported: the backend's server has tools of its own for this.
        """

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
    async def __aenter__(self) -> Backend:
        """Connect."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Disconnect; executions stay where they are."""


# To workflow code --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """What `workflow.info()` tells."""

    execution_id: str
    workflow: str
    task_queue: str = DEFAULT_TASK_QUEUE


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt at a step knows of itself; `activity.info()` returns it."""

    execution_id: str
    activity: str
    attempt: int
    idempotency_key: str
    heartbeat: Callable[[tuple[JSON, ...]], None] = field(repr=False, default=lambda details: None)
    heartbeat_details: tuple[JSON, ...] = ()
    """What the previous attempt last said through its heartbeat, as far as it is known."""
    tell: Tell | None = field(repr=False, default=None)
    """Takes the text of a model's reply while it is being written; None if nobody is to hear it."""


@dataclass(frozen=True, slots=True)
class ActivityCall:
    """Run an activity with these arguments (by parameter name)."""

    definition: ActivityDefinition
    arguments: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class ModelCall:
    """Ask a model. `request` is made when an attempt starts, so that it is never stored."""

    session: Session
    request: Callable[[Attempt], ModelRequest]


@dataclass(frozen=True, slots=True)
class ToolCallOf:
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


Call = ActivityCall | ModelCall | ToolCallOf | ListTools


@dataclass(frozen=True, slots=True)
class Step:
    """Something whose result is journaled under `key`. `arguments` is what of its input is journaled."""

    key: str
    kind: StepKind
    name: str
    call: Call
    options: ActivityOptions
    arguments: JSON = None
    about: dict[str, JSON] = field(default_factory=dict)

    @property
    def tells(self) -> bool:
        """Whether the text of what an attempt brings is told while it comes."""
        return self.kind is StepKind.MODEL and isinstance(self.call, ModelCall) and self.call.session.stream


class StepContext(Protocol):
    """What a run of an agent asks for. Workflow code has one; so has a run in a plain script, undurably."""

    @abstractmethod
    async def run_step(self, step: Step) -> JSON:
        """Return the step's result; raises an `ActivityError` or `ModelError` when it failed for good."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the time (UTC); in workflow code that of the last thing that happened to the execution."""

    @abstractmethod
    def next_key(self) -> str:
        """Return a key for what the current task does next: its path and position, never used before."""

    @abstractmethod
    async def decision(self, key: str, fingerprint: str) -> Decision:
        """Return what a person has decided about the call at `key` with that fingerprint, once they have."""

    @abstractmethod
    def emit(self, kind: str, data: dict[str, JSON]) -> None:
        """Add an event to the execution's stream."""


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


Performer = Callable[[Call, Attempt, ActivityOptions, Resources], Awaitable[JSON]]
"""Performs one attempt of a call; given to adapters that have an engine of their own."""

current_context: ContextVar[WorkflowContext | None] = ContextVar("current_context", default=None)
"""The context of the workflow code that is running, or None outside of any."""
