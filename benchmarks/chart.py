"""The chart and the page of the docs, drawn from the figures that a run has kept as JSON.

`python -m benchmarks.chart FIGURES.json` draws `docs/images/benchmarks.svg` and the table in
`docs/explanation/benchmarks.md`, between its two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, cells, read_json

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

LEFT, BAR, ROW, TOP = 260, 380, 22, 52
COLOURS = {"ours": "#e8590c", "floor": "#adb5bd", "peer": "#4c6ef5"}


def chart(figures: Sequence[Figure], facts: dict[str, Any]) -> str:
    """Return an SVG with the figures of the comparison as bars, on a scale of powers of ten."""
    shown = [figure for figure in figures if figure.group.startswith("One turn") and figure.samples]
    low = 10 ** int(log10(min(min(figure.samples) for figure in shown)) - 1)
    high = max(max(figure.samples) for figure in shown)
    height = TOP + ROW * len(shown) + 34

    def x(value: float) -> float:
        return LEFT + BAR * (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + BAR + 90}" height="{height}" '
        f'viewBox="0 0 {LEFT + BAR + 90} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="12" y="22" font-size="15" font-weight="600">'
        f"{escape(shown[0].group)}: milliseconds per turn, less is better</text>",
        f'<text x="12" y="40" fill="#666" font-size="11">{escape(where(facts))}; '
        "logarithmic; the line is from the fastest to the slowest round</text>",
    ]
    for number, figure in enumerate(shown):
        y = TOP + ROW * number
        width = x(figure.median) - LEFT
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(figure.name)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="2" '
            f'fill="{COLOURS[figure.kind]}"/>',
            f'<line x1="{x(min(figure.samples)):.1f}" x2="{x(max(figure.samples)):.1f}" '
            f'y1="{y + 10.5}" y2="{y + 10.5}" stroke="#212529"/>',
            f'<text x="{x(max(figure.samples)) + 6:.1f}" y="{y + 15}">{figure.median:.2f}</text>',
        ]
    for number, (kind, colour) in enumerate(COLOURS.items()):
        at = LEFT + 90 * number
        parts += [
            f'<rect x="{at}" y="{height - 24}" width="12" height="12" fill="{colour}"/>',
            f'<text x="{at + 18}" y="{height - 14}">{kind}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def where(facts: dict[str, Any]) -> str:
    """Return in a line when and where the figures were taken."""
    load = f", load {facts['load'][0]}" if facts.get("load") else ""
    return f"{facts['date']}, {facts['processors']} processors, Python {facts['python']}{load}"


def markdown(figures: Sequence[Figure], facts: dict[str, Any]) -> str:
    """Return the table as Markdown, with the facts about its run above."""
    lines = [
        "![Milliseconds per turn: ours, floors and peers](../images/benchmarks.svg)",
        "",
        f"Outlast {facts['outlast']}, Python {facts['python']}, {facts['system']}, "
        f"{facts['processors']} processors, {facts['memory_gib']} GiB, {facts['date']}. "
        "Load of the machine when the run began: "
        f"{', '.join(map(str, facts['load'])) or 'not known'}.",
    ]
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines += [
                "",
                f"### {group}",
                "",
                "| what | kind | median | min to max | p99 | unit | ratio | note |",
                "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
            ]
        lines.append("| " + " | ".join(cells(figure, figures)) + " |")
    return "\n".join(lines)


def main(path: Path) -> None:
    figures, facts = read_json(path)
    (DOCS / "images" / "benchmarks.svg").write_text(chart(figures, facts))
    page = DOCS / "explanation" / "benchmarks.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{markdown(figures, facts)}\n\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
