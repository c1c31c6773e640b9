"""Reading heads: that of one execution, and those that a filter finds.

A list is read from the end of the index that fits its filter best, from the place of the cursor on. What the
filter says beyond that index is checked row by row: first tags, then what is waited for, then workflow and
status lead. A beginning of an id leads before all of them, if few ids begin so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.adapters.sqlite.tags import tags_of
from outlast.core.records import Status
from outlast.ports.finding import Cursor, Where
from outlast.ports.journal import Head

FEW_IDS = 500
"""Executions that are found by the beginning of their id, and sorted, when there are no more than that."""

_HEAD = """
    execution.id, execution.workflow, execution.fingerprint, execution.task_queue, execution.status,
    execution.length, execution.created_at, execution.ended_at, execution.reason, execution.owner,
    execution.fruitless, execution.tags, execution.overview, execution.waiting
"""


_HAS_TAG = """
    EXISTS (SELECT 1 FROM tag AS other WHERE other.name = ? AND other.value = ?
        AND other.created_at = execution.created_at AND other.id = execution.id)
"""


def head(connection: sqlite3.Connection, execution_id: str) -> Head | None:
    query = HeadQuery("execution")
    query.add("execution.id = ?", execution_id)
    row = connection.execute(query.text(), (*query.values, 1)).fetchone()
    return None if row is None else _head(row)


def heads(connection: sqlite3.Connection, where: Where, limit: int, after: Cursor | None) -> Sequence[Head]:
    begin = None if where.id_prefix is None else _ids_from(where.id_prefix)
    by_id = begin is not None and begin.count_up_to(connection, FEW_IDS) < FEW_IDS
    query = _by_tag(where) if where.tags and not by_id else _by_columns(where, by_id)
    if begin is not None:
        query.add(begin.condition, *begin.values)
    if where.first_at is not None:
        query.add(f"{query.created_at} >= ?", where.first_at)
    if where.end_at is not None:
        query.add(f"{query.created_at} < ?", where.end_at)
    if after is not None:
        query.add(f"({query.created_at}, {query.id}) < (?, ?)", after.created_at, after.id)
    return [_head(row) for row in connection.execute(query.text(), (*query.values, limit)).fetchall()]


@dataclass(slots=True)
class HeadQuery:
    """A query for heads: where it reads, what it checks, and the columns that name a place in the list."""

    source: str
    created_at: str = "execution.created_at"
    id: str = "execution.id"
    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        self.conditions.append(condition)
        self.values += values

    def text(self) -> str:
        """Return the query; its values are `values` and the limit."""
        parts = (
            *("SELECT", _HEAD, "FROM", self.source),
            *("WHERE", " AND ".join(self.conditions) or "TRUE"),
            *("ORDER BY", self.created_at, "DESC,", self.id, "DESC LIMIT ?"),
        )
        return " ".join(parts)


def _by_tag(where: Where) -> HeadQuery:
    (name, value), *others = where.tags.items()
    # CROSS JOIN lets SQLite read `tag` first; it has the order of the list.
    query = HeadQuery("tag CROSS JOIN execution ON execution.id = tag.id", "tag.created_at", "tag.id")
    query.add("tag.name = ? AND tag.value = ?", name, value)
    _add_tags(query, dict(others))
    _add_columns(query, where)
    return query


def _by_columns(where: Where, by_id: bool) -> HeadQuery:
    if by_id:
        index = "sqlite_autoindex_execution_1"
    elif where.waiting_for is not None:
        index = "execution_waiting"
    else:
        names = [name for name in ("workflow", "status") if getattr(where, name) is not None]
        index = "_".join(["execution", *(names or ["created"])])
    query = HeadQuery(f"execution INDEXED BY {index}")
    _add_columns(query, where)
    _add_tags(query, where.tags)
    return query


def _add_columns(query: HeadQuery, where: Where) -> None:
    columns = {"waiting": where.waiting_for, "workflow": where.workflow, "status": where.status}
    for column, value in columns.items():
        if value is not None:
            query.add(f"execution.{column} = ?", value)


def _add_tags(query: HeadQuery, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        query.add(_HAS_TAG, name, value)


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids from one on, and below another one if that exists."""

    values: tuple[str, ...]

    @property
    def condition(self) -> str:
        return " AND ".join(["execution.id >= ?", "execution.id < ?"][: len(self.values)])

    def count_up_to(self, connection: sqlite3.Connection, limit: int) -> int:
        query = " ".join(("SELECT count(*) FROM (SELECT 1 FROM execution WHERE", self.condition, "LIMIT ?)"))
        (count,) = connection.execute(query, (*self.values, limit)).fetchone()
        return int(count)


def _ids_from(prefix: str) -> IdRange:
    """Return the ids that begin with `prefix`: those before the prefix whose last character is the next."""
    for end in range(len(prefix), 0, -1):
        following = ord(prefix[end - 1]) + 1
        if following <= 0x10FFFF:
            # Half characters, from D800 to DFFF, are in no id.
            return IdRange((prefix, prefix[: end - 1] + chr(following if following != 0xD800 else 0xE000)))
    return IdRange((prefix,))


def _head(row: tuple[Any, ...]) -> Head:
    id, workflow, fingerprint, task_queue, status, length, created_at, ended_at, reason, owner, *rest = row
    fruitless, tags, overview, waiting = rest
    held = status == Status.PAUSED
    return Head(
        id=id,
        workflow=workflow,
        fingerprint=fingerprint,
        task_queue=task_queue,
        status=Status.RUNNING if held else Status(status),
        length=length,
        created_at=created_at,
        ended_at=ended_at,
        reason=reason,
        owner=owner,
        fruitless=fruitless,
        held=held,
        tags=tags_of(tags),
        overview=overview,
        waiting=waiting,
    )
