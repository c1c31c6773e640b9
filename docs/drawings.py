"""Draws the pictures of the concepts and of the machines, as SVG: `python docs/drawings.py`.

Each concept has one picture, made of boxes, arrows and words. A machine is drawn from the table that it
obeys: its phases in a column, its moves as arcs, forward on the right and back on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from outlast.core.agent_run import Phase
from outlast.core.agent_transitions import transitions
from outlast.core.workflow_machine import OPERATIONS, MachinePhase

IMAGES = Path(__file__).parent / "images"

WIDTH = 720
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1c2733; text-anchor: middle; dominant-baseline: central }
.left { text-anchor: start } .small { font-size: 12px; fill: #4a5a6a }
.code { font-family: ui-monospace, monospace }
rect { fill: #eef2f6; stroke: #7a8b9b } .sheet { fill: #ffffff; stroke: #d5dde5 }
.input { fill: #dcebfb; stroke: #4a86c5 } .request { fill: #e3f4e3; stroke: #4f9a57 }
.note { fill: #fdf1d3; stroke: #c09a3a } .lost { fill: #fbe0de; stroke: #c5564d }
path { fill: none; stroke: #4a5a6a; stroke-width: 1.5 }
.dashed { stroke-dasharray: 5 4 } .lost-line { stroke: #c5564d } .head { fill: #4a5a6a; stroke: none }
""".strip()
HEAD = """
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path class="head" d="M0 0 8 4 0 8z"/></marker>
""".strip()


@dataclass
class Sheet:
    """A picture under construction; coordinates are pixels from the top left corner."""

    about: str
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, text: str, kind: str = "", height: float = 34) -> None:
        """Draw a box with a text in the middle of it."""
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'
        )
        if text:
            self.say(x + width / 2, y + height / 2, text)

    def say(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Write a text around a point, or from it with the kind `left`."""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def line(self, path: str, kind: str = "", *, arrow: bool = True) -> None:
        """Draw a line along an SVG path, with a head at its end if it is an arrow."""
        end = ' marker-end="url(#head)"' if arrow else ""
        self.parts.append(f'<path class="{kind}" d="{path}"{end}/>')

    def svg(self) -> str:
        """Return the picture, on a light sheet of its own: pages may be dark."""
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        sheet = f'<rect class="sheet" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8"/>'
        body = "\n".join(
            [f"<title>{escape(self.about)}</title>", f"<style>{STYLE}</style>", HEAD, sheet, *self.parts]
        )
        return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{body}\n</svg>\n'


def execution() -> Sheet:
    """Return the picture of an execution: started by one process, carried on by others."""
    sheet = Sheet("A program starts an execution; one worker after another carries it on", 250)
    sheet.box(20, 95, 150, "your program")
    sheet.say(95, 145, "start(Trip, id=…)", "small code")
    sheet.line("M170 112H258")
    sheet.box(260, 30, 220, "", height=190)
    sheet.say(370, 52, "execution trip-2")
    sheet.say(370, 74, "workflow, arguments, status", "small")
    for number, (text, kind) in enumerate(
        [
            ("input: started", "input"),
            ("request: call the model", "request"),
            ("input: its reply", "input"),
            ("…", ""),
        ]
    ):
        sheet.box(280, 92 + 30 * number, 180, text, kind, 24)
    sheet.say(370, 236, "in the backend: memory, SQLite, Redis or Temporal", "small")
    sheet.box(560, 50, 140, "worker 1, lost", "lost")
    sheet.box(560, 150, 140, "worker 2")
    sheet.line("M560 67H482", "dashed lost-line")
    sheet.line("M560 167H482")
    sheet.say(630, 200, "carries it on", "small")
    return sheet


def journal() -> Sheet:
    """Return the picture of a journal: records of three sorts, an input and its requests in one append."""
    sheet = Sheet("A journal: numbered records of three sorts, written in batches", 190)
    records = [
        ("1", "started", "input"),
        ("2", "book train", "request"),
        ("3", "train booked", "input"),
        ("4", "book hotel", "request"),
        ("5", "worker lost", "note"),
        ("6", "hotel booked", "input"),
        ("7", "end", "request"),
    ]
    for index, (number, text, kind) in enumerate(records):
        sheet.box(16 + 99 * index, 60, 93, text, kind)
        sheet.say(62 + 99 * index, 46, number, "small")
    for first, last in ((0, 1), (2, 3), (4, 4), (5, 6)):
        left, right = 16 + 99 * first, 109 + 99 * last
        sheet.line(f"M{left} 102v8H{right}v-8", arrow=False)
        sheet.say((left + right) / 2, 124, "one append", "small")
    for x, text, kind in (
        (30, "input: came from outside", "input"),
        (260, "request: asked for by code", "request"),
        (500, "note: of the engine", "note"),
    ):
        sheet.box(x, 150, 16, "", kind, 16)
        sheet.say(x + 24, 158, text, "small left")
    return sheet


def replay() -> Sheet:
    """Return the picture of a replay: inputs go to the code, and its requests are compared."""
    sheet = Sheet(
        "A replay: inputs are given to the code again, its requests are compared with the journal", 250
    )
    sheet.say(60, 50, "journal")
    sheet.say(60, 185, "code")
    columns = [
        ("started", "input"),
        ("book train", "request"),
        ("train booked", "input"),
        ("book hotel", "request"),
    ]
    for index, (text, kind) in enumerate(columns):
        x = 120 + 115 * index
        sheet.box(x, 33, 105, text, kind)
        if kind == "input":
            sheet.line(f"M{x + 52} 70V164")
            sheet.say(x + 52, 228, "given again", "small")
        else:
            sheet.line(f"M{x + 52} 164V70", "dashed")
            sheet.say(x + 52, 228, "same? go on", "small")
    for index, text in enumerate(["run()", "book_train()", "…", "book_hotel()"]):
        sheet.box(120 + 115 * index, 168, 105, text)
    sheet.line("M592 20V235", "dashed", arrow=False)
    sheet.say(652, 50, "end of journal", "small")
    sheet.box(604, 168, 100, "live")
    sheet.say(652, 228, "steps begin", "small")
    return sheet


def turn() -> Sheet:
    """Return the picture of a run: turns, each a reply of the model and the calls that it asked for."""
    sheet = Sheet("A run of two turns: a reply with two tool calls, then the answer", 210)
    sheet.box(20, 80, 90, "input")
    sheet.line("M110 97H148")
    sheet.box(150, 80, 110, "model replies", "input")
    sheet.line("M260 90C290 90 280 57 318 57")
    sheet.line("M260 104C290 104 280 137 318 137")
    sheet.box(320, 40, 120, "tool: weather")
    sheet.box(320, 120, 120, "tool: prices")
    sheet.line("M440 57C478 57 462 90 498 90")
    sheet.line("M440 137C478 137 462 104 498 104")
    sheet.box(500, 80, 110, "model replies", "input")
    sheet.line("M610 97H638")
    sheet.box(640, 80, 66, "answer", "request")
    for left, right, text in ((150, 440, "turn 1"), (500, 610, "turn 2")):
        sheet.line(f"M{left} 168v10H{right}v-10", arrow=False)
        sheet.say((left + right) / 2, 192, text)
    sheet.say(
        360,
        20,
        "every model reply and every tool result is in the journal before the next step begins",
        "small",
    )
    return sheet


def step() -> Sheet:
    """Return the picture of a step: attempts, of which one brings the result that is kept."""
    sheet = Sheet("A step: it is scheduled, attempted until an attempt succeeds, and its result is kept", 190)
    sheet.box(20, 60, 130, "step scheduled", "request")
    sheet.line("M150 77H188")
    sheet.box(190, 60, 130, "attempt 1: lost", "lost")
    sheet.line("M320 77H368")
    sheet.box(370, 60, 130, "attempt 2: done")
    sheet.line("M500 77H548")
    sheet.box(550, 60, 150, "step completed", "input")
    sheet.say(85, 40, "in the journal", "small")
    sheet.say(625, 40, "in the journal, for ever", "small")
    sheet.line("M190 112v10H500v-10", arrow=False)
    sheet.say(345, 138, "the same idempotency key: trip-2/run:0/t2/call_id", "small")
    sheet.say(345, 164, "a step in the journal without a result may have run: it is tried again", "small")
    return sheet


def lease() -> Sheet:
    """Return the picture of a lease: it runs out, another worker claims, and the first one is refused."""
    sheet = Sheet("A lease runs out: another worker takes over, and the first one cannot write any more", 240)
    for y, name in ((70, "worker 1"), (160, "worker 2")):
        sheet.say(50, y, name)
        sheet.line(f"M100 {y}H700", arrow=True)
    sheet.box(110, 53, 220, "claim, token 7", "input")
    for x in (160, 220, 280):
        sheet.line(f"M{x} 104V90")
    sheet.say(220, 114, "renews the lease", "small")
    sheet.box(330, 53, 120, "stands still", "lost")
    sheet.line("M450 20V215", "dashed", arrow=False)
    sheet.say(450, 228, "the lease has run out", "small")
    sheet.box(470, 143, 220, "claim, token 8", "input")
    sheet.box(540, 53, 150, "append: refused", "lost")
    sheet.say(615, 36, "token 7 is not the newest", "small")
    return sheet


GAP, BOX = 62, 150


def machine(about: str, phases: Sequence[str], moves: Iterable[tuple[str, str]]) -> Sheet:
    """Return the picture of a machine: an arc for each pair of phases, and a loop for a move that stays."""
    sheet = Sheet(about, 40 + GAP * len(phases))
    top, left = 24, (WIDTH - BOX) // 2
    place = {phase: top + GAP * index for index, phase in enumerate(phases)}
    for before, after in dict.fromkeys(moves):
        start, end = place[before] + 17, place[after] + 17
        if before == after:
            sheet.line(f"M{left} {start - 8}c-34 -6 -34 22 -2 16")
            continue
        side, edge = (1, left + BOX) if end > start else (-1, left)
        bend = edge + side * (24 + 0.52 * abs(end - start))
        sheet.line(
            f"M{edge} {start + side * 5}C{bend:g} {start} {bend:g} {end} {edge + side * 2} {end - side * 5}"
        )
    left_again = {before for before, after in moves if before != after}
    for phase in phases:
        sheet.box(left, place[phase], BOX, phase, "" if phase in left_again else "request")
    return sheet


def agent_machine() -> Sheet:
    """Return the picture of the agent machine."""
    moves = [(before, after) for before, _, _, after in transitions()]
    return machine("The phases of the agent machine, and the moves between them", [*Phase], moves)


def workflow_machine() -> Sheet:
    """Return the picture of the workflow machine."""
    moves = [
        (before, after)
        for before, operations in OPERATIONS.items()
        for afters in operations.values()
        for after in sorted(afters)
    ]
    return machine("The phases of the workflow machine, and the moves between them", [*MachinePhase], moves)


PICTURES: Sequence[Callable[[], Sheet]] = (
    execution,
    journal,
    replay,
    turn,
    step,
    lease,
    agent_machine,
    workflow_machine,
)


def drawings() -> Mapping[str, str]:
    """Return every picture by the name of its file."""
    return {f"{draw.__name__.replace('_', '-')}.svg": draw().svg() for draw in PICTURES}


if __name__ == "__main__":
    for name, drawing in drawings().items():
        (IMAGES / name).write_text(drawing, encoding="utf-8")
