"""Executions in an SQLite file keep the durability port's promises."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from outlast.adapters.sqlite import SqliteDeltas, SqliteStore
from outlast.ports.deltas import Deltas
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.virtual_clock import VirtualClock


class TemporaryFile:
    """Storage in a file of its own, which a new directory holds."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.directory = Path(tempfile.mkdtemp(prefix="outlast-"))

    def open(self) -> SqliteStore:
        return SqliteStore(
            self.directory / "runs.db",
            self.clock,
            synchronous="off",
            poll_seconds=0.005,
            limit_bytes=2 * 1024 * 1024,
        )

    async def dispose(self) -> None:
        shutil.rmtree(self.directory)


class InFile(InStore):
    """The same, whose files a test can read."""

    def __init__(self) -> None:
        self._file = TemporaryFile()
        super().__init__(self._file)

    def open_deltas(self) -> Deltas:
        return SqliteDeltas(self._file.directory / "runs.db", self.clock, poll_seconds=0.005)

    async def stored_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self._file.directory.iterdir()))


class TestSqliteDurability(DurabilityContract):
    new_storage = InFile
