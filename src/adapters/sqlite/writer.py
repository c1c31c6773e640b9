"""Group commit: concurrent writes share a transaction, and so the one flush to disk that makes them durable.

A flush costs far more than a few rows. So while one transaction is being committed in the writer's thread,
the operations that are asked for meanwhile queue up, and all of them go into the next one. Each operation is
a savepoint of its own: one that is refused (a lost lease, an unknown execution) leaves no trace and does not
touch its neighbours. An operation's caller hears of it only when the transaction is committed; when that
fails, all its operations have failed, and none of them has happened.

A caller that is cancelled is gone at once if its operation has not begun, which then never happens. Once it
has begun, the caller stays for the short time until it is committed, and is cancelled then: whoever reads
after a cancelled write sees what became of it.
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
from outlast.ports.clock import Clock

Result = TypeVar("Result")

Operation = Callable[[Transaction], Any]

GROUP_OPERATIONS = 256
"""How many operations share a transaction at most, so that other processes get their turn."""

logger = logging.getLogger(__name__)


class Request:
    """An operation that somebody waits for."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._decision = threading.Lock()

    def decide(self) -> bool:
        """Whether the caller may decide what becomes of the operation: the first one, in any thread, may."""
        return self._decision.acquire(blocking=False)


@dataclass(frozen=True, slots=True)
class Committed:
    """What came of a transaction."""

    outcomes: Sequence[Any]
    """For each request what its operation returned, or the exception that it raised."""
    longer: Collection[str]
    """The executions whose journals have grown."""
    new_work: bool
    """Whether something may have become claimable, or some inbox may have mail."""


class Writer:
    """The writing side of a store. It belongs to one event loop."""

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
        self._clean_seconds = math.inf if clean_seconds is None else clean_seconds
        self._clean_at = math.inf if clean_seconds is None else -math.inf

    async def run(self, operation: Callable[[Transaction], Result]) -> Result:
        """Return what `operation` returns, once it is durable.

        Raises:
            StorageError: nothing has happened.
        """
        request = Request(operation)
        self._queue.append(request)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_queue())
        try:
            await asyncio.wait([request.outcome])
        except asyncio.CancelledError:
            if request.decide():
                request.outcome.cancel()
            while not request.outcome.done():
                # Cancelling once more changes nothing: this is about to end, and as cancelled.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([request.outcome])
            if not request.outcome.cancelled():
                request.outcome.exception()  # Taken note of: nobody else will.
            raise
        result: Result = request.outcome.result()
        return result

    async def flush(self) -> None:
        """Return when nothing is left to be committed."""
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
            # There are any only if the event loop is being shut down and has cancelled this task.
            for request in (*group, *self._queue):
                request.outcome.cancel()
            self._queue.clear()

    async def _commit(self, group: Sequence[Request]) -> None:
        try:
            committed = await self._thread.run(lambda connection: self._transact(connection, group))
        except Exception as error:
            # One exception for each caller: they travel on, and gather tracebacks, separately.
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
        """Forget a chunk of what is past its `keep_seconds`; go on after the next group if there is more."""
        now, request = self._clock.now(), Request(clean)
        try:
            committed = await self._thread.run(lambda connection: self._transact(connection, [request]))
        except sqlite3.Error as error:
            # Nobody asked for this, so nobody is told: whoever writes meets the same trouble and raises.
            logger.warning("executions past their keep_seconds stay for now: %s", self._translated(error))
            self._clean_at = now + self._clean_seconds
        else:
            (is_more,) = committed.outcomes
            self._clean_at = now if is_more else now + self._clean_seconds

    def _transact(self, connection: sqlite3.Connection, group: Sequence[Request]) -> Committed:
        try:
            self._database.begin(connection)
            transaction = Transaction(connection, self._clock.now(), self._limit_bytes)
            outcomes = [
                self._attempt(connection, transaction, request.operation) if request.decide() else None
                for request in group
            ]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Committed(outcomes, transaction.longer, transaction.new_work)

    def _attempt(self, connection: sqlite3.Connection, transaction: Transaction, operation: Operation) -> Any:
        """Return what `operation` returns or raises, unless what it raises is the end of the transaction."""
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
    """Forget a chunk of the executions past their `keep_seconds`; return whether there may be more."""
    is_more = transaction.forget(closed_before=None) == FORGET_EXECUTIONS
    return transaction.delete_garbage() or is_more
