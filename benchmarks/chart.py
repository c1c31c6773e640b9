"""The chart and the page of the docs, drawn from the figures that a run has kept as JSON.

`python -m benchmarks.chart FIGURES.json` draws `docs/images/benchmarks.svg` and the table in
`docs/explanation/benchmarks.md`, between its two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import floor, log10
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, cells, read_json

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

LEFT, BAR, ROW, HEADING, TOP = 200, 440, 22, 34, 44
COLUMNS = (
    ("what", "---"),
    ("kind", "---"),
    ("median", "---:"),
    ("min to max", "---:"),
    ("p99", "---:"),
    ("unit", "---"),
    ("ratio", "---:"),
    ("note", "---"),
)
COLOURS = {"ours": "#e8590c", "floor": "#adb5bd", "peer": "#4c6ef5"}


def chart(figures: Sequence[Figure], facts: dict[str, Any]) -> str:
    """Return an SVG of the groups that have peers: their figures as bars, on one scale of powers of ten."""
    compared = {figure.group for figure in figures if figure.kind == "peer"}
    shown = [figure for figure in figures if figure.group in compared and figure.samples]
    low = 10 ** floor(log10(min(min(figure.samples) for figure in shown)))
    high = max(max(figure.samples) for figure in shown)

    def x(value: float) -> float:
        return LEFT + BAR * (log10(value) - log10(low)) / (log10(high) - log10(low))

    parts, y, group = [], TOP, ""
    for figure in shown:
        if figure.group != group:
            group = figure.group
            parts.append(f'<text x="{LEFT}" y="{y + 24}" font-weight="600">{escape(group)}</text>')
            y += HEADING
        width = x(figure.median) - LEFT
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(figure.name)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="2" '
            f'fill="{COLOURS[figure.kind]}"/>',
            f'<line x1="{x(min(figure.samples)):.1f}" x2="{x(max(figure.samples)):.1f}" '
            f'y1="{y + 10.5}" y2="{y + 10.5}" stroke="#212529"/>',
            f'<text x="{x(max(figure.samples)) + 6:.1f}" y="{y + 15}">{figure.median:.2f}</text>',
        ]
        y += ROW
    for number, (kind, colour) in enumerate(COLOURS.items()):
        at = LEFT + 90 * number
        parts += [
            f'<rect x="{at}" y="{y + 12}" width="12" height="12" fill="{colour}"/>',
            f'<text x="{at + 18}" y="{y + 22}">{kind}</text>',
        ]
    width, height = LEFT + BAR + 90, y + 36
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="12" y="22" font-size="15" font-weight="600">Milliseconds per turn, less is better</text>',
        f'<text x="12" y="40" fill="#666" font-size="11">{escape(where(facts))}; '
        "logarithmic; the line is from the fastest to the slowest round</text>",
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


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
    for group, members in groupby(figures, key=lambda figure: figure.group):
        rows = [cells(figure, figures) for figure in members]
        # A column that says nothing about this group is left out.
        columns = [number for number in range(len(COLUMNS)) if any(row[number] for row in rows)]
        lines += ["", f"### {group}", ""]
        for row in ([name for name, _ in COLUMNS], [line for _, line in COLUMNS], *rows):
            lines.append("| " + " | ".join(row[number] for number in columns) + " |")
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
