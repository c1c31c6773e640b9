"""Heads, and the queries that find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from outlast.core.json import decode, encode
from outlast.core.records import Status
from outlast.ports.finding import Cursor, Where
from outlast.ports.journal import Head, is_id

_HEADS = """
SELECT id, workflow, fingerprint, task_queue, status, length, created_at, ended_at, reason, owner, fruitless,
    tags, overview, waiting
FROM execution
"""
HEAD = f"{_HEADS} WHERE id = $1"


def searchable(name: str) -> str:
    """Return the name, or one that no execution has if PostgreSQL would refuse it."""
    return name if is_id(name) else ""


async def find(
    connection: asyncpg.Connection, where: Where, limit: int, after: Cursor | None
) -> Sequence[Head]:
    """Return the heads that the filter finds, from the place on; values are parameters of the query."""
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        numbers = range(len(values) + 1, len(values) + len(more) + 1)
        conditions.append(condition.format(*(f"${number}" for number in numbers)))
        values.extend(more)

    if where.workflow is not None:
        add("workflow = {}", searchable(where.workflow))
    if where.status is not None:
        add("status = {}", where.status)
    if where.waiting_for is not None:
        add("waiting = {}", where.waiting_for)
    if where.tags:
        add("tags @> {}::jsonb", json_of(where.tags))
    if where.id_prefix is not None:
        if "\0" in where.id_prefix:
            return ()
        add("starts_with(id, {})", where.id_prefix)
    if where.first_at is not None:
        add("created_at >= {}", where.first_at)
    if where.end_at is not None:
        add("created_at < {}", where.end_at)
    if after is not None:
        add("(created_at, id) < ({}, {})", after.created_at, after.id)
    order = f"ORDER BY created_at DESC, id DESC LIMIT ${len(values) + 1}"
    query = " ".join((_HEADS, "WHERE", " AND ".join(conditions) or "TRUE", order))
    return [head_of(row) for row in await connection.fetch(query, *values, limit)]


def head_of(row: asyncpg.Record) -> Head:
    held = row["status"] == Status.PAUSED
    return Head(
        id=row["id"],
        workflow=row["workflow"],
        fingerprint=row["fingerprint"],
        task_queue=row["task_queue"],
        status=Status.RUNNING if held else Status(row["status"]),
        length=row["length"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        reason=row["reason"],
        owner=row["owner"],
        fruitless=row["fruitless"],
        held=held,
        tags=decode(row["tags"]),
        overview=row["overview"],
        waiting=row["waiting"],
    )


def json_of(tags: Any) -> str:
    """Return tags as the column takes them."""
    return encode(dict(tags)).decode()
