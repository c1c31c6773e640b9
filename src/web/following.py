"""The events of an execution as a response that does not end: server-sent events.

A message holds the events that there were at that moment, in a list; its id is the position of the last one.
A reader that was cut off sends this id and misses nothing. The text of a reply that is still being written
has the position of the event before it, so such a reader gets that text again from its beginning, under the
same numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from outlast.core.event_stream import Event
from outlast.core.json import encode
from outlast.web.answers import error_of
from outlast.web.documents import event_document

BEAT_SECONDS: Final = 15.0
"""An idle connection carries a sign of life this often, so that both sides notice when the other is gone."""
BATCH_MAX: Final = 500
"""The most events of one message."""

_END: Final = object()


async def messages_of(events: AsyncIterator[Event]) -> AsyncGenerator[bytes]:
    """Yield the messages with `events`, and a last one: `end`, or `trouble` with an error."""
    queue: asyncio.Queue[Event | Exception | object] = asyncio.Queue(BATCH_MAX)

    async def read() -> None:
        try:
            async with aclosing(events) if isinstance(events, AsyncGenerator) else nullcontext():
                async for event in events:
                    await queue.put(event)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(_END)

    reading = asyncio.create_task(read())
    try:
        yield b": connected\n\n"
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    batch = [await queue.get()]
            except TimeoutError:
                yield b": alive\n\n"
                continue
            await asyncio.sleep(0)  # The reader may have more at once.
            while not queue.empty() and len(batch) < BATCH_MAX:
                batch.append(queue.get_nowait())
            found = [one for one in batch if isinstance(one, Event)]
            if found:
                documents = [event_document(event) for event in found]
                yield _message("events", documents, id=found[-1].position)
            if isinstance(batch[-1], Exception):
                yield _message("trouble", error_of(batch[-1]))
                return
            if batch[-1] is _END:
                yield _message("end", {})
                return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _message(kind: str, data: Any, *, id: int | None = None) -> bytes:
    head = f"event: {kind}\n" if id is None else f"event: {kind}\nid: {id}\n"
    return b"".join((head.encode(), b"data: ", encode(data), b"\n\n"))


class EventStreamResponse:
    """An ASGI response of messages. They are closed as soon as the reader is gone."""

    def __init__(self, messages: AsyncGenerator[bytes]) -> None:
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        async with aclosing(self._messages) as messages:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for message in messages:
                await send({"type": "http.response.body", "body": message, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
