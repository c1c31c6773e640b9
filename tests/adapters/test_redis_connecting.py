"""Connecting to servers by a Redis URL: those that should work do, and the rest is a clear error in time."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

import outlast
from outlast.adapters.redis.connection import FORMAT
from outlast.core.errors import (
    ConfigurationError,
    StorageCorrupt,
    StorageError,
    StorageTooNew,
    StorageUnavailable,
)
from outlast.testing.contracts.durability.workflows import Steps
from tests.adapters.certificates import make_certificates
from tests.adapters.redis_cluster import cluster, replicated
from tests.adapters.redis_servers import (
    KINDS,
    LOOPBACK,
    REDIS,
    TLS_KINDS,
    VALKEY,
    Kind,
    RedisServer,
    ServerOptions,
    external_url,
    shared_server,
    temporary_server,
)
from tests.adapters.tcp_proxy import TcpProxy
from tests.listening import listening
from tests.ports import free_port

pytestmark = pytest.mark.server

TIMEOUT_SECONDS = 1.0
IN_TIME_SECONDS = 10.0
"""Far more than the timeout, for a machine that has much to do; what never ends takes longer."""

RULES = "-@all +@read +@write +@scripting +@pubsub +@connection -@dangerous +info +time"
"""Permissions by category, as many operators give them; the documentation names single commands."""


def with_options(url: str, **options: str) -> str:
    query = "&".join(
        f"{name}={value}" for name, value in {"timeout": str(TIMEOUT_SECONDS), **options}.items()
    )
    return f"{url}{'&' if '?' in url else '?'}{query}"


async def works(url: str, **options: str) -> None:
    """Check that an execution runs to its end on what `url` leads to."""
    async with outlast.connect(with_options(url, **options)) as backend, backend.worker([Steps]):
        execution = await backend.start(Steps, ["a", "b"], id=uuid.uuid4().hex)
        assert await asyncio.wait_for(execution.result(), 30) == ["a done", "b done"]
        assert [event.kind async for event in execution.events()][-1] == "execution_completed"


@asynccontextmanager
async def refused(kind: type[outlast.OutlastError], *words: str) -> AsyncIterator[None]:
    """The block raises just this in time, and its message says what to change."""
    began = time.monotonic()
    with pytest.raises(kind) as refusal:
        async with asyncio.timeout(30):
            yield
    assert time.monotonic() - began < IN_TIME_SECONDS
    assert type(refusal.value) is kind
    for expected in words:
        assert expected in str(refusal.value)
    assert "secret" not in f"{refusal.value!r} {refusal.value}"


async def connect(url: str, **options: str) -> None:
    async with outlast.connect(with_options(url, **options)):
        pass


# Servers that work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TLS_KINDS, ids=str)
async def test_tls_with_an_authority_that_the_url_names(kind: Kind, tmp_path: Path) -> None:
    with temporary_server(kind, ServerOptions(certificates=make_certificates(tmp_path))) as server:
        await works(server.url())
        async with refused(StorageError, "ssl_ca_certs"):
            await connect(f"rediss://{LOOPBACK}:{server.port}/0")


async def test_tls_that_somebody_in_front_of_the_server_ends(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    async with TcpProxy(shared_server(VALKEY).port, tls=context) as proxy:
        url = f"rediss://localhost:{proxy.port}/0"
        await works(url, prefix=uuid.uuid4().hex, ssl_ca_certs=str(certificates.authority))


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_user_of_one_prefix(kind: Kind) -> None:
    users = (f"app on >app-secret ~mine:* &mine:* {RULES}",)
    with temporary_server(kind, ServerOptions(password="secret", users=users)) as server:
        app = server.url(user="app", password="app-secret")
        await works(app, prefix="mine")
        assert all(key.startswith(b"mine:") for key in server.ask("KEYS", "*"))
        await works(server.url())
        async with refused(StorageError, "may not", "ACL SETUSER"):
            await connect(app, prefix="yours")


@pytest.mark.parametrize("kind", [VALKEY, pytest.param(REDIS, marks=pytest.mark.nightly)], ids=str)
async def test_a_cluster(kind: Kind) -> None:
    users = (
        f"app on >app-secret ~mine:* &mine:* {RULES} +cluster|slots +cluster|shards +cluster|nodes +command",
    )
    with cluster(kind, ServerOptions(users=users)) as nodes:
        await works(nodes[0].url())
        await works(nodes[1].url(user="app", password="app-secret"), prefix="mine")
        # Executions go to all of them, and more at once than there are connections wait for their turn.
        async with outlast.connect(
            with_options(nodes[0].url(), max_connections="2", timeout="10")
        ) as backend:
            await asyncio.gather(*(backend.start(Steps, ["a"]) for _ in range(50)))
            assert len(await backend.list()) == 51
        assert all(node.ask("DBSIZE") for node in nodes)
        async with refused(StorageError, "0 on a cluster"):
            await connect(nodes[0].url(database=1))
        # One node that may lose something is enough.
        for node in nodes[:2]:
            node.ask("CONFIG", "SET", "appendonly", "yes")
        async with refused(StorageError, "appendonly"):
            await connect(nodes[0].url(), require_durable="1")
        async with refused(ConfigurationError, "wait_aof"):
            await connect(nodes[0].url(), wait_aof="local")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", TLS_KINDS, ids=str)
async def test_a_cluster_with_tls(kind: Kind, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    options = ServerOptions(certificates=certificates, settings={"tls-cluster": "yes"})
    with cluster(kind, options) as nodes:
        await works(nodes[0].url())


@pytest.mark.nightly
async def test_a_cluster_of_which_more_databases_than_one_are_made() -> None:
    with cluster(VALKEY, ServerOptions(settings={"cluster-databases": "2"})) as nodes:
        async with refused(ConfigurationError, "only database 0"):
            await connect(nodes[0].url(database=1))


@pytest.mark.skipif(external_url() is None, reason="REDIS_URL names no server")
async def test_the_server_that_redis_url_names() -> None:
    await works(external_url() or "", prefix=uuid.uuid4().hex)


# A wrong URL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis:", "redis://[user:password@]host"),
        ("redis://", "redis://[user:password@]host"),
        ("redis:///0", "redis://[user:password@]host"),
        ("redis://:secret@/0", "redis://[user:password@]host"),
        ("redis://:secret@host:port/0", "the port"),
        ("redis://host:70000/0", "the port"),
        ("redis://:secret@host/name", "the database"),
        ("redis://host/0?colour=red", "unknown option 'colour'"),
        ("redis://host/0?prefix=", "prefix="),
        ("redis://host/0?prefix={a}", "prefix="),
        ("redis://host/0?shards=0", "shards=0"),
        ("redis://host/0?shards=many", "shards=many"),
        ("redis://host/0?require_durable=maybe", "require_durable=maybe"),
        ("redis://host/0?wait_aof=remote", "wait_aof=remote"),
        ("redis://host/0?keep_days=-1", "keep_days=-1"),
        ("redis://host/0?timeout=0", "timeout=0"),
        ("redis://host/0?timeout=nan", "timeout=nan"),
        ("redis://host/0?max_connections=0", "max_connections=0"),
        ("redis://host/0?ssl_ca_certs=ca.pem", "rediss://"),
    ],
)
async def test_a_url_that_makes_no_sense(url: str, message: str) -> None:
    async with refused(ConfigurationError, message):
        outlast.connect(url)


async def test_no_certificate_where_the_url_says_it_is(tmp_path: Path) -> None:
    url = f"rediss://{LOOPBACK}:{shared_server(VALKEY).port}/0"
    async with refused(StorageError, "ssl_ca_certs"):
        await connect(url, ssl_ca_certs=str(tmp_path / "missing.pem"))


# No server, or another one -------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    port = free_port()
    async with refused(StorageUnavailable, f"{LOOPBACK}:{port}", "whether the server runs there"):
        await connect(f"redis://:secret@{LOOPBACK}:{port}/0")


async def test_no_such_host() -> None:
    async with refused(StorageUnavailable, "no-such-host.invalid"):
        await connect("redis://:secret@no-such-host.invalid/0")


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Serve a port where every line gets the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(answer)

    async with listening(serve) as port:
        yield port


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ],
    ids=["HTTP", "SMTP", "TLS alert"],
)
async def test_another_protocol(answer: bytes) -> None:
    async with answering(answer) as port, refused(StorageError, "not a Redis server", "host and port"):
        await connect(f"redis://:secret@{LOOPBACK}:{port}/0")


async def test_a_server_that_accepts_and_says_nothing() -> None:
    async with answering(b"") as port, refused(StorageUnavailable, "did not answer in time", "timeout"):
        await connect(f"redis://{LOOPBACK}:{port}/0")


async def test_tls_to_a_server_without() -> None:
    async with refused(StorageUnavailable, "does not use TLS", "redis://"):
        await connect(f"rediss://{LOOPBACK}:{shared_server(VALKEY).port}/0")


@pytest.mark.parametrize("kind", TLS_KINDS, ids=str)
async def test_no_tls_to_a_server_that_wants_it(kind: Kind, tmp_path: Path) -> None:
    with temporary_server(kind, ServerOptions(certificates=make_certificates(tmp_path))) as server:
        async with refused(StorageUnavailable, "rediss://"):
            await connect(f"redis://{LOOPBACK}:{server.port}/0")


async def test_a_server_that_is_too_old() -> None:
    async with TcpProxy(shared_server(VALKEY).port) as proxy:
        # No such server can be had any more; this one says that it is.
        version = shared_server(VALKEY).ask("INFO", "server")["redis_version"]
        proxy.replace(
            f"redis_version:{version}".encode(), b"redis_version:" + b"6.2".ljust(len(version), b"0")
        )
        async with refused(StorageError, "6.2", "7.0 or newer"):
            await connect(f"redis://{LOOPBACK}:{proxy.port}/0")


# Permissions ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server with a password, and users that lack something."""
    users = (
        f"no-keys on >app-secret &* {RULES}",
        f"no-channels on >app-secret ~* {RULES}",
        f"no-info on >app-secret ~* &* {RULES} -info",
        f"no-scripts on >app-secret ~* &* {RULES} -@scripting",
        f"no-writes on >app-secret ~* &* {RULES} -@write",
        f"reader on >app-secret %R~* &* {RULES}",
    )
    with temporary_server(VALKEY, ServerOptions(password="secret", users=users)) as server:
        yield server


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"], ids=["none", "wrong", "unknown user"])
async def test_credentials_that_are_wrong_or_missing(login: str, guarded: RedisServer) -> None:
    async with refused(StorageError, "user and password in the URL"):
        await connect(f"redis://{login}{LOOPBACK}:{guarded.port}/0")


@pytest.mark.parametrize("user", ["no-keys", "no-channels", "no-info", "no-scripts", "no-writes", "reader"])
async def test_a_user_that_may_not_do_what_is_needed(user: str, guarded: RedisServer) -> None:
    async with refused(StorageError, "may not", "ACL SETUSER"):
        await works(guarded.url(user=user, password="app-secret"))


# Servers with other data ---------------------------------------------------------------------------------


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def url(prefix: str) -> str:
    return with_options(shared_server(VALKEY).url(), prefix=prefix)


async def test_a_key_of_another_type_under_the_prefix(url: str, prefix: str) -> None:
    server = shared_server(VALKEY)
    async with outlast.connect(url) as backend:
        for key in ("head:x", "journal:x", "listed:running:contract.steps"):
            server.ask("SET", f"{prefix}:{{0}}:{key}", "not ours")
            before = sorted(server.ask("KEYS", f"{prefix}:*"))
            async with refused(StorageCorrupt, "prefix=", "not written by this library"):
                await backend.start(Steps, ["a"], id="x")
            assert sorted(server.ask("KEYS", f"{prefix}:*")) == before
            server.ask("DEL", f"{prefix}:{{0}}:{key}")
        await backend.start(Steps, ["a"], id="x")


@pytest.mark.parametrize("written", ["", "not ours", "[]", '{"format":"one"}'])
async def test_a_prefix_that_somebody_else_uses(written: str, url: str, prefix: str) -> None:
    shared_server(VALKEY).ask("SET", f"{prefix}:format", written)
    async with refused(StorageCorrupt, f"{prefix}:format", "another prefix"), outlast.connect(url):
        pass


async def test_a_prefix_whose_format_is_a_hash(url: str, prefix: str) -> None:
    shared_server(VALKEY).ask("HSET", f"{prefix}:format", "a", "b")
    async with refused(StorageCorrupt, "prefix="), outlast.connect(url):
        pass


async def test_a_journal_of_a_newer_format(url: str, prefix: str) -> None:
    written = json.dumps({"format": FORMAT + 1, "shards": 1})
    shared_server(VALKEY).ask("SET", f"{prefix}:format", written)
    async with refused(StorageTooNew, "format", "upgrade", "another prefix"), outlast.connect(url):
        pass
    assert shared_server(VALKEY).ask("GET", f"{prefix}:format") == written.encode()


async def test_keys_of_an_older_format(url: str, prefix: str) -> None:
    written = json.dumps({"format": FORMAT - 1, "shards": 1})
    shared_server(VALKEY).ask("SET", f"{prefix}:format", written)
    async with refused(StorageError, "older", "another prefix"), outlast.connect(url):
        pass
    assert shared_server(VALKEY).ask("GET", f"{prefix}:format") == written.encode()


async def test_another_number_of_shards(url: str) -> None:
    await connect(url, shards="3")
    await connect(url)
    async with refused(ConfigurationError, "3 shards", "another prefix"):
        await connect(url, shards="4")


async def test_a_database_that_the_server_does_not_have() -> None:
    async with refused(StorageError, "smaller number"):
        await connect(shared_server(VALKEY).url(database=1_000_000))


async def test_a_replica() -> None:
    with replicated(VALKEY) as (_, replica):
        async with refused(StorageUnavailable, "address of the primary"):
            await connect(replica.url())


# Servers that may lose writes ----------------------------------------------------------------------------


@contextmanager
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    logged: list[str] = []
    with caplog.at_level(logging.WARNING, "outlast.redis"):
        caplog.clear()
        yield logged
        logged += [record.getMessage() for record in caplog.records]


async def test_a_server_that_may_lose_what_it_acknowledged_is_a_warning_or_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with temporary_server(VALKEY, ServerOptions(append_only=True)) as server:
        with warnings(caplog) as logged:
            await connect(server.url(), require_durable="1")
            await connect(server.url(), wait_aof="local")
        assert logged == []
        for setting, bad, good in (
            ("appendonly", "no", "yes"),
            ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ):
            server.ask("CONFIG", "SET", setting, bad)
            with warnings(caplog) as logged:
                await connect(server.url())
            assert logged == []
            with warnings(caplog) as logged:
                await works(server.url())
            assert len(logged) == 1
            assert setting in logged[0]
            assert "require_durable=1" in logged[0]
            async with refused(StorageError, setting, "require_durable"):
                await connect(server.url(), require_durable="1")
            server.ask("CONFIG", "SET", setting, good)
        server.ask("CONFIG", "SET", "appendonly", "no")
        async with refused(ConfigurationError, "wait_aof", "appendonly yes"):
            await connect(server.url(), wait_aof="local")


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
async def test_waiting_for_the_append_only_file_needs_a_server_that_can(kind: Kind) -> None:
    version = shared_server(kind).ask("INFO", "server")["redis_version"]
    if tuple(map(int, version.split(".")[:2])) >= (7, 2):
        pytest.skip(f"Redis {version} can")
    async with refused(ConfigurationError, "wait_aof", "Redis 7.2"):
        await connect(shared_server(kind).url(), wait_aof="local")
