"""Worker processes on one SQLite file, or on one server, are killed, paused and stopped."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outlast.testing import BackendCapability, CrashContract
from tests.adapters import temporal_server
from tests.adapters.redis_servers import VALKEY, shared_server

pytestmark = pytest.mark.crash


@asynccontextmanager
async def temporary_file() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        yield f"sqlite:///{Path(folder, 'runs.db')}"


@asynccontextmanager
async def prefix_on_valkey() -> AsyncIterator[str]:
    yield f"{shared_server(VALKEY).url()}?prefix={uuid.uuid4().hex}"


@asynccontextmanager
async def new_namespace() -> AsyncIterator[str]:
    address = temporal_server.shared_server()
    yield f"temporal://{address}/{await temporal_server.new_namespace(address)}"


class TestSqliteUnderCrashes(CrashContract):
    new_place = temporary_file


@pytest.mark.server
class TestValkeyUnderCrashes(CrashContract):
    new_place = prefix_on_valkey


@pytest.mark.nightly
@pytest.mark.server
class TestTemporalUnderCrashes(CrashContract):
    new_place = new_namespace
    capabilities = frozenset(BackendCapability) - {BackendCapability.HOLDS, BackendCapability.LISTS_WORKERS}
