import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from outlast_json.deltas import JsonDeltas
from outlast_json.store import JsonStore

from outlast.testing import (
    BackendCapability,
    CrashContract,
    DeltasContract,
    DeltasPlace,
    DurabilityContract,
    InStore,
    JournalContract,
    MovableClock,
    Storage,
    StoreCapability,
    VirtualClock,
)


class TemporaryFile(Storage):
    """A file in a directory of its own, and a clock that a test can move."""

    def __init__(self) -> None:
        self._clock: MovableClock = VirtualClock()
        self.path = Path(tempfile.mkdtemp(), "runs.json")

    @property
    def clock(self) -> MovableClock:
        return self._clock

    def open(self) -> JsonStore:
        return JsonStore(self.path, self.clock)

    async def dispose(self) -> None:
        shutil.rmtree(self.path.parent)


class TestJsonStore(JournalContract):
    new_storage = TemporaryFile
    capabilities = frozenset(StoreCapability) - {StoreCapability.STEADY_LEASES, StoreCapability.BREAKABLE}


class WithText(InStore):
    """The engine's backend on such a file, with text in the file beside it."""

    def __init__(self) -> None:
        self.file = TemporaryFile()
        super().__init__(self.file)

    def open_deltas(self) -> JsonDeltas:
        return JsonDeltas(self.file.path, self.clock)


class TestJsonBackend(DurabilityContract):
    new_storage = WithText
    capabilities = frozenset(BackendCapability) - {BackendCapability.STEADY_LEASES}


class TextFile(DeltasPlace):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = VirtualClock()

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> JsonDeltas:
        return JsonDeltas(self._path, self.clock)


class TestJsonDeltas(DeltasContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> DeltasPlace:
        return TextFile(tmp_path / "runs.json")


@asynccontextmanager
async def temporary_url() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"json:{folder}/runs.json"


class TestJsonUnderCrashes(CrashContract):
    new_place = temporary_url
