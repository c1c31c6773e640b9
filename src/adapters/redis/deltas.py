"""Text that models are writing, as a Redis stream for each execution that some is written in.

Under the same prefix as the store's keys there is

    text:ID                     a stream: the pieces, until a while after the last one

and news of it are published on the channel of the same name. Nothing of the store's is read or written.
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

PIECES_MAX: Final = 10_000
"""About how many pieces of one execution are kept at most."""
_EXPIRE_MILLISECONDS: Final = round(2 * KEEP_SECONDS * 1000)


@dataclass(frozen=True, slots=True)
class _Opened:
    server: Server
    announcements: RedisAnnouncements
    stack: AsyncExitStack


class RedisDeltas(Deltas):
    """Deltas on the server or cluster of a store. It is connected to when there is something to do."""

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
        piece = {"key": delta.key, "attempt": delta.attempt, "sequence": delta.sequence}
        body = json.dumps({**piece, "text": delta.text, "at": delta.at})
        # One stream is one key, so it needs no shard; the place of its hash tag and the time stay empty.
        arguments = (self._settings.prefix, "", "", name, body, PIECES_MAX, _EXPIRE_MILLISECONDS)
        with translated(self._settings):
            await script("tell").run(opened.server.route, name, arguments)

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
            heard = topic.heard
            if not (await self.read(execution_id, after))[0]:
                await topic.changed(heard, timeout_seconds)

    async def _open(self) -> _Opened:
        async with self._lock:
            if self._maybe_opened is None:
                async with AsyncExitStack() as stack:
                    # What a server may lose is the store's to say: text is no loss.
                    server = await open_server(self._settings, for_keeps=False)
                    stack.push_async_callback(server.route.close)
                    announcements = RedisAnnouncements(server.route.subscriber, self._clock, self._settings)
                    stack.push_async_callback(announcements.close)
                    self._maybe_opened = _Opened(server, announcements, stack.pop_all())
            return self._maybe_opened

    def _name(self, execution_id: str) -> str:
        return f"{self._settings.prefix}:text:{execution_id}"


def _delta(fields: Mapping[bytes, bytes]) -> Delta:
    try:
        return Delta(**json.loads(fields[b"piece"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageCorrupt(
            "a piece of text was not written by this version; it is gone in a minute"
        ) from error
