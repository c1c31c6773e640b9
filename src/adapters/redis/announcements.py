"""Hearing of what other processes change, by publish and subscribe.

Redis forgets a published message at once, and a connection may break. So an announcement only says that it
is worth looking. Whoever waits first makes sure that the topic is listened to, then looks, then waits until
more has been heard than before the look; and when a broken connection is back, every topic counts as heard
once more. So nothing is missed, however the three interleave with a write.
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
"""How many topics are still listened to though nobody uses them just now: mostly somebody soon does again."""

CANCEL_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0


class Topic:
    """A channel that is listened to."""

    def __init__(self, clock: Clock) -> None:
        self.heard = 0
        """How many announcements there have been."""
        self.said = b""
        """What the last one said; nothing if one may have been missed since."""
        self.is_live = False
        """Whether every announcement from now on will be heard."""
        self.users = 0
        self._clock = clock
        self._bells: set[asyncio.Event] = set()

    def announce(self, said: bytes = b"") -> None:
        self.heard += 1
        self.said = said
        self.ring()

    def ring(self) -> None:
        """Make everyone who waits look again."""
        for bell in self._bells:
            bell.set()

    async def changed(self, heard: int, timeout_seconds: float) -> None:
        """Return when more or less than `heard` was heard, or time is up by the clock."""
        changing = asyncio.ensure_future(self.until(lambda: self.heard != heard))
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        try:
            await asyncio.wait({changing, time_is_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            time_is_up.cancel()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once `is_so()`, which may change whenever the bells are rung."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            while not is_so():
                await bell.wait()
                bell.clear()
        finally:
            self._bells.discard(bell)


class RedisAnnouncements:
    """The topics that one store listens to, all on one connection, which is opened when the first is used."""

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
        """Give the topic; in the block, every announcement of it is heard.

        Raises:
            StorageError: the server refuses, or has not confirmed within the time for an answer.
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
        """Listen no more; everyone who waits looks once more."""
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
            # Real time on purpose, not the clock's: the server does not live by a virtual one.
            async with asyncio.timeout(self._settings.timeout_seconds):
                await topic.until(is_decided)
        except TimeoutError as error:
            raise self._failure or StorageUnavailable(
                f"{self._settings.place} did not confirm in time that it will tell of changes; see whether "
                "it is overloaded or unreachable, or raise timeout in the URL"
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
                logger.warning("%s; until it is back, changes are noticed late", self._failure)
            finally:
                for topic in self._topics.values():
                    topic.is_live = False
                    topic.said = b""
                    topic.ring()
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's
            await asyncio.sleep(self._delay_seconds)
            self._delay_seconds = min(2 * self._delay_seconds, LAST_RETRY_SECONDS)

    async def _serve(self, pubsub: PubSub) -> None:
        """Listen to all topics there are, until the connection breaks.

        redis-py connects again in whatever call finds the connection broken, so two calls at once would do it
        twice and read from one connection together. Reading is therefore left off while something is said.
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
            # What was said before, and since an earlier connection was lost, is not known.
            topic.is_live = True
            self._failure = None
            topic.announce()
        else:
            topic.is_live = False
            topic.said = b""


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel the task, and return when it has ended. (On Python 3.11 one cancellation may be lost.)"""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    if not task.cancelled():
        task.exception()  # Taken note of: whoever still wants to know asks for the result.
