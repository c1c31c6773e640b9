"""Announcements: noticing what other processes change, by Redis' publish and subscribe.

Redis keeps no published message, and a connection can break. So an announcement carries no facts: it only
says that a look at the keys is worthwhile. A caller waits for a change in three steps. It subscribes to the
topic, it looks at the keys, and then it waits until the topic has more announcements than before the look.
When a broken connection is back, each topic counts one more announcement. Thus no change is missed, wherever
a write falls between these steps.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio.client import PubSub

from outlast.adapters.redis.errors import REDIS_ERRORS, storage_error
from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import StorageError, StorageUnavailable
from outlast.ports.clock import Clock

logger = logging.getLogger("outlast.redis")

IDLE_TOPICS_MAX = 100
"""The number of topics without users that stay subscribed. Most of them are soon used again."""

CANCEL_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0


class Topic:
    """A Redis channel that a store subscribes to."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        """The number of announcements so far."""
        self.latest = b""
        """The body of the latest announcement; empty if a later one may have been missed."""
        self.is_live = False
        """True if every announcement from now on will arrive."""
        self.users = 0
        self._clock = clock
        self._waiters: set[asyncio.Event] = set()

    def announce(self, body: bytes = b"") -> None:
        self.count += 1
        self.latest = body
        self.wake_waiters()

    def wake_waiters(self) -> None:
        """Make every waiter check its condition again."""
        for waiter in self._waiters:
            waiter.set()

    async def changed(self, count: int, timeout_seconds: float) -> None:
        """Return when the number of announcements is not `count`, or after the timeout."""
        changing = asyncio.ensure_future(self.until(lambda: self.count != count))
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        try:
            await asyncio.wait({changing, time_is_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            time_is_up.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` is true; it is checked again at each `wake_waiters`."""
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            while not condition():
                await waiter.wait()
                waiter.clear()
        finally:
            self._waiters.discard(waiter)


class RedisAnnouncements:
    """The topics of one store. They share one connection, which opens when the first topic is used."""

    def __init__(self, subscriber: Callable[[], PubSub], clock: Clock, settings: RedisSettings) -> None:
        self._subscriber = subscriber
        self._clock = clock
        self._settings = settings
        self._topics: dict[str, Topic] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._changed = asyncio.Event()
        self._delay_seconds = FIRST_RETRY_SECONDS
        self._listening: asyncio.Task[None] | None = None
        self._sendings: set[asyncio.Task[None]] = set()
        self._failure: StorageError | None = None

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncIterator[Topic]:
        """Yield the topic of that name; no announcement is missed inside the block.

        Raises:
            StorageError: the server refuses the subscription, or does not confirm it before the timeout.
        """
        topic = self._topics.get(name)
        is_new = topic is None
        if topic is None:
            topic = self._topics[name] = Topic(self._clock)
        topic.users += 1
        self._idle.pop(name, None)
        try:
            if is_new:
                self._topics_changed()
            if not topic.is_live:
                await self._confirmation(topic)
            yield topic
        finally:
            topic.users -= 1
            if not topic.users:
                self._idle[name] = None
        while len(self._idle) > IDLE_TOPICS_MAX:
            del self._topics[self._idle.popitem(last=False)[0]]
            self._topics_changed()

    async def close(self) -> None:
        """Close the connection and wake every waiter once."""
        if self._listening is not None:
            await _end(self._listening)
            self._listening = None
        for topic in self._topics.values():
            topic.announce()

    def _topics_changed(self) -> None:
        self._changed.set()
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="outlast redis announcements")

    async def _confirmation(self, topic: Topic) -> None:
        def is_decided() -> bool:
            return topic.is_live or (self._failure is not None and not self._failure.retryable)

        try:
            # Real time on purpose: the server does not follow a virtual clock.
            async with asyncio.timeout(self._settings.timeout_seconds):
                await topic.until(is_decided)
        except TimeoutError as error:
            raise self._failure or StorageUnavailable(
                f"{self._settings.place} did not confirm a subscription in time; check whether the server "
                "is overloaded or unreachable, or raise timeout in the URL"
            ) from error
        if not topic.is_live:
            assert self._failure is not None
            raise self._failure

    async def _listen(self) -> None:
        while True:
            pubsub = self._subscriber()
            try:
                await self._serve(pubsub)
            except REDIS_ERRORS as error:
                self._failure = storage_error(error, self._settings.place)
                logger.warning("%s; changes are noticed late until the connection is back", self._failure)
            finally:
                for topic in self._topics.values():
                    topic.is_live = False
                    topic.latest = b""
                    topic.wake_waiters()
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's
            await asyncio.sleep(self._delay_seconds)
            self._delay_seconds = min(2 * self._delay_seconds, LAST_RETRY_SECONDS)

    async def _serve(self, pubsub: PubSub) -> None:
        """Subscribe to every topic and take its announcements, until the connection breaks.

        Any call of redis-py connects again when it finds the connection broken. Two calls at the same time
        would connect twice, and then both would read from one connection. So this method stops reading
        before it sends a command.
        """
        asked: dict[str, Topic] = {}
        while True:
            self._changed.clear()
            gone = [name for name in asked if name not in self._topics]
            new = [name for name, topic in self._topics.items() if asked.get(name) is not topic]
            asked = dict(self._topics)
            if gone:
                await pubsub.unsubscribe(*gone)
            if new:
                await pubsub.subscribe(*new)
            reading = asyncio.create_task(self._read(pubsub))
            changing = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait({reading, changing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changing.cancel()
                await _end(reading)
            if not reading.cancelled():
                reading.result()

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=None)
            if message is not None:
                self._take(message["type"], message["channel"].decode(), message["data"])
                self._delay_seconds = FIRST_RETRY_SECONDS

    def _take(self, kind: str, name: str, data: object) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        if kind == "message" and isinstance(data, bytes):
            topic.announce(data)
        elif kind == "subscribe":
            # Earlier announcements may be lost, for example while the connection was broken.
            topic.is_live = True
            self._failure = None
            topic.announce()
        else:
            topic.is_live = False
            topic.latest = b""


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel the task and return when it has ended.

    It cancels repeatedly, because Python 3.11 can lose a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    if not task.cancelled():
        task.exception()  # Marks the exception as retrieved; `result()` still raises it.
