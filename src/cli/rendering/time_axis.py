"""The axis of a timeline in a terminal: which cell a position has, and which time a cell has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import log10

from outlast.cli.rendering.text import duration, local_time
from outlast.core.timeline import Bar, Crash, Timeline

GAP = "  "
"""The cells between two columns."""


@dataclass(slots=True)
class Axis:
    """The cells of positions. They grow with the positions, and each bar has a cell of its own at least."""

    width: int
    """The cells of a band."""
    length: int
    """The cells of all bands."""
    start: datetime
    positions: list[float]
    cells: list[int]
    times: list[datetime]

    @classmethod
    def of(cls, timeline: Timeline, width: int, now: datetime | None) -> Axis:
        """Return the axis of a timeline."""
        moments = _moments(timeline, now)
        ends = {bar.last_position for bar in timeline.bars}
        positions = list(moments)
        gaps = [1]
        for before, position in pairwise(positions):
            gap = (moments[position] - moments[before]).total_seconds()
            gaps.append(max(_gap_width(gap), int(position in ends)))
        length = sum(gaps)
        if length < width:
            gaps = [1, *(gap * (width - 1) // (length - 1) for gap in gaps[1:])] if length > 1 else gaps
        cells: list[int] = []
        cell = -1
        for gap in gaps:
            cell += gap
            cells.append(cell)
        first = next(iter(moments.values()))
        return cls(width, cells[-1] + 1, first, positions, cells, list(moments.values()))

    def cell(self, position: float) -> int:
        """Return the cell of a position."""
        return self.cells[max(0, bisect_right(self.positions, position) - 1)]

    def cells_of(self, bar: Bar) -> tuple[int, int]:
        """Return the first cell of a bar, and the one after its last."""
        from_ = self.cell(bar.begun.position)
        to = self.length if bar.ended is None else self.cell(bar.last_position)
        return from_, max(to, from_ + 1)

    def cells_of_crash(self, crash: Crash) -> tuple[int, int]:
        """Return the first cell of the time in which nothing was written, and the one after its last."""
        to = self.cell(crash.moment.position)
        return min(self.cell(crash.before.position), to - 1), to


def _moments(timeline: Timeline, now: datetime | None) -> dict[float, datetime]:
    """Return the positions that the axis has, with their times."""
    found: dict[float, datetime] = {}
    for bar in timeline.bars:
        found[bar.begun.position] = bar.begun.at
        for attempt in bar.failed_attempts:
            found[attempt.moment.position] = attempt.moment.at
        if bar.ended is not None:
            found.setdefault(bar.last_position, max(bar.begun.at, bar.ended.at))
    for crash in timeline.crashes:
        found[crash.before.position], found[crash.moment.position] = crash.before.at, crash.moment.at
    for mark in timeline.marks:
        found[mark.moment.position] = mark.moment.at
    if timeline.last is not None:
        found[timeline.last.position] = timeline.last.at
        if timeline.open:
            found[float("inf")] = max(timeline.last.at, now or timeline.last.at)
    return dict(sorted(found.items()))


def _gap_width(seconds: float) -> int:
    """Return the cells of a gap: 1 for some milliseconds, 5 for a second, 15 for a day."""
    return 0 if seconds <= 0 else 1 + round(2 * log10(1 + 100 * seconds))


def times(axis: Axis, start: int, end: int) -> str:
    """Return the line above a band: the times since the start, where there is room for them."""
    line = last = ""
    for index in range(bisect_left(axis.cells, start), bisect_left(axis.cells, end)):
        cell = axis.cells[index]
        if line and cell - start < len(line) + len(GAP):
            continue
        label = (
            local_time(axis.start) if cell == 0 else _offset((axis.times[index] - axis.start).total_seconds())
        )
        if label != last and cell - start + len(label) <= end - start:
            line, last = line.ljust(cell - start) + label, label
    return line


def _offset(seconds: float) -> str:
    """Return the time since the start: "9.9 s", "2:05", "1:02:05", or "1 d 2:05" without seconds."""
    if seconds < 60:
        return duration(seconds)
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes}:{rest:02}"
    if hours < 24:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{hours // 24} d {hours % 24}:{minutes:02}"
