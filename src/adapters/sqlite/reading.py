"""The reading methods of the port. Each is a single SQL statement, so it sees the file at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby

from outlast.core.json import decode
from outlast.ports.journal import Delivery, Message, PresentWorker, WorkerCard

_EVERY = -1
"""The limit with which SQLite returns every row."""


def records(
    connection: sqlite3.Connection, execution_id: str, after: int, limit: int | None
) -> Sequence[bytes]:
    rows = connection.execute(
        """
        SELECT body FROM record
        WHERE execution = (SELECT key FROM execution WHERE id = ?) AND position >= ?
        ORDER BY position LIMIT ?
        """,
        (execution_id, after, _EVERY if limit is None else limit),
    )
    return [body for (body,) in rows.fetchall()]


def goes_beyond(connection: sqlite3.Connection, execution_id: str, length: int) -> bool:
    """Return whether the execution has more than `length` records or has ended; False for an unknown id."""
    row = connection.execute(
        "SELECT length > ? OR ended_at IS NOT NULL FROM execution WHERE id = ?", (length, execution_id)
    ).fetchone()
    return row is not None and bool(row[0])


def messages(
    connection: sqlite3.Connection, execution_id: str, after: int, limit: int | None
) -> Sequence[Delivery]:
    rows = connection.execute(
        """
        SELECT number, message.id, body FROM message JOIN execution ON execution.key = message.execution
        WHERE execution.id = ? AND number > max(?, consumed)
        ORDER BY number LIMIT ?
        """,
        (execution_id, after, _EVERY if limit is None else limit),
    )
    return [Delivery(number, Message(id, body)) for number, id, body in rows.fetchall()]


def version(connection: sqlite3.Connection) -> int:
    """Return the number that grows with each change of the claimable work."""
    (number,) = connection.execute("SELECT version FROM counter").fetchone()
    return int(number)


def workers(connection: sqlite3.Connection, now: float) -> Sequence[PresentWorker]:
    """Return the workers that are alive at `now`."""
    rows = connection.execute(
        """
        SELECT worker.identity, worker.workflows, worker.task_queue, worker.started_at, execution.id
        FROM worker LEFT JOIN execution ON execution.owner = worker.identity
        WHERE worker.alive_until > ?
        ORDER BY worker.started_at, worker.identity, execution.id
        """,
        (now,),
    ).fetchall()
    return [
        PresentWorker(_card(*columns), tuple(id for *_, id in group if id is not None))
        for columns, group in groupby(rows, key=lambda row: row[:4])
    ]


def _card(identity: str, workflows: str, task_queue: str, started_at: float) -> WorkerCard:
    return WorkerCard(identity, tuple(decode(workflows.encode())), task_queue, started_at)
