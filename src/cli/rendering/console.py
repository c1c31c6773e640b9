"""The console and the form of the tables that people see."""

from __future__ import annotations

import sys
from typing import Literal

from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

PLAIN_WIDTH = 200
"""The width of a table when the output is not a terminal."""

WIDTH_MAX = 100_000
FOLDED_WIDTH_MIN = 20
GAP = 2
"""The blanks between two columns."""


def console() -> Console:
    """Return a console on standard output: plain, and wide enough for any table, unless it is a terminal."""
    is_terminal = sys.stdout.isatty()
    return Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if is_terminal else PLAIN_WIDTH
    )


def room() -> int | None:
    """Return the width of the terminal; None if standard output is not one."""
    return console().width if sys.stdout.isatty() else None


def print_table(table: Table) -> None:
    """Print a table on standard output.

    A terminal that is too narrow for the columns that keep their width wraps the lines itself: an id that is
    cut or folded is of no use. Where the output is not a terminal, a row is a line without blanks at its end.
    """
    out = console()
    is_terminal = sys.stdout.isatty()
    width = _width_min(out, table, folded=FOLDED_WIDTH_MIN if is_terminal else WIDTH_MAX)
    if width > out.width:
        table.width = width
    if is_terminal:
        out.print(table)
        return
    with out.capture() as printed:
        out.print(table)
    for line in printed.get().splitlines():
        out.print(line.rstrip())


def _width_min(out: Console, table: Table, *, folded: int) -> int:
    """Return the width that a table needs, where a column that is folded needs no more than `folded`."""
    width = 0
    for column in table.columns:
        measured = measure_renderables(
            out, out.options.update(max_width=WIDTH_MAX), [column.header, *column.cells]
        )
        width += GAP + (measured.maximum if column.no_wrap else min(folded, measured.maximum))
    return width


def table_with(*titles: str, folds: str | None = None, numbers: tuple[str, ...] = ()) -> Table:
    """Return a table with these columns; `folds` names one that is folded; the others keep their width."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        side: Literal["left", "right"] = "right" if title in numbers else "left"
        table.add_column(title, no_wrap=title != folds, overflow="fold", justify=side)
    return table
