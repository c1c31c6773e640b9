"""Tables for people, a row for each thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from outlast.cli.rendering.console import GAP, table_with
from outlast.cli.rendering.properties import status_of, tags_text, took
from outlast.cli.rendering.sentences import AGENT_LENGTH
from outlast.cli.rendering.text import local_minute, local_time, printable, printable_lines, shortened
from outlast.cli.rendering.waits import wait_line
from outlast.core.approvals import PendingApproval
from outlast.core.json import encode
from outlast.core.questions import PendingQuestion
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription

TAGS_LENGTH = 40

WAITS = "waits for, or error"
WAITS_WIDTH = 30
"""The room that is kept for the column of waits and errors, which is folded there, before others get any."""
LEFT_OUT = ("took", "turns", "agent", "tokens", "cost", "tags")
"""The columns that a list leaves out if they are empty or there is no room; the first of them goes first."""


def approvals_table(waiting: Sequence[tuple[str, PendingApproval]], *, of_one: bool) -> Table:
    """Return calls that wait for a decision; arguments are shown whole.

    The column of their executions is left out if all are `of_one`. An id of a call that several calls of an
    execution have is replaced by the key of the call.
    """
    titles = ("call", "agent", "tool", "arguments")
    table = table_with(*(titles if of_one else ("execution", *titles)), folds="arguments")
    ids = [(execution, approval.call_id) for execution, approval in waiting]
    for execution, approval in waiting:
        name = approval.call_id if ids.count((execution, approval.call_id)) == 1 else approval.key
        shown = (name, approval.agent, approval.tool, encode(approval.arguments).decode())
        cells = shown if of_one else (execution, *shown)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def questions_table(waiting: Sequence[tuple[str, PendingQuestion]], *, of_one: bool) -> Table:
    """Return questions that wait for an answer, with its schema; as `approvals_table` for calls."""
    titles = ("question", "to", "asked", "answer")
    table = table_with(*(titles if of_one else ("execution", *titles)), folds="asked")
    for execution, one in waiting:
        shown = (one.key, one.to or "", one.question, encode(one.answer_schema).decode())
        cells = shown if of_one else (execution, *shown)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def executions_table(
    executions: Iterable[ExecutionDescription], *, full: bool = False, width: int | None = None
) -> Table:
    """Return executions; columns of `LEFT_OUT` are there if something is in them, and if `width` has room.

    With `full`, nothing is shortened, and nothing is left out for want of room.
    """
    rows = [_cells(one, full) for one in executions]
    titles = [title for title in rows[0] if title not in LEFT_OUT or any(row[title].plain for row in rows)]
    for title in LEFT_OUT:
        if full or width is None or _width(rows, titles) <= width:
            break
        titles = [one for one in titles if one != title]
    table = table_with(*titles, folds=WAITS, numbers=("turns", "tokens", "cost"))
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    return table


def _cells(execution: ExecutionDescription, full: bool) -> dict[str, Text]:
    tokens = 0 if execution.usage is None else execution.usage.total_tokens
    return {
        "id": Text(printable(execution.id)),
        "workflow": Text(printable(execution.workflow)),
        "status": status_of(execution),
        "started": Text((local_time if full else local_minute)(execution.created_at)),
        "took": Text(took(execution)),
        "agent": Text(shortened(execution.agent or "", None if full else AGENT_LENGTH)),
        "turns": Text(f"{execution.turns:,}" if execution.turns else ""),
        "tokens": Text(f"{tokens:,}" if tokens else ""),
        "cost": Text("" if execution.usage is None else execution.usage.cost_in_words),
        "tags": Text(shortened(tags_text(execution.tags), None if full else TAGS_LENGTH)),
        WAITS: Text(_waits_or_error(execution, full)),
    }


def _waits_or_error(execution: ExecutionDescription, full: bool) -> str:
    if execution.error:
        return printable_lines(execution.error) if full else shortened(execution.error)
    lines = [wait_line(wait, datetime.now(UTC), in_list=not full) for wait in execution.waiting_for]
    if full or not lines:
        return "\n".join(lines)
    others = len(lines) - 1
    return shortened(lines[0]) + (f" and {others} more" if others else "")


def _width(rows: Sequence[dict[str, Text]], titles: Sequence[str]) -> int:
    """Return the width that these columns need."""
    widths = {
        title: max(cell_len(text) for text in (title, *(row[title].plain for row in rows)))
        for title in titles
    }
    widths[WAITS] = min(widths[WAITS], WAITS_WIDTH)
    return sum(widths.values()) + GAP * (len(titles) - 1)


def workers_table(workers: Iterable[WorkerDescription], *, full: bool = False) -> Table:
    """Return workers."""
    table = table_with("worker", "task queue", "started", "workflows", "executions", folds="executions")
    for worker in workers:
        table.add_row(
            Text(printable(worker.identity)),
            Text(printable(worker.task_queue)),
            local_time(worker.started_at),
            Text(shortened(", ".join(worker.workflows), None if full else 90)),
            Text(_counted(worker.executions, None if full else 60)),
        )
    return table


def _counted(ids: Sequence[str], length: int | None) -> str:
    """Return the number of ids, and the first ones."""
    named = shortened(", ".join(ids), length)
    return f"{len(ids)}: {named}" if ids else "0"
