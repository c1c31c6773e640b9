"""The writing methods of the port. They run inside a transaction that the writer begins and commits."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from outlast.adapters.sqlite.finding import head
from outlast.adapters.sqlite.reading import version
from outlast.adapters.sqlite.tags import change_tags, index_tags, set_tags, tags_of
from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    check_size,
)
from outlast.core.json import encode
from outlast.core.records import Status
from outlast.core.tags import TAGS_MAX
from outlast.ports.journal import Claim, Commit, Head, Message, NewExecution, Work, WorkerCard

FORGET_EXECUTIONS = 500
"""The most executions that one transaction forgets."""

DELETE_ROWS = 2000
"""The most records, and the most messages, of forgotten executions that one transaction deletes."""

_RECORDS = """
DELETE FROM record WHERE execution = :key AND position <
    (SELECT min(position) FROM record WHERE execution = :key) + :rows
"""
_MESSAGES = """
DELETE FROM message WHERE execution = :key AND number <
    (SELECT min(number) FROM message WHERE execution = :key) + :rows
"""


class Transaction:
    """An open transaction. When a method raises, the caller rolls back what the method has written."""

    def __init__(
        self, connection: sqlite3.Connection, now: float, lease_now: float, limit_bytes: int
    ) -> None:
        self._connection = connection
        self._now = now
        self._lease_now = lease_now
        """The time that is never set; see `schema`."""
        self._limit_bytes = limit_bytes
        self.longer: dict[str, float] = {}
        """How long the journals are that have grown; infinite for an execution that has ended."""
        self.new_work = False
        """True if an execution may have become claimable, or an inbox may have a new message."""

    def begin_boot(self, boot: str, ahead: float) -> float:
        """Return how far the lease time of this boot is ahead of the steady time: `ahead` if nobody said yet.

        No lease outlives the boot of the machine in which it was taken, for its worker does not. What waited
        to be claimed still does; waits for anything but a date are over.
        """
        known, known_ahead = self._row("SELECT boot, lease_time_ahead FROM counter", ()) or ("", 0.0)
        if known == boot:
            return float(known_ahead)
        self._connection.execute("UPDATE counter SET boot = ?, lease_time_ahead = ?", (boot, ahead))
        self._connection.execute(
            "UPDATE execution SET ready_at = 0 WHERE ready_at IS NOT NULL AND NOT is_date"
        )
        return ahead

    def create(self, new: NewExecution, records: Sequence[bytes]) -> tuple[Head, bool]:
        existing = head(self._connection, new.id)
        if existing is not None:
            return existing, False
        for record in records:
            check_size(f"a first record of execution {new.id!r}", len(record), self._limit_bytes)
        held = new.reason is not None
        has_ended = new.ended is not None
        ended_at = self._now if has_ended else None
        cursor = self._connection.execute(
            """
            INSERT INTO execution
                (id, workflow, fingerprint, task_queue, keep_seconds, status, length, created_at, ready_at,
                 reason, ignores_mail, overview, waiting, ended_at, forget_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                new.id,
                new.workflow,
                new.fingerprint,
                new.task_queue,
                new.keep_seconds,
                new.ended or (Status.PAUSED if held else Status.RUNNING),
                len(records),
                self._now,
                None if held or has_ended else self._lease_now,
                new.reason,
                held,
                new.overview,
                new.waiting or None,
                ended_at,
                None if ended_at is None or new.keep_seconds is None else ended_at + new.keep_seconds,
            ),
        )
        self._connection.executemany(
            "INSERT INTO record VALUES (?, ?, ?)",
            ((cursor.lastrowid, number, record) for number, record in enumerate(records)),
        )
        if new.tags:
            set_tags(self._connection, new.id, self._now, {}, new.tags)
        self._announce_work()
        created = Head(
            id=new.id,
            workflow=new.workflow,
            fingerprint=new.fingerprint,
            task_queue=new.task_queue,
            status=new.ended or Status.RUNNING,
            length=len(records),
            created_at=self._now,
            ended_at=ended_at,
            reason=new.reason,
            held=held,
            tags=new.tags,
            overview=new.overview,
            waiting=new.waiting or None,
        )
        return created, True

    def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        row = self._row(
            """
            SELECT key, sent, consumed, keep_seconds, fruitless, waiting FROM execution
            WHERE id = ? AND token = ? AND owner IS NOT NULL AND length = ?
            """,
            (claim.execution_id, claim.token, position),
        )
        if row is None:
            raise LeaseLost(claim.execution_id)
        for record in records:
            check_size(f"a record of execution {claim.execution_id!r}", len(record), self._limit_bytes)
        key, sent, consumed, keep_seconds, fruitless, waiting = row
        if commit.seen is not None and sent > commit.seen:
            raise MessagesUnseen(claim.execution_id, commit.seen)
        if commit.fruitless is not None:
            fruitless = commit.fruitless
        self._connection.executemany(
            "INSERT INTO record VALUES (?, ?, ?)",
            ((key, number, record) for number, record in enumerate(records, start=position)),
        )
        self._connection.execute(
            """
            UPDATE execution SET length = ?, reason = ?, fruitless = ?, overview = coalesce(?, overview)
            WHERE key = ?
            """,
            (position + len(records), commit.reason, fruitless, commit.overview, key),
        )
        self._wait_for(key, waiting, None if commit.status is not None else commit.waiting)
        if commit.tags:
            change_tags(self._connection, claim.execution_id, commit.tags, tags_max=None)
        if commit.consumed is not None and commit.consumed > consumed:
            # A separate statement, because it also writes the index of unread messages.
            consumed = commit.consumed
            self._connection.execute("UPDATE execution SET consumed = ? WHERE key = ?", (consumed, key))
        if commit.status is not None:
            forget_at = None if keep_seconds is None else self._now + keep_seconds
            self._connection.execute(
                """
                UPDATE execution
                SET status = ?, ended_at = ?, forget_at = ?, owner = NULL, ready_at = NULL, waiting = NULL
                WHERE key = ?
                """,
                (commit.status, self._now, forget_at, key),
            )
        elif commit.release:
            ready_at: float | None = None
            is_date = False
            if sent > consumed and not commit.hold:
                ready_at = self._lease_now
            elif commit.wake_in is not None:
                ready_at = self._lease_now + max(0.0, commit.wake_in)
            elif commit.wake_at is not None:
                is_date = commit.wake_at > self._now
                ready_at = commit.wake_at if is_date else self._lease_now
            self._connection.execute(
                """
                UPDATE execution SET owner = NULL, ignores_mail = ?, ready_at = ?, is_date = ? WHERE key = ?
                """,
                (commit.hold, ready_at, is_date, key),
            )
            if commit.hold and ready_at is None:
                self._connection.execute(
                    "UPDATE execution SET status = ? WHERE key = ?", (Status.PAUSED, key)
                )
            self._announce_work()
        has_ended = commit.status is not None
        self.longer[claim.execution_id] = math.inf if has_ended else position + len(records)

    def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        row = self._row(
            "SELECT key, status, ended_at, length, keep_seconds FROM execution WHERE id = ?", (execution_id,)
        )
        if row is None:
            raise ExecutionNotFound(execution_id)
        key, old_status, ended_at, length, keep_seconds = row
        if status is not Status.RUNNING and ended_at is not None:
            raise ExecutionAlreadyEnded(execution_id, old_status)
        if length != position:
            return False
        check_size(f"a record of execution {execution_id!r}", len(record), self._limit_bytes)
        reopens = status is Status.RUNNING
        forget_at = None if reopens or keep_seconds is None else self._now + keep_seconds
        self._connection.execute("INSERT INTO record VALUES (?, ?, ?)", (key, position, record))
        self._connection.execute(
            """
            UPDATE execution SET length = ?, status = ?, reason = NULL, fruitless = 0, ignores_mail = 0,
                owner = NULL, ended_at = ?, forget_at = ?, ready_at = ?, is_date = 0, waiting = NULL
            WHERE key = ?
            """,
            (
                position + 1,
                status,
                None if reopens else self._now,
                forget_at,
                self._lease_now if reopens else None,
                key,
            ),
        )
        self._announce_work()
        self.longer[execution_id] = position + 1 if reopens else math.inf
        return True

    def send(self, execution_id: str, message: Message) -> None:
        row = self._row("SELECT key, status, ended_at, sent FROM execution WHERE id = ?", (execution_id,))
        if row is None:
            raise ExecutionNotFound(execution_id)
        key, status, ended_at, sent = row
        if self._row("SELECT 1 FROM message WHERE execution = ? AND id = ?", (key, message.id)):
            return
        if ended_at is not None:
            raise ExecutionAlreadyEnded(execution_id, status)
        check_size(f"a message to execution {execution_id!r}", len(message.body), self._limit_bytes)
        self._connection.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?)", (key, sent + 1, message.id, message.body)
        )
        self._connection.execute("UPDATE execution SET sent = ? WHERE key = ?", (sent + 1, key))
        self._connection.execute(
            """
            UPDATE execution SET ready_at = ?, is_date = 0
            WHERE key = ? AND owner IS NULL AND NOT ignores_mail
                AND (ready_at IS NULL OR ready_at > CASE WHEN is_date THEN ? ELSE ? END)
            """,
            (self._lease_now, key, self._now, self._lease_now),
        )
        self._announce_work()

    def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, limit: int, lease_seconds: float
    ) -> Work:
        workflows = set(workflows)
        ready: list[tuple[Any, ...]] = []
        for workflow in workflows:
            ready += self._connection.execute(
                """
                SELECT ready_at, key, id, workflow, length, consumed, owner, fruitless FROM execution
                WHERE task_queue = ? AND workflow = ? AND ready_at <= ?
                    AND ready_at <= CASE WHEN is_date THEN ? ELSE ? END
                ORDER BY ready_at, key LIMIT ?
                """,
                (
                    task_queue,
                    workflow,
                    max(self._now, self._lease_now),
                    self._now,
                    self._lease_now,
                    limit,
                ),
            ).fetchall()
        claims = tuple(
            self._take(worker, lease_seconds, *columns)
            for _, *columns in sorted(ready, key=lambda row: row[:2])[:limit]
        )
        mail = self._connection.execute(
            "SELECT id FROM execution WHERE owner = ? AND sent > consumed", (worker,)
        ).fetchall()
        wake_ats = [
            row[0] + (0.0 if row[1] else self._now - self._lease_now)
            for workflow in workflows
            if (
                row := self._row(
                    """
                    SELECT ready_at, is_date FROM execution
                    WHERE task_queue = ? AND workflow = ? AND ready_at IS NOT NULL
                    ORDER BY ready_at LIMIT 1
                    """,
                    (task_queue, workflow),
                )
            )
        ]
        return Work(
            claims=claims,
            mail=frozenset(id for (id,) in mail),
            next_wake_at=min(wake_ats, default=None),
            version=version(self._connection),
        )

    def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        lost = set()
        for claim in claims:
            cursor = self._connection.execute(
                "UPDATE execution SET ready_at = ? WHERE id = ? AND token = ? AND owner IS NOT NULL",
                (self._lease_now + lease_seconds, claim.execution_id, claim.token),
            )
            if not cursor.rowcount:
                lost.add(claim.execution_id)
        return frozenset(lost)

    def resume(self, execution_id: str) -> bool:
        row = self._row(
            "SELECT key, status, ended_at, ignores_mail AND owner IS NULL FROM execution WHERE id = ?",
            (execution_id,),
        )
        if row is None:
            raise ExecutionNotFound(execution_id)
        key, status, ended_at, is_waiting = row
        if ended_at is not None:
            raise ExecutionAlreadyEnded(execution_id, status)
        if is_waiting:
            self._connection.execute(
                """
                UPDATE execution SET status = ?, ignores_mail = 0, fruitless = 0, reason = NULL, ready_at = ?,
                    is_date = 0, waiting = NULL
                WHERE key = ?
                """,
                (Status.RUNNING, self._lease_now, key),
            )
            self._announce_work()
        return bool(is_waiting)

    def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        change_tags(self._connection, execution_id, changes, tags_max=TAGS_MAX)

    def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        self._connection.execute("DELETE FROM worker WHERE alive_until <= ?", (self._lease_now,))
        self._connection.execute(
            "INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?)",
            (
                card.identity,
                encode([*card.workflows]).decode(),
                card.task_queue,
                card.started_at,
                self._lease_now + lease_seconds,
            ),
        )

    def leave(self, identity: str) -> None:
        self._connection.execute("DELETE FROM worker WHERE identity = ?", (identity,))

    def forget(self, ended_before: float | None) -> int:
        """Forget up to `FORGET_EXECUTIONS` ended executions; return how many.

        Their records and messages become garbage, which `delete_garbage` deletes.
        """
        over = self._connection.execute(
            """
            SELECT key, id, created_at, tags FROM execution WHERE ended_at < ? AND keep_seconds IS NULL
            UNION ALL
            SELECT key, id, created_at, tags FROM execution WHERE forget_at <= ?
            LIMIT ?
            """,
            (ended_before, self._now, FORGET_EXECUTIONS),
        ).fetchall()
        for _, id, created_at, tags in over:
            index_tags(self._connection, id, created_at, tags_of(tags), {})
        keys = [(key,) for key, *_ in over]
        self._connection.executemany("INSERT INTO garbage VALUES (?)", keys)
        self._connection.executemany("DELETE FROM execution WHERE key = ?", keys)
        return len(over)

    def delete_garbage(self) -> bool:
        """Delete up to `DELETE_ROWS` records and as many messages; return whether garbage may be left."""
        left = DELETE_ROWS
        while left > 0:
            row = self._row("SELECT execution FROM garbage LIMIT 1", ())
            if row is None:
                return False
            (key,) = row
            deleted = max(self._delete_rows(query, key, left) for query in (_RECORDS, _MESSAGES))
            if deleted < left:
                self._connection.execute("DELETE FROM garbage WHERE execution = ?", (key,))
            left -= deleted
        return True

    def _delete_rows(self, query: str, execution: int, limit: int) -> int:
        return self._connection.execute(query, {"key": execution, "rows": limit}).rowcount

    def _take(
        self,
        worker: str,
        lease_seconds: float,
        key: int,
        id: str,
        workflow: str,
        length: int,
        consumed: int,
        owner: str | None,
        fruitless: int,
    ) -> Claim:
        fruitless += owner is not None
        self._connection.execute("UPDATE counter SET token = token + 1")
        (token,) = self._connection.execute("SELECT token FROM counter").fetchone()
        self._connection.execute(
            """
            UPDATE execution SET owner = ?, token = ?, ready_at = ?, is_date = 0, fruitless = ? WHERE key = ?
            """,
            (worker, token, self._lease_now + lease_seconds, fruitless, key),
        )
        return Claim(
            execution_id=id,
            workflow=workflow,
            worker=worker,
            token=token,
            length=length,
            consumed=consumed,
            recovered_from=owner,
            fruitless=fruitless,
        )

    def _wait_for(self, key: int, old: str | None, waiting: str | None) -> None:
        """Note what an execution waits for, if that is new: its index is not written by every append."""
        if waiting is not None and (waiting or None) != old:
            self._connection.execute("UPDATE execution SET waiting = ? WHERE key = ?", (waiting or None, key))

    def _announce_work(self) -> None:
        self._connection.execute("UPDATE counter SET version = version + 1")
        self.new_work = True

    def _row(self, query: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(query, parameters).fetchone()
        return row
