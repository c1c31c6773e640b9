"""Text beside the journal, in memory and in a file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.adapters.redis import RedisDeltas
from outlast.adapters.sqlite import SqliteDeltas
from outlast.core.errors import StorageCorrupt
from outlast.core.event_stream import Delta
from outlast.ports.deltas import KEEP_SECONDS, Deltas
from outlast.testing.contracts.deltas.contract import DeltasContract, DeltasPlace
from outlast.testing.contracts.durability.in_store import SharedDeltas
from outlast.testing.virtual_clock import VirtualClock
from tests.adapters.redis_storage import Prefix, on_valkey


class InMemory(DeltasPlace):
    """One object that everybody shares, as the backend of a process does."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self._deltas = MemoryDeltas(self._clock)

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> Deltas:
        return SharedDeltas(self._deltas)


class InFile(DeltasPlace):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = VirtualClock()

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> Deltas:
        return SqliteDeltas(self._path, self._clock, poll_seconds=0.001)


class TestMemoryDeltas(DeltasContract):
    @pytest.fixture
    def place(self) -> DeltasPlace:
        return InMemory()


class TestSqliteDeltas(DeltasContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> DeltasPlace:
        return InFile(tmp_path / "runs.db")


@pytest.mark.anyio
@pytest.mark.parametrize("is_in_file", [False, True], ids=["memory", "sqlite"])
async def test_text_of_a_silent_step_is_dropped_when_another_step_publishes(
    is_in_file: bool, tmp_path: Path
) -> None:
    clock = VirtualClock()
    async with SqliteDeltas(tmp_path / "runs.db", clock) if is_in_file else MemoryDeltas(clock) as deltas:
        await deltas.publish("x", Delta("run/t1", 1, 1, "a", clock.now()))
        await clock.advance(2 * KEEP_SECONDS)
        await deltas.publish("x", Delta("run/t2", 1, 1, "b", clock.now()))
        assert [delta.key for delta in (await deltas.read("x", ""))[0]] == ["run/t2"]


def piece(number: int = 1) -> Delta:
    return Delta("run/t1", 1, number, "a", 1_700_000_000.0)


class OnRedis(DeltasPlace):
    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix

    @property
    def clock(self) -> VirtualClock:
        return self._prefix.clock

    def open(self) -> Deltas:
        return RedisDeltas(self._prefix.settings, self.clock)


@pytest.mark.server
class TestRedisDeltas(DeltasContract):
    @pytest.fixture
    async def place(self) -> AsyncIterator[DeltasPlace]:
        prefix = on_valkey()
        yield OnRedis(prefix)
        await prefix.dispose()


@pytest.mark.anyio
async def test_no_file_is_made_where_nobody_publishes(tmp_path: Path) -> None:
    async with SqliteDeltas(tmp_path / "runs.db", VirtualClock()) as deltas:
        assert await deltas.read("x", "") == ((), "")
    assert os.listdir(tmp_path) == []


@pytest.mark.anyio
async def test_a_file_of_another_version_is_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runs.db-deltas") as connection:
        connection.execute("CREATE TABLE delta (of_old TEXT)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    async with SqliteDeltas(tmp_path / "runs.db", VirtualClock()) as deltas:
        await deltas.publish("x", piece())
        assert list((await deltas.read("x", ""))[0]) == [piece()]


@pytest.mark.anyio
async def test_a_file_that_is_not_a_database_is_an_error_of_ours_and_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "runs.db-deltas").write_bytes(b"not a database" * 100)
    async with SqliteDeltas(tmp_path / "runs.db", VirtualClock()) as deltas:
        with pytest.raises(StorageCorrupt, match="delete it"):
            await deltas.publish("x", piece())
        (tmp_path / "runs.db-deltas").unlink()
        await deltas.publish("x", piece())


@pytest.mark.anyio
async def test_any_number_of_views_may_make_the_file_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        views = [
            await stack.enter_async_context(SqliteDeltas(tmp_path / "runs.db", VirtualClock()))
            for _ in range(8)
        ]
        await asyncio.gather(*(view.publish("x", piece(number)) for number, view in enumerate(views)))
        assert sorted(delta.sequence for delta in (await views[0].read("x", ""))[0]) == list(range(8))
