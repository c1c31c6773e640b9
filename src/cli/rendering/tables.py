"""Tables for people, a row for each thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from outlast.cli.rendering.console import table_with
from outlast.cli.rendering.properties import status_of, tags_text, took
from outlast.cli.rendering.text import local_time, printable, printable_lines, shortened
from outlast.core.approvals import PendingApproval
from outlast.core.json import encode
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription

TAGS_LENGTH = 40


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


def executions_table(executions: Iterable[ExecutionDescription], *, full: bool = False) -> Table:
    """Return executions; the column of tags is left out if none has any."""
    shown = list(executions)
    tags = ("tags",) if any(execution.tags for execution in shown) else ()
    table = table_with("id", "workflow", "status", "started", "took", *tags, "error", folds="error")
    for execution in shown:
        error = execution.error or ""
        tagged = [Text(shortened(tags_text(execution.tags), None if full else TAGS_LENGTH))] if tags else []
        table.add_row(
            Text(printable(execution.id)),
            Text(printable(execution.workflow)),
            status_of(execution),
            local_time(execution.created_at),
            took(execution),
            *tagged,
            Text(printable_lines(error) if full else shortened(error)),
        )
    return table


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
