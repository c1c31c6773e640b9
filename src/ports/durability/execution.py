"""The handle on one execution: small protocols, joined by `Execution`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVarTuple, overload

from typing_extensions import TypeVar

from outlast.core.approvals import PendingApproval, Verdict
from outlast.core.argument_checks import check_text
from outlast.core.errors import (
    InvalidArguments,
    NoRunAtWork,
    NotPending,
    NotSupported,
    OutlastError,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.event_stream import Event, without_void
from outlast.core.failure import Failure
from outlast.core.notebook_html import fact_table
from outlast.core.questions import ANSWER_UPDATE, PendingQuestion, questions_in
from outlast.core.records import AnyRecord, Status
from outlast.core.steering import INTERRUPT_UPDATE, SAY_UPDATE
from outlast.core.usage import Usage
from outlast.core.waiting import WaitingFor
from outlast.ports.method_references import Handler

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
T = TypeVar("T")
R = TypeVar("R", covariant=True, default=Any)
"""The result of an execution."""


@dataclass(frozen=True, slots=True)
class ExecutionDescription:
    """An execution as `describe` returns it; times are timezone-aware (UTC)."""

    id: str
    workflow: str
    status: Status
    created_at: datetime
    ended_at: datetime | None
    error: str | None
    """The reason why it failed, was terminated, or cannot go on at the moment."""
    held: bool = False
    """True if it is paused because it could not go on, not because somebody paused it; `error` says why."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    failure: Failure | None = None
    """The error that ended it, or at which it is held: with the frames of the user's code, and its causes
    (D21)."""
    waiting_for: tuple[WaitingFor, ...] = ()
    """The things that it waits for, the most important first, as its worker wrote them last. The tuple is
    empty after its end, and where the backend does not know them."""
    turns: int | None = None
    """The replies of models that its code has got; None if the backend does not count them."""
    usage: Usage | None = None
    """The tokens and the cost of these replies, and of summaries; None if the backend does not count them."""
    forked_from: str | None = None
    """The id of the execution that it is a fork of, if the backend knows it."""
    parent: str | None = None
    """The id of the execution that it is a child of."""
    agent: str | None = None
    """The agent whose turn began last, if there is one and the backend knows it."""

    def _repr_html_(self) -> str:
        return fact_table(
            f"execution {self.id}",
            [
                ("workflow", self.workflow),
                ("status", self.status),
                ("created at", self.created_at),
                ("ended at", self.ended_at),
                ("error", self.error),
                ("waits for", "\n".join(f"{one.kind} {one.text}" for one in self.waiting_for)),
                ("agent", self.agent),
                ("turns", self.turns),
                ("tokens", None if self.usage is None else self.usage.total_tokens),
                ("tags", ", ".join(f"{name}={value}" for name, value in self.tags.items())),
                ("parent", self.parent),
                ("forked from", self.forked_from),
            ],
        )


class Watching(Protocol[R]):
    """Looking at an execution: nothing here changes it."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The execution's id."""

    def _repr_html_(self) -> str:
        asked = "await execution.describe(), await execution.result(), async for event in execution.events()"
        return fact_table(f"execution {self.id}", [("to see more", asked)])

    @abstractmethod
    async def result(self) -> R:
        """Wait for the end and return the result (D2).

        Raises:
            ExecutionFailed: it failed; the error that ended it is the `__cause__`. It has its own class again
                if that is a builtin, or stands in a module that this process has loaded; else it is a
                `ForeignError`. A note on it has the traceback of then.
            ExecutionCancelled: it was cancelled.
            ExecutionTerminated: it was terminated.
        """

    @overload
    async def query(self, query: str, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    async def query(
        self, query: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @abstractmethod
    async def query(self, query: Handler, /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a query handler, which reads the present state and changes nothing.

        The query is a method, such as `Deal.state`, or a name: see `signal`.
        """

    @abstractmethod
    async def describe(self) -> ExecutionDescription:
        """Return the status of the execution, its times, and its error if any."""

    @abstractmethod
    def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        """Yield the events with a position above `after` as they come, to the execution's end (D13).

        If a session streams, replies that are still being written give `text_delta` events, as far as their
        text is not lost. Each has the turn's `key`, `run`, `agent` and `turn`, the `attempt`, and the
        `sequence` of its `text` in that attempt, counted from 1. A higher attempt retracts all text of lower
        ones, and `model_replied` brings the whole text. A delta has the position of the event before it: a
        reader that continues from there gets the text of an unfinished turn from its beginning, under the
        same numbers. After `execution_reopened`, attempts are counted anew.

        Without `follow`, it yields only the events that exist already, and no deltas.
        """


class Recorded(Protocol):
    """Reading the journal that the events of an execution are made from."""

    @abstractmethod
    def records(self) -> AsyncIterator[AnyRecord]:
        """Yield the records that there are, in order from the first; it waits for no more.

        Those of a backend with a history of its own are made from that by the workflow's code: of a worker,
        or of this process. Without the code, there are only those that the history alone gives, and a warning
        in the log.
        """

    @abstractmethod
    async def departure(self) -> OutlastError | None:
        """Return why the workflow's code in this process cannot carry the execution on; None if it can.

        The code is run over the journal, or over the history of a server: no step begins, nothing is written.

        Raises:
            DefinitionError: this process does not have the workflow.
        """


class Messages(Protocol):
    """Talking to the handlers of an execution."""

    @overload
    async def signal(self, signal: str, /, *args: Any, **kwargs: Any) -> None: ...
    @overload
    async def signal(
        self, signal: Callable[Concatenate[Any, P], Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    @abstractmethod
    async def signal(self, signal: Handler, /, *args: Any, **kwargs: Any) -> None:
        """Send a signal; it is durable when this returns (D9).

        The signal is a method of the workflow's class, such as `Deal.decide`, or its name. Type checkers
        know the arguments of a method.

        Raises:
            DefinitionError: the method is not marked as a signal.
        """

    @overload
    async def update(self, update: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any: ...
    @overload
    async def update(self, update: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def update(self, update: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def update(self, update: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, id: str) -> T: ...
    @overload
    async def update(self, update: Callable[[*Ts], T], /, *args: *Ts, id: str) -> T: ...
    @abstractmethod  # type: ignore[misc]
    async def update(self, update: Any, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any:
        """Send an update, and return what its handler returns (D18); without an `id` it gets a new one.

        The update is a method, such as `Deal.add_item`, or a name: see `signal`. To type checkers, a call by
        method that has an `id` gives all other arguments by position.

        `id` is always that of the update: a parameter of the handler with this name is given by position.

        It waits for a worker to accept the update, and for the handler to end. A caller that was cut off gets
        the answer by sending the same id again, also after the execution has ended; the name and arguments
        that come with an accepted id are ignored.

        Raises:
            UpdateRejected: the workflow did not accept it, and nothing has changed: its validator raised,
                or the worker has no such handler. The error is the `__cause__`. The id is free again.
            UpdateFailed: the handler raised; its error is the `__cause__`. The execution goes on.
            UpdateAbandoned: the execution ended before the handler did.
            ExecutionAlreadyEnded: the execution ended without accepting it.
            InvalidArguments: the workflow does not have this update, or the arguments do not fit; nothing
                was sent.
            Unserialisable, PayloadTooLarge: the arguments cannot be sent; nothing was sent.
        """


class Answering(Watching[R], Messages, Protocol[R]):
    """Answering what the code of an execution asks people."""

    async def questions(self) -> Sequence[PendingQuestion]:
        """Return the questions that wait for an answer, in the order in which they were asked."""
        events = without_void([event async for event in self.events(follow=False)])
        return questions_in(event.data for event in events)

    async def answer(self, key: str, value: Any, *, by: str | None = None) -> None:
        """Answer the question at `key`; the code has the answer when this returns.

        It is an update: a worker must be there to take it. The event of the answer says who gave it: `by`.

        Raises:
            QuestionNotPending: no question with that key waits: it was answered, or withdrawn; nothing has
                changed.
            InvalidArguments: the answer is not of the type that the question demands; it waits for another.
            ExecutionAlreadyEnded: the execution has ended.
            Unserialisable, PayloadTooLarge: the answer cannot be sent.
        """
        try:
            await self.update(ANSWER_UPDATE, key=key, answer=value, by=by)
        except (UpdateRejected, UpdateFailed) as error:
            cause = error.__cause__
            if isinstance(cause, (NotPending, InvalidArguments)):
                raise cause from None
            raise


class Steering(Messages, Protocol):
    """Talking to a run of an agent that is at work."""

    async def say(self, text: str, *, run: str | None = None, by: str | None = None) -> None:
        """Give the run at work a message of a user; it is durable when this returns.

        The model gets it with the next call, behind the results of open calls. A run whose model has just
        answered asks it again. If several runs are at work, `run` names one, by the key that its events have.

        Raises:
            DefinitionError: the text is empty.
            NoRunAtWork: no run is at work, or several are; nothing has changed.
            ExecutionAlreadyEnded: the execution has ended.
        """
        check_text("the text to say", text, may_be_empty=False)
        await self._steer(SAY_UPDATE, text=text, run=run, by=by)

    async def interrupt(
        self, reason: str | None = None, *, run: str | None = None, by: str | None = None
    ) -> None:
        """End the turn at work: workflow code gets `RunInterrupted` from its run, and decides what follows.

        The calls that are open get results that say so; the next run of the conversation sends them.

        Raises:
            NoRunAtWork: no run is at work, or several are and none was named; nothing has changed.
            ExecutionAlreadyEnded: the execution has ended.
        """
        await self._steer(INTERRUPT_UPDATE, reason=reason, run=run, by=by)

    async def _steer(self, update: str, **named: Any) -> None:
        try:
            await self.update(update, **named)
        except (UpdateRejected, UpdateFailed) as error:
            if isinstance(error.__cause__, NoRunAtWork):
                raise error.__cause__ from None
            raise


class Control(Protocol):
    """Deciding over an execution's life."""

    @abstractmethod
    async def cancel(self) -> None:
        """Ask the execution to end (D10); the request is durable when this returns.

        An execution that is held is resumed by that, so that its code can clean up.
        """

    async def pause(self, reason: str | None = None) -> bool:
        """Ask for a pause (D24); return False if the execution is paused already. It is durable then.

        A worker obeys it after the messages that were sent before. From then on the execution begins no step
        and takes no message, and no timer fires. Attempts that are under way go on to their end, and what
        comes of them is kept; then the status is `paused`, which needs no worker. Queries are answered.
        `resume` lets it go on, `cancel` too, so that its code can clean up; `terminate` ends it where it is.

        Raises:
            ExecutionAlreadyEnded: the execution has ended.
            NotSupported: the backend cannot pause an execution.
        """
        raise NotSupported("this backend cannot pause an execution")

    @abstractmethod
    async def resume(self) -> bool:
        """Let an execution go on that is paused or held (D19, D24); return whether it was.

        A request to pause that no worker has obeyed yet is taken back. Timers that came due meanwhile fire.

        An execution is held when it ended one worker after the other, when they could not carry it on, time
        and again, or when it failed with `on_failure="hold"`; `describe` says why. Mend the cause first: it
        is held again if it goes on as before.
        No completed step is run again, and a step that was under way is attempted at least once more.

        Raises:
            ExecutionAlreadyEnded: the execution has ended.
            NotSupported: the backend's server holds no executions.
        """


class Reruns(Protocol):
    """Ending an execution at once, and running it again. Nothing here needs a worker.

    A position is that of an event: the number of the first records of the journal. Each verb is one atomic
    write; a backend that cannot do it raises `NotSupported`, and nothing has changed.
    """

    async def terminate(self, reason: str) -> None:
        """End the execution where it is, without any clean-up; `result` raises `ExecutionTerminated`.

        Its worker loses it. What it does at that moment may still happen outside, and is not recorded.

        Raises:
            ExecutionAlreadyEnded: nothing has changed.
        """
        raise NotSupported("this backend cannot terminate an execution")

    async def retry(self, *, again: bool = False) -> None:
        """Open an execution again that failed, was cancelled or was terminated (D22): same id, today's code.

        If a step failed and that ended it, the step is tried anew, its attempts counted from 1. If code
        raised, the code gets its last input again. No completed step runs again. A step that was under way
        when the execution ended is treated as after a crash. Signals and updates that came in the part which
        is void are delivered again.

        Raises:
            CannotRerun: it has not ended, or it has completed.
            WouldRepeat: without `again`, for a failed step with `effect="once"`.
        """
        raise NotSupported("this backend cannot retry an execution")

    async def fork(
        self,
        *,
        at: int | None = None,
        id: str | None = None,
        edits: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> Execution:
        """Start an execution whose journal begins with the first `at` records of this one (D23).

        Nothing in them runs again. What follows is new: it has idempotency keys of its own, and it begins a
        conversation of its own where a server keeps that. This execution does not change. `edits` replaces
        results, by the key of the step, and the arguments under the key "input". Without `at`, the copy ends
        with the first result that is edited, or where a retry would go on from.

        Raises:
            CannotRerun: the position or an edit does not fit.
            WouldRepeat: without `again`, if a step with `effect="once"` is under way at that position.
            ExecutionAlreadyExists: the id is in use.
        """
        raise NotSupported("this backend cannot fork an execution")

    async def export(self) -> Sequence[str]:
        """Return the execution as lines of JSON: a header and its journal (D25). They hold no secret."""
        raise NotSupported("this backend cannot export an execution")


class Tagging(Protocol):
    """Changing the tags by which an execution is found."""

    async def tag(self, tags: Mapping[str, str | None]) -> None:
        """Add or replace tags, durable when this returns (D26); the value None removes one.

        An execution that has ended can be tagged too. It has at most 20 tags, beside those of its own code.

        Raises:
            DefinitionError: there would be more, or one is not text of at most 200 characters; nothing has
                changed.
            NotSupported: the backend cannot do it.
        """
        raise NotSupported("this backend cannot tag an execution")


class Approvals(Protocol):
    """Deciding about the tool calls of an execution that wait for a person."""

    @abstractmethod
    async def pending(self) -> Sequence[PendingApproval]:
        """Return the tool calls that wait for a person's decision, in the order of the requests (D17).

        A call is left out as soon as a decision about it was sent, even if no worker has taken that yet.
        """

    @abstractmethod
    async def decide(
        self,
        call_id: str,
        verdict: Verdict,
        reason: str | None = None,
        *,
        edited_arguments: Mapping[str, Any] | None = None,
        by: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """Decide about a call, by its `call_id` or `key`; the decision is durable when this returns (D17).

        The model gets the reason as the result of a denied call; an allowed call is made, with the
        `edited_arguments` if given. If two decisions about one call come, the first counts. A decision with
        arguments that do not fit the tool does not count. The event of the decision says who decided: `by`.
        With the `fingerprint` of the call as it was shown, it counts for that call only.

        Raises:
            InvalidArguments: the edited arguments do not fit the schema of the tool; nothing was sent.
            NotPending: no call with that id waits, or several do, or it has another fingerprint; nothing was
                sent.
            AlreadyDecided: somebody has decided about the call, also if no worker has taken that yet;
                nothing was sent.
            ExecutionAlreadyEnded: the execution has ended.
        """


class Execution(
    Answering[R],
    Steering,
    Watching[R],
    Recorded,
    Messages,
    Control,
    Reruns,
    Tagging,
    Approvals,
    Protocol[R],
):
    """A handle on one execution. Any number of them, in any processes, may exist.

    Type checkers know it by its result: `backend.start(Deal.run, ...)` gives an `Execution[str]` if the
    entrypoint returns `str`. `Execution` alone means `Execution[Any]`.
    """
