"""A store that can be cut off, paused, and counted: it imitates the end of a process inside a test."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from outlast.core.errors import StorageError
from outlast.core.records import Status
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

T = TypeVar("T")

WAITS = frozenset({"wait", "follow"})
"""The calls that may take long; all others are answered as soon as the store can."""


class ProcessDied(StorageError):
    """Raised in the remaining tasks of a process that the test has killed."""


class Lifeline(Store):
    """Passes every call on to `store`, until it is cut.

    `dies_at` cuts it at the n-th call that is not a wait (counted from 1): before the call has an effect or,
    with `dies_after_effect`, after it had its effect and before the process gets the result.
    """

    def __init__(self, store: Store, *, dies_at: int | None = None, dies_after_effect: bool = False) -> None:
        self._store = store
        self._dies_at = dies_at
        self._dies_after_effect = dies_after_effect
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.died = asyncio.Event()
        self.in_flight = 0
        """The number of calls, waits apart, that have not been answered."""
        self.calls: Counter[str] = Counter()
        """The number of calls of each method."""
        self.bytes_read = 0
        self.bytes_written = 0

    def cut(self) -> None:
        """Answer no call any more."""
        self.died.set()
        self._flowing.set()

    def block(self) -> None:
        """Let no call through, until `unblock`."""
        self._flowing.clear()

    def unblock(self) -> None:
        """Let the calls through again."""
        self._flowing.set()

    @property
    def is_quiet(self) -> bool:
        """True if no call is being worked on (a paused call waits)."""
        return not self.in_flight or not self._flowing.is_set()

    async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self._check_alive()
        await self._flowing.wait()
        self._check_alive()
        self.calls[name] += 1
        if name in WAITS:
            result = await call()
            self._check_alive()
            await self._flowing.wait()
            return result
        dies = sum(self.calls[one] for one in self.calls if one not in WAITS) == self._dies_at
        if dies and not self._dies_after_effect:
            self.cut()
            self._check_alive()
        self.in_flight += 1
        try:
            result = await call()
        finally:
            self.in_flight -= 1
        if dies:
            self.cut()
        self._check_alive()
        return result

    def _check_alive(self) -> None:
        if self.died.is_set():
            raise ProcessDied("the process that used this store is dead")

    async def __aenter__(self) -> Lifeline:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._store.__aexit__(*details)

    @property
    def limit_bytes(self) -> int:
        return self._store.limit_bytes

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        return await self._pass_on("create", lambda: self._store.create(new, first, more))

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        self.bytes_written += sum(map(len, records))
        await self._pass_on("append", lambda: self._store.append(claim, position, records, commit))

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        self.bytes_written += len(record)
        return await self._pass_on("amend", lambda: self._store.amend(execution_id, position, record, status))

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        records = await self._pass_on("read", lambda: self._store.read(execution_id, after, limit))
        self.bytes_read += sum(map(len, records))
        return records

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        await self._pass_on("follow", lambda: self._store.follow(execution_id, length, timeout_seconds))

    async def send(self, execution_id: str, message: Message) -> None:
        await self._pass_on("send", lambda: self._store.send(execution_id, message))

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await self._pass_on("messages", lambda: self._store.messages(execution_id, after, limit))

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        return await self._pass_on(
            "claim",
            lambda: self._store.claim(
                worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds
            ),
        )

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        return await self._pass_on("renew", lambda: self._store.renew(claims, lease_seconds))

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await self._pass_on("wait", lambda: self._store.wait(version, timeout_seconds))

    async def resume(self, execution_id: str) -> bool:
        return await self._pass_on("resume", lambda: self._store.resume(execution_id))

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        await self._pass_on("announce", lambda: self._store.announce(card, lease_seconds))

    async def leave(self, identity: str) -> None:
        await self._pass_on("leave", lambda: self._store.leave(identity))

    async def workers(self) -> Sequence[PresentWorker]:
        return await self._pass_on("workers", self._store.workers)

    async def head(self, execution_id: str) -> Head | None:
        return await self._pass_on("head", lambda: self._store.head(execution_id))

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await self._pass_on("heads", lambda: self._store.heads(where, limit=limit, after=after))

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        await self._pass_on("tag", lambda: self._store.tag(execution_id, changes))

    async def prune(self, ended_before: float | None = None) -> int:
        return await self._pass_on("prune", lambda: self._store.prune(ended_before))
