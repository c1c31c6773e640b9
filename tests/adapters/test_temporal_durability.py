"""Executions on a Temporal server keep the durability port's promises."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any, Self

import pytest

from durable_agents.adapters.temporal import TemporalBackend
from durable_agents.composition.backends import toolkit
from durable_agents.ports.durability import Backend
from durable_agents.testing.durability.storage import DurabilityStorage
from durable_agents.testing.durability_contract import Capability, DurabilityContract
from tests.adapters.temporal_server import new_namespace, shared_server


class RealClock:
    """The clock on the wall."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


class Lifeline:
    """A connection to the server that goes through this process, and can be cut."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


class MortalBackend(TemporalBackend):
    """The backend of one process, on a lifeline."""

    def __init__(self, storage: InNamespace) -> None:
        super().__init__("", "", toolkit())
        self._storage = storage
        self.lifeline = Lifeline(int(shared_server().partition(":")[2]))

    async def __aenter__(self) -> Self:
        self._namespace = await self._storage.namespace()
        self._address = await self.lifeline.open()
        try:
            return await super().__aenter__()
        except BaseException:
            await self.lifeline.close()
            raise

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        await self.lifeline.close()


class InNamespace(DurabilityStorage):
    """A namespace of its own, on the server that all tests share."""

    def __init__(self) -> None:
        self._clock = RealClock()
        self._namespace: asyncio.Task[str] | None = None

    @property
    def clock(self) -> Any:
        return self._clock

    async def namespace(self) -> str:
        if self._namespace is None:
            self._namespace = asyncio.create_task(new_namespace(shared_server()))
        return await self._namespace

    def open(self) -> MortalBackend:
        return MortalBackend(self)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    async def kill(self, backend: Backend) -> None:
        assert isinstance(backend, MortalBackend)
        backend.lifeline.cut()

    async def dispose(self) -> None:
        """The namespace stays, and nobody looks into it again."""


@pytest.mark.server
class TestTemporalDurability(DurabilityContract):
    new_storage = InNamespace
    capabilities = frozenset[Capability]()
    lease = timedelta(seconds=1)
    worker_life_seconds = 0.3
    only_nightly = (
        *("a_crash_after_any_deed", "an_execution_that_leaves_memory", "chance_is_the_same"),
        *("d11_code_that_departs", "d15_nothing_is_lost", "d17_a_call_waits", "d17_calls_are_decided"),
        *("d3_what_is_journaled", "d4_what_may_have_run", "d5_an_attempt_that_takes_too_long", "d5_back_off"),
        *(
            "d8_a_timer_never_fires_early[5.0]",
            "d8_a_timer_survives",
            "d8_timers_fire",
            "d9_signals_are_applied",
        ),
    )
