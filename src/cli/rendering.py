"""Executions and events as text for people, and for programs: one JSON document a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, assert_never

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outlast.adapters.mistral.housekeeping import OwnAgent
from outlast.core import events
from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from outlast.core.failure import Failure
from outlast.core.json import JSON, encode
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription

PLAIN_WIDTH = 200
"""The width of a table when the output is not a terminal."""

_LENGTH_MAX = 90
_STATUS_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "terminated": "red",
}
_KIND_STYLES = {"failed": "red", "cancelled": "yellow", "recovered": "bold yellow", "completed": "green"}


def console() -> Console:
    """Return a console on standard output: plain, and wide enough for any table, unless it is a terminal."""
    is_terminal = sys.stdout.isatty()
    return Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if is_terminal else PLAIN_WIDTH
    )


def printable(text: str) -> str:
    """Return `text` on one line, without characters that would steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, length: int = _LENGTH_MAX) -> str:
    """Return `text` on one line, cut to `length`."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def local_time(at: datetime) -> str:
    """Return date and time to the second, in the reader's time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def execution_json(execution: ExecutionDescription) -> str:
    """Return a description as one line of JSON; times are exact, in UTC."""
    return value_json(
        {
            "id": execution.id,
            "workflow": execution.workflow,
            "status": execution.status,
            "created_at": execution.created_at,
            "ended_at": execution.ended_at,
            "error": execution.error,
            "held": execution.held,
            "failure": None if execution.failure is None else execution.failure.model_dump(),
        }
    )


def worker_json(worker: WorkerDescription) -> str:
    """Return a worker as one line of JSON; its time is exact, in UTC."""
    return value_json(
        {
            "identity": worker.identity,
            "task_queue": worker.task_queue,
            "workflows": list(worker.workflows),
            "started_at": worker.started_at,
            "executions": list(worker.executions),
        }
    )


def event_json(event: Event) -> str:
    """Return an event as one line of JSON; its time is exact, in UTC."""
    return value_json(
        {"position": event.position, "kind": event.kind, "at": event.at, "data": event.data.to_data()}
    )


def value_json(value: Any) -> str:
    """Return a result as JSON; half a character, which a model may have written, is escaped."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        return json.dumps(value, default=to_jsonable_python, separators=(",", ":"))


def approval_json(approval: PendingApproval) -> str:
    """Return a call that waits for a decision as one line of JSON."""
    return value_json(approval.model_dump())


def approvals_table(waiting: Sequence[PendingApproval]) -> Table:
    """Return calls that wait for a decision as a table, a row each; arguments are shown whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("call", "agent", "tool", "arguments"):
        table.add_column(title, no_wrap=title != "arguments", overflow="fold")
    ids = [approval.call_id for approval in waiting]
    for approval in waiting:
        name = approval.call_id if ids.count(approval.call_id) == 1 else approval.key
        shown = (name, approval.agent, approval.tool, encode(approval.arguments).decode())
        table.add_row(*(Text(printable(cell)) for cell in shown))
    return table


def agent_json(agent: OwnAgent) -> str:
    """Return a remote agent as one line of JSON; times are exact, in UTC."""
    return value_json(asdict(agent))


def agents_table(agents: Sequence[OwnAgent]) -> Table:
    """Return remote agents as a table, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "name", "model", "versions", "made", "last used", "needed"):
        table.add_column(title, no_wrap=True, justify="right" if title == "versions" else "left")
    for agent in agents:
        made, used = local_time(agent.created_at), local_time(agent.last_used_at)
        needed = "yes" if agent.is_needed else "no"
        cells = (agent.id, shortened(agent.name, 40), agent.model, str(agent.versions), made, used, needed)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def executions_table(executions: Sequence[ExecutionDescription]) -> Table:
    """Return executions as a table, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "workflow", "status", "started", "took", "error"):
        table.add_column(title, no_wrap=title != "error", overflow="fold")
    for execution in executions:
        table.add_row(
            Text(printable(execution.id)),
            Text(printable(execution.workflow)),
            _status(execution),
            local_time(execution.created_at),
            _duration(execution),
            Text(shortened(execution.error or "")),
        )
    return table


def workers_table(workers: Sequence[WorkerDescription]) -> Table:
    """Return workers as a table, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("worker", "task queue", "started", "workflows", "executions"):
        table.add_column(title, no_wrap=title in ("worker", "started"), overflow="fold")
    for worker in workers:
        table.add_row(
            Text(printable(worker.identity)),
            Text(printable(worker.task_queue)),
            local_time(worker.started_at),
            Text(shortened(", ".join(worker.workflows))),
            Text(_counted(worker.executions)),
        )
    return table


def execution_table(execution: ExecutionDescription) -> Table:
    """Return one execution as a table, a row for each known property."""
    table = Table(box=None, pad_edge=False, show_header=False)
    error = (execution.error or "") if execution.failure is None else execution.failure.traceback()
    rows = {
        "id": Text(printable(execution.id)),
        "workflow": Text(printable(execution.workflow)),
        "status": _status(execution),
        "started": Text(local_time(execution.created_at)),
        "took": Text(_duration(execution)),
        # A message may have several lines, such as the differences from a journal, or a traceback.
        "error": Text("\n".join(map(printable, error.splitlines()))),
    }
    for name, value in rows.items():
        if value.plain:
            table.add_row(Text(name, style="dim"), value)
    return table


def event_line(event: Event) -> Text:
    """Return an event as a line: its position, its time, the agent that it is about, and its text."""
    line = Text(f"{event.position:>4}  ")
    line.append(event.at.astimezone().strftime("%H:%M:%S.%f")[:-3], style="dim")
    return line.append("  ").append_text(agent_and_event(event))


def agent_and_event(event: Event) -> Text:
    """Return the agent that an event is about, in a column, and the text of the event."""
    line = Text()
    line.append(f"{agent_of(event):<18}  ", style="magenta")
    style = _KIND_STYLES.get(event.kind.rpartition("_")[2], "")
    return line.append(sentence_of(event), style=style)


def agent_of(event: Event) -> str:
    """Return the name of the agent that an event is about, or nothing."""
    match event.data:
        case events.TurnData(agent=agent) | events.GuardrailData(agent=agent):
            return shortened(agent, 18)
        case events.HandedOffData(from_agent=agent) | events.AttemptFailedData(agent=str(agent)):
            return shortened(agent, 18)
        case _:
            return ""


def sentence_of(event: Event) -> str:
    """Return the text of an event, in a line."""
    return shortened(_sentence_of(event.data))


def _counted(ids: Sequence[str]) -> str:
    """Return the number of ids, and the first ones."""
    named = shortened(", ".join(ids), 60)
    return f"{len(ids)}: {named}" if ids else "0"


def _status(execution: ExecutionDescription) -> Text:
    if execution.held:
        return Text("held", style="bold red")
    return Text(execution.status, style=_STATUS_STYLES.get(execution.status, ""))


def _duration(execution: ExecutionDescription) -> str:
    if execution.ended_at is None:
        return ""
    seconds = (execution.ended_at - execution.created_at).total_seconds()
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _short(value: JSON) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _failure(failure: Failure) -> str:
    return f"{failure.kind}: {failure.message}"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


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
                said.append(f'"{_short(content)}"')
    return f"model replied: {', '.join(said)}"


_CUTS = {"length": "the token limit", "content_filter": "the content filter of the server"}


def _sentence_of(data: events.AnyEventData) -> str:
    match data:
        case events.ExecutionStartedData():
            return f"execution of {data.workflow} started"
        case events.ExecutionCompletedData():
            return "execution completed"
        case events.ExecutionFailedData():
            return f"execution failed: {_failure(data.failure)}"
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
            return "execution recovered from a worker that was lost"
        case events.ExecutionHeldData():
            return f"execution held: {data.reason}"
        case events.ExecutionResumedData():
            return "execution resumed"
        case events.TurnStartedData():
            return f"turn {data.turn}: model asked"
        case events.TextDeltaData():
            return f"text of attempt {data.attempt}: {data.text}"
        case events.ModelRepliedData():
            return _replied(data.result)
        case events.ModelFailedData():
            return f"model failed: {_failure(data.failure)}"
        case events.SummaryStartedData():
            return f"turn {data.turn}: summary of the older part asked for"
        case events.SummaryMadeData():
            return "summary made"
        case events.SummaryFailedData():
            return f"summary failed, the run goes on without: {_failure(data.failure)}"
        case events.ToolCalledData():
            return f"tool {data.tool} called"
        case events.ToolReturnedData():
            return f"tool {data.tool} returned {_short(data.result)}"
        case events.ToolFailedData():
            return f"tool {data.tool} failed: {_failure(data.failure)}"
        case events.ToolExecutedData():
            return f"tool {data.tool} run by the server"
        case events.ResultUnsentData():
            return f"call {data.call_id} ended with its run: {data.text}"
        case events.HandedOffData():
            return f"handed off to {data.to_agent}"
        case events.ApprovalRequestedData():
            return f"approval of {data.tool} asked for: {_short(data.arguments)}"
        case events.ApprovalGivenData():
            return f"{data.tool} allowed{_because(data.reason)}"
        case events.ApprovalDeniedData():
            return f"{data.tool} denied{_because(data.reason)}"
        case events.ReplyCutData():
            return f"reply cut at {_CUTS[data.reason]}"
        case events.LimitReachedData():
            return f"limit reached: {data.limit}"
        case events.AnswerRejectedData():
            return f"answer rejected: {data.reason}"
        case events.GuardrailRejectedData():
            return f"{data.guardrail} rejected the {data.of}: {data.reason}"
        case events.GuardrailReplacedData():
            return f"{data.guardrail} replaced the {data.of}"
        case events.ActivityStartedData():
            return f"activity {data.name} started"
        case events.ActivityCompletedData():
            return f"activity {data.name} completed: {_short(data.result)}"
        case events.ActivityFailedData():
            return f"activity {data.name} failed: {_failure(data.failure)}"
        case events.AttemptFailedData():
            return f"attempt {data.attempt} at {data.name} failed: {_failure(data.failure)}"
        case events.TimerStartedData():
            return "timer started"
        case events.TimerFiredData():
            return "timer fired"
        case events.SignalReceivedData():
            return f"signal {data.name} received"
        case events.UpdateAcceptedData():
            return f"update {data.name} accepted"
        case events.UpdateCompletedData():
            return f"update {data.name} answered: {_short(data.result)}"
        case events.UpdateFailedData():
            return f"update {data.name} failed: {_failure(data.failure)}"
        case events.CancelRequestedData():
            return "cancel requested"
        case events.PatchedData():
            return f"patch {data.patch} applies"
        case _:
            assert_never(data)
