"""Events: every kind that the stream of an execution can have, and the data of each kind.

Each kind has one class of data, which knows its kind: a reader of an event asks for the class, and then has
its fields with their types.

    async for event in execution.events():
        match event.data:
            case events.ToolReturnedData(tool=tool, result=result):
                print(tool, "returned", result)
            case events.TextDeltaData(text=text):
                print(text, end="")

`AnyEventData` is the list of the classes, and `DATA` the table from kind to class. The table of events in
the docs is drawn from them. An event that a run of an agent emits is a record of the journal
(`EventEmitted`), with the data as JSON. Every other event is made from other records, by the reader in
`event_stream`. The JSON leaves out the arguments of a tool call, because an earlier record has them: the
model's reply. The reader fills them in.

JSON in an event is not validated again: it comes from a record, or goes into one, and records are validated.
A stream may hold every reply and every result, so a second validation would cost more than all other work of
a reader.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import Field, SkipValidation

from outlast.core import entries as wire
from outlast.core.chunks import as_chunks, text_of
from outlast.core.entries import Entry, MessageOutput
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.replies import with_own_call_ids
from outlast.core.usage import Usage
from outlast.core.values import Value

Carried: TypeAlias = SkipValidation[JSON]
"""Any JSON."""
Named: TypeAlias = SkipValidation[dict[str, JSON]]
"""A JSON object."""


class EventKind(StrEnum):
    """The kinds of events."""

    EXECUTION_STARTED = "execution_started"
    EXECUTION_COMPLETED = "execution_completed"
    EXECUTION_FAILED = "execution_failed"
    EXECUTION_CANCELLED = "execution_cancelled"
    EXECUTION_TERMINATED = "execution_terminated"
    EXECUTION_REOPENED = "execution_reopened"
    EXECUTION_FORKED = "execution_forked"
    EXECUTION_RECOVERED = "execution_recovered"
    EXECUTION_HELD = "execution_held"
    EXECUTION_PAUSED = "execution_paused"
    EXECUTION_RESUMED = "execution_resumed"
    TURN_STARTED = "turn_started"
    TEXT_DELTA = "text_delta"
    MODEL_REPLIED = "model_replied"
    MODEL_FAILED = "model_failed"
    TOOL_CALLED = "tool_called"
    TOOL_RETURNED = "tool_returned"
    TOOL_FAILED = "tool_failed"
    TOOL_EXECUTED = "tool_executed"
    RESULT_UNSENT = "result_unsent"
    HANDED_OFF = "handed_off"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_GIVEN = "approval_given"
    APPROVAL_DENIED = "approval_denied"
    QUESTION_ASKED = "question_asked"
    QUESTION_ANSWERED = "question_answered"
    QUESTION_WITHDRAWN = "question_withdrawn"
    MESSAGE_SAID = "message_said"
    RUN_INTERRUPTED = "run_interrupted"
    REPLY_CUT = "reply_cut"
    LIMIT_REACHED = "limit_reached"
    ANSWER_REJECTED = "answer_rejected"
    GUARDRAIL_REJECTED = "guardrail_rejected"
    GUARDRAIL_REPLACED = "guardrail_replaced"
    SUMMARY_STARTED = "summary_started"
    SUMMARY_MADE = "summary_made"
    SUMMARY_FAILED = "summary_failed"
    ACTIVITY_STARTED = "activity_started"
    ACTIVITY_COMPLETED = "activity_completed"
    ACTIVITY_FAILED = "activity_failed"
    CHILD_STARTED = "child_started"
    CHILD_COMPLETED = "child_completed"
    CHILD_FAILED = "child_failed"
    ATTEMPT_FAILED = "attempt_failed"
    TIMER_STARTED = "timer_started"
    TIMER_FIRED = "timer_fired"
    SIGNAL_RECEIVED = "signal_received"
    UPDATE_ACCEPTED = "update_accepted"
    UPDATE_COMPLETED = "update_completed"
    UPDATE_FAILED = "update_failed"
    CANCEL_REQUESTED = "cancel_requested"
    PATCHED = "patched"
    TAGGED = "tagged"


class EventData(Value):
    """The data of an event. `to_data` returns it as JSON, without the fields that hold nothing.

    Give a field that is added later a default of None, so that older journals still replay.
    """

    kind: ClassVar[EventKind]
    prose: ClassVar[frozenset[str]] = frozenset()
    """The fields with words for people, which another version of this library may word differently."""

    # A program that handles events of any kind reads their data by name, as JSON.

    def __getitem__(self, name: str) -> JSON:
        """Return a field as JSON; raises KeyError for a name that `to_data` does not have."""
        value: JSON = self.to_data("json")[name]
        return value

    def get(self, name: str, default: JSON = None) -> JSON:
        """Return a field as JSON, or `default` for a name that `to_data` does not have."""
        return self.to_data("json").get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the fields that hold something."""
        return self.to_data("json").keys()

    def items(self) -> ItemsView[str, JSON]:
        """Return the fields that hold something, as JSON, by name."""
        return self.to_data("json").items()


# The execution -----------------------------------------------------------------------------------------


class ExecutionStartedData(EventData):
    """The execution begins."""

    kind: ClassVar = EventKind.EXECUTION_STARTED
    workflow: str
    """The name of the workflow."""
    arguments: Named = Field(default_factory=dict)
    """The arguments of the workflow, by parameter name."""
    parent: str | None = None
    """The id of the execution that it is a child of."""


class ExecutionCompletedData(EventData):
    """The execution has ended with a result. The stream ends."""

    kind: ClassVar = EventKind.EXECUTION_COMPLETED
    result: Carried
    """The result of the workflow."""


class ExecutionFailedData(EventData):
    """The execution has ended with an error. The stream ends."""

    kind: ClassVar = EventKind.EXECUTION_FAILED
    failure: Failure
    """The error that the workflow raised."""


class ExecutionCancelledData(EventData):
    """The execution has ended because somebody cancelled it. The stream ends."""

    kind: ClassVar = EventKind.EXECUTION_CANCELLED


class ExecutionTerminatedData(EventData):
    """The execution has ended where it was, because somebody terminated it. The stream ends."""

    kind: ClassVar = EventKind.EXECUTION_TERMINATED
    reason: str
    """Why, in the words of whoever did that."""


class ExecutionReopenedData(EventData):
    """Somebody retries the execution after its end. The events from a position on are void."""

    kind: ClassVar = EventKind.EXECUTION_REOPENED
    valid: int
    """The position of the last event that still counts."""
    failed: tuple[str, ...] = ()
    """The keys of the failed steps that are tried anew."""


class ExecutionForkedData(EventData):
    """The events before this one are a copy of those of another execution; what follows is new."""

    kind: ClassVar = EventKind.EXECUTION_FORKED
    source: str
    """The id of the other execution."""
    source_position: int
    """The position of its last event that was copied."""
    edited: tuple[str, ...] = ()
    """The keys of the steps whose results were replaced."""


class ExecutionRecoveredData(EventData):
    """A worker took the execution over from one that was lost. Attempts may have been under way there."""

    kind: ClassVar = EventKind.EXECUTION_RECOVERED
    worker: str | None = None
    """The worker that was lost, if that is known."""
    successor: str | None = None
    """The worker that took over, if that is known."""
    last_words: str | None = None
    """The text that the lost worker left, such as a stack."""


class ExecutionHeldData(EventData):
    """The execution cannot go on, or failed with `on_failure="hold"`: no worker takes it before a resume."""

    kind: ClassVar = EventKind.EXECUTION_HELD
    reason: str
    """The reason for the hold, and a way to go on."""


class ExecutionPausedData(EventData):
    """Somebody has paused the execution: it begins no step and takes no input until somebody resumes it."""

    kind: ClassVar = EventKind.EXECUTION_PAUSED
    reason: str | None = None
    """The reason, in the words of whoever did that."""


class ExecutionResumedData(EventData):
    """The execution was held or paused and goes on, since somebody resumed it."""

    kind: ClassVar = EventKind.EXECUTION_RESUMED


# Turns of a run ----------------------------------------------------------------------------------------


class TurnData(EventData):
    """The fields of every event about one turn of a run."""

    run: str
    """The run: one `Runner.run` of the execution, or a run within one."""
    agent: str
    """The agent that is active."""
    turn: int
    """The number of the turn in its run, from 1."""


class ModelCallData(TurnData):
    """The fields of every event about one call of a model."""

    key: str
    """The key of the step."""


class ReplyData(ModelCallData):
    """A reply of a model, as the journal holds it."""

    result: Named
    """The reply as JSON, with its entries, its usage and the session's handle."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of the reply, with the ids of calls that other events have. Made at every access."""
        return with_own_call_ids(wire.entries.validate_python(self.result.get("entries", ())))

    @property
    def text(self) -> str:
        """The text of the reply's messages."""
        messages = [entry for entry in self.entries if isinstance(entry, MessageOutput)]
        return text_of([chunk for message in messages for chunk in as_chunks(message.content)])

    @property
    def usage(self) -> Usage:
        """The usage of the call."""
        return Usage.model_validate(self.result.get("usage", {}))


class TurnStartedData(ModelCallData):
    """The model is asked: a turn begins."""

    kind: ClassVar = EventKind.TURN_STARTED
    model: str | None = None
    """The name of the model."""


class TextDeltaData(ModelCallData):
    """A piece of the text of a reply that is still being written. The journal does not hold it."""

    kind: ClassVar = EventKind.TEXT_DELTA
    attempt: int
    """The attempt at the step, from 1. The text of a higher attempt replaces that of lower ones."""
    sequence: int
    """The number of the piece in its attempt, from 1."""
    text: str
    """The piece."""


class ModelRepliedData(ReplyData):
    """The reply of the model is complete."""

    kind: ClassVar = EventKind.MODEL_REPLIED


class ModelFailedData(ModelCallData):
    """The model gave no usable reply, and is not asked again."""

    kind: ClassVar = EventKind.MODEL_FAILED
    failure: Failure
    """The error of the last attempt."""


class SummaryStartedData(ModelCallData):
    """A model is asked for a summary of the older part of the conversation, before the turn."""

    kind: ClassVar = EventKind.SUMMARY_STARTED


class SummaryMadeData(ReplyData):
    """The summary is made."""

    kind: ClassVar = EventKind.SUMMARY_MADE


class SummaryFailedData(ModelCallData):
    """The summary could not be made, and the run goes on without it."""

    kind: ClassVar = EventKind.SUMMARY_FAILED
    failure: Failure
    """The reason why the summary is missing."""


# Tool calls --------------------------------------------------------------------------------------------


class CallData(TurnData):
    """The fields of every event about one tool call."""

    call_id: str
    """The id of the call in its turn."""
    tool: str
    """The name of the tool, as the model knows it."""


class AskedCallData(CallData):
    """A tool call with its arguments."""

    arguments: Named = Field(default_factory=dict)
    """The arguments that the model wrote, or that a person edited."""
    arguments_text: str | None = None
    """The text that the model wrote, if it is not a JSON object; `arguments` is then empty."""


class MadeCallData(CallData):
    """A tool call, with its step and its source."""

    key: str | None = None
    """The key of the step. It is None if the call is not a step: a plain function, or a call not made."""
    source: str | None = None
    """The source of the tool, such as an MCP server."""


class ToolCalledData(MadeCallData, AskedCallData):
    """A tool is called. If the call cannot be made, `tool_failed` follows at once."""

    kind: ClassVar = EventKind.TOOL_CALLED
    nested_run: str | None = None
    """The run that the call is, if the tool is an agent."""


class ToolReturnedData(MadeCallData):
    """The tool call has its result."""

    kind: ClassVar = EventKind.TOOL_RETURNED
    result: Carried
    """The result of the tool, as JSON: for a tool of a source its structured result, else its content."""


class ToolFailedData(MadeCallData):
    """The tool call failed, or was not made: the model gets the error as its result."""

    kind: ClassVar = EventKind.TOOL_FAILED
    failure: Failure
    """The error."""


class ToolExecutedData(EventData):
    """The server of the model has run a built-in tool. The reply before this event has the result."""

    kind: ClassVar = EventKind.TOOL_EXECUTED
    run: str
    """The run: one `Runner.run` of the execution, or a run within one."""
    turn: int
    """The number of the turn in its run, from 1."""
    tool: str
    """The name of the tool."""
    entry: str | None = None
    """The id of the entry in the reply, if it has one."""


class ResultUnsentData(EventData):
    """The run has ended before the model got this result: the conversation's next run begins with it."""

    kind: ClassVar = EventKind.RESULT_UNSENT
    prose: ClassVar = frozenset({"text"})
    run: str
    """The run: one `Runner.run` of the execution, or a run within one."""
    call_id: str
    """The id of the call in its turn."""
    text: str
    """The result, as the model will get it."""


class HandedOffData(EventData):
    """Another agent is active from now on."""

    kind: ClassVar = EventKind.HANDED_OFF
    run: str
    """The run: one `Runner.run` of the execution, or a run within one."""
    turn: int
    """The number of the turn in its run, from 1."""
    from_agent: str
    """The agent that was active."""
    to_agent: str
    """The agent that is active now."""
    filtered: bool | None = None
    """True if that agent sees only what the handoff's input filter leaves of the conversation."""


# Approvals and checks ----------------------------------------------------------------------------------


class ApprovalRequestedData(AskedCallData):
    """A tool call waits for a person's decision."""

    kind: ClassVar = EventKind.APPROVAL_REQUESTED
    prose: ClassVar = frozenset({"parameters"})
    fingerprint: str
    """A hash of agent, tool and arguments, to which the decision is bound."""
    parameters: SkipValidation[dict[str, JSON]] = Field(default_factory=dict)
    """The JSON schema of the arguments, with which edited arguments are checked."""


class ApprovalGivenData(AskedCallData):
    """A person has allowed the call."""

    kind: ClassVar = EventKind.APPROVAL_GIVEN
    reason: str | None = None
    """The text that the person wrote."""
    edited_arguments: SkipValidation[dict[str, JSON] | None] = None
    """The arguments that the call is made with, if the person changed them."""
    by: str | None = None
    """The person who decided, if that was said."""


class ApprovalDeniedData(AskedCallData):
    """The call is not made: a person has denied it, or the check whether it needs approval failed."""

    kind: ClassVar = EventKind.APPROVAL_DENIED
    prose: ClassVar = frozenset({"reason"})
    reason: str | None = None
    """The reason, if one was given."""
    by: str | None = None
    """The person who decided, if that was said."""


class QuestionData(EventData):
    """The fields of every event about a question to a person."""

    key: str
    """The key of the question."""


class QuestionAskedData(QuestionData):
    """Workflow code asks a person a question, and waits for the answer."""

    kind: ClassVar = EventKind.QUESTION_ASKED
    prose: ClassVar = frozenset({"question"})
    question: str
    """The question."""
    answer_schema: Named = Field(default_factory=dict)
    """The JSON schema of the answer."""
    to: str | None = None
    """The people who are asked, if the code says it."""


class QuestionAnsweredData(QuestionData):
    """A person has answered the question."""

    kind: ClassVar = EventKind.QUESTION_ANSWERED
    answer: Carried
    """The answer."""
    by: str | None = None
    """The person who answered, if known."""


class QuestionWithdrawnData(QuestionData):
    """The code no longer waits for an answer: its time is up, or the code was cancelled."""

    kind: ClassVar = EventKind.QUESTION_WITHDRAWN


class MessageSaidData(TurnData):
    """A person has said something to a run at work; the model gets it with the next call."""

    kind: ClassVar = EventKind.MESSAGE_SAID
    text: str
    """The message."""
    by: str | None = None
    """The person, if known."""


class RunInterruptedData(TurnData):
    """A person has interrupted a run at work; it ends."""

    kind: ClassVar = EventKind.RUN_INTERRUPTED
    reason: str | None = None
    """The reason, if one was given."""
    by: str | None = None
    """The person, if known."""


class ReplyCutData(TurnData):
    """The reply just before ends early. Its text is used as it is."""

    kind: ClassVar = EventKind.REPLY_CUT
    reason: Literal["length", "content_filter"]
    """`length` at the limit of tokens, `content_filter` where the filter of the server stopped the model."""


class LimitReachedData(TurnData):
    """The run is at a limit: the model must answer without tools, or a person is asked to raise the limit."""

    kind: ClassVar = EventKind.LIMIT_REACHED
    prose: ClassVar = frozenset({"limit"})
    limit: str
    """The limit, in words."""
    question: str | None = None
    """The key of the question to a person, if one is asked; then this turn is the last one so far."""


class AnswerRejectedData(TurnData):
    """The answer is not of the agent's output type. The model may answer again, if the agent allows it."""

    kind: ClassVar = EventKind.ANSWER_REJECTED
    prose: ClassVar = frozenset({"reason"})
    reason: str
    """The fault of the answer."""


class GuardrailData(EventData):
    """The verdict of a guardrail."""

    run: str
    """The run: one `Runner.run` of the execution, or a run within one."""
    agent: str
    """The agent that has the guardrail."""
    of: Literal["input", "output", "call", "result"]
    """The part that was checked: the input or the answer of the run, a call of a tool, or its result."""
    guardrail: str
    """The name of the guardrail."""
    turn: int | None = None
    """The number of the turn, if a call was checked."""
    call_id: str | None = None
    """The id of the call that was checked."""
    tool: str | None = None
    """The tool whose call was checked."""

    @property
    def part(self) -> str:
        """The part that was checked, in words."""
        return self.of if self.tool is None else f"{self.of} of {self.tool}"


class GuardrailRejectedData(GuardrailData):
    """A guardrail has rejected the inputs or the answer of the run, which ends; or a call, or its result."""

    kind: ClassVar = EventKind.GUARDRAIL_REJECTED
    prose: ClassVar = frozenset({"reason"})
    reason: str
    """The reason of the guardrail."""


class GuardrailReplacedData(GuardrailData):
    """A guardrail has replaced the inputs or the answer of the run; or has answered a call, or its result."""

    kind: ClassVar = EventKind.GUARDRAIL_REPLACED
    text: str
    """The text that replaces it."""


# Activities and attempts -------------------------------------------------------------------------------


class ActivityData(EventData):
    """The fields of every event about one activity, or another step outside of a turn: a list of tools."""

    key: str
    """The key of the step."""
    name: str
    """The name of the activity."""


class ActivityStartedData(ActivityData):
    """Workflow code has called an activity."""

    kind: ClassVar = EventKind.ACTIVITY_STARTED
    arguments: Named = Field(default_factory=dict)
    """The arguments, by parameter name."""


class ActivityCompletedData(ActivityData):
    """The activity has its result."""

    kind: ClassVar = EventKind.ACTIVITY_COMPLETED
    result: Carried
    """The result of the activity."""


class ActivityFailedData(ActivityData):
    """The activity failed, and is not tried again."""

    kind: ClassVar = EventKind.ACTIVITY_FAILED
    failure: Failure
    """The error of the last attempt."""


class ChildData(EventData):
    """The fields of every event about one child."""

    key: str
    """The key of the step that the child was started for."""
    workflow: str
    """The name of the child's workflow."""


class ChildStartedData(ChildData):
    """A child that workflow code asked for exists: an execution of its own."""

    kind: ClassVar = EventKind.CHILD_STARTED
    child: str
    """The id of the child."""


class ChildCompletedData(ChildData):
    """A child has completed."""

    kind: ClassVar = EventKind.CHILD_COMPLETED
    child: str | None = None
    """The id of the child."""
    result: Carried
    """The result of the child."""


class ChildFailedData(ChildData):
    """A child failed, was cancelled or terminated, or could not be started."""

    kind: ClassVar = EventKind.CHILD_FAILED
    child: str | None = None
    """The id of the child, if it was started."""
    failure: Failure
    """The error that the parent gets; its cause is the failure of the child."""


class AttemptFailedData(EventData):
    """An attempt at a step failed, and another one follows."""

    kind: ClassVar = EventKind.ATTEMPT_FAILED
    key: str
    """The key of the step."""
    name: str
    """The name of the step."""
    attempt: int
    """The number of the attempt, from 1."""
    failure: Failure
    """The error."""
    run: str | None = None
    """The run that the step belongs to, if it belongs to one."""
    agent: str | None = None
    """The agent that was active."""
    turn: int | None = None
    """The number of the turn in its run."""
    call_id: str | None = None
    """The id of the call in its turn, if the step is a tool call."""
    tool: str | None = None
    """The name of the tool, if the step is a tool call."""


# Timers, messages and patches --------------------------------------------------------------------------


class TimerStartedData(EventData):
    """Workflow code waits for a time."""

    kind: ClassVar = EventKind.TIMER_STARTED
    key: str
    """The key of the timer."""
    due_at: float
    """The time when the timer is due, in seconds since the epoch."""


class TimerFiredData(EventData):
    """The timer was due."""

    kind: ClassVar = EventKind.TIMER_FIRED
    key: str
    """The key of the timer."""


class SentData(EventData):
    """The fields of a signal or an update that somebody sent."""

    name: str
    """The name of the handler."""
    arguments: tuple[Carried, ...] = ()
    """The positional arguments."""
    named: Named = Field(default_factory=dict)
    """The other arguments, by parameter name."""


class SignalReceivedData(SentData):
    """A signal has come to the execution."""

    kind: ClassVar = EventKind.SIGNAL_RECEIVED


class UpdateAcceptedData(SentData):
    """An update has been accepted, and its handler begins."""

    kind: ClassVar = EventKind.UPDATE_ACCEPTED
    id: str
    """The id of the update."""


class UpdateAnswerData(EventData):
    """The fields of every event about the end of an update."""

    id: str
    """The id of the update."""
    name: str
    """The name of the handler."""


class UpdateCompletedData(UpdateAnswerData):
    """The handler of an update has returned."""

    kind: ClassVar = EventKind.UPDATE_COMPLETED
    result: Carried
    """The result of the handler."""


class UpdateFailedData(UpdateAnswerData):
    """The handler of an update has failed. The execution goes on."""

    kind: ClassVar = EventKind.UPDATE_FAILED
    failure: Failure
    """The error."""


class CancelRequestedData(EventData):
    """Somebody has asked the execution to end."""

    kind: ClassVar = EventKind.CANCEL_REQUESTED


class PatchedData(EventData):
    """The execution runs the code that a patch brought."""

    kind: ClassVar = EventKind.PATCHED
    patch: str
    """The name of the patch."""


class TaggedData(EventData):
    """Workflow code changed the tags of the execution. Changes from outside are not in the stream."""

    kind: ClassVar = EventKind.TAGGED
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags that were added or replaced."""
    removed: list[str] = Field(default_factory=list)
    """The names of tags that were removed."""

    @classmethod
    def of(cls, changes: Mapping[str, str | None]) -> Self:
        """Return the data for these changes."""
        return cls(
            tags={name: value for name, value in changes.items() if value is not None},
            removed=[name for name, value in changes.items() if value is None],
        )

    @property
    def changes(self) -> dict[str, str | None]:
        """The changes; None stands for a tag that is removed."""
        return {**self.tags, **dict.fromkeys(self.removed)}


AnyEventData: TypeAlias = (
    ExecutionStartedData
    | ExecutionCompletedData
    | ExecutionFailedData
    | ExecutionCancelledData
    | ExecutionTerminatedData
    | ExecutionReopenedData
    | ExecutionForkedData
    | ExecutionRecoveredData
    | ExecutionHeldData
    | ExecutionPausedData
    | ExecutionResumedData
    | TurnStartedData
    | TextDeltaData
    | ModelRepliedData
    | ModelFailedData
    | ToolCalledData
    | ToolReturnedData
    | ToolFailedData
    | ToolExecutedData
    | ResultUnsentData
    | HandedOffData
    | ApprovalRequestedData
    | ApprovalGivenData
    | ApprovalDeniedData
    | QuestionAskedData
    | QuestionAnsweredData
    | QuestionWithdrawnData
    | MessageSaidData
    | RunInterruptedData
    | ReplyCutData
    | LimitReachedData
    | AnswerRejectedData
    | GuardrailRejectedData
    | GuardrailReplacedData
    | SummaryStartedData
    | SummaryMadeData
    | SummaryFailedData
    | ActivityStartedData
    | ActivityCompletedData
    | ActivityFailedData
    | ChildStartedData
    | ChildCompletedData
    | ChildFailedData
    | AttemptFailedData
    | TimerStartedData
    | TimerFiredData
    | SignalReceivedData
    | UpdateAcceptedData
    | UpdateCompletedData
    | UpdateFailedData
    | CancelRequestedData
    | PatchedData
    | TaggedData
)
"""The data of any event; a type checker can check that a `match` over it has every kind."""

DATA: dict[EventKind, type[AnyEventData]] = {data.kind: data for data in get_args(AnyEventData)}
"""Each kind, with the class of its data."""


def event_data(kind: str, data: dict[str, Any]) -> AnyEventData:
    """Return the data that `to_data` made.

    Raises:
        ValueError: the kind does not exist, or the data do not fit it.
    """
    return DATA[EventKind(kind)].model_validate(data)


def repeated(kind: str, data: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the part of an event's JSON that code must repeat when it is replayed: all but words for people.

    For a failure that is its kind. A message may hold an address, and no code relies on it.
    """
    prose = DATA[EventKind(kind)].prose if kind in DATA else frozenset()
    kept = {name: value for name, value in data.items() if name not in prose}
    if isinstance(failure := kept.get("failure"), dict):
        kept["failure"] = failure.get("kind")
    return kept


EXECUTION_ENDS = frozenset(
    {
        EventKind.EXECUTION_COMPLETED,
        EventKind.EXECUTION_FAILED,
        EventKind.EXECUTION_CANCELLED,
        EventKind.EXECUTION_TERMINATED,
    }
)
"""The events after which nothing comes, unless somebody opens the execution again."""
