"""The store: each method that writes is one transaction, which first locks the row of the execution."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    check_size,
)
from outlast.core.json import decode
from outlast.core.records import Status
from outlast.core.tags import TAGS_MAX, changed, checked_changes, too_many
from outlast.ports.clock import Clock
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    Claim,
    Commit,
    Delivery,
    Head,
    Message,
    NewExecution,
    PresentWorker,
    Store,
    Work,
    WorkerCard,
)
from outlast_postgres.database import Database
from outlast_postgres.finding import HEAD, find, head_of, json_of, searchable
from outlast_postgres.listening import NOTIFY, notice
from outlast_postgres.settings import Settings

T = TypeVar("T")

LIMIT_BYTES = 2 * 1024 * 1024
FORGET_AT_ONCE = 100
"""Executions that one transaction forgets."""

_INSERT = """
INSERT INTO execution (id, workflow, fingerprint, task_queue, keep_seconds, status, length, created_at,
    ended_at, reason, ready_at, ignores_mail, tags, overview, waiting)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14, $15)
ON CONFLICT (id) DO NOTHING
RETURNING key
"""
_ADD_RECORDS = """
INSERT INTO record (execution, position, body)
SELECT $1, $2 + place - 1, body FROM unnest($3::bytea[]) WITH ORDINALITY AS new (body, place)
"""
_LOCK = "SELECT * FROM execution WHERE id = $1 FOR UPDATE"
_APPEND = """
UPDATE execution SET length = $2, reason = $3, fruitless = $4, overview = $5, waiting = $6, consumed = $7,
    tags = $8::jsonb, status = $9, ended_at = $10, owner = $11, ready_at = $12, ignores_mail = $13
WHERE key = $1
"""
_AMEND = """
UPDATE execution SET length = length + 1, status = $2, ended_at = $3, ready_at = $4, reason = NULL,
    fruitless = 0, owner = NULL, ignores_mail = false, waiting = NULL
WHERE key = $1
"""
_READ = """
SELECT body FROM record WHERE execution = (SELECT key FROM execution WHERE id = $1) AND position >= $2
ORDER BY position LIMIT $3
"""
_SEND = """
WITH sent AS (UPDATE execution SET sent = sent + 1, ready_at = $4 WHERE key = $1 RETURNING key, sent)
INSERT INTO message (execution, number, id, body) SELECT key, sent, $2, $3 FROM sent
"""
_MESSAGES = """
SELECT number, id, body FROM message
WHERE execution = (SELECT key FROM execution WHERE id = $1) AND number > $2
ORDER BY number LIMIT $3
"""
_CLAIM = """
WITH ready AS MATERIALIZED (
    SELECT key, owner, ready_at FROM execution
    WHERE task_queue = $1 AND workflow = ANY ($2) AND ready_at <= $3
    ORDER BY ready_at, key LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE execution SET owner = $5, token = nextval('token'), ready_at = $6,
    fruitless = fruitless + (execution.owner IS NOT NULL)::int
FROM ready WHERE execution.key = ready.key
RETURNING execution.key, id, workflow, length, consumed, token, fruitless, ready.owner AS last_owner,
    ready.ready_at AS waited_since
"""
_MAIL = "SELECT id FROM execution WHERE owner = $1 AND sent > consumed"
_NEXT = """
SELECT ready_at FROM execution WHERE task_queue = $1 AND workflow = ANY ($2) AND ready_at > $3
ORDER BY ready_at LIMIT 1
"""
_UNTIL_UNLOCKED = """
SELECT key FROM execution WHERE task_queue = $1 AND workflow = ANY ($2) AND ready_at <= $3
ORDER BY ready_at, key LIMIT 1 FOR UPDATE
"""
_RENEW = """
WITH mine AS MATERIALIZED (
    SELECT execution.key FROM unnest($1::text[], $2::bigint[]) AS claim (id, token)
    JOIN execution ON execution.id = claim.id AND execution.token = claim.token
    WHERE execution.owner IS NOT NULL
    ORDER BY execution.key FOR UPDATE OF execution
)
UPDATE execution SET ready_at = $3 FROM mine WHERE execution.key = mine.key RETURNING id, token
"""
_RESUME = """
UPDATE execution SET status = $2, ready_at = $3, ignores_mail = false, fruitless = 0, reason = NULL,
    waiting = NULL
WHERE key = $1
"""
_ANNOUNCE = """
INSERT INTO worker (identity, workflows, task_queue, started_at, alive_until) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (identity) DO UPDATE SET workflows = excluded.workflows, task_queue = excluded.task_queue,
    started_at = excluded.started_at, alive_until = excluded.alive_until
"""
_WORKERS = """
SELECT identity, workflows, task_queue, started_at,
    ARRAY(SELECT id FROM execution WHERE owner = identity ORDER BY id) AS executions
FROM worker WHERE alive_until > $1 ORDER BY started_at, identity
"""
_PRUNE = """
WITH over AS MATERIALIZED (
    SELECT key FROM execution
    WHERE ended_at IS NOT NULL
        AND CASE WHEN keep_seconds IS NULL THEN ended_at < $1 ELSE ended_at + keep_seconds <= $2 END
    ORDER BY key LIMIT $3 FOR UPDATE
)
DELETE FROM execution USING over WHERE execution.key = over.key RETURNING execution.key
"""


class PostgresStore(Store):
    """The store. Its times are those of the clock, so all who share it use clocks that agree."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._database = Database(settings, clock, "outlast")

    async def __aenter__(self) -> PostgresStore:
        await self._database.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()

    # Journal

    @property
    def limit_bytes(self) -> int:
        return LIMIT_BYTES

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        records = [first, *more]

        async def write(connection: asyncpg.Connection) -> tuple[Head, bool] | None:
            if (row := await connection.fetchrow(HEAD, new.id)) is not None:
                return head_of(row), False
            for record in records:
                check_size(f"a first record of execution {new.id!r}", len(record), LIMIT_BYTES)
            now, held = self._clock.now(), new.reason is not None
            key = await connection.fetchval(
                _INSERT,
                new.id,
                new.workflow,
                new.fingerprint,
                new.task_queue,
                new.keep_seconds,
                new.ended or (Status.PAUSED if held else Status.RUNNING),
                len(records),
                now,
                None if new.ended is None else now,
                new.reason,
                None if held or new.ended is not None else now,
                held,
                json_of(new.tags),
                new.overview,
                new.waiting or None,
            )
            if key is None:
                return None
            await connection.execute(_ADD_RECORDS, key, 0, records)
            await self._notify(connection, new.id, None if new.ended else len(records), work=True)
            return head_of(await _row(connection, HEAD, new.id)), True

        # Somebody else may create it between our look and our write, and forget it before the next look.
        while (created := await self._database.write(write)) is None:
            pass
        return created

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        async def write(connection: asyncpg.Connection) -> None:
            row = await connection.fetchrow(_LOCK, searchable(claim.execution_id))
            if (
                row is None
                or row["owner"] is None
                or row["token"] != claim.token
                or row["length"] != position
            ):
                raise LeaseLost(claim.execution_id)
            if commit.seen is not None and row["sent"] > commit.seen:
                raise MessagesUnseen(claim.execution_id, commit.seen)
            for record in records:
                check_size(f"a record of execution {claim.execution_id!r}", len(record), LIMIT_BYTES)
            if records:
                await connection.execute(_ADD_RECORDS, row["key"], position, list(records))
            after = self._after(row, commit)
            length = position + len(records)
            await connection.execute(_APPEND, row["key"], length, commit.reason, *after)
            new_length = None if commit.status is not None else length
            await self._notify(connection, claim.execution_id, new_length, work=commit.release)

        await self._database.write(write)

    def _after(self, row: asyncpg.Record, commit: Commit) -> tuple[Any, ...]:
        """Return what the other columns of `_APPEND` are after the commit."""
        now = self._clock.now()
        fruitless = row["fruitless"] if commit.fruitless is None else commit.fruitless
        overview = row["overview"] if commit.overview is None else commit.overview
        waiting = row["waiting"] if commit.waiting is None else commit.waiting or None
        consumed = max(row["consumed"], commit.consumed or 0)
        tags = json_of(changed(decode(row["tags"]), commit.tags)) if commit.tags else row["tags"]
        status, owner, ready_at, ignores_mail = (
            row["status"],
            row["owner"],
            row["ready_at"],
            row["ignores_mail"],
        )
        ended_at = None
        if commit.status is not None:
            status, owner, ready_at, waiting, ended_at = commit.status, None, None, None, now
        elif commit.release:
            owner, ignores_mail = None, commit.hold
            ready_at = commit.wake_at if commit.wake_in is None else now + commit.wake_in
            if row["sent"] > consumed and not commit.hold:
                ready_at = now
            ready_at = None if ready_at is None else max(ready_at, now)
            status = Status.PAUSED if commit.hold and ready_at is None else Status.RUNNING
        return (
            *(fruitless, overview, waiting, consumed, tags, status, ended_at, owner, ready_at),
            ignores_mail,
        )

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        async def write(connection: asyncpg.Connection) -> bool:
            row = await _existing(connection, execution_id)
            if status is not Status.RUNNING:
                _check_running(row)
            if row["length"] != position:
                return False
            check_size(f"a record of execution {execution_id!r}", len(record), LIMIT_BYTES)
            now, reopens = self._clock.now(), status is Status.RUNNING
            await connection.execute(_ADD_RECORDS, row["key"], position, [record])
            ended_at, ready_at = (None, now) if reopens else (now, None)
            await connection.execute(_AMEND, row["key"], status, ended_at, ready_at)
            await self._notify(connection, execution_id, position + 1 if reopens else None, work=True)
            return True

        return await self._database.write(write)

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        rows = await self._fetch(_READ, searchable(execution_id), after, limit)
        return [row["body"] for row in rows]

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        with self._database.listening.waiting(execution_id, length) as waiter:
            head = await self.head(execution_id)
            if head is None or (head.length <= length and head.status is Status.RUNNING):
                await self._database.listening.sleep(waiter, timeout_seconds)

    # Inbox

    async def send(self, execution_id: str, message: Message) -> None:
        async def write(connection: asyncpg.Connection) -> None:
            row = await _existing(connection, execution_id)
            known = "SELECT EXISTS (SELECT FROM message WHERE execution = $1 AND id = $2)"
            if await connection.fetchval(known, row["key"], message.id):
                return
            _check_running(row)
            check_size(f"a message to execution {execution_id!r}", len(message.body), LIMIT_BYTES)
            ready_at, now = row["ready_at"], self._clock.now()
            if row["owner"] is None and not row["ignores_mail"]:
                ready_at = now if ready_at is None else min(ready_at, now)
            await connection.execute(_SEND, row["key"], message.id, message.body, ready_at)
            await self._notify(connection, execution_id, row["length"], work=True)

        await self._database.write(write)

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        rows = await self._fetch(_MESSAGES, searchable(execution_id), after, limit)
        return [Delivery(row["number"], Message(row["id"], row["body"])) for row in rows]

    # Leases

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        async def write(connection: asyncpg.Connection) -> Work | None:
            # Read before anything else: a notice that comes from now on ends the next wait.
            version = self._database.listening.work
            now, names = self._clock.now(), list(workflows)
            rows = await connection.fetch(_CLAIM, task_queue, names, now, limit, worker, now + lease_seconds)
            next_at = await connection.fetchval(_NEXT, task_queue, names, float("-inf"))
            if len(rows) < limit and next_at is not None and next_at <= now:
                # Somebody has locked one that is claimable, for a moment.
                if not rows:
                    return None
                # Waiting for it might be in vain, and these claims must not wait: the next wait ends at once.
                version = -1
                next_at = await connection.fetchval(_NEXT, task_queue, names, now)
            mail = await connection.fetch(_MAIL, worker)
            rows.sort(key=lambda row: (row["waited_since"], row["key"]))
            claims = tuple(_claim(row, worker) for row in rows)
            return Work(claims, frozenset(row["id"] for row in mail), next_at, version)

        while (work := await self._database.write(write)) is None:
            # This holds no other lock meanwhile.
            await self._fetch(_UNTIL_UNLOCKED, task_queue, list(workflows), self._clock.now())
        return work

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        ids, tokens = [claim.execution_id for claim in claims], [claim.token for claim in claims]
        rows = await self._fetch(_RENEW, ids, tokens, self._clock.now() + lease_seconds)
        renewed = {(row["id"], row["token"]) for row in rows}
        return frozenset(id for id, token in zip(ids, tokens, strict=True) if (id, token) not in renewed)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        with self._database.listening.waiting(None) as waiter:
            if self._database.listening.work == version:
                await self._database.listening.sleep(waiter, timeout_seconds)

    async def resume(self, execution_id: str) -> bool:
        async def write(connection: asyncpg.Connection) -> bool:
            row = await _existing(connection, execution_id)
            _check_running(row)
            if row["owner"] is not None or not row["ignores_mail"]:
                return False
            await connection.execute(_RESUME, row["key"], Status.RUNNING, self._clock.now())
            await self._notify(connection, execution_id, row["length"], work=True)
            return True

        return await self._database.write(write)

    # Presence

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        now = self._clock.now()
        values = (card.identity, list(card.workflows), card.task_queue, card.started_at, now + lease_seconds)
        await self._fetch(_ANNOUNCE, *values)
        await self._fetch("DELETE FROM worker WHERE alive_until <= $1", now)

    async def leave(self, identity: str) -> None:
        await self._fetch("DELETE FROM worker WHERE identity = $1", searchable(identity))

    async def workers(self) -> Sequence[PresentWorker]:
        return [
            PresentWorker(
                WorkerCard(row["identity"], tuple(row["workflows"]), row["task_queue"], row["started_at"]),
                tuple(row["executions"]),
            )
            for row in await self._fetch(_WORKERS, self._clock.now())
        ]

    # Catalogue

    async def head(self, execution_id: str) -> Head | None:
        rows = await self._fetch(HEAD, searchable(execution_id))
        return head_of(rows[0]) if rows else None

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await self._database.run(lambda connection: find(connection, where, limit, after))

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        checked = checked_changes(changes)

        async def write(connection: asyncpg.Connection) -> None:
            row = await _existing(connection, execution_id)
            old = decode(row["tags"])
            tags = changed(old, checked)
            if len(tags) > max(TAGS_MAX, len(old)):
                raise too_many(len(tags))
            query = "UPDATE execution SET tags = $2::jsonb WHERE key = $1"
            await connection.execute(query, row["key"], json_of(tags))

        await self._database.write(write)

    async def prune(self, ended_before: float | None = None) -> int:
        count = 0
        while True:
            now = self._clock.now()
            forgotten = len(await self._fetch(_PRUNE, ended_before, now, FORGET_AT_ONCE))
            count += forgotten
            if forgotten < FORGET_AT_ONCE:
                return count

    # Helpers

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """Run one statement, which is a transaction by itself; return its rows."""
        return await self._database.run(lambda connection: connection.fetch(query, *values))

    async def _notify(
        self, connection: asyncpg.Connection, execution_id: str, length: int | None, *, work: bool
    ) -> None:
        body = notice(execution_id, length, work=work)
        await connection.execute(NOTIFY, self._database.channel, body)


async def _row(connection: asyncpg.Connection, query: str, *values: Any) -> asyncpg.Record:
    row = await connection.fetchrow(query, *values)
    assert row is not None
    return row


async def _existing(connection: asyncpg.Connection, execution_id: str) -> asyncpg.Record:
    """Lock the row of an execution and return it."""
    row = await connection.fetchrow(_LOCK, searchable(execution_id))
    if row is None:
        raise ExecutionNotFound(execution_id)
    return row


def _check_running(row: asyncpg.Record) -> None:
    if row["ended_at"] is not None:
        raise ExecutionAlreadyEnded(row["id"], Status(row["status"]))


def _claim(row: asyncpg.Record, worker: str) -> Claim:
    return Claim(
        execution_id=row["id"],
        workflow=row["workflow"],
        worker=worker,
        token=row["token"],
        length=row["length"],
        consumed=row["consumed"],
        recovered_from=row["last_owner"],
        fruitless=row["fruitless"],
    )
