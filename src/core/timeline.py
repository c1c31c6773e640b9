"""The timeline of an execution: everything that took time, in lanes, made from its events.

A *bar* is something that takes time: a model call, a tool call, an activity, an approval, a timer, an update.
It has a beginning, attempts that failed, and an end. A *lane* has the bars of one agent in one run, or those
of workflow code; bars that are under way at the same time stand in different rows of their lane. A *crash* is
a worker that was lost: the time in which nothing was written, what was under way, and who took over.

The terminal draws it. The inspector's page makes its own from the same events (`web/static/model.js`), as it
also goes back in time: a kind of event that begins or ends a bar stands there, too. What a retry has made
void stays in it, and does not count.

A bar of a step begins when the step was asked for. The journal does not say when its first attempt began: the
time for which an execution waits for its first worker is part of its first steps.

The journal does not say when code stops to wait for a timer that has not fired, so such a bar takes no time
once it is due, or once the execution has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from outlast.core import events
from outlast.core.event_stream import Event
from outlast.core.events import EXECUTION_ENDS, AnyEventData, EventKind
from outlast.core.step_keys import call_key
from outlast.core.usage import Usage, usage_in


class BarKind(StrEnum):
    """The sort of a bar."""

    MODEL = "model"
    SUMMARY = "summary"
    TOOL = "tool"
    ACTIVITY = "activity"
    CHILD = "child"
    UPDATE = "update"
    APPROVAL = "approval"
    TIMER = "timer"


WAITS = frozenset({BarKind.APPROVAL, BarKind.TIMER})
"""The bars in which nothing is done."""


class BarState(StrEnum):
    """The state of a bar: open, or the way in which it ended."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    """Also an approval that was denied."""
    LEFT = "left"
    """Nobody waited for it any more."""


class Lane(NamedTuple):
    """The owner of a lane: an agent in a run, or workflow code."""

    run: str | None = None
    agent: str = ""


WORKFLOW_CODE = Lane()


class Begins(NamedTuple):
    """An event that begins a bar."""

    key: str
    kind: BarKind
    name: str
    lane: Lane = WORKFLOW_CODE


class Ends(NamedTuple):
    """An event that ends a bar."""

    key: str
    state: BarState = BarState.DONE


MARKS = frozenset(
    {
        *EXECUTION_ENDS,
        EventKind.EXECUTION_REOPENED,
        EventKind.EXECUTION_FORKED,
        EventKind.EXECUTION_HELD,
        EventKind.EXECUTION_PAUSED,
        EventKind.EXECUTION_RESUMED,
        EventKind.SIGNAL_RECEIVED,
        EventKind.CANCEL_REQUESTED,
        EventKind.REPLY_CUT,
        EventKind.LIMIT_REACHED,
        EventKind.ANSWER_REJECTED,
        EventKind.GUARDRAIL_REJECTED,
        EventKind.GUARDRAIL_REPLACED,
    }
)
"""The events that take no time and are shown on the timeline all the same."""


def edge_of(data: AnyEventData) -> Begins | Ends | None:
    """Return the beginning or the end of a bar that an event is; None if it is neither.

    A key is that of no other bar which is open at the same time.
    """
    match data:
        case events.TurnStartedData():
            return Begins(_step(data.key), BarKind.MODEL, f"turn {data.turn}", Lane(data.run, data.agent))
        case events.SummaryStartedData():
            return Begins(_step(data.key), BarKind.SUMMARY, "summary", Lane(data.run, data.agent))
        case events.ToolCalledData():
            return Begins(_step(_call(data)), BarKind.TOOL, data.tool, Lane(data.run, data.agent))
        case events.ApprovalRequestedData():
            name = f"approval of {data.tool}"
            return Begins(_approval(data), BarKind.APPROVAL, name, Lane(data.run, data.agent))
        case events.ActivityStartedData():
            return Begins(_step(data.key), BarKind.ACTIVITY, data.name)
        case events.ChildStartedData():
            return Begins(_step(data.key), BarKind.CHILD, data.workflow)
        case events.TimerStartedData():
            return Begins(_timer(data.key), BarKind.TIMER, "timer")
        case events.UpdateAcceptedData():
            return Begins(_update(data.id), BarKind.UPDATE, f"update {data.name}")
        case events.ModelRepliedData() | events.SummaryMadeData() | events.ActivityCompletedData():
            return Ends(_step(data.key))
        case events.ChildCompletedData():
            return Ends(_step(data.key))
        case events.ChildFailedData():
            return None if data.child is None else Ends(_step(data.key), BarState.FAILED)
        case events.ModelFailedData() | events.SummaryFailedData() | events.ActivityFailedData():
            return Ends(_step(data.key), BarState.FAILED)
        case events.ToolReturnedData():
            return Ends(_step(_call(data)))
        case events.ToolFailedData():
            return Ends(_step(_call(data)), BarState.FAILED)
        case events.ApprovalGivenData():
            return Ends(_approval(data))
        case events.ApprovalDeniedData():
            return Ends(_approval(data), BarState.FAILED)
        case events.TimerFiredData():
            return Ends(_timer(data.key))
        case events.UpdateCompletedData():
            return Ends(_update(data.id))
        case events.UpdateFailedData():
            return Ends(_update(data.id), BarState.FAILED)
        case _:
            return None


def _call(data: events.CallData) -> str:
    return call_key(data.run, data.turn, data.call_id)


def _step(key: str) -> str:
    return f"step {key}"


def _approval(data: events.CallData) -> str:
    return f"approval {_call(data)}"


def _timer(key: str) -> str:
    return f"timer {key}"


def _update(update_id: str) -> str:
    return f"update {update_id}"


class Point(NamedTuple):
    """The place of an event: its position and its time."""

    position: int
    at: datetime


class FailedAttempt(NamedTuple):
    """An attempt that failed."""

    moment: Point
    number: int
    kind: str
    """The kind of its failure."""


@dataclass(slots=True)
class Bar:
    """Something that takes time."""

    key: str
    kind: BarKind
    name: str
    lane: Lane
    begun: Point
    ended: Point | None = None
    state: BarState = BarState.OPEN
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    """The tokens that it took, if it is a model call that counts."""
    is_void: bool = False
    call_id: str | None = None
    due_at: float | None = None
    idle_seconds: float = 0.0
    """The time for which it had ended, before a retry opened it again; nothing was done in it."""

    def seconds(self, now: datetime | None = None) -> float:
        """Return the time that it took; of an open one, the time until `now`, or nothing."""
        until = self.ended.at if self.ended is not None else now
        lasted = 0.0 if until is None else (until - self.begun.at).total_seconds()
        return max(0.0, lasted - self.idle_seconds)

    @property
    def last_position(self) -> float:
        """The position up to which nothing else can stand in its row."""
        return float("inf") if self.ended is None else max(self.ended.position, self.begun.position + 1)


class Mark(NamedTuple):
    """An event that took no time."""

    moment: Point
    kind: EventKind


class Crash(NamedTuple):
    """A worker that was lost."""

    moment: Point
    """The moment when another one took over."""
    before: Point
    """The last event before."""
    lost: str | None
    """The worker that was lost, if that is known."""
    successor: str | None
    """The worker that took over, if that is known."""
    kept: int
    """The number of steps that were done and were not repeated."""
    under_way: tuple[Bar, ...]
    """The bars that were open and are not waits: their attempts may have been cut short."""


@dataclass(slots=True)
class Sums:
    """The sums over bars that count; times are in seconds, and of bars at the same time each counts."""

    turns: int = 0
    """The replies of models; summaries do not count."""
    usage: Usage = field(default_factory=Usage)
    model_seconds: float = 0.0
    tool_seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, bar: Bar, now: datetime | None) -> None:
        """Count a bar, unless it is void."""
        if bar.is_void:
            return
        seconds = bar.seconds(now)
        match bar.kind:
            case BarKind.MODEL | BarKind.SUMMARY:
                self.turns += bar.kind is BarKind.MODEL and bar.state is BarState.DONE
                self.usage += bar.usage
                self.model_seconds += seconds
            case BarKind.TOOL | BarKind.ACTIVITY:
                self.tool_seconds += seconds
            case BarKind.APPROVAL | BarKind.TIMER:
                self.wait_seconds += seconds
            case _:
                pass  # The handler of an update spans the steps that it asks for; a child has its own sums.


@dataclass(frozen=True, slots=True)
class LaneOfBars:
    """A lane with its bars in rows: no two of a row are under way at the same time."""

    lane: Lane
    name: str
    rows: tuple[tuple[Bar, ...], ...]

    @property
    def bars(self) -> Iterator[Bar]:
        """The bars of all rows."""
        for row in self.rows:
            yield from row


class Timeline:
    """The timeline of one execution, as far as the events go that were taken."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        """The bars, in the order in which they began."""
        self.marks: list[Mark] = []
        self.crashes: list[Crash] = []
        self.first: Point | None = None
        self.last: Point | None = None
        self.has_ended = False
        self.void_usage = Usage()
        """The tokens of replies that a retry has made void."""
        self._open: dict[str, Bar] = {}

    def take(self, event: Event) -> None:
        """Take the next event. A text that is still being written is not in a timeline."""
        data = event.data
        if isinstance(data, events.TextDeltaData):
            return
        now = Point(event.position, event.at)
        before = self.last or now
        self.first, self.last = self.first or now, now
        self._drop_timers(now)
        match edge_of(data):
            case Begins() as begins:
                self._begin(begins, data, now)
            case Ends(key, state):
                self._end(key, state, data, now)
            case _:
                self._note(data, now, before)
        if data.kind in MARKS:
            self.marks.append(Mark(now, data.kind))
        if data.kind in EXECUTION_ENDS:
            self._close(now)

    @property
    def open(self) -> Sequence[Bar]:
        """The bars that have begun and not ended."""
        return tuple(self._open.values())

    def sums(self, bars: Iterable[Bar] | None = None, now: datetime | None = None) -> Sums:
        """Return the sums over `bars`, by default over all."""
        sums = Sums()
        for bar in self.bars if bars is None else bars:
            sums.add(bar, now)
        return sums

    def lanes(self) -> tuple[LaneOfBars, ...]:
        """Return the lanes in the order of their first bars; runs have numbers if there are several."""
        by_lane: dict[Lane, list[Bar]] = {}
        runs: dict[str, int] = {}
        for bar in self.bars:
            by_lane.setdefault(bar.lane, []).append(bar)
            if bar.lane.run is not None:
                runs.setdefault(bar.lane.run, len(runs) + 1)
        return tuple(LaneOfBars(lane, _name(lane, runs), rows_of(bars)) for lane, bars in by_lane.items())

    def _begin(self, begins: Begins, data: AnyEventData, now: Point) -> None:
        if (other := self._open.pop(begins.key, None)) is not None:
            other.ended, other.state = now, BarState.LEFT
        bar = Bar(begins.key, begins.kind, begins.name, begins.lane, now)
        if isinstance(data, events.CallData):
            bar.call_id = data.call_id
        if isinstance(data, events.TimerStartedData):
            bar.due_at = data.due_at
        self.bars.append(bar)
        self._open[bar.key] = bar

    def _end(self, key: str, state: BarState, data: AnyEventData, now: Point) -> None:
        bar = self._open.pop(key, None) or self._dropped(key)
        if bar is None:
            return
        bar.ended, bar.state = now, state
        if isinstance(data, events.ReplyData):
            bar.usage = usage_in(data.result)

    def _dropped(self, key: str) -> Bar | None:
        """Return a timer that seemed to be dropped: other events may come between the time and the firing."""
        return next(
            (
                bar
                for bar in reversed(self.bars)
                if bar.key == key and bar.due_at is not None and bar.state is BarState.LEFT
            ),
            None,
        )

    def _note(self, data: AnyEventData, now: Point, before: Point) -> None:
        match data:
            case events.AttemptFailedData(key=key) if (bar := self._open.get(_step(key))) is not None:
                bar.failed_attempts.append(FailedAttempt(now, data.attempt, data.failure.kind))
            case events.ResultUnsentData():
                self._unsent(data, now)
            case events.ExecutionRecoveredData():
                self._crash(data, now, before)
            case events.ExecutionReopenedData():
                self._reopen(data, now)
            case _:
                pass

    def _unsent(self, data: events.ResultUnsentData, now: Point) -> None:
        """The run of a call is over: nobody waits for a decision about it any more."""
        for bar in self.open:
            is_of_run = bar.lane.run == data.run
            if is_of_run and bar.kind is BarKind.APPROVAL and bar.call_id == data.call_id:
                self._leave(bar, now)

    def _crash(self, data: events.ExecutionRecoveredData, now: Point, before: Point) -> None:
        work = [bar for bar in self.bars if bar.kind not in WAITS and not bar.is_void]
        self.crashes.append(
            Crash(
                moment=now,
                before=before,
                lost=data.worker,
                successor=data.successor,
                kept=sum(bar.state in (BarState.DONE, BarState.FAILED) for bar in work),
                under_way=tuple(bar for bar in work if bar.ended is None),
            )
        )

    def _reopen(self, data: events.ExecutionReopenedData, now: Point) -> None:
        """Go back to what counts: later bars are void, and bars that ended later are open again."""
        self.has_ended = False
        self._open.clear()
        anew = {_step(key) for key in data.failed}
        for bar in self.bars:
            if bar.is_void:
                continue
            if bar.begun.position > data.valid:
                bar.is_void = True
                self.void_usage += bar.usage
            elif bar.ended is not None and (bar.ended.position > data.valid or bar.key in anew):
                self.void_usage += bar.usage
                bar.idle_seconds += max(0.0, (now.at - bar.ended.at).total_seconds())
                bar.ended, bar.state, bar.usage = None, BarState.OPEN, Usage()
                self._open[bar.key] = bar

    def _drop_timers(self, now: Point) -> None:
        seconds = now.at.timestamp()
        for bar in self.open:
            if bar.due_at is not None and bar.due_at <= seconds:
                self._leave(bar, bar.begun)

    def _close(self, now: Point) -> None:
        self.has_ended = True
        for bar in self.open:
            self._leave(bar, now if bar.due_at is None else bar.begun)

    def _leave(self, bar: Bar, at: Point) -> None:
        bar.ended, bar.state = at, BarState.LEFT
        del self._open[bar.key]


def rows_of(bars: Iterable[Bar]) -> tuple[tuple[Bar, ...], ...]:
    """Return bars, given in the order of their beginnings, in as few rows as there are at the same time."""
    rows: list[list[Bar]] = []
    for bar in bars:
        for row in rows:
            if row[-1].last_position <= bar.begun.position:
                row.append(bar)
                break
        else:
            rows.append([bar])
    return tuple(map(tuple, rows))


def _name(lane: Lane, runs: dict[str, int]) -> str:
    if lane.run is None:
        return "workflow code"
    return f"{lane.agent}, run {runs[lane.run]}" if len(runs) > 1 else lane.agent
