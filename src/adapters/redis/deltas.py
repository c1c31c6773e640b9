"""Deltas on Redis: one Redis stream for each execution in which a model is writing.

Under the same prefix as the keys of the store there is

    text:ID                     a stream: the deltas; it expires some time after the latest one

and each new delta is announced on the channel of the same name. The keys of the store are not touched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from outlast.adapters.redis.announcements import RedisAnnouncements
from outlast.adapters.redis.connection import Server, open_server
from outlast.adapters.redis.errors import translated
from outlast.adapters.redis.scripts import script
from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import StorageCorrupt
from outlast.core.event_stream import Delta
from outlast.ports.clock import Clock
from outlast.ports.deltas import KEEP_SECONDS, Deltas

DELTAS_MAX: Final = 10_000
"""About how many deltas of one execution are kept at most."""
_EXPIRE_MILLISECONDS: Final = round(2 * KEEP_SECONDS * 1000)


@dataclass(frozen=True, slots=True)
class _Opened:
    server: Server
    announcements: RedisAnnouncements
    stack: AsyncExitStack


class RedisDeltas(Deltas):
    """Deltas on the server or cluster of a store. It connects when it is first used."""

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = asyncio.Lock()
        self._maybe_opened: _Opened | None = None

    async def __aenter__(self) -> RedisDeltas:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._lock:
            opened, self._maybe_opened = self._maybe_opened, None
        if opened is not None:
            await opened.stack.aclose()

    async def publish(self, execution_id: str, delta: Delta) -> None:
        opened, name = await self._open(), self._name(execution_id)
        place = {"key": delta.key, "attempt": delta.attempt, "sequence": delta.sequence}
        body = json.dumps({**place, "text": delta.text, "at": delta.at})
        # A stream is a single key, so it needs no shard: the arguments for hash tag and time are empty.
        arguments = (self._settings.prefix, "", "", name, body, DELTAS_MAX, _EXPIRE_MILLISECONDS)
        with translated(self._settings):
            await script("publish").run(opened.server.route, name, arguments)

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        opened = await self._open()
        with translated(self._settings):
            name = self._name(execution_id)
            command = ("XRANGE", name, f"({after}" if after else "-", "+")
            [found] = await opened.server.route.send(name, command)
        return [_delta(fields) for _, fields in found], found[-1][0].decode() if found else after

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        opened = await self._open()
        async with opened.announcements.listening(self._name(execution_id)) as topic:
            count = topic.count
            if not (await self.read(execution_id, after))[0]:
                await topic.changed(count, timeout_seconds)

    async def _open(self) -> _Opened:
        async with self._lock:
            if self._maybe_opened is None:
                async with AsyncExitStack() as stack:
                    # Deltas may be lost (X3), so only the store warns about a server that loses writes.
                    server = await open_server(self._settings, check_durability=False)
                    stack.push_async_callback(server.route.close)
                    announcements = RedisAnnouncements(server.route.subscriber, self._clock, self._settings)
                    stack.push_async_callback(announcements.close)
                    self._maybe_opened = _Opened(server, announcements, stack.pop_all())
            return self._maybe_opened

    def _name(self, execution_id: str) -> str:
        return f"{self._settings.prefix}:text:{execution_id}"


def _delta(fields: Mapping[bytes, bytes]) -> Delta:
    try:
        return Delta(**json.loads(fields[b"delta"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageCorrupt(
            "a delta in Redis was written by other code or another version of this library; it expires "
            "within minutes"
        ) from error
