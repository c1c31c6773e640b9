"""The suites on SQLite files of their own; the path in the URL is not used."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outlast.adapters.sqlite import SqliteDeltas, SqliteStore
from outlast.ports.deltas import Deltas
from outlast.testing.contracts.crash.contract import CrashContract
from outlast.testing.contracts.deltas.contract import DeltasContract, DeltasPlace
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.journal.contract import ALL, MEBIBYTE, JournalContract, StoreCapability
from outlast.testing.contracts.journal.storage import Storage
from outlast.testing.virtual_clock import VirtualClock

POLL_SECONDS = 0.005


class SqliteFile(Storage):
    """A file in a directory of its own."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self.path = Path(tempfile.mkdtemp(prefix="outlast-"), "runs.db")

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> SqliteStore:
        # Without its own cleaning: the suite counts what `prune` forgets.
        return SqliteStore(
            self.path,
            self.clock,
            synchronous="off",
            poll_seconds=POLL_SECONDS,
            clean_seconds=None,
            limit_bytes=MEBIBYTE,
        )

    async def dispose(self) -> None:
        shutil.rmtree(self.path.parent)


class InSqliteFile(InStore):
    """The engine's backend on such a file."""

    def __init__(self) -> None:
        self._file = SqliteFile()
        super().__init__(self._file)

    def open_deltas(self) -> Deltas:
        return SqliteDeltas(self._file.path, self.clock, poll_seconds=POLL_SECONDS)

    async def stored_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self._file.path.parent.iterdir()))


class SqliteText(DeltasPlace):
    """The text beside such a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = VirtualClock()

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> Deltas:
        return SqliteDeltas(self._path, self._clock, poll_seconds=POLL_SECONDS)


@asynccontextmanager
async def sqlite_url() -> AsyncIterator[str]:
    """Give the URL of a fresh file; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        yield f"sqlite:///{Path(folder, 'runs.db')}"


class TestSqliteJournal(JournalContract):
    # It holds its file open: there is no connection that could break.
    capabilities = ALL - {StoreCapability.BREAKABLE}
    new_storage = SqliteFile


class TestSqliteDurability(DurabilityContract):
    new_storage = InSqliteFile


class TestSqliteDeltas(DeltasContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> DeltasPlace:
        return SqliteText(tmp_path / "runs.db")


class TestSqliteCrashes(CrashContract):
    new_place = sqlite_url
