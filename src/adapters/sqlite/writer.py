"""Group commit: concurrent writes share one transaction, and so they share one flush to disk.

A flush costs far more than a few rows. So operations that arrive while a transaction is being committed wait
in a queue, and all of them go into the next transaction. Each operation has its own savepoint. An operation
that raises (a lost lease, an unknown execution) is rolled back alone, and the other operations go on. Callers
get their results only after the commit. When the commit fails, all operations of the transaction fail, and
none of them has changed the file.

When a caller is cancelled before its operation has begun, the operation never happens, and the caller ends
at once. When the operation has begun, the caller waits for the commit, which takes a short time, and ends as
cancelled then. So the outcome of a cancelled write is fixed when its call ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from outlast.adapters.sqlite.errors import is_refusal, storage_error
from outlast.adapters.sqlite.schema import Database
from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.adapters.sqlite.transaction import FORGET_EXECUTIONS, Transaction
from outlast.core.errors import StorageError
from outlast.ports.clock import Clock

Result = TypeVar("Result")

Operation = Callable[[Transaction], Any]

GROUP_OPERATIONS = 256
"""The most operations that share a transaction, so that other processes can write in between."""

logger = logging.getLogger("outlast.sqlite")


class Request:
    """An operation that a caller waits for."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._taken = threading.Lock()

    def take(self) -> bool:
        """Return True to the first thread that calls this, which may run or cancel the operation."""
        return self._taken.acquire(blocking=False)


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a transaction."""

    outcomes: Sequence[Any]
    """The result of each operation, or the exception that it raised."""
    longer: Collection[str]
    """The executions whose journals have grown."""
    new_work: bool
    """True if an execution may have become claimable, or an inbox may have a new message."""


class Writer:
    """The writing side of a store. Use it in one event loop only."""

    def __init__(
        self,
        thread: ConnectionThread,
        database: Database,
        clock: Clock,
        *,
        clean_seconds: float | None,
        limit_bytes: int,
        announce: Callable[[Committed], None],
    ) -> None:
        self._thread = thread
        self._database = database
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._announce = announce
        self._queue: deque[Request] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._identities = database.identities()
        self.lease_time_ahead = 0.0
        """The time of leases, less the steady time of the clock."""
        self._clean_seconds = math.inf if clean_seconds is None else clean_seconds
        self._clean_at = math.inf if clean_seconds is None else -math.inf

    async def run(self, operation: Callable[[Transaction], Result]) -> Result:
        """Run `operation`, and return its result once the commit is durable.

        Raises:
            StorageError: the commit failed; nothing was written.
        """
        request = Request(operation)
        self._queue.append(request)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_queue())
        try:
            await asyncio.wait([request.outcome])
        except asyncio.CancelledError:
            if request.take():
                request.outcome.cancel()
            while not request.outcome.done():
                # Ignore further cancellations: this call ends as cancelled soon.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([request.outcome])
            if not request.outcome.cancelled():
                request.outcome.exception()  # Marks the exception as retrieved.
            raise
        result: Result = request.outcome.result()
        return result

    async def begin(self, boot: str) -> None:
        """Learn by which time the leases in the file go. It comes before every other operation.

        Raises:
            StorageError: the file cannot be used.
        """
        ahead = self._clock.now() - self._clock.steady()
        request = Request(lambda transaction: transaction.begin_boot(boot, ahead))
        try:
            committed = await self._thread.run(lambda connection: self._transact(connection, [request]))
        except sqlite3.Error as error:
            raise self._translated(error) from error
        (outcome,) = committed.outcomes
        if isinstance(outcome, Exception):
            raise outcome
        self.lease_time_ahead = outcome

    async def flush(self) -> None:
        """Return when every queued operation is committed."""
        if self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_queue(self) -> None:
        group: list[Request] = []
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_OPERATIONS))]
                await self._commit(group)
                if self._clock.now() >= self._clean_at:
                    await self._clean()
        finally:
            # Requests are left only if the event loop shuts down and has cancelled this task.
            for request in (*group, *self._queue):
                request.outcome.cancel()
            self._queue.clear()

    async def _commit(self, group: Sequence[Request]) -> None:
        try:
            committed = await self._thread.run(lambda connection: self._transact(connection, group))
        except Exception as error:
            # Each caller gets its own exception, because each adds its own traceback.
            outcomes: Sequence[Any] = [self._translated(error) for _ in group]
        else:
            outcomes = committed.outcomes
            self._announce(committed)
        for request, outcome in zip(group, outcomes, strict=True):
            if request.outcome.cancelled():
                continue
            if isinstance(outcome, Exception):
                request.outcome.set_exception(outcome)
            else:
                request.outcome.set_result(outcome)

    async def _clean(self) -> None:
        """Forget some executions past their `keep_seconds`; go on after the next group if more are left."""
        now, request = self._clock.now(), Request(clean)
        try:
            committed = await self._thread.run(lambda connection: self._transact(connection, [request]))
        except (sqlite3.Error, StorageError) as error:
            # No caller waits for this. The next write meets the same error and raises it.
            logger.warning(
                "could not forget old executions; will try again later: %s", self._translated(error)
            )
            self._clean_at = now + self._clean_seconds
        else:
            (is_more,) = committed.outcomes
            self._clean_at = now if is_more else now + self._clean_seconds

    def _transact(self, connection: sqlite3.Connection, group: Sequence[Request]) -> Committed:
        try:
            self._database.begin(connection)
            transaction = Transaction(
                connection, self._clock.now(), self._clock.steady() + self.lease_time_ahead, self._limit_bytes
            )
            outcomes = [
                self._run(connection, transaction, request.operation) if request.take() else None
                for request in group
            ]
            connection.execute("COMMIT")
            # Nothing is acknowledged that went into a file which nobody can open any more.
            self._identities.check()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Committed(outcomes, transaction.longer, transaction.new_work)

    def _run(self, connection: sqlite3.Connection, transaction: Transaction, operation: Operation) -> Any:
        """Run `operation` in a savepoint; return its result, or its exception if others can go on."""
        connection.execute("SAVEPOINT operation")
        try:
            outcome = operation(transaction)
        except Exception as error:
            if not is_refusal(error):
                raise
            connection.execute("ROLLBACK TO operation")
            outcome = error
        connection.execute("RELEASE operation")
        return outcome

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        translated = storage_error(error, self._database.path)
        translated.__cause__ = error
        return translated


def clean(transaction: Transaction) -> bool:
    """Forget some executions past their `keep_seconds`; return whether more may be left."""
    is_more = transaction.forget(ended_before=None) == FORGET_EXECUTIONS
    return transaction.delete_garbage() or is_more
