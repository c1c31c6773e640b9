"""The servers of the Redis tests behave as the tests expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError

from tests.adapters.certificates import make_certificates
from tests.adapters.redis_cluster import cluster, is_caught_up, promote, replicated
from tests.adapters.redis_servers import (
    KINDS,
    TLS_KINDS,
    Kind,
    ServerOptions,
    ask,
    shared_server,
    temporary_server,
)

pytestmark = pytest.mark.server


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_server_with_an_append_only_file_comes_back_with_what_it_acknowledged(kind: Kind) -> None:
    with temporary_server(kind, ServerOptions(append_only=True)) as server:
        server.ask("SET", "key", "value")
        port = server.port
        server.restart()
        assert server.port == port
        assert server.ask("GET", "key") == b"value"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_server_without_one_comes_back_empty(kind: Kind) -> None:
    with temporary_server(kind) as server:
        server.ask("SET", "key", "value")
        server.restart()
        assert server.ask("GET", "key") is None


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_full_server_refuses_writes_and_answers_reads(kind: Kind) -> None:
    settings = {"maxmemory": "1kb", "maxmemory-policy": "noeviction"}
    with temporary_server(kind, ServerOptions(settings=settings)) as server:
        with pytest.raises(OutOfMemoryError):
            server.ask("SET", "key", "value")
        assert server.ask("GET", "key") is None


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_password_and_a_user_with_a_prefix_are_asked_for(kind: Kind, tmp_path: Path) -> None:
    users = ("app on >app-secret ~mine:* +get +set",)
    with temporary_server(kind, ServerOptions(password="secret", users=users)) as server:
        assert server.ask("SET", "key", "value")
        assert "secret" not in repr(server) + repr(server.options)
        with pytest.raises(AuthenticationError):
            ask(server.url(password="wrong"), "GET", "mine:key")
        app = server.url(user="app", password="app-secret")
        assert ask(app, "SET", "mine:key", "value")
        with pytest.raises(NoPermissionError):
            ask(app, "GET", "key")


@pytest.mark.parametrize("kind", TLS_KINDS, ids=str)
def test_tls_is_asked_for(kind: Kind, tmp_path: Path) -> None:
    with temporary_server(kind, ServerOptions(certificates=make_certificates(tmp_path))) as server:
        assert server.url().startswith("rediss://")
        assert server.ask("PING")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_replica_has_what_the_primary_has_and_can_take_its_place(kind: Kind) -> None:
    with replicated(kind) as (primary, replica):
        primary.ask("SET", "key", "value")
        assert primary.ask("WAIT", 1, 10_000) == 1
        assert is_caught_up(replica)
        primary.kill()
        promote(replica)
        assert replica.ask("GET", "key") == b"value"
        assert replica.ask("SET", "key", "changed")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_nodes_of_a_cluster_share_the_slots(kind: Kind) -> None:
    with cluster(kind) as nodes:
        owners = {node.port for node in nodes}
        assert {slots[2][1] for slots in nodes[0].ask("CLUSTER", "SLOTS")} == owners


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_shared_server_is_one(kind: Kind) -> None:
    assert shared_server(kind) is shared_server(kind)
    assert shared_server(kind).ask("PING")
