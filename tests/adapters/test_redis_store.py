"""The store on Redis keeps the journal contract: on each server there is, in one shard, in several,
and on a cluster of three nodes."""

from __future__ import annotations

import pytest
from hypothesis import settings

from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.journal.breaking import BreakingContract
from outlast.testing.contracts.journal.contract import ALL, JournalContract, StoreCapability
from tests.adapters.redis_servers import REDIS, external_url
from tests.adapters.redis_storage import (
    OnServerOfItsOwn,
    on_cluster,
    on_redis,
    on_the_one_that_redis_url_names,
    on_valkey,
    on_valkey_in_shards,
)

pytestmark = pytest.mark.server

ON_A_SERVER = ALL - {StoreCapability.STEADY_LEASES, StoreCapability.BREAKABLE}
"""Leases on Redis go by the clock of the server, and nobody stops a server that tests share."""


class TestValkeyJournal(JournalContract):
    capabilities = ON_A_SERVER
    new_storage = on_valkey


class TestBreakableValkey(BreakingContract):
    new_storage = OnServerOfItsOwn


class FewerPrograms(JournalContract):
    """The random programs take most of the time, and are much the same on every server."""

    capabilities = ON_A_SERVER

    @pytest.mark.hypothesis
    def test_random_programs_agree_with_a_list(self) -> None:
        self.explore(settings(few_examples(40), stateful_step_count=30))


class TestShardedJournal(FewerPrograms):
    new_storage = on_valkey_in_shards


class TestClusterJournal(JournalContract):
    capabilities = ON_A_SERVER
    new_storage = on_cluster

    @pytest.mark.hypothesis
    @pytest.mark.nightly
    def test_random_programs_agree_with_a_list(self) -> None:
        """Each of its programs opens connections to every node, many times."""
        super().test_random_programs_agree_with_a_list()


@pytest.mark.skipif(REDIS.executable is None, reason="redis-server is not on the PATH")
class TestRedisJournal(FewerPrograms):
    new_storage = on_redis


@pytest.mark.skipif(external_url() is None, reason="REDIS_URL names no server")
class TestExternalJournal(FewerPrograms):
    new_storage = on_the_one_that_redis_url_names
