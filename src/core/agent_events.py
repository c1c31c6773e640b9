"""The events of the agent machine (past tense), and the effects that a driver must carry out (imperative)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator

from outlast.core.entries import Entry
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.limits import LimitName, RunAllowance
from outlast.core.money import Money
from outlast.core.usage import Usage
from outlast.core.values import Value

# Events ------------------------------------------------------------------------------------------------


class Happened(Value):
    """The base of every event: `at` is the time when the driver got it, in seconds since the epoch."""

    at: float = 0.0
    allowance: RunAllowance = RunAllowance()
    """The bounds that the runs around this one still leave it at that time."""


class RunStarted(Happened):
    """The run begins with `inputs`."""

    type: Literal["run_started"] = "run_started"
    inputs: tuple[Entry, ...]
    usage: Usage = Usage()
    """The usage before the run, of checking its inputs."""


class ModelReplied(Happened):
    """The model's reply is complete."""

    type: Literal["model_replied"] = "model_replied"
    entries: tuple[Entry, ...]
    usage: Usage = Usage()


class ModelFailed(Happened):
    """The model gave no usable reply, for good."""

    type: Literal["model_failed"] = "model_failed"
    failure: Failure


class ToolReturned(Happened):
    """A tool succeeded; the model gets `result`."""

    type: Literal["tool_returned"] = "tool_returned"
    call_id: str
    result: str


class ToolCallFailed(Happened):
    """A tool failed for good, or refused its arguments; or nobody can say whether the call needs approval."""

    type: Literal["tool_call_failed"] = "tool_call_failed"
    call_id: str
    failure: Failure


class SpentWithin(Happened):
    """A run within this one, made for one of its calls, has used this up."""

    type: Literal["spent_within"] = "spent_within"
    usage: Usage = Usage()
    tool_calls: int = 0


class ApprovalGiven(Happened):
    """A person allowed the call that has this fingerprint, perhaps with other arguments."""

    type: Literal["approval_given"] = "approval_given"
    call_id: str
    fingerprint: str
    edited_arguments: dict[str, JSON] | None = None


class ApprovalDenied(Happened):
    """A person denied the call that has this fingerprint."""

    type: Literal["approval_denied"] = "approval_denied"
    call_id: str
    fingerprint: str
    reason: str | None = None


class AnswerChecked(Happened):
    """The verdict of checking an answer, and its usage."""

    usage: Usage = Usage()


class AnswerAccepted(AnswerChecked):
    """The answer is accepted, or `replacement` in its place."""

    type: Literal["answer_accepted"] = "answer_accepted"
    replacement: str | None = None


class AnswerRejected(AnswerChecked):
    """The answer does not meet the demands; the model gets the reason, and may answer again."""

    type: Literal["answer_rejected"] = "answer_rejected"
    problem: str


class AnswerBlocked(AnswerChecked):
    """The answer must not be given; the run ends."""

    type: Literal["answer_blocked"] = "answer_blocked"
    failure: Failure


class LimitAnswered(Happened):
    """A person was asked to raise a limit, and has answered; or so it was for a run around this one.

    `limit` is the one of this run, if it is; `to` is what the person raises it to, if the person does.
    """

    type: Literal["limit_answered"] = "limit_answered"
    limit: LimitName | None = None
    to: Money | None = None


class UserMessageAdded(Happened):
    """A user sent another message; it goes to the model with the next call."""

    type: Literal["user_message_added"] = "user_message_added"
    entry: Entry


class RunCancelled(Happened):
    """The run must end now."""

    type: Literal["run_cancelled"] = "run_cancelled"
    why: str = "the run was cancelled"


AgentEvent = Annotated[
    RunStarted
    | ModelReplied
    | ModelFailed
    | ToolReturned
    | ToolCallFailed
    | SpentWithin
    | ApprovalGiven
    | ApprovalDenied
    | AnswerAccepted
    | AnswerRejected
    | AnswerBlocked
    | LimitAnswered
    | UserMessageAdded
    | RunCancelled,
    Discriminator("type"),
]


# Effects -----------------------------------------------------------------------------------------------


class CallModel(Value):
    """Ask the model, as `agent`, and send it `entries`, which are new to it.

    `limit` says that a limit is reached, and which: the model must answer without calling tools.
    """

    type: Literal["call_model"] = "call_model"
    agent: str
    turn: int
    entries: tuple[Entry, ...]
    limit: Failure | None = None


class CallTool(Value):
    """Run a tool of the active agent; answer with `ToolReturned` or `ToolCallFailed`."""

    type: Literal["call_tool"] = "call_tool"
    agent: str
    turn: int
    call_id: str
    tool: str
    arguments: dict[str, JSON]


class AskApproval(Value):
    """Ask a person whether the call may run; the decision must carry the fingerprint."""

    type: Literal["ask_approval"] = "ask_approval"
    agent: str
    turn: int
    call_id: str
    tool: str
    arguments: dict[str, JSON]
    fingerprint: str


class KeepReply(Value):
    """Add the reply's entries to the conversation, in this form: every call has an id of its own."""

    type: Literal["keep_reply"] = "keep_reply"
    entries: tuple[Entry, ...]


class AnswerCall(Value):
    """Emit that the machine itself answered a call: an error, a handoff, a person's no."""

    type: Literal["answer_call"] = "answer_call"
    agent: str
    turn: int
    call_id: str
    tool: str
    result: str
    failure: Failure | None = None
    denied: bool = False


class AnnounceHandoff(Value):
    """Emit that another agent is active now."""

    type: Literal["announce_handoff"] = "announce_handoff"
    turn: int
    previous: str
    next: str


class CheckAnswer(Value):
    """Check the answer; report it with `AnswerAccepted`, `AnswerRejected` or `AnswerBlocked`."""

    type: Literal["check_answer"] = "check_answer"
    agent: str
    turn: int
    entries: tuple[Entry, ...]


class AskToRaise(Value):
    """Ask a person to raise a limit, of this run or of one around it; report it with `LimitAnswered`."""

    type: Literal["ask_to_raise"] = "ask_to_raise"
    agent: str
    turn: int
    limit: Failure
    is_own: bool


class Finish(Value):
    """End the run with `entries`: the reply without open calls, or its replacement.

    `unsent` are messages that came too late for this run: they open the conversation's next run.
    """

    type: Literal["finish"] = "finish"
    agent: str
    entries: tuple[Entry, ...]
    unsent: tuple[Entry, ...] = ()


class Fail(Value):
    """End the run with an error; stop every tool that still runs.

    `unsent` are results that were not sent to the model: they open the conversation's next run, so that
    every call in it has its answer.
    """

    type: Literal["fail"] = "fail"
    failure: Failure
    unsent: tuple[Entry, ...] = ()


class Stop(Value):
    """End the run as cancelled; stop every tool that still runs. `unsent` as in `Fail`."""

    type: Literal["stop"] = "stop"
    unsent: tuple[Entry, ...] = ()


AgentEffect = Annotated[
    CallModel
    | CallTool
    | AskApproval
    | KeepReply
    | AnswerCall
    | AnnounceHandoff
    | CheckAnswer
    | AskToRaise
    | Finish
    | Fail
    | Stop,
    Discriminator("type"),
]
