"""The proxy of the fault tests makes the faults that it is asked for, and no others."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.testing.contracts.examples import few_examples
from tests.adapters.certificates import make_certificates
from tests.adapters.tcp_proxy import LOOPBACK, Direction, TcpProxy
from tests.listening import listening

PATIENCE_SECONDS = 20.0
HELD_SECONDS = 0.05
"""Long enough for bytes that nobody holds to arrive."""


class Echo:
    """A server that answers every line with the same line, and remembers what it got."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = asyncio.Event()
        """Set when a connection has ended."""

    async def __aenter__(self) -> Echo:
        self._stack = AsyncExitStack()
        self.port: int = await self._stack.enter_async_context(listening(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.received += data
                writer.write(data)
        finally:
            self.closed.set()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        """Return the bytes that come back, until all are there or the connection has ended."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self._reader.readexactly(len(data))
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def is_reset(self) -> bool:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self._reader.read(1) == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connect(proxy: TcpProxy, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(echo.port) as proxy:
        yield proxy


async def test_without_a_command_everything_passes(proxy: TcpProxy) -> None:
    message = bytes(range(256)) * 1000
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(proxy)) for _ in range(3)]
        assert await asyncio.gather(*(client.ask(message) for client in clients)) == [message] * 3
        assert proxy.connections == 3
        assert list(proxy.passed.values()) == [3 * len(message)] * 2


@few_examples(30)
@given(
    message=st.binary(min_size=1, max_size=3000),
    share=st.floats(min_value=0, max_value=1, exclude_max=True),
    direction=st.sampled_from(Direction),
)
async def test_a_stream_is_cut_at_the_very_byte(message: bytes, share: float, direction: Direction) -> None:
    count = int(share * len(message))
    async with (
        Echo() as echo,
        TcpProxy(echo.port) as proxy,
        connect(proxy) as client,
        connect(proxy) as other,
    ):
        proxy.cut_after(count, direction)
        answer = await client.ask(message)
        assert await client.is_reset()
        assert proxy.was_cut.is_set()
        assert proxy.passed[direction] == count
        if direction is Direction.TO_SERVER:
            await asyncio.wait_for(echo.closed.wait(), PATIENCE_SECONDS)
            assert echo.received == message[:count]
        else:
            assert answer == message[:count]
        # It happens once, and to one connection.
        assert await other.ask(message) == message


async def test_dropped_connections_are_reset_and_new_ones_are_welcome(proxy: TcpProxy) -> None:
    async with connect(proxy) as client:
        assert await client.ask(b"before") == b"before"
        proxy.drop()
        assert await client.is_reset()
    async with connect(proxy) as client:
        assert await client.ask(b"after") == b"after"


async def test_refused_connections_carry_nothing_until_it_is_healed(proxy: TcpProxy, echo: Echo) -> None:
    proxy.refuse()
    async with connect(proxy) as client:
        assert await client.is_reset()
    assert not echo.received
    proxy.heal()
    async with connect(proxy) as client:
        assert await client.ask(b"after") == b"after"


async def test_frozen_bytes_are_delivered_when_the_proxy_is_healed(proxy: TcpProxy, echo: Echo) -> None:
    async with connect(proxy) as client:
        assert await client.ask(b"before ") == b"before "
        proxy.freeze()
        answer = asyncio.create_task(client.ask(b"after"))
        await asyncio.wait([answer], timeout=HELD_SECONDS)
        assert not answer.done()
        assert echo.received == b"before "
        proxy.heal()
        assert await answer == b"after"


async def test_a_delay_is_added_each_way(proxy: TcpProxy) -> None:
    async with connect(proxy) as client:
        assert await client.ask(b"before") == b"before"
        proxy.delay(0.05)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await client.ask(b"late") == b"late"
        assert loop.time() - began >= 0.1


async def test_bytes_of_the_server_can_be_replaced(proxy: TcpProxy) -> None:
    proxy.replace(b"version:7", b"version:5")
    async with connect(proxy) as client:
        assert await client.ask(b"version:7.0 version:6") == b"version:5.0 version:6"


async def test_a_server_that_is_not_there_ends_the_connection() -> None:
    async with Echo() as echo:
        port = echo.port
    async with TcpProxy(port) as proxy, connect(proxy) as client:
        assert await client.is_reset()


async def test_clients_may_talk_tls_to_it(echo: Echo, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(certificates.certificate, certificates.key)
    there = ssl.create_default_context(cafile=str(certificates.authority))
    async with TcpProxy(echo.port, tls=here) as proxy, connect(proxy, there) as client:
        assert await client.ask(b"secret") == b"secret"
        assert echo.received == b"secret"
