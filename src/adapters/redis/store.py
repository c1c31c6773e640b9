"""The store on Redis.

Executions are divided into shards, as Temporal divides its histories. The keys of an execution and of its
queue have the same hash tag, so one script changes them atomically, on a single server and on a cluster. A
change never touches two shards, so a crash leaves nothing half done. A shard has these keys:

    token                       the last fencing token
    head:ID                     a hash: workflow, queue, status, owner, token, times, counters, hold, tags
    journal:ID                  a list: the records
    inbox:ID                    a list: the messages that are not consumed
    message-ids:ID              a set: the ids of all messages, until the execution ends
    ready:QUEUE:WORKFLOW        a sorted set: executions, by the time at which they are claimable
    owned:WORKER                a set: the executions that the worker owns
    mail:WORKER                 a set: those of them whose inbox has unread messages
    overview:ID                  a string: what a list shows of the execution
    ids                         a sorted set: the ids of all executions, byte by byte
    listed:STATUS:WORKFLOW      a sorted set: executions, by the time of their creation
    waiting:WORD                the same for those that wait for one thing
    tagged:NAME:VALUE           the same for those that have a tag
    ended                       a sorted set: ended executions, by the time of their end
    expiring                    the same for executions with `keep_seconds`, by the time to forget them
    workflows                   a set: the names that have a `listed` key

A claim looks at every shard. Shard 0 also has `workers`, a hash from identity to card, and `alive`, a sorted
set of identities by the time until which they are alive. Changes are announced on the channels `work:QUEUE`,
`journal:ID` and `end:ID`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from redis import exceptions

from outlast.adapters.redis.announcements import RedisAnnouncements, Topic
from outlast.adapters.redis.answers import card_of, damaged, head_of, status_of
from outlast.adapters.redis.claiming import Claimed, claim_everywhere
from outlast.adapters.redis.clock import STEP_NOTICED_SECONDS, Correction, ServerClock
from outlast.adapters.redis.connection import Server, open_server
from outlast.adapters.redis.errors import translated
from outlast.adapters.redis.routing import Argument
from outlast.adapters.redis.scripts import script
from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import (
    ConfigurationError,
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    StorageCorrupt,
    StorageError,
    StorageUnavailable,
    check_size,
)
from outlast.core.records import Status
from outlast.core.tags import TAGS_MAX, checked_changes, too_many
from outlast.ports.clock import Clock
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    ENDLESS,
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

logger = logging.getLogger("outlast.redis")

LIMIT_BYTES = 16 * 1024 * 1024

FORGET_EXECUTIONS = 100
"""The most executions that one script forgets: the server does nothing else while a script runs."""

PRESENCE_SHARD = 0

ENDED = -1
"""The value that scripts give for the length of a journal whose execution has ended."""

LOOK_AGAIN_SECONDS = 0.5
"""The time after which a shard that did not answer is asked again."""

TASK_QUEUES_MAX = 1 << 20
"""The most task queues that one store can serve. (`Work.version` also encodes the task queue.)"""


@dataclass(slots=True)
class OpenedServer:
    """The parts of an open store."""

    server: Server
    announcements: RedisAnnouncements
    stack: AsyncExitStack
    queues: dict[str, int] = field(default_factory=dict)
    """The task queues that this store claims from, each with its index in `work`."""
    work: list[Topic] = field(default_factory=list)
    is_cleaning: bool = False
    has_warned: bool = False
    loops: list[asyncio.Task[None]] = field(default_factory=list)


class RedisStore(Store):
    """A store under one prefix of a server or cluster. Any number of stores may use the same prefix.

    Use it in the event loop that opened it.

    Args:
        settings: The server, and how to use it.
        clock: The clock for the times of executions and leases, and for timeouts of waits. By default it is
            the clock of the server, and the attribute `clock` gives it.
        clean_seconds: The time between two rounds in which a store that claims forgets the executions that
            were kept long enough; None leaves that to `prune`.
        limit_bytes: The size of the longest record or message.
    """

    def __init__(
        self,
        settings: RedisSettings,
        clock: Clock | None = None,
        *,
        clean_seconds: float | None = 60.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.clock = ServerClock() if clock is None else clock
        self._settings = settings
        self._clean_seconds = clean_seconds
        self._limit_bytes = limit_bytes
        self._maybe_opened: OpenedServer | None = None

    async def __aenter__(self) -> RedisStore:
        if self._maybe_opened is not None:
            raise ConfigurationError(
                "this store is already open; create another RedisStore with the same settings"
            )
        async with AsyncExitStack() as stack:
            server = await open_server(self._settings)
            stack.push_async_callback(server.route.close)
            announcements = RedisAnnouncements(server.route.subscriber, self.clock, self._settings)
            stack.push_async_callback(announcements.close)
            opened = self._maybe_opened = OpenedServer(server, announcements, stack)
            stack.callback(self._forget_that_it_was_open)
            stack.push_async_callback(_end, opened.loops)
            await self._run("probe", 0)
            if isinstance(self.clock, ServerClock):
                await self._synchronise(self.clock)
                opened.loops.append(asyncio.create_task(self._synchronise_forever(self.clock)))
            opened.stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.stack.aclose()

    def _forget_that_it_was_open(self) -> None:
        self._maybe_opened = None

    @property
    def _opened(self) -> OpenedServer:
        if self._maybe_opened is None:
            raise StorageError("this store is not open; use it within `async with store`")
        return self._maybe_opened

    # Journal ---------------------------------------------------------------------------------------------

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        for record in (first, *more):
            check_size(f"a first record of execution {new.id!r}", len(record), self._limit_bytes)
        is_new, head = await self._write_twice(
            "create",
            self._shard_of(new.id),
            new.id,
            new.workflow,
            new.task_queue,
            new.fingerprint,
            _optional(new.keep_seconds),
            _given(new.reason),
            _given(new.overview),
            _given(new.waiting),
            "" if new.ended is None else new.ended.value,
            *_tags(new.tags),
            first,
            *more,
        )
        return head_of(new.id, head), bool(is_new)

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        check_size(f"a record of execution {execution_id!r}", len(record), self._limit_bytes)
        outcome = await _settled(
            self._write("amend", self._shard_of(execution_id), execution_id, position, status.value, record)
        )
        if outcome == b"unknown":
            raise ExecutionNotFound(execution_id)
        if outcome in (b"amended", b"longer"):
            return bool(outcome == b"amended")
        raise ExecutionAlreadyEnded(execution_id, status_of(execution_id, outcome))

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        for record in records:
            check_size(f"a record of execution {claim.execution_id!r}", len(record), self._limit_bytes)
        outcome = await _settled(
            self._write(
                "append",
                self._shard_of(claim.execution_id),
                claim.execution_id,
                claim.token,
                position,
                "" if commit.consumed is None else commit.consumed,
                "" if commit.status is None else commit.status.value,
                int(commit.release),
                _optional(
                    commit.wake_at if commit.wake_in is None else self.clock.now() + max(0.0, commit.wake_in)
                ),
                _given(commit.reason),
                "" if commit.fruitless is None else commit.fruitless,
                int(commit.hold),
                _given(commit.overview),
                _given(commit.waiting),
                "" if commit.seen is None else commit.seen,
                *_tags(commit.tags),
                *records,
            )
        )
        if commit.seen is not None and outcome == b"unseen":
            raise MessagesUnseen(claim.execution_id, commit.seen)
        if outcome != b"appended":
            raise LeaseLost(claim.execution_id)

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        key = f"{self._base(self._shard_of(execution_id))}journal:{execution_id}"
        with translated(self._settings):
            last = -1 if limit is None else after + limit - 1
            [records] = await self._opened.server.route.send(key, ("LRANGE", key, after, last))
        return cast(list[bytes], records)

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        give_up_at = self.clock.now() + timeout_seconds
        topic_name = self._topic("end" if length >= ENDLESS else "journal", execution_id)
        async with self._opened.announcements.listening(topic_name) as topic:
            while True:
                count = topic.count
                # The latest announcement has the length; without an announcement, ask the server.
                current = int(topic.latest) if topic.latest else await self._length(execution_id)
                if current > length or current == ENDED or self.clock.now() >= give_up_at:
                    return
                await topic.changed(count, give_up_at - self.clock.now())

    async def _length(self, execution_id: str) -> int:
        return int(await self._run("length", self._shard_of(execution_id), execution_id))

    # Inbox -----------------------------------------------------------------------------------------------

    async def send(self, execution_id: str, message: Message) -> None:
        check_size(f"a message to execution {execution_id!r}", len(message.body), self._limit_bytes)
        shard = self._shard_of(execution_id)
        outcome = await self._write_twice("send", shard, execution_id, message.id, message.body)
        if isinstance(outcome, list):
            raise damaged(execution_id, outcome[0].decode())
        if outcome == b"unknown":
            raise ExecutionNotFound(execution_id)
        if outcome != b"sent":
            raise ExecutionAlreadyEnded(execution_id, status_of(execution_id, outcome))

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        last, items = await self._run(
            "messages", self._shard_of(execution_id), execution_id, after, "" if limit is None else limit
        )
        pairs = zip(items[::2], items[1::2], strict=True)
        return [
            Delivery(number, Message(id.decode(), body)) for number, (id, body) in enumerate(pairs, last + 1)
        ]

    # Leases ----------------------------------------------------------------------------------------------

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        opened = self._opened
        topic = await self._work_of(task_queue)
        # Take the version first: the scripts may miss changes that are announced while they run.
        version = topic.count * TASK_QUEUES_MAX + opened.queues[task_queue]
        lease_until = self.clock.now() + lease_seconds
        names = sorted(set(workflows))

        async def claim_in(shard: int, limit: int, peek: int) -> Claimed:
            answer = await self._run(
                "claim", shard, worker, task_queue, repr(lease_until), limit, peek, *names
            )
            return Claimed.read(shard, worker, answer)

        found = await claim_everywhere(claim_in, opened.server.shards, limit)
        next_wake_at = found.next_wake_at
        if found.failure is not None:
            logger.warning("one shard could not be asked for work; the other shards go on: %s", found.failure)
            look_again_at = self.clock.now() + LOOK_AGAIN_SECONDS
            next_wake_at = look_again_at if next_wake_at is None else min(next_wake_at, look_again_at)
        return Work(found.claims, found.mail, next_wake_at, version)

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        lease_until = repr(self.clock.now() + lease_seconds)
        by_shard: dict[int, list[Argument]] = {}
        for claim in claims:
            by_shard.setdefault(self._shard_of(claim.execution_id), []).extend(
                (claim.execution_id, claim.token)
            )
        lost = await asyncio.gather(
            *(self._run("renew", shard, lease_until, *pairs) for shard, pairs in by_shard.items())
        )
        return frozenset(id.decode() for ids in lost for id in ids)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        count, number = divmod(version, TASK_QUEUES_MAX)
        await self._opened.work[number].changed(count, timeout_seconds)

    async def resume(self, execution_id: str) -> bool:
        outcome = await self._write_twice("resume", self._shard_of(execution_id), execution_id)
        if outcome == b"unknown":
            raise ExecutionNotFound(execution_id)
        if outcome not in (b"resumed", b"not held"):
            raise ExecutionAlreadyEnded(execution_id, status_of(execution_id, outcome))
        return bool(outcome == b"resumed")

    async def _work_of(self, task_queue: str) -> Topic:
        """Return the topic of a task queue; the store stays subscribed to it."""
        opened = self._opened
        if task_queue not in opened.queues:
            name = self._topic("work", task_queue)
            topic = await opened.stack.enter_async_context(opened.announcements.listening(name))
            if task_queue not in opened.queues:  # Another claim may have added it meanwhile.
                opened.queues[task_queue] = len(opened.work)
                opened.work.append(topic)
            if self._clean_seconds is not None and not opened.is_cleaning:
                opened.is_cleaning = True
                opened.loops.append(asyncio.create_task(self._clean_forever(self._clean_seconds)))
        return opened.work[opened.queues[task_queue]]

    # Presence --------------------------------------------------------------------------------------------

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        opened = self._opened
        if opened.server.warning is not None and not opened.has_warned:
            opened.has_warned = True
            logger.warning("%s", opened.server.warning)
        text = json.dumps([card.identity, card.workflows, card.task_queue, card.started_at])
        alive_until = repr(self.clock.now() + lease_seconds)
        await self._run("announce", PRESENCE_SHARD, card.identity, text, alive_until)

    async def leave(self, identity: str) -> None:
        await self._run("leave", PRESENCE_SHARD, identity)

    async def workers(self) -> Sequence[PresentWorker]:
        cards = [card_of(text) for text in await self._run("workers", PRESENCE_SHARD)]
        cards.sort(key=lambda card: (card.started_at, card.identity))
        identities = [card.identity for card in cards]
        by_shard = await asyncio.gather(
            *(self._run("owned", shard, *identities) for shard in range(self._opened.server.shards))
        )
        return [
            PresentWorker(card, tuple(sorted(id.decode() for owned in by_shard for id in owned[number])))
            for number, card in enumerate(cards)
        ]

    # Catalogue -------------------------------------------------------------------------------------------

    async def head(self, execution_id: str) -> Head | None:
        head = await self._run("head", self._shard_of(execution_id), execution_id)
        return head_of(execution_id, head) if head[0] else None

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if limit < 1:
            return []
        by_shard = await asyncio.gather(
            *(self._heads(shard, where, limit, after) for shard in range(self._opened.server.shards))
        )
        heads = [head for heads in by_shard for head in heads]
        heads.sort(key=lambda head: (head.created_at, head.id), reverse=True)
        return heads[:limit]

    async def _heads(self, shard: int, where: Where, limit: int, after: Cursor | None) -> list[Head]:
        """Return up to `limit` heads of one shard; the server does other things between two scripts."""
        place: tuple[Argument, Argument] = ("", "") if after is None else (repr(after.created_at), after.id)
        heads: list[Head] = []
        while len(heads) < limit:
            found, last = await self._run(
                "heads",
                shard,
                limit - len(heads),
                *place,
                _optional(where.first_at),
                _optional(where.end_at),
                _given(where.workflow),
                _given(where.status),
                _given(where.waiting_for),
                where.id_prefix or "",
                *(text for tag in where.tags.items() for text in tag),
            )
            heads += _readable(found)
            if not last:
                break
            place = last[0], last[1]
        return heads

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        tags = _tags(checked_changes(changes))
        outcome = await self._write_twice("tag", self._shard_of(execution_id), execution_id, TAGS_MAX, *tags)
        if outcome == b"unknown":
            raise ExecutionNotFound(execution_id)
        if outcome != b"tagged":
            raise too_many(outcome)

    async def prune(self, ended_before: float | None = None) -> int:
        forgotten = await asyncio.gather(
            *(self._forget(shard, ended_before) for shard in range(self._opened.server.shards))
        )
        return sum(forgotten)

    async def _forget(self, shard: int, ended_before: float | None) -> int:
        forgotten = 0
        while True:
            number = int(await self._run("forget", shard, _optional(ended_before), FORGET_EXECUTIONS))
            forgotten += number
            if number < FORGET_EXECUTIONS:
                return forgotten

    # In the background -----------------------------------------------------------------------------------

    async def _clean_forever(self, seconds: float) -> None:
        while True:
            await self.clock.sleep(seconds)
            try:
                await self.prune(self.clock.now() - self._settings.keep_seconds)
            except StorageError as error:
                logger.warning("could not forget old executions; will try again later: %s", error)

    async def _synchronise_forever(self, clock: ServerClock) -> None:
        while True:
            await asyncio.sleep(STEP_NOTICED_SECONDS)
            try:
                await self._synchronise(clock)
            except StorageError as error:
                logger.warning("could not refresh the server's clock; will try again later: %s", error)

    async def _synchronise(self, clock: ServerClock) -> None:
        with translated(self._settings):
            await clock.synchronise(self._opened.server.time, self._correct_clock)

    async def _correct_clock(self, version: int, seconds: float | None) -> Correction:
        newest, correction = await self._run("correct_clock", 0, version, _optional(seconds))
        return Correction(int(newest), float(correction))

    # Helpers ---------------------------------------------------------------------------------------------

    def _shard_of(self, execution_id: str) -> int:
        return zlib.crc32(execution_id.encode()) % self._opened.server.shards

    def _base(self, shard: int) -> str:
        return f"{self._settings.prefix}:{{{shard}}}:"

    def _topic(self, kind: str, name: str) -> str:
        return f"{self._settings.prefix}:{kind}:{name}"

    def _arguments(self, shard: int, arguments: Sequence[Argument]) -> tuple[str, list[Argument]]:
        now = repr(self.clock.now())
        return f"{self._base(shard)}token", [f"{self._settings.prefix}:", f"{{{shard}}}", now, *arguments]

    async def _run(self, name: str, shard: int, *arguments: Argument) -> Any:
        key, all_arguments = self._arguments(shard, arguments)
        with translated(self._settings):
            [outcome] = await script(name).run(self._opened.server.route, key, all_arguments)
        return outcome

    async def _write_twice(self, name: str, shard: int, *arguments: Argument) -> Any:
        """Run a script that may run twice, like `_write`; run it again if the connection broke meanwhile."""
        try:
            return await self._write(name, shard, *arguments)
        except StorageUnavailable as error:
            if not isinstance(error.__cause__, exceptions.ConnectionError):
                raise
        return await self._write(name, shard, *arguments)

    async def _write(self, name: str, shard: int, *arguments: Argument) -> Any:
        """Run a script; when this returns, its changes are as durable as the settings ask for."""
        if self._settings.wait_aof is None:
            return await self._run(name, shard, *arguments)
        replicas = int(self._settings.wait_aof == "replica")
        milliseconds = max(1, int(self._settings.timeout_seconds * 1000 / 2))
        key, all_arguments = self._arguments(shard, arguments)
        with translated(self._settings):
            outcome, synced = await script(name).run(
                self._opened.server.route, key, all_arguments, ("WAITAOF", 1, replicas, milliseconds)
            )
        if synced[0] < 1 or synced[1] < replicas:
            raise StorageUnavailable(
                f"{self._settings.place} did not confirm in time that a write is in its append-only file"
                f"{' and in that of a replica' if replicas else ''}; the write may have happened or not"
            )
        return outcome


async def _settled(write: Coroutine[Any, Any, T]) -> T:
    """Return the result of `write`. When this is cancelled, it first waits until `write` has ended.

    The server may apply a write that was sent, even if its sender is cancelled. The next reader must see the
    outcome, so the sender waits for it. The timeout of the connection limits that wait.
    """
    task = asyncio.create_task(write)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        while not task.done():
            # Ignore further cancellations: this call ends as cancelled soon.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # Marks the exception as retrieved.
        raise
    return task.result()


def _readable(answers: Iterable[tuple[bytes, Any]]) -> Iterator[Head]:
    """Yield the heads that can be read: one that was damaged must not hide the others."""
    for id, answer in answers:
        try:
            yield head_of(id.decode(errors="replace"), answer)
        except StorageCorrupt as error:
            logger.warning("an execution is missing from a list: %s", error)


async def _end(loops: Sequence[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    if loops:
        await asyncio.wait(loops)


def _optional(number: float | None) -> str:
    return "" if number is None else repr(float(number))


def _given(text: str | None) -> str:
    """Return a text that may be missing, as scripts take it."""
    return "" if text is None else f"={text}"


def _tags(changes: Mapping[str, str | None]) -> list[Argument]:
    """Return changes of tags, as scripts take them."""
    return [len(changes), *(text for name, value in changes.items() for text in (name, _given(value)))]
