"""Group commit: concurrent writes share one transaction, and so they share one flush to disk.

A flush costs far more than a few rows. So operations that arrive while a transaction is being committed wait
in a queue, and all of them go into the next transaction, each in a savepoint of its own. An operation that
raises (a lost lease, an unknown execution) is rolled back alone, and the other operations go on. Callers get
their results only after the commit. When the commit fails, all operations of the transaction fail, and
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from outlast.adapters.sqlite.errors import is_refusal, storage_error
from outlast.adapters.sqlite.schema import Database
from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.adapters.sqlite.transaction import FORGET_EXECUTIONS, Transaction
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
        self._outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._taken = threading.Lock()
        self._is_settled = False
        self._settled: asyncio.Future[None] | None = None
        """It ends the wait of a caller that was cancelled when the operation had begun."""

    def take(self) -> bool:
        """Return True to the first thread that calls this, which may run or cancel the operation."""
        return self._taken.acquire(blocking=False)

    async def outcome(self) -> Any:
        """Return the result of the operation, or raise what it raised.

        When this is cancelled, it ends once the outcome is fixed: the operation never happens, or is over.
        """
        try:
            return await self._outcome
        except asyncio.CancelledError:
            if not self.take() and not self._is_settled:
                self._settled = asyncio.get_running_loop().create_future()
                while not self._settled.done():
                    # Ignore further cancellations: this call ends as cancelled soon.
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([self._settled])
            raise

    def settle(self, outcome: Any) -> None:
        """Give the caller the result, or the exception; a cancelled one learns that it is over."""
        self._is_settled = True
        if self._settled is not None:
            self._settled.set_result(None)
        elif self._outcome.cancelled():
            pass
        elif isinstance(outcome, BaseException):
            self._outcome.set_exception(outcome)
            self._outcome.exception()  # Marks it as retrieved: the caller may be cancelled at this moment.
        else:
            self._outcome.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a transaction."""

    outcomes: Sequence[Any]
    """The result of each operation, or the exception that it raised."""
    longer: Mapping[str, float]
    """How long the journals are that have grown; infinite for an execution that has ended."""
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
        self._is_committing = False
        self._idle: asyncio.Future[None] | None = None
        """It ends the waits of `flush`."""
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
        if not self._is_committing:
            # In the next turn of the loop, so that what is written in this one goes together.
            self._is_committing = True
            asyncio.get_running_loop().call_soon(self._commit_next)
        result: Result = await request.outcome()
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
            raise storage_error(error, self._database.path) from error
        (outcome,) = committed.outcomes
        if isinstance(outcome, Exception):
            raise outcome
        self.lease_time_ahead = outcome

    async def flush(self) -> None:
        """Return when every queued operation is committed."""
        while self._is_committing:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle])

    def _commit_next(self) -> None:
        """Commit what is queued; what comes meanwhile is committed after it."""
        if self._queue:
            group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_OPERATIONS))]
            committing = self._thread.run(lambda connection: self._transact(connection, group))
            committing.add_done_callback(lambda done: self._committed(group, done))
        else:
            self._is_committing = False
            if self._idle is not None:
                self._idle.set_result(None)
                self._idle = None

    def _committed(self, group: Sequence[Request], done: asyncio.Future[Committed]) -> None:
        error = done.exception()
        if error is None:
            committed = done.result()
            self._announce(committed)
            for request, outcome in zip(group, committed.outcomes, strict=True):
                request.settle(outcome)
        else:
            for request in group:
                # Each caller gets its own exception, because each adds its own traceback.
                request.settle(self._translated(error))
        if self._clock.now() >= self._clean_at:
            request = Request(clean)
            cleaning = self._thread.run(lambda connection: self._transact(connection, [request]))
            cleaning.add_done_callback(self._cleaned)
        else:
            self._commit_next()

    def _cleaned(self, done: asyncio.Future[Committed]) -> None:
        """Go on after the next group if more executions are past their `keep_seconds`."""
        now, error = self._clock.now(), done.exception()
        if error is None:
            (is_more,) = done.result().outcomes
            self._clean_at = now if is_more else now + self._clean_seconds
        else:
            # No caller waits for this. The next write meets the same error and raises it.
            logger.warning(
                "could not forget old executions; will try again later: %s", self._translated(error)
            )
            self._clean_at = now + self._clean_seconds
        self._commit_next()

    def _transact(self, connection: sqlite3.Connection, group: Sequence[Request]) -> Committed:
        try:
            self._database.begin(connection)
            transaction = Transaction(
                connection, self._clock.now(), self._clock.steady() + self.lease_time_ahead, self._limit_bytes
            )
            run = self._run_alone if len(group) == 1 else self._run_in_savepoint
            outcomes = [
                run(connection, transaction, request.operation) if request.take() else None
                for request in group
            ]
            if connection.in_transaction:
                connection.execute("COMMIT")
            # Nothing is acknowledged that went into a file which nobody can open any more.
            self._identities.check()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Committed(outcomes, transaction.longer, transaction.new_work)

    def _run_alone(
        self, connection: sqlite3.Connection, transaction: Transaction, operation: Operation
    ) -> Any:
        """Run the only operation of a transaction; return its result, or its exception if it was refused."""
        try:
            return operation(transaction)
        except Exception as error:
            if not is_refusal(error):
                raise
            connection.execute("ROLLBACK")
            return error

    def _run_in_savepoint(
        self, connection: sqlite3.Connection, transaction: Transaction, operation: Operation
    ) -> Any:
        """Run one operation of several; return its result, or its exception if the others can go on."""
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

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        translated = storage_error(error, self._database.path)
        translated.__cause__ = error
        return translated


def clean(transaction: Transaction) -> bool:
    """Forget some executions past their `keep_seconds`; return whether more may be left."""
    is_more = transaction.forget(ended_before=None) == FORGET_EXECUTIONS
    return transaction.delete_garbage() or is_more
