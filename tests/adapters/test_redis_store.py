"""The store on Redis keeps the journal contract: on each server there is, in one shard and in several."""

from __future__ import annotations

import pytest

from durable_agents.testing.journal_contract import JournalContract
from tests.adapters.redis_servers import REDIS
from tests.adapters.redis_storage import on_redis, on_valkey, on_valkey_in_shards

pytestmark = pytest.mark.server


class TestValkeyJournal(JournalContract):
    new_storage = on_valkey


class TestShardedJournal(JournalContract):
    new_storage = on_valkey_in_shards


@pytest.mark.skipif(REDIS.executable is None, reason="redis-server is not on the PATH")
class TestRedisJournal(JournalContract):
    new_storage = on_redis
