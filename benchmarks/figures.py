"""Figures: what a benchmark has measured, one row of the table each, and how they are printed and kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: some samples of one thing that was measured."""

    group: str
    """The part of the table that it belongs to."""
    name: str
    unit: str
    samples: tuple[float, ...]
    """In the order in which they were taken; empty if it could not be measured."""
    kind: str = "ours"
    """`ours`, `floor` or `peer`."""
    note: str = ""
    floor: str | None = None
    """The name of the figure of the same group that this one is divided by in the last column."""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def quantile(self, share: float) -> float:
        """Return the sample that this share of all samples do not exceed."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def print_table(figures: Sequence[Figure]) -> None:
    """Print all figures as one table."""
    table = Table(title="Benchmarks", title_justify="left")
    for column in ("what", "kind", "median", "min to max", "p99", "", "ratio", "note"):
        table.add_column(
            column, justify="right" if column in ("median", "min to max", "p99", "ratio") else "left"
        )
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(*cells(figure, figures))
    Console(width=150).print(table)


def cells(figure: Figure, figures: Sequence[Figure]) -> list[str]:
    """Return the texts of a row: name, kind, median, spread, p99, unit, ratio to the floor, note."""
    if not figure.samples:
        return [figure.name, figure.kind, "-", "-", "", figure.unit, "-", figure.note]
    spread = f"{_short(min(figure.samples))} to {_short(max(figure.samples))}"
    p99 = _short(figure.quantile(0.99)) if len(figure.samples) >= 20 else ""
    ratio = ratio_of(figure, figures)
    return [
        figure.name,
        figure.kind,
        _short(figure.median),
        spread,
        p99,
        figure.unit,
        "" if ratio is None else f"{ratio:.2f}",
        figure.note,
    ]


def ratio_of(figure: Figure, figures: Sequence[Figure]) -> float | None:
    """Return the figure divided by its floor, if both were measured."""
    for other in figures:
        if other.group == figure.group and other.name == figure.floor and other.samples and figure.samples:
            return figure.median / other.median
    return None


def machine() -> dict[str, Any]:
    """Return where and when this runs: what a reader must know to compare."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} on {platform.machine()}",
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "outlast": version("outlast"),
        "load": [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def write_json(path: Path, figures: Sequence[Figure], facts: dict[str, Any]) -> None:
    """Keep all samples, and where they were taken."""
    data = {"machine": facts, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> tuple[list[Figure], dict[str, Any]]:
    """Return what `write_json` has kept."""
    data = json.loads(path.read_text())
    figures = [Figure(**{**one, "samples": tuple(one["samples"])}) for one in data["figures"]]
    return figures, data["machine"]


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.2f}" if number >= 1 else f"{number:.3f}"
