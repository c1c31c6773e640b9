"""The timeline of an execution as text: lanes of bars, in bands as wide as the terminal, like a score.

The axis is not true to time, since a wait of days would leave no room for anything else: the wider a gap is,
the longer it took, and the line above a band says when its bars began. An execution that fits into one band
fills its width; a longer one goes on in the next band. A bar that is not over at the end of a band goes on
below. The hatched part across the lanes is the time between the last record of a worker that was lost and
the first one of the worker that took over.

Kinds differ by their characters, not by colour alone. Where the terminal's encoding cannot show these
characters, ASCII takes their place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from outlast.cli.rendering.text import duration, printable
from outlast.cli.rendering.time_axis import GAP, Axis, times
from outlast.core.timeline import WAITS, Bar, BarKind, BarState, LaneOfBars, Sums, Timeline

WIDTH = 100
"""The cells of a line where the output is not a terminal."""
WIDTH_MIN = 60
WIDTH_MAX = 200
LABEL_MIN, LABEL_MAX = 6, 20
"""The cells that the name of a lane may take at least, and at most."""
NAME_MIN = 3
"""The cells that a name needs at least to be written into a bar."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a timeline: each takes one cell."""

    model: str = "┝━"
    work: str = "╞═"
    approval: str = "├╍"
    timer: str = "├┄"
    void: str = "├·"
    attempt: str = "╎"
    failed: str = "✗"
    open: str = "▸"
    lost: str = "▒"
    mark: str = "▴"
    cut: str = "…"

    @property
    def all(self) -> str:
        """All of them."""
        fills = self.model + self.work + self.approval + self.timer + self.void
        return fills + self.attempt + self.failed + self.open + self.lost + self.mark + self.cut

    def of(self, bar: Bar) -> str:
        """Return the first cell of a bar, and the cell that fills the rest."""
        if bar.is_void:
            return self.void
        match bar.kind:
            case BarKind.MODEL | BarKind.SUMMARY:
                return self.model
            case BarKind.APPROVAL:
                return self.approval
            case BarKind.TIMER:
                return self.timer
            case _:
                return self.work


BOXES = Glyphs()
ASCII = Glyphs("|=", "|#", "|?", "|.", "|~", "'", "!", ">", "X", "^", "~")

_STYLES = {
    BarKind.MODEL: "cyan",
    BarKind.SUMMARY: "cyan",
    BarKind.APPROVAL: "yellow",
    BarKind.TIMER: "blue",
}


def glyphs_for(encoding: str) -> Glyphs:
    """Return the characters that a terminal with this encoding can show."""
    try:
        BOXES.all.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BOXES


Placed = tuple[Bar, int, int]
"""A bar with its first cell, and the one after its last."""


@dataclass(slots=True)
class TimelineText:
    """Draws timelines for a terminal of `width` cells."""

    width: int
    encoding: str = "utf-8"
    glyphs: Glyphs = field(init=False)

    def __post_init__(self) -> None:
        self.width = max(self.width, WIDTH_MIN)
        self.glyphs = glyphs_for(self.encoding)

    def lines(
        self, timeline: Timeline, now: datetime | None = None, *, height: int | None = None
    ) -> list[Text]:
        """Return the timeline; `now` is the end of what is open. With a height, early bands are left out."""
        lanes = timeline.lanes()
        if not lanes:
            return []
        figures = _figures(timeline, lanes, now)
        room_for_names = self.width - sum(
            len(GAP) + max(map(len, column)) for column in zip(*figures, strict=True)
        )
        names = [self._cut(lane.name, min(max(room_for_names, LABEL_MIN), LABEL_MAX)) for lane in lanes]
        margin = max(map(cell_len, [*names, "void"]))
        below = [
            *self._legend(timeline),
            *self._crashes(timeline),
            *_table(["", *names, "all", "void"], figures, margin),
        ]
        score = self._score(timeline, lanes, names, margin, now)
        bands: list[list[Text]] = []
        room = None if height is None else height - len(below)
        for start in reversed(range(0, score.axis.length, score.axis.width)):
            band = list(self._band(score, start))
            if bands and room is not None and sum(map(len, bands)) + len(band) > room:
                break
            bands.append(band)
        return [line for band in reversed(bands) for line in band] + below

    def _score(
        self,
        timeline: Timeline,
        lanes: Sequence[LaneOfBars],
        names: Sequence[str],
        margin: int,
        now: datetime | None,
    ) -> Score:
        axis = Axis.of(timeline, self.width - margin - len(GAP), now)
        return Score(
            axis,
            margin,
            tuple(
                (name, tuple(tuple((bar, *axis.cells_of(bar)) for bar in row) for row in lane.rows))
                for lane, name in zip(lanes, names, strict=True)
            ),
            frozenset(cell for crash in timeline.crashes for cell in range(*axis.cells_of_crash(crash))),
            sorted({axis.cell(mark.moment.position) for mark in timeline.marks}),
        )

    def _band(self, score: Score, start: int) -> Iterator[Text]:
        """Yield the lines of the part of the axis that begins with the cell `start`."""
        axis, lost = score.axis, score.lost
        end = min(start + axis.width, axis.length)
        indent = " " * (score.margin + len(GAP))
        yield Text((indent + times(axis, start, end)).rstrip(), style="dim")
        for name, rows in score.lanes:
            label = name
            for row in rows:
                line, cell = Text(_padded(label, score.margin) + GAP), start
                for bar, from_, to in _seen(row, start, end):
                    line.append_text(self._empty(range(cell, max(from_, cell)), lost))
                    line.append_text(self._bar(score, (bar, from_, to), (max(from_, start), min(to, end))))
                    cell = min(to, end)
                if cell > start:
                    line.append_text(self._empty(range(cell, end), lost))
                    line.rstrip()
                    yield line
                    label = ""
        marks = score.marks[bisect_left(score.marks, start) : bisect_left(score.marks, end)]
        if marks:
            cells = "".join(
                self.glyphs.mark if cell in marks else " " for cell in range(start, marks[-1] + 1)
            )
            yield Text(indent + cells, style="magenta")

    def _empty(self, cells: Iterable[int], lost: frozenset[int]) -> Text:
        text = Text()
        for cell in cells:
            glyph, style = (self.glyphs.lost, "bold red") if cell in lost else (" ", "")
            text.append(glyph, style)
        return text

    def _bar(self, score: Score, placed: Placed, seen: tuple[int, int]) -> Text:
        """Return the part of a bar that is seen: its name stands where nothing else is to be shown."""
        bar, from_, to = placed
        glyphs = self.glyphs.of(bar)
        style = "dim" if bar.is_void else _STYLES.get(bar.kind, "green")
        cells = [(glyphs[cell != from_], style) for cell in range(*seen)]
        shown: dict[int, tuple[str, str]] = {}
        if seen[1] == to and bar.state is BarState.FAILED:
            shown[to - 1] = self.glyphs.failed, "bold red"
        elif seen[1] == to and bar.state is BarState.OPEN:
            shown[to - 1] = self.glyphs.open, style
        if bar.kind not in WAITS:
            shown |= dict.fromkeys(score.lost.intersection(range(*seen)), (self.glyphs.lost, "bold red"))
        for attempt in bar.failed_attempts:
            if seen[0] <= (cell := score.axis.cell(attempt.moment.position)) < seen[1]:
                shown[cell] = self.glyphs.attempt, "bold red"
        for cell, glyph in shown.items():
            cells[cell - seen[0]] = glyph
        free = _longest_free(len(cells), {0, *(cell - seen[0] for cell in shown)})
        name = self._name(bar, len(free))
        text = Text()
        for glyph in cells[: free.start]:
            text.append(*glyph)
        text.append(name, style if bar.is_void else f"bold {style}")
        for glyph in cells[free.start + cell_len(name) :]:
            text.append(*glyph)
        return text

    def _name(self, bar: Bar, cells: int) -> str:
        """Return the name of a bar, cut to so many cells; of a turn, at least the number."""
        if cell_len(bar.name) > cells and bar.kind is BarKind.MODEL:
            number = bar.name.removeprefix("turn ")
            return number if len(number) <= cells else ""
        return self._cut(bar.name, cells) if cells >= NAME_MIN else ""

    def _legend(self, timeline: Timeline) -> Iterator[Text]:
        """Yield the meanings of the characters that are there."""
        glyphs = self.glyphs
        kinds = {glyphs.of(bar) for bar in timeline.bars}
        states = {bar.state for bar in timeline.bars}
        meanings = [
            (glyphs.model[1] * 2, "model", glyphs.model in kinds),
            (glyphs.work[1] * 2, "tool", glyphs.work in kinds),
            (glyphs.approval[1] * 2, "approval", glyphs.approval in kinds),
            (glyphs.timer[1] * 2, "timer", glyphs.timer in kinds),
            (glyphs.void[1] * 2, "void", glyphs.void in kinds),
            (glyphs.attempt, "attempt failed", any(bar.failed_attempts for bar in timeline.bars)),
            (glyphs.failed, "failed", BarState.FAILED in states),
            (glyphs.open, "open", BarState.OPEN in states),
            (glyphs.lost, "worker lost", bool(timeline.crashes)),
            (glyphs.mark, "other events", bool(timeline.marks)),
        ]
        parts = [f"{glyph} {meaning}" for glyph, meaning, is_there in meanings if is_there]
        for line in _filled(parts, GAP, self.width):
            yield Text(line, style="dim")

    def _crashes(self, timeline: Timeline) -> Iterator[Text]:
        """Yield for each worker that was lost what is known of it."""
        for crash in timeline.crashes:
            gap = duration((crash.moment.at - crash.before.at).total_seconds())
            lost = "a worker" if crash.lost is None else f"worker {crash.lost}"
            parts = [f"{self.glyphs.lost} {lost} was lost", f"nothing was written for {gap}"]
            if crash.successor is not None:
                parts.append(f"{crash.successor} took over")
            parts.append(f"{crash.kept} step{'' if crash.kept == 1 else 's'} not repeated")
            if crash.under_way:
                parts.append(f"under way: {', '.join(bar.name for bar in crash.under_way)}")
            for line in _filled([self._cut(part, self.width - 4) for part in parts], "; ", self.width):
                yield Text(line, style="red")

    def _cut(self, text: str, cells: int) -> str:
        """Return text on one line, in at most so many cells, as far as the terminal can show it."""
        shown = printable(text).encode(self.encoding, "replace").decode(self.encoding)
        line = " ".join(shown.split())
        if cell_len(line) <= cells:
            return line
        return f"{set_cell_size(line, cells - 1).rstrip()}{self.glyphs.cut}" if cells > 1 else ""


@dataclass(frozen=True, slots=True)
class Score:
    """A timeline whose bars have their cells."""

    axis: Axis
    margin: int
    """The cells of the names of lanes, before the axis."""
    lanes: tuple[tuple[str, tuple[tuple[Placed, ...], ...]], ...]
    """The rows of bars of each lane, with its name."""
    lost: frozenset[int]
    """The cells of the times in which a worker was lost."""
    marks: Sequence[int]
    """The cells of marks, in order."""


def _seen(row: Sequence[Placed], start: int, end: int) -> Iterator[Placed]:
    """Yield the bars of a row that have a cell from `start` on, before `end`."""
    for index in range(bisect_right(row, start, key=lambda placed: placed[2]), len(row)):
        if row[index][1] >= end:
            return
        yield row[index]


def _filled(parts: Sequence[str], between: str, width: int) -> Iterator[str]:
    """Yield parts in lines of at most so many cells; further lines are indented."""
    line, end = "", between.rstrip()
    for part in parts:
        if line and cell_len(line) + len(between) + cell_len(part) + len(end) > width:
            yield line + end
            line = GAP + part
        else:
            line = f"{line}{between}{part}" if line else part
    yield line


def _figures(timeline: Timeline, lanes: Sequence[LaneOfBars], now: datetime | None) -> list[tuple[str, ...]]:
    """Return the figures of each lane, of all, and of what is void, after the titles."""
    sums = [*(timeline.sums(lane.bars, now) for lane in lanes), timeline.sums(now=now)]
    void = Sums(usage=timeline.void_usage)
    rows = [("turns", "tokens", "cost", "models", "tools", "waits"), *map(_figures_of, [*sums, void])]
    if any(row[2] for row in rows[1:]):
        return rows
    return [(*row[:2], *row[3:]) for row in rows]


def _figures_of(sums: Sums) -> tuple[str, ...]:
    times = (sums.model_seconds, sums.tool_seconds, sums.wait_seconds)
    return (
        f"{sums.turns:,}" if sums.turns else "",
        f"{sums.usage.total_tokens:,}" if sums.usage.total_tokens else "",
        sums.usage.cost_in_words,
        *(duration(seconds) if seconds else "" for seconds in times),
    )


def _table(names: Sequence[str], figures: Sequence[tuple[str, ...]], margin: int) -> Iterator[Text]:
    """Yield the figures in columns; the line of all is left out if there is one lane, empty lines always."""
    widths = [max(map(len, column)) for column in zip(*figures, strict=True)]
    for number, (name, row) in enumerate(zip(names, figures, strict=True)):
        if (name == "all" and len(names) == 4) or not any(row):
            continue
        cells = [f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)]
        line = GAP.join([_padded(name, margin), *cells])
        yield Text(line.rstrip(), style="dim" if number == 0 else "")


def _longest_free(length: int, taken: set[int]) -> range:
    """Return the longest run of cells that are not taken, the first one of the longest."""
    edges = sorted(taken | {length})
    runs = [range(before + 1, after) for before, after in pairwise(edges)]
    return max(runs, key=len, default=range(0))


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))
