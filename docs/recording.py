"""Records `outlast demo` as a moving picture: `python docs/recording.py`.

`demo.txt` beside it is what the demonstration printed; only the numbers of processes and the like are always
the same. The picture is made of that text alone: each line appears at the time that stands in it, though no
wait is longer than three seconds, and the page scrolls like a terminal. It is an SVG with style sheets and no
script, so it moves wherever pictures are shown.
"""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from html import escape
from pathlib import Path

from rich.console import Console

from outlast.cli.demo.stage import perform

FOLDER = Path(__file__).parent
TRANSCRIPT = FOLDER / "demo.txt"
PICTURE = FOLDER / "images" / "demo.svg"

COLUMNS, ROWS = 132, 30
CHARACTER, LINE, MARGIN = 7.2, 17, 14
WAIT_SECONDS_MAX = 3.0
PAUSE_SECONDS = 8.0
"""The time for which the end stays, before the picture begins anew."""

TIME = re.compile(r" *(\d+\.\d\d) s  ")
PROCESS = re.compile(r"(?<=process )(\d+)|[\w.-]+:(\d+):[0-9a-f]{8}")
COLOURS = {
    r"killed \(SIGKILL\)": "bad",
    r"^Proven|^The model answered": "good",
    r"worker 2": "second",
    r"worker 1": "first",
}

STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #d6dde6; white-space: pre }
.bad { fill: #ff8b82; font-weight: bold } .good { fill: #8fe3a0; font-weight: bold }
.first { fill: #8fd3f4 } .second { fill: #b9e59a }
""".strip()
STILL = "@media (prefers-reduced-motion: reduce) { g, text { animation: none !important } }"


def anonymous(text: str, folder: Path) -> str:
    """Return what the demonstration printed, without names and numbers that are others in every run."""
    numbers: dict[str, int] = {}

    def renumbered(found: re.Match[str]) -> str:
        number = numbers.setdefault(found[1] or found[2], 4711 + 100 * len(numbers))
        return str(number) if found[1] else f"host:{number}:{number:08x}"

    text = PROCESS.sub(renumbered, text.replace(str(folder.resolve()), "/tmp/demo"))
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


async def transcript() -> str:
    """Perform the demonstration, and return what it printed."""
    printed = io.StringIO()
    console = Console(file=printed, width=COLUMNS, force_terminal=False)
    with tempfile.TemporaryDirectory() as place:
        await perform(Path(place), console)
        lines = printed.getvalue().split("To look at it:")[0]
        return anonymous(lines, Path(place))


def moments(lines: list[str]) -> list[float]:
    """Return when each line appears, in seconds: at its own time, or else with the line before."""
    now = read = 0.0
    found = []
    for line in lines:
        if time := TIME.match(line):
            now += min(max(float(time[1]) - read, 0.0), WAIT_SECONDS_MAX)
            read = float(time[1])
        found.append(now)
    return found


def recording(text: str) -> str:
    """Return the moving picture of what was printed."""
    lines = ["$ outlast demo", *text.splitlines()]
    times = moments(lines)
    whole = times[-1] + PAUSE_SECONDS
    drawn, frames, scrolls = [], [], {0.0: 0}
    for number, (line, time) in enumerate(zip(lines, times, strict=True)):
        kind = next((kind for pattern, kind in COLOURS.items() if re.search(pattern, line)), "")
        share = 100 * time / whole
        scrolls[share] = max(0, number + 1 - ROWS) * LINE
        name = f"l{number}"
        if share:
            frames.append(f"@keyframes {name} {{ 0% {{ opacity: 0 }} {share:.2f}% {{ opacity: 1 }} }}")
        moving = f' style="animation: {name} {whole:g}s step-end infinite"' if share else ""
        drawn.append(f'<text class="{kind}" y="{MARGIN + LINE * (number + 1)}"{moving}>{escape(line)}</text>')
    steps = " ".join(f"{share:.2f}% {{ transform: translateY(-{up}px) }}" for share, up in scrolls.items())
    end = max(scrolls.values())
    width, height = round(COLUMNS * CHARACTER + 2 * MARGIN), ROWS * LINE + 2 * MARGIN + 6
    styles = "\n".join([STYLE, *frames, f"@keyframes up {{ {steps} }}", STILL])
    scroll = f'style="transform: translateY(-{end}px); animation: up {whole:g}s step-end infinite"'
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    window = f'<rect y="{MARGIN}" width="{width}" height="{height - 2 * MARGIN}"/>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" {size}>',
        "<title>outlast demo: a worker is killed, and another one goes on</title>",
        f"<style>{styles}</style>",
        f'<clipPath id="window">{window}</clipPath>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#16202b"/>',
        f'<g clip-path="url(#window)"><g {scroll}><g transform="translate({MARGIN} 0)">',
        *drawn,
        "</g></g></g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TRANSCRIPT.write_text(asyncio.run(transcript()), encoding="utf-8")
    PICTURE.write_text(recording(TRANSCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
