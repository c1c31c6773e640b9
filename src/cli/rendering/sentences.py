"""Each event as a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never

from outlast.cli.rendering.text import LENGTH, compact, duration, local_time, shortened
from outlast.core import events
from outlast.core.event_stream import Event
from outlast.core.json import JSON

AGENT_LENGTH = 18


def agent_of(event: Event, length: int | None = AGENT_LENGTH) -> str:
    """Return the name of the agent that an event is about, cut to `length`; or nothing."""
    match event.data:
        case events.TurnData(agent=agent) | events.GuardrailData(agent=agent):
            return shortened(agent, length)
        case events.HandedOffData(from_agent=agent) | events.AttemptFailedData(agent=str(agent)):
            return shortened(agent, length)
        case _:
            return ""


def sentence_of(event: Event, length: int | None = LENGTH, *, after: Sequence[str] = ()) -> str:
    """Return the text of an event, in a line of `length`; what comes `after` it stands in brackets, whole."""
    end = f" ({', '.join(after)})" if after else ""
    room = None if length is None else max(10, length - len(end))
    return shortened(_sentence_of(event.data, event.at), room) + end


def _decided(data: events.ApprovalGivenData | events.ApprovalDeniedData, verdict: str) -> str:
    """Return the decision: who made it, with which arguments, and why."""
    by = f" by {data.by}" if data.by else ""
    edited = data.edited_arguments if isinstance(data, events.ApprovalGivenData) else None
    changed = "" if edited is None else f" with the arguments {compact(edited)}"
    return f"{data.tool} {verdict}{by}{changed}" + (f": {data.reason}" if data.reason else "")


def _sent(data: events.SentData) -> str:
    """Return the arguments of a message, in brackets."""
    given = [
        *map(compact, data.arguments),
        *(f"{name}={compact(value)}" for name, value in data.named.items()),
    ]
    return f"({', '.join(given)})"


def _until(due_at: float, at: datetime) -> str:
    """Return the time until which a timer waits, and how long that is."""
    try:
        due = datetime.fromtimestamp(due_at, at.tzinfo)
    except (OverflowError, OSError, ValueError):  # beyond what a date can be
        return "without an end"
    return f"until {local_time(due)} ({duration((due - at).total_seconds())})"


def _replied(reply: Mapping[str, JSON]) -> str:
    """Return the content of a model's reply in words: its calls, its handoff, its text."""
    entries = reply.get("entries")
    said: list[str] = []
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case {"type": "function.call", "name": name}:
                said.append(f"call {name}")
            case {"type": "agent.handoff", "next_agent_name": name}:
                said.append(f"hand off to {name}")
            case {"type": "tool.execution", "name": name}:
                said.append(f"{name} used")
            case {"type": "message.output", "content": content}:
                said.append(f'"{compact(content)}"')
    return f"model replied: {', '.join(said)}"


_CUTS = {"length": "the token limit", "content_filter": "the content filter of the server"}


def _sentence_of(data: events.AnyEventData, at: datetime) -> str:
    match data:
        case events.ExecutionStartedData():
            parent = "" if data.parent is None else f" as a child of {data.parent}"
            return f"execution of {data.workflow} started{parent}"
        case events.ExecutionCompletedData():
            return "execution completed"
        case events.ExecutionFailedData():
            return f"execution failed: {data.failure.in_words}"
        case events.ExecutionCancelledData():
            return "execution cancelled"
        case events.ExecutionTerminatedData():
            return f"execution terminated: {data.reason}"
        case events.ExecutionReopenedData():
            anew = f"; tried anew: {', '.join(data.failed)}" if data.failed else ""
            return f"execution retried; what came after position {data.valid} is void{anew}"
        case events.ExecutionForkedData():
            edited = f", with other results of {', '.join(data.edited)}" if data.edited else ""
            return f"forked from position {data.source_position} of {data.source}{edited}"
        case events.ExecutionRecoveredData():
            lost = "a worker" if data.worker is None else f"worker {data.worker}"
            taken_over = f"; {data.successor} took over" if data.successor else ""
            return f"execution recovered: {lost} was lost{taken_over}"
        case events.ExecutionHeldData():
            return f"execution held: {data.reason}"
        case events.ExecutionPausedData():
            return "execution paused" + (f": {data.reason}" if data.reason else "")
        case events.ExecutionResumedData():
            return "execution resumed"
        case events.TurnStartedData():
            return f"turn {data.turn}: model asked"
        case events.TextDeltaData():
            return f"text of attempt {data.attempt}: {data.text}"
        case events.ModelRepliedData():
            return _replied(data.result)
        case events.ModelFailedData():
            return f"model failed: {data.failure.in_words}"
        case events.SummaryStartedData():
            return f"turn {data.turn}: summary of the older part asked for"
        case events.SummaryMadeData():
            return "summary made"
        case events.SummaryFailedData():
            return f"summary failed, the run goes on without: {data.failure.in_words}"
        case events.ToolCalledData():
            return f"tool {data.tool} called"
        case events.ToolReturnedData():
            return f"tool {data.tool} returned {compact(data.result)}"
        case events.ToolFailedData():
            return f"tool {data.tool} failed: {data.failure.in_words}"
        case events.ToolExecutedData():
            return f"tool {data.tool} run by the server"
        case events.ResultUnsentData():
            return f"call {data.call_id} ended with its run: {data.text}"
        case events.HandedOffData():
            return f"handed off to {data.to_agent}" + (", which sees a part" if data.filtered else "")
        case events.ApprovalRequestedData():
            return f"approval of {data.tool} asked for: {compact(data.arguments)}"
        case events.ApprovalGivenData():
            return _decided(data, "allowed")
        case events.ApprovalDeniedData():
            return _decided(data, "denied")
        case events.ReplyCutData():
            return f"reply cut at {_CUTS[data.reason]}"
        case events.LimitReachedData():
            asks = "; a person is asked to raise it" if data.question else ""
            return f"limit reached: {data.limit}{asks}"
        case events.AnswerRejectedData():
            return f"answer rejected: {data.reason}"
        case events.GuardrailRejectedData():
            return f"{data.guardrail} rejected the {data.part}: {data.reason}"
        case events.GuardrailReplacedData():
            return f"{data.guardrail} replaced the {data.part}"
        case events.ActivityStartedData():
            return f"activity {data.name} started"
        case events.ActivityCompletedData():
            return f"activity {data.name} completed: {compact(data.result)}"
        case events.ActivityFailedData():
            return f"activity {data.name} failed: {data.failure.in_words}"
        case events.ChildStartedData():
            return f"child {data.child} of {data.workflow} started"
        case events.ChildCompletedData():
            return f"child {data.child} completed: {compact(data.result)}"
        case events.ChildFailedData():
            child = f"of {data.workflow}" if data.child is None else data.child
            return f"child {child} failed: {data.failure.in_words}"
        case events.AttemptFailedData():
            return f"attempt {data.attempt} at {data.name} failed: {data.failure.in_words}"
        case events.TimerStartedData():
            return f"timer started: it waits {_until(data.due_at, at)}"
        case events.TimerFiredData():
            return "timer fired"
        case events.SignalReceivedData():
            return f"signal {data.name}{_sent(data)} received"
        case events.UpdateAcceptedData():
            return f"update {data.name}{_sent(data)} accepted"
        case events.UpdateCompletedData():
            return f"update {data.name} answered: {compact(data.result)}"
        case events.UpdateFailedData():
            return f"update {data.name} failed: {data.failure.in_words}"
        case events.MessageSaidData():
            return f"message{'' if data.by is None else f' by {data.by}'} to {data.agent}: {data.text}"
        case events.RunInterruptedData():
            by = "" if data.by is None else f" by {data.by}"
            return f"run interrupted{by}" + ("" if data.reason is None else f": {data.reason}")
        case events.QuestionAskedData():
            return f"question{'' if data.to is None else f' to {data.to}'}: {data.question}"
        case events.QuestionAnsweredData():
            by = "" if data.by is None else f" by {data.by}"
            return f"question answered{by}: {compact(data.answer)}"
        case events.QuestionWithdrawnData():
            return "question withdrawn"
        case events.CancelRequestedData():
            return "cancel requested"
        case events.PatchedData():
            return f"patch {data.patch} applies"
        case events.TaggedData():
            tags = [f"{name}={value}" for name, value in data.tags.items()]
            return f"tagged {', '.join([*tags, *(f'{name} removed' for name in data.removed)])}"
        case _:
            assert_never(data)
