"""The reading methods of the port. Each is a single SQL statement, so it sees the file at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from outlast.core.json import decode
from outlast.core.records import Status
from outlast.ports.journal import Delivery, Head, Message, PresentWorker, WorkerCard

# One query for each pair (filter by workflow, filter by status). Each reads an index from its end.
_NEWEST = {
    (False, False): """
        SELECT * FROM head
        ORDER BY created_at DESC, key DESC LIMIT :limit
        """,
    (True, False): """
        SELECT * FROM head WHERE workflow = :workflow
        ORDER BY created_at DESC, key DESC LIMIT :limit
        """,
    (False, True): """
        SELECT * FROM head WHERE status = :status
        ORDER BY created_at DESC, key DESC LIMIT :limit
        """,
    (True, True): """
        SELECT * FROM head WHERE workflow = :workflow AND status = :status
        ORDER BY created_at DESC, key DESC LIMIT :limit
        """,
}


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
        "SELECT length > ? OR status <> ? FROM execution WHERE id = ?", (length, Status.RUNNING, execution_id)
    ).fetchone()
    return row is not None and bool(row[0])


def messages(
    connection: sqlite3.Connection, execution_id: str, after: int, limit: int | None
) -> Sequence[Delivery]:
    rows = connection.execute(
        """
        SELECT number, id, body FROM message
        WHERE execution = (SELECT key FROM execution WHERE id = ?) AND number > ?
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


def head(connection: sqlite3.Connection, execution_id: str) -> Head | None:
    row = connection.execute("SELECT * FROM head WHERE id = ?", (execution_id,)).fetchone()
    return None if row is None else _head(row)


def heads(
    connection: sqlite3.Connection, workflow: str | None, status: Status | None, limit: int
) -> Sequence[Head]:
    rows = connection.execute(
        _NEWEST[workflow is not None, status is not None],
        {"workflow": workflow, "status": status, "limit": limit},
    )
    return [_head(row) for row in rows.fetchall()]


def _head(row: tuple[Any, ...]) -> Head:
    _, id, workflow, fingerprint, task_queue, status, length, created_at, ended_at, reason, owner, *rest = row
    fruitless, held = rest
    return Head(
        id=id,
        workflow=workflow,
        fingerprint=fingerprint,
        task_queue=task_queue,
        status=Status(status),
        length=length,
        created_at=created_at,
        ended_at=ended_at,
        reason=reason,
        owner=owner,
        fruitless=fruitless,
        held=bool(held),
    )
