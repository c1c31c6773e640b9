"""Every error of the library, in one tree, sorted by who must act.

```text
OutlastError
├── DefinitionError             the author changes a definition
│   └── NotSupported            this session or backend cannot do what the definition asks
├── ConfigurationError          the operator changes a URL, a setting or an installation
│   ├── UnknownBackend
│   ├── UnknownPrice
│   ├── MissingExtra
│   └── MissingCredentials
├── WorkflowError               the author changes workflow code
│   ├── IllegalTransition
│   ├── NonDeterminismError
│   ├── DeterminismError
│   ├── BusyWorkflow
│   └── NotInWorkflow
├── DurabilityError             an owner, a store or an identity stands in the way
│   ├── ExecutionAlreadyExists
│   ├── ExecutionNotFound
│   ├── ExecutionAlreadyEnded
│   │   └── UpdateAbandoned
│   ├── NotPending
│   │   ├── AlreadyDecided
│   │   └── QuestionNotPending
│   ├── NoRunAtWork
│   ├── CannotRerun
│   ├── WouldRepeat
│   ├── LeaseLost
│   ├── MessagesUnseen
│   ├── PayloadTooLarge
│   ├── UnknownDefinition
│   └── StorageError
│       ├── StorageUnavailable
│       ├── StorageFull
│       ├── StorageReadOnly
│       ├── StorageCorrupt
│       └── StorageTooNew
├── Unserialisable              the caller passes something that JSON cannot carry
├── ForeignError                an exception of the user's, as the journal kept it
├── ExecutionFailed             what `result()` raises for an execution that failed
├── ExecutionCancelled          what `result()` raises for an execution that was cancelled
├── ExecutionTerminated         what `result()` raises for an execution that was terminated
├── ChildFailed                 a child failed, was cancelled or terminated
├── ChildrenFailed              some of the children of `workflow.map` did
├── UpdateFailed                what `update()` raises when its handler failed
├── UpdateRejected              what `update()` raises when the workflow did not accept it
├── ActivityError               an activity did not succeed
│   ├── ActivityFailed
│   ├── ActivityTimedOut
│   ├── ActivityBlocked
│   ├── ActivityInterrupted
│   └── OutcomeUnknown
├── RunError                    a run of an agent ended without an answer
│   ├── LimitExceeded
│   │   ├── MaxTurnsExceeded
│   │   ├── BudgetExceeded
│   │   └── DeadlineExceeded
│   ├── RunInterrupted
│   ├── InvalidOutput
│   ├── InputRejected
│   ├── OutputRejected
│   └── ModelError
│       ├── ModelRefused
│       ├── ModelOverloaded
│       ├── ModelUnreachable
│       └── MalformedReply
├── ToolServerError             the operator looks after a server that tools come from
│   └── ToolServerUnavailable
└── ToolError                   the model gets it as the result of its call
    ├── UnknownTool
    ├── InvalidArguments
    ├── UnknownHandoff
    ├── IgnoredHandoff
    ├── CallDenied
    ├── CallRejected
    ├── CallOverLimit
    ├── CallTooDeep
    ├── CallCancelled
    └── ToolFailed
CodeInterrupted             a BaseException: ends code that lets nothing else run; not an error
```

Errors are also data: `failure.Failure` carries a kind, a message and whether a retry may help through a
journal, and gives the same class back on the other side. A step that raises an error which is `retryable` is
tried again, as its retry policy allows; every other error of this tree ends the step at once. A `ToolError`
is the result of a tool call and is sent to the model; it ends the run only with `raise_on_tool_fail=True`. A
`WorkflowError` in the code of a run (a tool, a guardrail, an approval check, instructions) fails the run, as
elsewhere in workflow code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar


@dataclass(eq=False)
class OutlastError(Exception):
    """The root of every error that this library raises on purpose."""

    retryable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        Exception.__init__(self, self.wording())

    def wording(self) -> str:
        """Return the message, built from the fields."""
        return type(self).__name__

    def details(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        return loggable(self.wording())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self.details().values()), self.__dict__


def named(kind: str, message: str) -> str:
    """Return the name of an error's class and its message, which an error without a text does not have."""
    return kind if message in ("", kind) else f"{kind}: {message}"


def loggable(text: str) -> str:
    """Return text that any log takes: half a character, which a model may have written, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(eq=False)
class DefinitionError(OutlastError):
    """A definition (agent, tool, activity, workflow) cannot be used as it stands."""

    problem: str

    def wording(self) -> str:
        return self.problem


class NotSupported(DefinitionError):
    """This session or backend cannot do what the definition asks for."""


@dataclass(eq=False)
class ConfigurationError(OutlastError):
    """A setting must change before the program can work."""

    problem: str

    def wording(self) -> str:
        return self.problem


@dataclass(eq=False)
class UnknownBackend(ConfigurationError):
    """No adapter answers to a URL."""

    problem: str
    known: Sequence[str] = ()

    def wording(self) -> str:
        return f"no backend for {self.problem!r}; known URL schemes: {', '.join(self.known)}"


@dataclass(eq=False)
class UnknownPrice(ConfigurationError):
    """A run has a limit of money, but the price of something in it is not known; `problem` names what."""

    def wording(self) -> str:
        return (
            f"max_cost cannot be kept, because no price is known for {self.problem}; give the session "
            "prices={name: outlast.Price(input=…, output=…)}, or leave max_cost out"
        )


@dataclass(eq=False)
class MissingExtra(ConfigurationError):
    """An optional dependency is not installed; `problem` is the extra that brings it."""

    def wording(self) -> str:
        return f'this needs an optional dependency: pip install "outlast[{self.problem}]"'


@dataclass(eq=False)
class MissingCredentials(ConfigurationError):
    """A session has no API key; `problem` says where it looked."""


class WorkflowError(OutlastError):
    """Workflow code does something that a durable execution cannot repeat."""


@dataclass(eq=False)
class IllegalTransition(WorkflowError):
    """An event came in a phase that does not accept it; nothing has changed."""

    phase: str
    event: str

    def wording(self) -> str:
        return f"{self.event} is not accepted in phase {self.phase}"


@dataclass(eq=False)
class NonDeterminismError(WorkflowError):
    """Workflow code departed from its journal; the execution is kept until the code is right again."""

    execution_id: str
    position: int
    """The number of the record in the journal, from 1, as events and `outlast show` have it."""
    recorded: str
    attempted: str
    difference: Sequence[str] = ()

    def wording(self) -> str:
        lines = [
            f"execution {self.execution_id} departed from its journal at record {self.position}",
            f"  recorded:  {self.recorded}",
            f"  attempted: {self.attempted}",
            *(f"  differs:   {line}" for line in self.difference),
            "  usual cause: the workflow code was changed while this execution was running, or it read a "
            "clock, a random number or an environment variable directly, or it used the order of a set of "
            "strings, which differs in every process (sort the set)",
            "  what to do: run the code that wrote the journal, keep both ways with "
            "`if workflow.patched(...)`, or start a new execution with the new code",
        ]
        return "\n".join(lines)


@dataclass(eq=False)
class DeterminismError(WorkflowError):
    """Workflow code tried something whose outcome no journal holds."""

    what: str
    instead: str = "do it in an activity and await its result"

    def wording(self) -> str:
        return f"{self.what} is not possible in workflow code: {self.instead}"


@dataclass(eq=False)
class BusyWorkflow(WorkflowError):
    """Workflow code runs on and on; other executions go on meanwhile, but this one cannot."""

    execution_id: str
    seconds: float
    place: str

    def wording(self) -> str:
        return (
            f"the code of execution {self.execution_id!r} has run for {self.seconds:.1f} s and does not come "
            f"to rest; it is at {self.place}. Let it wait: for workflow.wait_condition(), an event, or "
            "asyncio.sleep() of more than 0 s; work that takes long belongs in an activity"
        )


@dataclass(eq=False)
class NotInWorkflow(WorkflowError):
    """A function of `workflow` was called outside workflow code."""

    what: str

    def wording(self) -> str:
        return f"{self.what} works only in workflow code that a worker runs"


class DurabilityError(OutlastError):
    """The store, the owner or the identity of an execution stands in the way."""


@dataclass(eq=False)
class ExecutionAlreadyExists(DurabilityError):
    """The id belongs to an execution with another workflow or input."""

    execution_id: str
    differs: str

    def wording(self) -> str:
        if self.differs == "journal":
            return f"the id {self.execution_id!r} is in use; choose another id"
        if self.differs == "parent":
            return (
                f"the id {self.execution_id!r} belongs to an execution that is not a child of this step; "
                "choose another id for the child, or leave it out to get one made"
            )
        return (
            f"execution {self.execution_id!r} exists with another {self.differs}; "
            "choose another id, or start it with the same workflow and input to get the same execution"
        )


@dataclass(eq=False)
class ExecutionNotFound(DurabilityError):
    """No execution has that id."""

    execution_id: str

    def wording(self) -> str:
        return f"no execution {self.execution_id!r} in this backend; `outlast list` shows those it has"


@dataclass(eq=False)
class ExecutionAlreadyEnded(DurabilityError):
    """A message was sent to an execution that has ended."""

    execution_id: str
    status: str

    def wording(self) -> str:
        again = "" if self.status == "completed" else f"; `outlast retry {self.execution_id}` opens it again"
        return f"execution {self.execution_id!r} is {self.status} and takes no more messages{again}"


@dataclass(eq=False)
class UpdateAbandoned(ExecutionAlreadyEnded):
    """An execution ended while the handler of an update was still at work; there will be no answer."""

    update: str

    def wording(self) -> str:
        return (
            f"execution {self.execution_id!r} is {self.status}: it ended before its handler of update "
            f"{self.update!r}. There will be no answer, and the steps of the handler stay done. Let the "
            "workflow wait for its handlers: workflow.wait_condition(workflow.all_handlers_finished)"
        )


@dataclass(eq=False)
class NotPending(DurabilityError):
    """A decision was sent about a call that does not wait, or about one of several with the same id."""

    execution_id: str
    call_id: str
    waiting: Sequence[str] = ()
    ambiguous: bool = False
    changed: bool = False
    """The call waits, and is not the one that was shown."""

    def wording(self) -> str:
        waiting = ", ".join(self.waiting) or "none"
        if self.changed:
            return (
                f"call {self.call_id!r} of execution {self.execution_id!r} is not the one that was shown: "
                "its tool or its arguments have changed since; look at it again, and decide then"
            )
        if self.ambiguous:
            return (
                f"several calls of execution {self.execution_id!r} have the id {self.call_id!r}; "
                f"decide about one of their keys: {waiting}"
            )
        return (
            f"no call {self.call_id!r} of execution {self.execution_id!r} waits for a decision: it was "
            f"decided, its run has ended, or nobody asked about it; the calls that wait: {waiting}"
        )


@dataclass(eq=False)
class AlreadyDecided(NotPending):
    """A decision was sent about a call that somebody has decided; a worker may still have to take that."""

    verdict: str = ""
    """`allow` or `deny`."""
    by: str | None = None

    def wording(self) -> str:
        done = "allowed" if self.verdict == "allow" else "denied"
        by = "" if self.by is None else f" (by {self.by})"
        return f"call {self.call_id!r} of execution {self.execution_id!r} is already {done}{by}; that counts"


@dataclass(eq=False)
class QuestionNotPending(NotPending):
    """An answer was sent to a question that does not wait; `call_id` is its key."""

    def wording(self) -> str:
        waiting = ", ".join(self.waiting) or "none"
        return (
            f"no question {self.call_id!r} of execution {self.execution_id!r} waits for an answer: it was "
            f"answered or withdrawn, or nobody asked it; the questions that wait: {waiting}"
        )


@dataclass(eq=False)
class NoRunAtWork(DurabilityError):
    """A run was to be steered, but none is at work, or several are and none was named."""

    execution_id: str
    run: str | None
    at_work: Sequence[str] = ()
    checking: Sequence[str] = ()
    """The runs whose input guardrails are at work, so that nothing can be sent to their model yet."""

    def wording(self) -> str:
        if self.run is None and len(self.at_work) > 1:
            return (
                f"several runs of execution {self.execution_id!r} are at work; name one of them: "
                f"{', '.join(self.at_work)}"
            )
        what = "no run" if self.run is None else f"no run {self.run!r}"
        at_work = ", ".join(self.at_work) or "none"
        wording = f"{what} of execution {self.execution_id!r} is at work; those at work: {at_work}"
        if self.checking:
            wording += f"; the input of {', '.join(self.checking)} is still being checked: try again then"
        return wording


@dataclass(eq=False)
class CannotRerun(DurabilityError):
    """An execution cannot be retried, forked or imported like this; nothing has changed."""

    problem: str

    def wording(self) -> str:
        return self.problem


@dataclass(eq=False)
class WouldRepeat(DurabilityError):
    """A retry or a fork may do again what was to be done only once; nothing has changed."""

    execution_id: str
    steps: Sequence[str]

    def wording(self) -> str:
        steps = ", ".join(self.steps)
        return (
            f"execution {self.execution_id!r} may have done steps already that have effect='once': {steps}; "
            "look whether they have happened, and give again=True to do them again"
        )


@dataclass(eq=False)
class LeaseLost(DurabilityError):
    """Another worker owns the execution now; this worker must drop it, nothing was written."""

    execution_id: str

    def wording(self) -> str:
        return (
            f"the lease on execution {self.execution_id!r} was lost: another worker carries it on, or "
            "somebody has ended it"
        )


@dataclass(eq=False)
class MessagesUnseen(DurabilityError):
    """An append counted on there being no later message; nothing was written."""

    execution_id: str
    seen: int

    def wording(self) -> str:
        return (
            f"execution {self.execution_id!r} has got messages after number {self.seen}; "
            "read them, then decide whether to append"
        )


@dataclass(eq=False)
class PayloadTooLarge(DurabilityError):
    """A result, argument or signal is over the backend's limit; nothing was written."""

    what: str
    size_bytes: int
    limit_bytes: int

    def wording(self) -> str:
        return (
            f"{self.what} is {self.size_bytes} bytes, over this backend's limit of {self.limit_bytes}; "
            "store it elsewhere and pass a reference"
        )


def check_size(what: str, size_bytes: int, limit_bytes: int) -> None:
    """Raise `PayloadTooLarge` if the size is over the limit; `what` names the thing in the message."""
    if size_bytes > limit_bytes:
        raise PayloadTooLarge(what, size_bytes, limit_bytes)


@dataclass(eq=False)
class UnknownDefinition(DurabilityError):
    """An execution needs a workflow or activity that this process does not define."""

    what: str
    name: str

    def wording(self) -> str:
        return f"{self.what} {self.name!r} is not defined in this process; import the module that defines it"


@dataclass(eq=False)
class StorageError(DurabilityError):
    """The store itself is in trouble; `problem` names it and the setting or action that helps."""

    problem: str

    def wording(self) -> str:
        return self.problem


class StorageUnavailable(StorageError):
    """The store did not answer in time; trying again may help."""

    retryable = True


class StorageFull(StorageError):
    """The store has no room; nothing was written."""

    retryable = True


class StorageReadOnly(StorageError):
    """The store cannot be written to."""


class StorageCorrupt(StorageError):
    """The store's bytes are not what was written, or were written by other code."""


class StorageTooNew(StorageError):
    """The store was written by a newer version of this library."""


@dataclass(eq=False)
class Unserialisable(OutlastError):
    """A value cannot be written as JSON; nothing was written."""

    what: str
    type_name: str
    reason: str

    def wording(self) -> str:
        return (
            f"{self.what} of type {self.type_name} cannot be written as JSON ({self.reason}); "
            "use plain values, dataclasses or pydantic models, and give type hints"
        )


@dataclass(eq=False)
class ForeignError(OutlastError):
    """An exception of a class that this process need not know, as the journal kept it.

    Also what becomes of an exception of user code that is not an `Exception`, such as `SystemExit`.
    """

    retryable = True

    kind: str
    message: str
    final: bool = False
    """True if trying again cannot help."""

    def wording(self) -> str:
        return named(self.kind, self.message)


@dataclass(eq=False)
class ExecutionFailed(OutlastError):
    """The execution failed; the error that ended it is the `__cause__`."""

    execution_id: str
    kind: str
    message: str

    def wording(self) -> str:
        return f"execution {self.execution_id!r} failed with {named(self.kind, self.message)}"


@dataclass(eq=False)
class ExecutionCancelled(OutlastError):
    """The execution was cancelled."""

    execution_id: str

    def wording(self) -> str:
        return f"execution {self.execution_id!r} was cancelled"


@dataclass(eq=False)
class ExecutionTerminated(OutlastError):
    """The execution was ended where it was, without any clean-up."""

    execution_id: str
    reason: str

    def wording(self) -> str:
        return f"execution {self.execution_id!r} was terminated: {self.reason}"


@dataclass(eq=False)
class ChildFailed(OutlastError):
    """A child did not complete; if it failed, the error that ended it is the `__cause__`."""

    child_id: str
    workflow: str
    status: str
    """The status of the child: `failed`, `cancelled` or `terminated`; `forgotten` if it was forgotten before
    its parent could learn how it had ended."""
    kind: str = ""
    """The class of the error that ended it."""
    message: str = ""
    """The message of that error, or the reason of who terminated it."""

    def wording(self) -> str:
        child = f"child {self.child_id!r} of workflow {self.workflow!r}"
        match self.status:
            case "failed":
                return f"{child} failed with {named(self.kind, self.message)}"
            case "terminated":
                return f"{child} was terminated: {self.message}"
            case "forgotten":
                return (
                    f"{child} was forgotten before its parent learned how it had ended; keep it for longer, "
                    "with workflow.define(keep=...)"
                )
        return f"{child} was {self.status}"


@dataclass(eq=False)
class ChildrenFailed(OutlastError):
    """Some of the children that `workflow.map` started did not complete; all others did.

    Where it is raised, the results of those are on `results`, by the number of the item; no journal has them.
    """

    workflow: str
    count: int
    """The number of all children."""
    failed: Sequence[int]
    """The numbers of the items whose children did not complete, from 0."""
    messages: Sequence[str]
    """The errors of the first of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.results: Mapping[int, Any] = {}

    def wording(self) -> str:
        numbers = ", ".join(map(str, self.failed[:20]))
        numbers += f" and {len(self.failed) - 20} more" if len(self.failed) > 20 else ""
        return (
            f"{len(self.failed)} of {self.count} children of workflow {self.workflow!r} did not complete, "
            f"those of items {numbers}: {'; '.join(self.messages)}"
        )


@dataclass(eq=False)
class UpdateFailed(OutlastError):
    """The handler of an update raised; its error is the `__cause__`, and the execution goes on."""

    execution_id: str
    update: str
    kind: str
    message: str

    def wording(self) -> str:
        what = f"update {self.update!r} of execution {self.execution_id!r}"
        return f"{what} failed with {named(self.kind, self.message)}"


@dataclass(eq=False)
class UpdateRejected(OutlastError):
    """The workflow did not accept an update, and nothing has changed; the reason is the `__cause__`."""

    execution_id: str
    update: str
    kind: str
    message: str

    def wording(self) -> str:
        what = f"update {self.update!r} of execution {self.execution_id!r}"
        return f"{what} was rejected, and changed nothing: {named(self.kind, self.message)}"


class ActivityError(OutlastError):
    """An activity did not succeed within its retry policy."""


@dataclass(eq=False)
class ActivityFailed(ActivityError):
    """The last attempt of an activity raised; `kind` is the exception's class name."""

    activity: str
    attempts: int
    kind: str
    message: str

    def wording(self) -> str:
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"activity {self.activity!r} failed after {attempts} with {named(self.kind, self.message)}"


@dataclass(eq=False)
class ActivityTimedOut(ActivityError):
    """An attempt took longer than its option allows; its thread, if it had one, may still run."""

    retryable = True
    activity: str
    option: str
    seconds: float

    def wording(self) -> str:
        return f"activity {self.activity!r} went over its {self.option} of {self.seconds:g} s"


@dataclass(eq=False)
class ActivityBlocked(ActivityError):
    """An attempt of an asynchronous activity did not let anything else in its worker run, and was ended."""

    activity: str
    seconds: float
    place: str

    def wording(self) -> str:
        return (
            f"activity {self.activity!r} held its worker for {self.seconds:.1f} s without an await, at "
            f"{self.place}. Await what takes long, or make the activity a plain function, which runs in a "
            "thread"
        )


@dataclass(eq=False)
class ActivityInterrupted(ActivityError):
    """An attempt was cut short because its worker stopped or died."""

    retryable = True
    activity: str
    attempts: int | None = None
    """The attempts that were made, if its retry policy allows no more."""

    def wording(self) -> str:
        cut = f"an attempt of activity {self.activity!r} was cut short when its worker went away"
        if self.attempts is None:
            return cut
        made = "the one attempt" if self.attempts == 1 else f"the {self.attempts} attempts"
        return (
            f"{cut}, and {made} that its retry policy allows are used up. What to do: `outlast retry` tries "
            "it again if the execution failed with this; a higher retry_policy_max_attempts of the activity "
            "lets it outlive more workers"
        )


@dataclass(eq=False)
class OutcomeUnknown(ActivityError):
    """An activity declared `effect="once"` may or may not have run, and is not run again."""

    activity: str

    def wording(self) -> str:
        return (
            f"it is unknown whether activity {self.activity!r} had its side effect before its worker was "
            "lost or it timed out; it is not repeated; find out before you try again"
        )


class RunError(OutlastError):
    """A run of an agent ended without an answer."""


@dataclass(eq=False)
class LimitExceeded(RunError):
    """A run reached one of its limits without an answer.

    What was produced is on `entries` and `usage` (set by the `Runner`; both survive in the journal).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.entries: Sequence[Any] = ()
        self.usage: Any = None


@dataclass(eq=False)
class MaxTurnsExceeded(LimitExceeded):
    """The model was called `max_turns` times and still asked for more."""

    agent: str
    max_turns: int

    def wording(self) -> str:
        return (
            f"agent {self.agent!r} reached no answer in {self.max_turns} turns; "
            "raise max_turns, or give clearer instructions"
        )


@dataclass(eq=False)
class BudgetExceeded(LimitExceeded):
    """A run used more than its limit of tokens, money, tool calls or seconds allows; `limit` names which.

    `limit` is "total_tokens", "cost", "tool_calls" or "seconds". Amounts of money are `Decimal`, in dollars.
    """

    agent: str
    limit: str
    allowed: float | Decimal
    used: float | Decimal

    def __post_init__(self) -> None:
        if self.limit == "cost":  # A journal has the amounts as text.
            self.allowed, self.used = Decimal(str(self.allowed)), Decimal(str(self.used))
        super().__post_init__()

    def wording(self) -> str:
        unit = _UNITS.get(self.limit, self.limit)
        return (
            f"agent {self.agent!r} reached no answer within its limit of {_amount(self.allowed)} {unit} "
            f"(used: {_amount(self.used)}); raise the limit, or let the run finish without tools: "
            'on_limit="finish"'
        )


def _amount(number: float | Decimal) -> str:
    exact = number if isinstance(number, Decimal) else Decimal(str(round(number, 3)))
    return f"{exact.normalize():f}"


_UNITS = {"total_tokens": "total tokens", "cost": "US dollars", "tool_calls": "tool calls"}


@dataclass(eq=False)
class DeadlineExceeded(LimitExceeded):
    """The deadline of a run has passed; what it had begun was cancelled."""

    agent: str
    deadline: str

    def wording(self) -> str:
        return (
            f"agent {self.agent!r} reached no answer before the deadline of the run, {self.deadline}; "
            "give it a later deadline, or less to do"
        )


@dataclass(eq=False)
class RunInterrupted(RunError):
    """A person has interrupted the run; `execution.interrupt` says how. The conversation can go on."""

    reason: str | None
    by: str | None = None

    def wording(self) -> str:
        by = "" if self.by is None else f" by {self.by}"
        return f"the run was interrupted{by}" + ("" if self.reason is None else f": {self.reason}")


@dataclass(eq=False)
class InvalidOutput(RunError):
    """An agent gave `attempts` answers, and none was of its output type."""

    agent: str
    attempts: int
    problem: str

    def wording(self) -> str:
        return (
            f"agent {self.agent!r} gave no answer of its output_type in {self.attempts} attempts; "
            f"the last one: {self.problem}; simplify output_type, or allow more answers (output_retries)"
        )


@dataclass(eq=False)
class InputRejected(RunError):
    """A guardrail rejected what a run was given; the model was not asked."""

    guardrail: str
    reason: str

    def wording(self) -> str:
        return f"guardrail {self.guardrail!r} rejected the input: {self.reason}"


@dataclass(eq=False)
class OutputRejected(RunError):
    """A guardrail rejected an agent's answer."""

    guardrail: str
    agent: str
    reason: str

    def wording(self) -> str:
        return f"guardrail {self.guardrail!r} rejected the answer of agent {self.agent!r}: {self.reason}"


class ModelError(RunError):
    """The model gave no usable reply."""


@dataclass(eq=False)
class ModelRefused(ModelError):
    """The API refuses the request as it is; sending it again cannot help."""

    status: int
    message: str

    def wording(self) -> str:
        return f"the model API refused the request with status {self.status}: {self.message}"


@dataclass(eq=False)
class ModelOverloaded(ModelError):
    """The API asks to come back later (rate limit, conflict, server trouble)."""

    retryable = True
    status: int
    message: str
    retry_after_seconds: float | None = None

    def wording(self) -> str:
        return f"the model API cannot answer now (status {self.status}): {self.message}"


@dataclass(eq=False)
class ModelUnreachable(ModelError):
    """No connection, or none that lasted until the reply was whole."""

    retryable = True
    message: str

    def wording(self) -> str:
        return f"no reply from the model API: {self.message}; check the session's server_url and the network"


@dataclass(eq=False)
class MalformedReply(ModelError):
    """The reply is not what the API's description says; it is never taken for a result."""

    message: str

    def wording(self) -> str:
        return f"the model's reply cannot be used: {self.message}"


@dataclass(eq=False)
class ToolServerError(OutlastError):
    """A server that tools come from cannot be used, and trying again cannot help."""

    server: str
    problem: str

    def wording(self) -> str:
        return f"MCP server {self.server!r}: {self.problem}"


class ToolServerUnavailable(ToolServerError):
    """A server that tools come from did not answer, or was lost; trying again may help."""

    retryable = True


class ToolError(OutlastError):
    """A tool call that did not succeed; the model gets it as the result of that call."""


@dataclass(eq=False)
class UnknownTool(ToolError):
    """The active agent declares no such tool."""

    tool: str
    agent: str
    known: Sequence[str] = ()

    def wording(self) -> str:
        known = f"its tools are: {', '.join(self.known)}" if self.known else "it has no tools"
        return f"agent {self.agent!r} has no tool named {self.tool!r}; {known}"


@dataclass(eq=False)
class InvalidArguments(ToolError):
    """The arguments of a call are not JSON, or do not fit the tool's schema."""

    tool: str
    faults: Sequence[str]

    def wording(self) -> str:
        return f"invalid arguments for {self.tool!r}:\n" + "\n".join(f"- {fault}" for fault in self.faults)


@dataclass(eq=False)
class UnknownHandoff(ToolError):
    """The active agent declares no handoff to that agent."""

    target: str
    agent: str
    known: Sequence[str] = ()

    def wording(self) -> str:
        known = f"it can hand off to: {', '.join(self.known)}" if self.known else "it cannot hand off"
        return f"agent {self.agent!r} cannot hand off to {self.target!r}; {known}"


@dataclass(eq=False)
class IgnoredHandoff(ToolError):
    """A reply asked for several handoffs; the first one won."""

    target: str
    winner: str

    def wording(self) -> str:
        return f"handoff to {self.target!r} was ignored: the handoff to {self.winner!r} came first"


@dataclass(eq=False)
class CallDenied(ToolError):
    """A person denied the call."""

    tool: str
    reason: str | None = None

    def wording(self) -> str:
        return f"the call of {self.tool!r} was denied" + (f": {self.reason}" if self.reason else "")


@dataclass(eq=False)
class CallRejected(ToolError):
    """A guardrail rejected the call, which was not made; or its result, which the model does not get."""

    tool: str
    guardrail: str
    reason: str
    of: str = "call"
    """The part that was rejected: "call" or "result"."""

    def wording(self) -> str:
        made = "it was not made" if self.of == "call" else "it was made, but its result cannot be shown"
        return f"the call of {self.tool!r} was rejected by {self.guardrail!r}; {made}: {self.reason}"


@dataclass(eq=False)
class CallOverLimit(ToolError):
    """The call was not made: the run had used up its tool calls."""

    tool: str
    allowed: int

    def wording(self) -> str:
        return (
            f"the call of {self.tool!r} was not made: the limit of {self.allowed} tool calls is used up; "
            "answer with what is known"
        )


@dataclass(eq=False)
class CallTooDeep(ToolError):
    """The call was not made: as many runs of the agent tool stand within one another as may."""

    tool: str
    max_depth: int

    def wording(self) -> str:
        return (
            f"the call of {self.tool!r} was not made: runs of it are already nested {self.max_depth} deep, "
            "which is the limit; answer without it"
        )


@dataclass(eq=False)
class CallCancelled(ToolError):
    """The call ended because its run ended first."""

    tool: str
    why: str
    started: bool = True

    def wording(self) -> str:
        effect = "it may or may not have taken effect" if self.started else "it had not been started"
        return f"the call of {self.tool!r} was cancelled: {self.why}; {effect}"


@dataclass(eq=False)
class ToolFailed(ToolError):
    """The tool ran and failed for good; `kind` is the exception's class name."""

    tool: str
    kind: str
    message: str

    def wording(self) -> str:
        return f"tool {self.tool!r} failed with {named(self.kind, self.message)}"


class CodeInterrupted(BaseException):
    """Ends code that does not let anything else in its process run. It is not an error; do not catch it."""

    def __init__(self) -> None:
        super().__init__("this code ran for too long without an await")
