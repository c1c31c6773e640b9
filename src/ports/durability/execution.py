"""What a handle on one execution offers: small protocols, joined by `Execution`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from outlast.core.approvals import PendingApproval, Verdict
from outlast.core.event_stream import Event
from outlast.core.records import Status


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
    held: bool = False
    """Whether no worker takes it until somebody resumes it; `error` says why."""


class Watching(Protocol):
    """Looking at an execution: nothing here changes it."""

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
    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return what a query handler says of the execution's present state; nothing is changed."""

    @abstractmethod
    async def describe(self) -> ExecutionDescription:
        """Return where the execution stands."""

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


class Messages(Protocol):
    """Talking to the handlers of an execution."""

    @abstractmethod
    async def signal(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a signal; it is durable when this returns (D9)."""

    @abstractmethod
    async def update(self, name: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any:
        """Send an update, and return what its handler returns (D18); without an `id` it gets a new one.

        `id` is always that of the update: a parameter of the handler with this name is given by position.

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


class Control(Protocol):
    """Deciding over an execution's life."""

    @abstractmethod
    async def cancel(self) -> None:
        """Ask the execution to end (D10); the request is durable when this returns.

        An execution that is held is resumed by that, so that its code can clean up.
        """

    @abstractmethod
    async def resume(self) -> bool:
        """Let workers take an execution that is held (D19); return whether it was held.

        So it is when it ended one worker after the other, or when they could not carry it on, time and again;
        `describe` says why. Mend the cause first: it is held again if it goes on as before. No completed step
        is run again, and a step that was under way is attempted at least once more.

        Raises:
            ExecutionClosed: the execution has ended.
            NotSupported: the backend's server holds no executions.
        """


class Approvals(Protocol):
    """Deciding about the tool calls of an execution that wait for a person."""

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
        `edited_arguments` if there are any. Of two decisions about one call the first counts. A decision with
        arguments that do not fit the tool does not count.

        Raises:
            InvalidArguments: the edited arguments do not fit the schema of the tool; nothing was sent.
            NotPending: no such call waits, or several do; nothing was sent.
            ExecutionClosed: the execution has ended.
        """


class Execution(Watching, Messages, Control, Approvals, Protocol):
    """A handle on one execution. Any number of them, in any processes, may exist."""
