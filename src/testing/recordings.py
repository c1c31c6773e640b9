"""Recordings: what the journal of an execution says that happened, for a test to look at.

A recording is made from an export (`outlast export ID > run.jsonl`, or `await execution.export()`). It holds
what somebody who compares two runs asks for: the turns with their replies, the calls, the usage and the
outcome. It leaves out ids, times and attempts, which differ between any two runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from outlast.core import events
from outlast.core.errors import CannotRerun
from outlast.core.event_stream import Event, EventReader, without_void
from outlast.core.exports import Export, read_export, split_exports
from outlast.core.exports import exported as write_export
from outlast.core.json import JSON, encode
from outlast.core.records import Status
from outlast.core.usage import Usage, usage_in

Exported: TypeAlias = str | os.PathLike[str] | Iterable[str]
"""An export: the path of its file, or its lines, as `Execution.export` returns them."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call of a tool by a model, or of an activity by workflow code."""

    name: str
    arguments: JSON
    """The arguments by name; the text that the model wrote, if that was not a JSON object."""
    result: JSON = None
    error: str | None = None
    """The error in words, if it failed."""
    has_ended: bool = False
    """False if the recording ends before the call does."""

    def __str__(self) -> str:
        made = f"calls {self.name} {_json(self.arguments)}"
        if not self.has_ended:
            return made
        return f"{made}: {_json(self.result)}" if self.error is None else f"{made}: failed, {self.error}"


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """A turn: one call of a model, and the calls that its reply asked for."""

    run: int
    """The number of the run in its execution, from 1, in the order in which runs asked a model first."""
    number: int
    """The number of the turn in its run, from 1."""
    agent: str
    model: str | None
    text: str = ""
    """The text of the reply."""
    calls: tuple[RecordedCall, ...] = ()
    """The calls of tools, in the order in which they began."""
    handed_off_to: str | None = None
    error: str | None = None
    """The error in words, if the model gave no usable reply."""
    usage: Usage = field(default_factory=Usage)

    @property
    def lines(self) -> tuple[str, ...]:
        """The turn in words, without its usage."""
        who = self.agent if self.model is None else f"{self.agent}, {self.model}"
        said = [f"says: {line}" for line in self.text.splitlines()]
        to = [] if self.handed_off_to is None else [f"hands off to {self.handed_off_to}"]
        failed = [] if self.error is None else [f"fails: {self.error}"]
        return (who, *said, *map(str, self.calls), *to, *failed)


@dataclass(frozen=True, slots=True)
class Recording:
    """The course of an execution, up to the end of its journal. `str` returns it in words."""

    id: str
    workflow: str
    arguments: dict[str, JSON]
    """The arguments of the workflow, by parameter name."""
    status: Status
    """The status when it was exported."""
    turns: tuple[RecordedTurn, ...]
    """The turns of all runs, in the order in which they began."""
    activities: tuple[RecordedCall, ...]
    """The activities that workflow code called, in the order in which they began."""
    result: JSON = None
    """The result of the workflow as JSON, if it is completed."""
    error: str | None = None
    """The error in words, if it failed."""

    @property
    def usage(self) -> Usage:
        """The usage of all turns."""
        return sum((turn.usage for turn in self.turns), Usage())

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The recording in words: lines by title, such as "turn 2" or "result"."""
        several = any(turn.run > 1 for turn in self.turns)
        given = tuple(f"{name}: {_json(value)}" for name, value in self.arguments.items())
        parts: dict[str, tuple[str, ...]] = {"arguments": given} if given else {}
        for turn in self.turns:
            title = f"run {turn.run}, turn {turn.number}" if several else f"turn {turn.number}"
            parts[title] = turn.lines
        if self.activities:
            parts["activities"] = tuple(map(str, self.activities))
        if self.usage.total_tokens or self.usage.has_cost:
            cost = f", {self.usage.cost_in_words}" if self.usage.cost_in_words else ""
            parts["usage"] = (f"{self.usage.total_tokens} tokens{cost}",)
        failed = () if self.error is None else (self.error,)
        result = (_json(self.result),) if self.status is Status.COMPLETED else failed
        parts["end"] = (str(self.status), *result)
        return parts

    def __str__(self) -> str:
        lines = [f"execution {self.id!r} of workflow {self.workflow!r}"]
        for title, part in self.parts.items():
            lines += [title, *(f"  {line}" for line in part)]
        return "\n".join(lines)


def export_in(exported: Exported) -> Export:
    """Return the export in a file, or in lines.

    Raises:
        CannotRerun: it is not an export, or not exactly one, or not a whole one.
        OSError: the file cannot be read.
    """
    if isinstance(exported, (str, os.PathLike)):
        try:
            lines = Path(exported).read_bytes().decode().split("\n")
        except UnicodeDecodeError as error:
            raise CannotRerun(f"{exported} is not an export: it is not text in UTF-8") from error
    else:
        lines = list(exported)
    found = list(split_exports(lines))
    if len(found) > 1:
        raise CannotRerun(
            f"there are {len(found)} exports, and this takes one; put each in a file of its own"
        )
    return read_export(found[0])


def events_in(export: Export) -> Sequence[Event]:
    """Return the events of an execution that a retry has not made void."""
    reader = EventReader()
    return without_void(event for record in export.records for event in reader.read(record))


def turn_begins(export: Export, turn: int, *, run: int = 1) -> int:
    """Return the position at which a turn of a run begins; both are counted from 1.

    Raises:
        CannotRerun: there is no such turn.
    """
    writer = _Writer()
    for event in events_in(export):
        writer.take(event.data)
        if isinstance(event.data, events.TurnStartedData):
            last = writer.turns[event.data.run, event.data.turn]
            if (last.run, last.number) == (run, turn):
                return event.position
    raise CannotRerun(
        f"the export of {export.header.id!r} has no turn {turn} in run {run}; it has "
        + (", ".join(f"turn {one.number} of run {one.run}" for one in writer.turns.values()) or "no turns")
    )


def with_queue(export: Export, task_queue: str) -> list[str]:
    """Return the lines of the same export for that task queue."""
    return [*write_export(export.header.with_(task_queue=task_queue), export.records)]


def recording_of(export: Export) -> Recording:
    """Return what an export says that happened."""
    writer = _Writer()
    for event in events_in(export):
        writer.take(event.data)
    end = export.end
    return Recording(
        id=export.header.id,
        workflow=export.header.workflow,
        arguments=writer.arguments,
        status=export.status,
        turns=tuple(replace(turn, calls=writer.calls_of(key)) for key, turn in writer.turns.items()),
        activities=tuple(writer.activities.values()),
        result=None if end is None else end.result,
        error=None if end is None else end.reason if end.failure is None else end.failure.in_words,
    )


_TurnKey = tuple[str, int]


class _Writer:
    """Makes turns and calls of events."""

    def __init__(self) -> None:
        self.arguments: dict[str, JSON] = {}
        self.turns: dict[_TurnKey, RecordedTurn] = {}
        self.activities: dict[str, RecordedCall] = {}
        self._calls: dict[tuple[_TurnKey, str], RecordedCall] = {}
        self._runs: dict[str, int] = {}

    def calls_of(self, key: _TurnKey) -> tuple[RecordedCall, ...]:
        return tuple(call for (turn, _), call in self._calls.items() if turn == key)

    def take(self, data: events.AnyEventData) -> None:
        match data:
            case events.ExecutionStartedData():
                self.arguments = data.arguments
            case events.TurnStartedData():
                run = self._runs.setdefault(data.run, len(self._runs) + 1)
                self.turns[data.run, data.turn] = RecordedTurn(run, data.turn, data.agent, data.model)
            case events.ModelRepliedData():
                turn = self.turns[data.run, data.turn]
                usage = usage_in(data.result, turn.model)
                self.turns[data.run, data.turn] = replace(turn, text=data.text, usage=usage)
            case events.ModelFailedData():
                turn = self.turns[data.run, data.turn]
                self.turns[data.run, data.turn] = replace(turn, error=data.failure.in_words)
            case events.HandedOffData():
                turn = self.turns[data.run, data.turn]
                self.turns[data.run, data.turn] = replace(turn, handed_off_to=data.to_agent)
            case events.ToolCalledData() | events.ApprovalDeniedData():  # A call that is denied is not made.
                arguments: JSON = data.arguments if data.arguments_text is None else data.arguments_text
                self._calls[_call(data)] = RecordedCall(data.tool, arguments)
            case events.ToolReturnedData():
                made = self._calls[_call(data)]
                self._calls[_call(data)] = replace(made, result=data.result, has_ended=True)
            case events.ToolFailedData():
                made = self._calls[_call(data)]
                self._calls[_call(data)] = replace(made, error=data.failure.in_words, has_ended=True)
            case events.ActivityStartedData():
                self.activities[data.key] = RecordedCall(data.name, data.arguments)
            case events.ActivityCompletedData():
                made = self.activities[data.key]
                self.activities[data.key] = replace(made, result=data.result, has_ended=True)
            case events.ActivityFailedData():
                made = self.activities[data.key]
                self.activities[data.key] = replace(made, error=data.failure.in_words, has_ended=True)
            case _:
                pass  # It is none of what a recording holds.


def _call(data: events.CallData) -> tuple[_TurnKey, str]:
    return (data.run, data.turn), data.call_id


def _json(value: JSON) -> str:
    return encode(value).decode("utf-8", "surrogatepass")
