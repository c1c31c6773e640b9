"""The behaviour of this package that no suite asks for: its tables, its errors, its connections."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from outlast_postgres import PostgresStore, ServerClock, Settings, connect
from outlast_postgres.schema import MIGRATIONS
from postgres_server import require_server, shared_server
from test_outlast_postgres import TemporarySchema

from outlast.core.errors import (
    ConfigurationError,
    ExecutionNotFound,
    StorageCorrupt,
    StorageError,
    StorageTooNew,
    StorageUnavailable,
)
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import Commit, Message, NewExecution

require_server()

pytestmark = pytest.mark.anyio

NEW = NewExecution("e", "w", "f")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def schema() -> AsyncIterator[TemporarySchema]:
    schema = TemporarySchema()
    yield schema
    await schema.dispose()


@pytest.fixture
async def admin(schema: TemporarySchema) -> AsyncIterator[asyncpg.Connection]:
    """A connection that does what an operator does to the tables."""
    settings = {"search_path": schema.settings.schema, "client_min_messages": "warning"}
    connection = await asyncpg.connect(schema.settings.dsn, server_settings=settings)
    yield connection
    await connection.close()


# Tables -----------------------------------------------------------------------------------------------------


async def test_many_stores_may_open_a_new_schema_at_once(schema: TemporarySchema) -> None:
    async def create(store: PostgresStore) -> bool:
        async with store:
            return (await store.create(NEW, b"first"))[1]

    created = await asyncio.gather(*(create(schema.open()) for _ in range(8)))
    assert sorted(created) == [False] * 7 + [True]


async def test_tables_of_each_earlier_version_are_migrated_with_what_is_in_them(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"CREATE SCHEMA {schema.settings.schema}")
    await admin.execute(MIGRATIONS[0])
    await admin.execute("CREATE TABLE outlast_version (version integer NOT NULL)")
    await admin.execute("INSERT INTO outlast_version VALUES (1)")
    await admin.execute("INSERT INTO worker VALUES ('before', '{w}', 'default', 0.0, 1e12)")
    async with schema.open() as store:
        assert [worker.card.identity for worker in await store.workers()] == ["before"]
    assert await admin.fetchval("SELECT version FROM outlast_version") == len(MIGRATIONS)
    assert await admin.fetchval("SELECT count(*) FROM delta") == 0


async def test_tables_of_a_later_version_are_left_alone(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    async with schema.open():
        pass
    await admin.execute("UPDATE outlast_version SET version = version + 1")
    with pytest.raises(StorageTooNew, match="install a newer outlast-postgres"):
        async with schema.open():
            pass
    assert await admin.fetchval("SELECT version FROM outlast_version") == len(MIGRATIONS) + 1


async def test_what_is_forgotten_leaves_no_row(schema: TemporarySchema, admin: asyncpg.Connection) -> None:
    async with schema.open() as store:
        await store.create(NEW, b"first")
        await store.send("e", Message("m", b"body"))
        [claim] = (await store.claim("a", ["w"], "default", limit=1, lease_seconds=10.0)).claims
        await store.append(claim, 1, [b"last"], Commit(status=Status.COMPLETED))
        assert await store.prune(schema.clock.now() + 1.0) == 1
    for table in ("execution", "record", "message"):
        assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


# Text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["", "a\0b", "half \ud800", "x" * 3000])
async def test_what_no_execution_can_be_called_is_not_found(odd: str, schema: TemporarySchema) -> None:
    async with schema.open() as store:
        await store.create(NEW, b"first")
        assert await store.head(odd) is None
        assert list(await store.read(odd)) == []
        assert list(await store.messages(odd, 0)) == []
        for call in (
            store.send(odd, Message("m", b"")),
            store.tag(odd, {"a": "b"}),
            store.resume(odd),
        ):
            with pytest.raises(ExecutionNotFound):
                await call
        await store.leave(odd)
        if "\ud800" not in odd:
            assert list(await store.heads(Where(workflow=odd))) == []
            assert [head.id for head in await store.heads(Where(id_prefix=odd))] == ([] if odd else ["e"])


# Errors -----------------------------------------------------------------------------------------------------


def everything_in(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


@pytest.mark.parametrize(
    "rest",
    [
        "@127.0.0.1:1/x",
        "@nowhere.invalid/x",
        "/more@127.0.0.1/x",
        "?more@127.0.0.1/x",
        "#@h/x",
        "@h:x/x",
        "@[h/x",
    ],
)
async def test_no_error_of_a_url_shows_the_password(rest: str) -> None:
    with pytest.raises((StorageError, ConfigurationError)) as caught:
        async with connect(f"postgresql://user:s3cret{rest}"):
            pass
    assert "s3cret" not in everything_in(caught.value)


async def test_a_wrong_password_is_refused_without_showing_it() -> None:
    settings = Settings.of(shared_server().url("test"))
    assert shared_server().password not in repr(settings)
    wrong = Settings.of(f"postgresql://outlast:s3cret@{settings.place.split()[-1]}")
    with pytest.raises(StorageError, match="correct the user and the password") as caught:
        async with PostgresStore(wrong, ServerClock()):
            pass
    assert not caught.value.retryable
    assert "s3cret" not in everything_in(caught.value)


@pytest.mark.parametrize("schema", ["", "Upper", "a b", "a;b", 'a"b', "1a", "x" * 41])
def test_a_schema_that_would_need_quotes_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the schema"):
        Settings.of(f"postgresql://host/database?schema={schema}")


async def test_tables_that_are_gone_are_a_storage_error(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    async with schema.open() as store:
        await admin.execute("DROP TABLE execution CASCADE")
        with pytest.raises(StorageCorrupt, match="choose another schema"):
            await store.head("e")


async def test_a_store_that_is_not_open_says_so(schema: TemporarySchema) -> None:
    with pytest.raises(StorageUnavailable, match="is not open"):
        await schema.open().head("e")


# Connections ------------------------------------------------------------------------------------------------


async def test_a_transaction_of_a_process_that_stands_still_loses_its_locks(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    """The server ends it, so a claim waits for it no longer than that."""
    async with schema.open() as store:
        await store.create(NEW, b"first")
        await admin.execute("SET idle_in_transaction_session_timeout = '0.2s'")
        await admin.execute("BEGIN")
        await admin.execute("SELECT FROM execution FOR UPDATE")
        async with asyncio.timeout(20.0):
            work = await store.claim("a", ["w"], "default", limit=1, lease_seconds=10.0)
        assert [claim.execution_id for claim in work.claims] == ["e"]


async def test_a_write_is_made_again_if_its_event_loop_was_blocked_until_the_server_ended_it(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    query = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = $1 AND state = 'idle in transaction'
    """
    name, ended = f"outlast {schema.settings.schema} calls", 0
    async with schema.open() as store, asyncio.timeout(20.0):
        for number in range(100):
            creating = asyncio.create_task(store.create(NewExecution(f"e{number}", "w", "f"), b"first"))
            while not creating.done() and not ended:
                ended += await admin.fetchval(query, name)
            try:
                assert (await creating)[1]
            except StorageUnavailable:
                # It was ended at its commit, of which nobody knows whether it arrived.
                assert ended
                ended = 0
                continue
            assert list(await store.read(f"e{number}")) == [b"first"]
            if ended:
                return
    raise AssertionError("no transaction was ended before its commit")


async def test_a_claim_beside_a_locked_execution_takes_the_others_and_ends_the_next_wait(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    async with schema.open() as store:
        for id in ("locked", "free"):
            await store.create(NewExecution(id, "w", "f"), b"first")
        async with asyncio.timeout(20.0):
            async with admin.transaction():
                await admin.execute("SELECT FROM execution WHERE id = 'locked' FOR UPDATE")
                work = await store.claim("a", ["w"], "default", limit=2, lease_seconds=10.0)
                assert [claim.execution_id for claim in work.claims] == ["free"]
                await store.wait(work.version, 1e6)
            work = await store.claim("a", ["w"], "default", limit=2, lease_seconds=10.0)
        assert [claim.execution_id for claim in work.claims] == ["locked"]


async def test_who_waits_is_woken_when_only_the_connection_that_listens_is_lost(
    schema: TemporarySchema, admin: asyncpg.Connection
) -> None:
    async def end_listening() -> None:
        """End both of these connections, once they are there."""
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
        name, ended = f"outlast {schema.settings.schema} listening", 0
        while ended < 2:
            ended += await admin.fetchval(query, name)
            await asyncio.sleep(0)

    async with schema.open() as store, schema.open() as other, asyncio.timeout(20.0):
        for id in ("one", "two", "three"):
            work = await store.claim("a", ["w"], "default", limit=10, lease_seconds=10.0)
            waiting = asyncio.create_task(store.wait(work.version, 1e6))
            following = asyncio.create_task(store.follow("e", 0, 1e6))
            await store.head("e")
            await end_listening()
            await asyncio.gather(waiting, following)
            work = await store.claim("a", ["w"], "default", limit=10, lease_seconds=10.0)
            waiting = asyncio.create_task(store.wait(work.version, 1e6))
            await other.create(NewExecution(id, "w", "f"), b"first")
            await waiting
            while not (await store.claim("a", ["w"], "default", limit=10, lease_seconds=10.0)).claims:
                pass
