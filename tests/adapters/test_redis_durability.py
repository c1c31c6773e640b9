"""Executions on Redis keep the durability port's promises."""

from __future__ import annotations

import pytest

from outlast.adapters.redis import RedisDeltas
from outlast.ports.deltas import Deltas
from outlast.testing.contracts.durability.contract import ALL, BackendCapability, DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
from tests.adapters.redis_servers import REDIS
from tests.adapters.redis_storage import Prefix, on_redis, on_valkey_in_shards

pytestmark = pytest.mark.server


class OnServer(InStore):
    """Executions under a prefix, whose keys a test can read."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        super().__init__(prefix)

    def open_deltas(self) -> Deltas:
        return RedisDeltas(self._prefix.settings, self.clock)

    async def stored_bytes(self) -> bytes:
        dumped = await self._prefix.dump()
        return b"\n".join(part for item in sorted(dumped.items()) for part in item)


def sharded_on_valkey() -> OnServer:
    return OnServer(on_valkey_in_shards())


def whole_on_redis() -> OnServer:
    return OnServer(on_redis())


class TestValkeyDurability(DurabilityContract):
    capabilities = ALL - {BackendCapability.STEADY_LEASES}
    worker_life_seconds = 0.05
    new_storage = sharded_on_valkey


@pytest.mark.skipif(REDIS.executable is None, reason="redis-server is not on the PATH")
class TestRedisDurability(DurabilityContract):
    capabilities = ALL - {BackendCapability.STEADY_LEASES}
    worker_life_seconds = 0.05
    new_storage = whole_on_redis
