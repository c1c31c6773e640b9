"""The store on an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from outlast.adapters.sqlite import finding, reading
from outlast.adapters.sqlite.announcements import SqliteAnnouncements
from outlast.adapters.sqlite.errors import storage_error
from outlast.adapters.sqlite.file_changes import FileChanges
from outlast.adapters.sqlite.schema import Database, Synchronous, boot_id
from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.adapters.sqlite.transaction import FORGET_EXECUTIONS
from outlast.adapters.sqlite.writer import Committed, Writer
from outlast.core.errors import ConfigurationError
from outlast.core.records import Status
from outlast.core.tags import checked_changes
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

LIMIT_BYTES = 64 * 1024 * 1024

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """The parts of an open store."""

    loop: asyncio.AbstractEventLoop
    writer: Writer
    reader: ConnectionThread
    announcements: SqliteAnnouncements
    stack: AsyncExitStack


class SqliteStore(Store):
    """A store in one file. Any number of stores, in any processes of one machine, may use the same file.

    Use it in the event loop that opened it.

    Args:
        path: The file, on a local disk. The store creates it if it does not exist, but not its directory.
            SQLite puts two more files next to it (`-wal` and `-shm`).
        clock: The clock for the times of executions and leases, and for timeouts of waits.
        synchronous: "full" survives a power failure. With "normal", a power failure can lose the last
            commits, but the death of a process loses nothing. With "off", a power failure can damage the
            file.
        busy_timeout_seconds: How long a write waits while another process is writing.
        poll_seconds: How soon, in real time, a waiter notices a change of another process.
        clean_seconds: The time between two rounds that forget executions past their `keep_seconds`. A round
            runs after a write, and forgets a bounded number. None leaves that to `prune`.
        limit_bytes: The size of the longest record or message.
        create: Whether to create the file if it does not exist; without it, opening the store raises
            `ConfigurationError`.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        synchronous: Synchronous = "full",
        busy_timeout_seconds: float = 10.0,
        poll_seconds: float = 0.05,
        clean_seconds: float | None = 60.0,
        limit_bytes: int = LIMIT_BYTES,
        create: bool = True,
    ) -> None:
        self._database = Database(path, synchronous, busy_timeout_seconds, create)
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._clean_seconds = clean_seconds
        self._limit_bytes = limit_bytes
        self._opened: OpenedFile | None = None

    async def __aenter__(self) -> SqliteStore:
        if self._opened is not None:
            raise ConfigurationError(
                "this store is already open; create another SqliteStore with the same path"
            )
        async with AsyncExitStack() as stack:
            # The writer is closed last, so that its connection empties the write-ahead log.
            thread = await self._start(stack, self._database.open, "sqlite-writer")
            reader = await self._start(stack, self._database.open_for_reading, "sqlite-reader")
            changes = FileChanges.of(self._database.log_path)
            announcements = SqliteAnnouncements(thread, self._clock, changes, self._poll_seconds)
            stack.callback(announcements.close)

            def announce(committed: Committed) -> None:
                announcements.announce(committed.longer, new_work=committed.new_work)

            self._opened = OpenedFile(
                loop=asyncio.get_running_loop(),
                writer=Writer(
                    thread,
                    self._database,
                    self._clock,
                    clean_seconds=self._clean_seconds,
                    limit_bytes=self._limit_bytes,
                    announce=announce,
                ),
                reader=reader,
                announcements=announcements,
                stack=stack,
            )
            await self._opened.writer.begin(boot_id())
            self._opened = replace(self._opened, stack=stack.pop_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        opened = self._here()
        self._opened = None
        async with opened.stack:
            await opened.writer.flush()

    # Journal ---------------------------------------------------------------------------------------------

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        return await self._here().writer.run(lambda transaction: transaction.create(new, (first, *more)))

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await self._here().writer.run(
            lambda transaction: transaction.append(claim, position, records, commit)
        )

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return await self._read(lambda connection: reading.records(connection, execution_id, after, limit))

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        async def goes_beyond() -> bool:
            return await self._read(lambda connection: reading.goes_beyond(connection, execution_id, length))

        await self._here().announcements.until(execution_id, goes_beyond, timeout_seconds, beyond=length)

    # Inbox -----------------------------------------------------------------------------------------------

    async def send(self, execution_id: str, message: Message) -> None:
        await self._here().writer.run(lambda transaction: transaction.send(execution_id, message))

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await self._read(lambda connection: reading.messages(connection, execution_id, after, limit))

    # Leases ----------------------------------------------------------------------------------------------

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        return await self._here().writer.run(
            lambda transaction: transaction.claim(worker, workflows, task_queue, limit, lease_seconds)
        )

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        return await self._here().writer.run(lambda transaction: transaction.renew(claims, lease_seconds))

    async def wait(self, version: int, timeout_seconds: float) -> None:
        async def is_newer() -> bool:
            return await self._read(reading.version) != version

        await self._here().announcements.until(None, is_newer, timeout_seconds)

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        return await self._here().writer.run(
            lambda transaction: transaction.amend(execution_id, position, record, status)
        )

    async def resume(self, execution_id: str) -> bool:
        return await self._here().writer.run(lambda transaction: transaction.resume(execution_id))

    # Presence --------------------------------------------------------------------------------------------

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        await self._here().writer.run(lambda transaction: transaction.announce(card, lease_seconds))

    async def leave(self, identity: str) -> None:
        await self._here().writer.run(lambda transaction: transaction.leave(identity))

    async def workers(self) -> Sequence[PresentWorker]:
        lease_now = self._clock.steady() + self._here().writer.lease_time_ahead
        return await self._read(lambda connection: reading.workers(connection, lease_now))

    # Catalogue -------------------------------------------------------------------------------------------

    async def head(self, execution_id: str) -> Head | None:
        return await self._read(lambda connection: finding.head(connection, execution_id))

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await self._read(lambda connection: finding.heads(connection, where, limit, after))

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        checked = checked_changes(changes)
        await self._here().writer.run(lambda transaction: transaction.tag(execution_id, checked))

    async def prune(self, ended_before: float | None = None) -> int:
        """Forget executions in several transactions, so that other writes can happen in between."""
        writer = self._here().writer
        total = 0
        while True:
            forgotten = await writer.run(lambda transaction: transaction.forget(ended_before))
            total += forgotten
            if forgotten < FORGET_EXECUTIONS:
                break
        while await writer.run(lambda transaction: transaction.delete_garbage()):
            pass
        return total

    # Helpers ---------------------------------------------------------------------------------------------

    async def _start(
        self, stack: AsyncExitStack, connect: Callable[[], sqlite3.Connection], name: str
    ) -> ConnectionThread:
        thread = ConnectionThread(connect, name)
        stack.push_async_callback(thread.close)
        await thread.open()
        return thread

    async def _read(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            return await self._here().reader.run(call)
        except sqlite3.Error as error:
            raise storage_error(error, self._database.path) from error

    def _here(self) -> OpenedFile:
        """Return the open parts; raise unless the store is open in this event loop."""
        if self._opened is None:
            raise ConfigurationError("this store is not open; use it inside `async with SqliteStore(…):`")
        if self._opened.loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "this store was opened in another event loop; open one store for each loop, on the same path"
            )
        return self._opened
