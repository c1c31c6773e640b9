"""A TCP proxy that misbehaves on command: it refuses, freezes, delays, drops, and cuts a stream at a byte."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Self

from outlast.testing.mistral_server.listening import stop_accepting

CHUNK_BYTES = 65536
LOOPBACK = "127.0.0.1"


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


@dataclass(slots=True)
class _Cut:
    """A connection is to be cut when so many more bytes have gone that way."""

    direction: Direction
    bytes_left: int


class TcpProxy:
    """Stands between clients, at `port`, and a server on loopback, from entering the block to leaving it.

    What a command says holds for all connections, those that are open and those to come. With `tls` clients
    talk TLS to it, and it talks plainly to the server.
    """

    def __init__(self, server_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.server_port = server_port
        self.port = 0
        self.passed = dict.fromkeys(Direction, 0)
        """The number of bytes that have gone each way."""
        self.was_cut = asyncio.Event()
        """Set when what `cut_after` asked for has happened."""
        self._tls = tls
        self._cut: _Cut | None = None
        self._delay_seconds = 0.0
        self._replaced: tuple[bytes, bytes] | None = None
        self._refuses = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._connected, LOOPBACK, 0, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        await stop_accepting(self._listener)
        self.heal()
        self.drop()
        if self._connections:
            await asyncio.wait(self._connections)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    # Commands

    def drop(self) -> None:
        """Reset every open connection; new ones are welcome."""
        for writers in self._connections.values():
            for writer in writers:
                writer.transport.abort()

    def refuse(self) -> None:
        """Reset every open connection, and each new one as soon as it is there."""
        self._refuses = True
        self.drop()

    def freeze(self) -> None:
        """Hold whatever is sent; connections stay open."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Let whatever is sent from now on take so much longer, each way."""
        self._delay_seconds = seconds

    def cut_after(self, count: int, direction: Direction) -> None:
        """Close the connection that passes byte number `count` from now on in this direction, right after it.

        The bytes up to it arrive, those behind it never do: 1 and more are the halves of a message, 0 cuts
        before the first byte. It happens once, whatever comes later.
        """
        self.was_cut.clear()
        self._cut = _Cut(direction, count)

    def replace(self, sent: bytes, instead: bytes) -> None:
        """Replace bytes of the server, where it sends them in one piece, by others of the same length."""
        assert len(sent) == len(instead)
        self._replaced = (sent, instead)

    def heal(self) -> None:
        """Take back every command; the bytes that were held are sent on."""
        self._refuses = False
        self._delay_seconds = 0.0
        self._cut = None
        self._replaced = None
        self._flowing.set()

    # Its work

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._refuses:
            writer.transport.abort()
            return
        self._connections[task] = (writer,)
        try:
            with suppress(OSError):
                await self._carry(task, reader, writer)
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _carry(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes both ways until one side is closed; then both are."""
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.server_port)
        self._connections[task] = (writer, server_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, server_writer, Direction.TO_SERVER)),
            asyncio.create_task(self._pump(server_reader, writer, Direction.TO_CLIENT)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            server_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._flowing.wait()
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            if self._replaced is not None and direction is Direction.TO_CLIENT:
                data = data.replace(*self._replaced)
            cut = self._cut if self._cut is not None and self._cut.direction is direction else None
            passing = data if cut is None else data[: cut.bytes_left]
            if passing:
                writer.write(passing)
                await writer.drain()
                self.passed[direction] += len(passing)
            if cut is None:
                continue
            cut.bytes_left -= len(passing)
            if not cut.bytes_left:
                self._cut = None
                # The bytes before the cut must arrive: this is not a reset.
                writer.close()
                await writer.wait_closed()
                self.was_cut.set()
                return
