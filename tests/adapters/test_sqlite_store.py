"""The SQLite store keeps the journal contract, and promises of its own."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from outlast.adapters.sqlite import SqliteStore
from outlast.adapters.sqlite.schema import Database
from outlast.adapters.sqlite.transaction import DELETE_ROWS, FORGET_EXECUTIONS, Transaction
from outlast.core.errors import ConfigurationError, LeaseLost
from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import ENDLESS, Claim, Commit, Message, NewExecution
from outlast.testing.contracts.journal.contract import ALL, MEBIBYTE, JournalContract, StoreCapability
from outlast.testing.virtual_clock import VirtualClock

PATIENCE_SECONDS = 60.0

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
INDEXED = [
    EVERYTHING,
    Where(workflow="w"),
    Where(status=Status.RUNNING),
    Where(status=Status.PAUSED),
    Where(workflow="w", status=Status.FAILED),
    Where(waiting_for="timer"),
    Where(waiting_for="timer", workflow="w", status=Status.RUNNING),
    Where(tags={"team": "blue"}),
    Where(tags={"team": "blue", "tier": "1"}, workflow="w", status=Status.RUNNING, waiting_for="timer"),
    Where(created_after=NOON),
    Where(created_before=NOON),
    Where(workflow="w", created_after=NOON, created_before=NOON),
    Where(tags={"team": "blue"}, created_after=NOON),
]
PAGE_BYTES = 4096


class TemporaryFile:
    """Storage for the contract suite: a file of its own, in a new directory."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._directory = Path(tempfile.mkdtemp(prefix="outlast-"))

    def open(self) -> SqliteStore:
        # Without its own cleaning: the suite counts what `prune` forgets.
        return SqliteStore(
            self._directory / "runs.db",
            self.clock,
            synchronous="off",
            poll_seconds=0.005,
            clean_seconds=None,
            limit_bytes=MEBIBYTE,
        )

    async def dispose(self) -> None:
        shutil.rmtree(self._directory)


class TestSqliteStore(JournalContract):
    # It holds its file open: there is no connection that could break.
    capabilities = ALL - {StoreCapability.BREAKABLE}
    new_storage = TemporaryFile


@dataclass(frozen=True)
class ObservedDatabase(Database):
    """A database whose connections record each statement of SQLite."""

    statements: list[str] = field(default_factory=list)
    """The statements that were executed, with their values."""
    opcodes: list[int] = field(default_factory=lambda: [0])
    """The number of steps that SQLite's virtual machine has made."""

    def open(self) -> sqlite3.Connection:
        return self._observed(super().open())

    def open_for_reading(self) -> sqlite3.Connection:
        return self._observed(super().open_for_reading())

    def _observed(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.set_trace_callback(self.statements.append)
        connection.set_progress_handler(self._count, 1)
        return connection

    def _count(self) -> int:
        self.opcodes[0] += 1
        return 0

    async def cost(self, operation: Awaitable[object]) -> int:
        before = self.opcodes[0]
        await operation
        return self.opcodes[0] - before


@asynccontextmanager
async def observed(
    path: Path, clock: VirtualClock, *, clean_seconds: float | None = None
) -> AsyncIterator[tuple[SqliteStore, ObservedDatabase]]:
    store = open_store(path, clock, clean_seconds=clean_seconds)
    database = store._database = ObservedDatabase(path, "off", busy_timeout_seconds=10.0)
    async with store:
        database.statements.clear()
        yield store, database


def open_store(path: Path, clock: VirtualClock, *, clean_seconds: float | None = None) -> SqliteStore:
    return SqliteStore(path, clock, synchronous="off", clean_seconds=clean_seconds)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def create(store: SqliteStore, *ids: str, keep_seconds: float | None = None) -> list[Claim]:
    """Create executions, each with a message, and claim them all."""
    for id in ids:
        await store.create(NewExecution(id, "w", "f", keep_seconds=keep_seconds), b"0")
        await store.send(id, Message("m", b"body"))
    claims = (await store.claim("a", ["w"], "default", limit=len(ids), lease_seconds=1e6)).claims
    assert {claim.execution_id for claim in claims} == set(ids)
    return list(claims)


async def close_all(store: SqliteStore, claims: list[Claim]) -> None:
    done = Commit(status=Status.COMPLETED)
    await asyncio.gather(*(store.append(claim, claim.length, [], done) for claim in claims))


def rows_left(path: Path) -> dict[str, int]:
    tables = {
        "execution": "SELECT count(*) FROM execution",
        "record": "SELECT count(*) FROM record",
        "message": "SELECT count(*) FROM message",
        "garbage": "SELECT count(*) FROM garbage",
    }
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(query).fetchone()[0] for table, query in tables.items()}


# Costs ---------------------------------------------------------------------------------------------------


async def test_no_statement_of_a_turn_scans_or_sorts_a_table(path: Path, clock: VirtualClock) -> None:
    async with observed(path, clock) as (store, database):
        await create(store, *(f"e{number}" for number in range(20)))
        await store.create(NewExecution("e", "w", "f"), b"0")
        database.statements.clear()
        await store.create(NewExecution("f", "w", "f"), b"0")
        work = await store.claim("a", ["w", "v"], "default", limit=5, lease_seconds=10)
        claim = work.claims[0]
        await store.send(claim.execution_id, Message("m", b"body"))
        await store.renew(work.claims, 10)
        await store.append(claim, 1, [b"1", b"2"], Commit(consumed=1))
        await store.messages(claim.execution_id, 0)
        await store.read(claim.execution_id, 1)
        await store.head(claim.execution_id)
        await store.follow(claim.execution_id, 1, 60)
        await store.wait(work.version - 1, 60)
        await store.append(claim, 3, [b"3"], Commit(release=True, wake_at=clock.now()))
        await store.append(work.claims[1], 1, [b"1"], Commit(status=Status.FAILED))
        statements = [*database.statements]
    assert planned(path, statements, fine={"SCAN counter"}) > 30


@pytest.mark.parametrize("place", [None, Cursor(1e9, "e")], ids=["first page", "next page"])
@pytest.mark.parametrize("where", INDEXED, ids=repr)
async def test_no_filter_that_has_an_index_scans_or_sorts_a_table(
    path: Path, clock: VirtualClock, where: Where, place: Cursor | None
) -> None:
    async with observed(path, clock) as (store, database):
        await store.heads(where, after=place)
        [statement] = database.statements
    # The newest of all are read from the end of an index.
    fine = (
        {"SCAN execution USING INDEX execution_created"} if where == EVERYTHING and place is None else set()
    )
    assert planned(path, [statement], fine=fine) == 1


def planned(path: Path, statements: list[str], *, fine: set[str]) -> int:
    """Check that no statement scans or sorts a table, except what is `fine`; return how many there were."""
    planned = 0
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            if statement.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                continue
            planned += 1
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                assert step in fine or not step.startswith(("SCAN", "USE TEMP")), (statement, step)
    return planned


async def test_an_append_costs_the_same_at_any_length_of_the_journal(path: Path, clock: VirtualClock) -> None:
    async def costs(claim: Claim, length: int) -> tuple[list[int], list[int]]:
        """Return the steps and the written pages of each of a few appends behind `length` records."""
        steps, sizes = [], []
        async with observed(path, clock) as (store, database):
            for number in range(length, length + 5):
                steps.append(await database.cost(store.append(claim, number, [b"x" * 100], Commit())))
                # Since the store was opened, its write-ahead log has only grown.
                sizes.append(path.with_name("runs.db-wal").stat().st_size)
            assert await database.cost(store.read("e", length + 4)) < 100
        return steps, [(after - before) // PAGE_BYTES for before, after in pairwise(sizes)]

    async with open_store(path, clock) as store:
        [claim] = await create(store, "e")
    short_steps, short_pages = await costs(claim, 1)
    async with open_store(path, clock) as store:
        await store.append(claim, 6, [b"x" * 100] * 5000, Commit())
    long_steps, long_pages = await costs(claim, 5006)
    assert len(set(short_steps + long_steps)) == 1
    # The row of the execution and the end of the journal; when that end is full, three more pages to grow.
    assert {min(short_pages), min(long_pages)} == {2}
    assert max(short_pages + long_pages) <= 5


async def test_claiming_costs_the_same_however_many_executions_sleep(path: Path, clock: VirtualClock) -> None:
    async with observed(path, clock) as (store, database):

        async def cost() -> int:
            claim = store.claim("b", ["w"], "default", limit=1, lease_seconds=10)
            return await database.cost(claim)

        await create(store, "e")
        before = await cost()
        claims = await create(store, *(f"s{number}" for number in range(500)))
        asleep = Commit(release=True, consumed=1, wake_at=clock.now() + 1e6)
        await asyncio.gather(*(store.append(claim, 1, [], asleep) for claim in claims))
        assert await cost() <= before + 5


async def test_concurrent_appends_share_one_commit_and_are_refused_one_by_one(
    path: Path, clock: VirtualClock
) -> None:
    async with observed(path, clock) as (store, database):
        claims = await create(store, *(f"e{number}" for number in range(50)))
        database.statements.clear()
        positions = [1 + (number % 5 == 0) for number in range(50)]
        outcomes = await asyncio.gather(
            *(
                store.append(claim, position, [b"1", b"2"], Commit(consumed=1))
                for claim, position in zip(claims, positions, strict=True)
            ),
            return_exceptions=True,
        )
        assert database.statements.count("COMMIT") == 1
        for claim, position, outcome in zip(claims, positions, outcomes, strict=True):
            refused = position == 2
            assert isinstance(outcome, LeaseLost) if refused else outcome is None
            assert list(await store.read(claim.execution_id)) == [b"0"] if refused else [b"0", b"1", b"2"]


async def test_writes_that_arrive_during_a_commit_share_the_next_one(path: Path, clock: VirtualClock) -> None:
    async with observed(path, clock) as (store, database):
        claims = await create(store, *(f"e{number}" for number in range(20)))
        database.statements.clear()

        async def append_some(claim: Claim) -> None:
            for length in range(1, 11):
                await store.append(claim, length, [b"x"], Commit())

        await asyncio.gather(*map(append_some, claims))
        assert 10 <= database.statements.count("COMMIT") <= 40


async def test_an_operation_that_fails_halfway_leaves_nothing_and_does_not_touch_its_neighbours(
    path: Path, clock: VirtualClock
) -> None:
    async with observed(path, clock) as (store, database):
        first, second = await create(store, "e", "f")
        database.statements.clear()
        no_bytes = cast("bytes", [b"a list of bytes is refused by SQLite after the first record was written"])
        outcomes = await asyncio.gather(
            store.append(first, 1, [b"1", no_bytes], Commit(release=True)),
            store.append(second, 1, [b"1"], Commit()),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], sqlite3.Error)
        assert outcomes[1] is None
        assert database.statements.count("COMMIT") == 1
        assert list(await store.read("f")) == [b"0", b"1"]
        await store.append(first, 1, [b"another"], Commit())
        assert list(await store.read("e")) == [b"0", b"another"]


async def test_a_write_cancelled_in_the_middle_returns_when_its_outcome_is_known(
    path: Path, clock: VirtualClock
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def send_slowly(transaction: Transaction) -> None:
        begun.set()
        may_go_on.wait(PATIENCE_SECONDS)
        transaction.send("e", Message("slow", b""))

    async with open_store(path, clock) as store:
        await create(store, "e")
        sending = asyncio.create_task(store._here().writer.run(send_slowly))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        for _ in range(2):
            sending.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not sending.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert [delivery.message.id for delivery in await store.messages("e", 1)] == ["slow"]


# Forgetting ----------------------------------------------------------------------------------------------


async def test_pruning_is_many_small_transactions_and_leaves_no_row(path: Path, clock: VirtualClock) -> None:
    number = FORGET_EXECUTIONS * 2 + 1
    async with observed(path, clock) as (store, database):
        await close_all(store, await create(store, *(f"e{index}" for index in range(number))))
        [long] = await create(store, "long")
        await store.append(long, 1, [b"x"] * 3 * DELETE_ROWS, Commit(status=Status.COMPLETED))
        await create(store, "running")
        database.statements.clear()
        assert await store.prune(clock.now() + 1) == number + 1
        transactions = "\n".join(database.statements).split("COMMIT")
        assert len(transactions) > 5
        assert max(part.count("DELETE FROM execution") for part in transactions) <= FORGET_EXECUTIONS
    assert rows_left(path) == {"execution": 1, "record": 1, "message": 1, "garbage": 0}


async def test_others_write_while_a_long_pruning_goes_on(path: Path, clock: VirtualClock) -> None:
    async with open_store(path, clock) as store:
        [long, claim] = await create(store, "long", "other")
        await store.append(long, 1, [b"x"] * 5 * DELETE_ROWS, Commit(status=Status.COMPLETED))
        pruning = asyncio.create_task(store.prune(clock.now() + 1))
        for length in range(1, 4):
            await store.append(claim, length, [b"x"], Commit())
            assert not pruning.done()
        assert await pruning == 1


async def test_executions_past_their_keep_seconds_are_forgotten_while_the_store_is_written_to(
    path: Path, clock: VirtualClock
) -> None:
    async with open_store(path, clock, clean_seconds=60.0) as store:
        claims = await create(store, "e", keep_seconds=10.0)
        await close_all(store, claims)
        kept = await create(store, "kept")
        await close_all(store, kept)
        await clock.advance(10.0)
        await store.create(NewExecution("f", "w", "f"), b"0")
    # Closing has waited for the cleaning, which was not due yet: the first write of all had been its start.
    assert rows_left(path)["execution"] == 3
    async with open_store(path, clock, clean_seconds=60.0) as store:
        assert await store.head("e") is not None
        await store.create(NewExecution("g", "w", "f"), b"0")
    async with open_store(path, clock) as store:
        assert await store.head("e") is None
        assert {head.id for head in await store.heads()} == {"kept", "f", "g"}
    assert rows_left(path)["record"] == 3


async def test_cleaning_that_was_cut_short_is_gone_on_with(path: Path, clock: VirtualClock) -> None:
    async with open_store(path, clock) as store:
        [claim] = await create(store, "e", keep_seconds=0.0)
        await store.append(claim, 1, [b"x"] * 3 * DELETE_ROWS, Commit(status=Status.COMPLETED))
    async with open_store(path, clock, clean_seconds=60.0) as store:
        await store.create(NewExecution("f", "w", "f"), b"0")
    left = rows_left(path)
    assert left["garbage"] == 1
    assert left["record"] > DELETE_ROWS
    async with open_store(path, clock) as store:
        # The id is free, and the rows of its first execution that are still there do not show.
        await store.create(NewExecution("e", "w", "f"), b"new")
        assert list(await store.read("e")) == [b"new"]
        assert list(await store.messages("e", 0)) == []
        assert await store.prune() == 0
    assert rows_left(path) == {"execution": 2, "record": 2, "message": 0, "garbage": 0}


# Opening, waiting and closing ----------------------------------------------------------------------------


async def test_closing_finishes_what_was_asked_for_and_leaves_no_thread_task_or_log(
    path: Path, clock: VirtualClock
) -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with open_store(path, clock) as store:
        [claim] = await create(store, "e")
        writing = asyncio.create_task(store.append(claim, 1, [b"1"], Commit()))
        await asyncio.sleep(0)
    await writing
    assert set(threading.enumerate()) == threads
    assert asyncio.all_tasks() == tasks
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]
    async with store:  # The same object opens again.
        assert list(await store.read("e")) == [b"0", b"1"]


async def test_nobody_asks_for_changes_while_nobody_waits(path: Path, clock: VirtualClock) -> None:
    async with observed(path, clock) as (store, database), asyncio.timeout(PATIENCE_SECONDS):
        [claim] = await create(store, "e")
        tasks = asyncio.all_tasks()
        waiting = asyncio.create_task(store.follow("e", 1, 1000.0))
        while "PRAGMA data_version" not in database.statements:  # noqa: ASYNC110 - a thread appends to it
            await asyncio.sleep(0.001)
        await store.append(claim, 1, [b"1"], Commit())
        await waiting
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= tasks


async def test_appends_of_this_store_end_follows_without_asking_the_file_for_changes(
    path: Path, clock: VirtualClock
) -> None:
    store = SqliteStore(path, clock, synchronous="off", poll_seconds=1e6)
    async with store, asyncio.timeout(PATIENCE_SECONDS):
        [claim] = await create(store, "e")
        following = [asyncio.create_task(store.follow("e", 1, 1e6)) for _ in range(3)]
        other = asyncio.create_task(store.follow("other", 0, 1e6))
        version = (await store.claim("a", ["w"], "default", limit=0, lease_seconds=1)).version
        waiting = asyncio.create_task(store.wait(version, 1e6))
        await store.append(claim, 1, [b"1"], Commit())
        await asyncio.gather(*following)
        assert not waiting.done()
        await store.append(claim, 2, [], Commit(release=True))
        await waiting
        assert not other.done()
        other.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports writes")
async def test_a_write_of_another_store_is_seen_long_before_the_next_regular_look(
    path: Path, clock: VirtualClock
) -> None:
    one, other = (SqliteStore(path, clock, synchronous="off", poll_seconds=1e6) for _ in range(2))
    async with one, other, asyncio.timeout(PATIENCE_SECONDS):
        version = (await other.claim("a", ["w"], "default", limit=0, lease_seconds=1)).version
        waiting = asyncio.create_task(other.wait(version, 1e6))
        following = asyncio.create_task(other.follow("e", 0, 1e6))
        await other.head("e")
        await create(one, "e")
        await asyncio.gather(waiting, following)


async def test_who_waits_for_the_end_is_not_woken_by_each_append(path: Path, clock: VirtualClock) -> None:
    async with observed(path, clock) as (store, database), asyncio.timeout(PATIENCE_SECONDS):
        [claim] = await create(store, "e")
        waiting = asyncio.create_task(store.follow("e", ENDLESS, 1e6))
        await store.head("e")
        database.statements.clear()
        for position in range(1, 51):
            await store.append(claim, position, [b"1"], Commit())
        # Its own first look may come this late, and so may the first look at the file, which finds a version
        # that it does not know, and wakes everybody.
        assert sum("length >" in statement for statement in database.statements) <= 2
        await store.append(claim, 51, [], Commit(status=Status.COMPLETED))
        await waiting


async def test_a_waiting_call_raises_when_the_store_is_closed(path: Path, clock: VirtualClock) -> None:
    async with open_store(path, clock) as store:
        waiting = asyncio.create_task(store.follow("e", 0, 1e6))
        await store.head("e")
    with pytest.raises(ConfigurationError, match="not open"):
        await waiting


async def test_a_store_that_is_not_open_says_so(path: Path, clock: VirtualClock) -> None:
    store = open_store(path, clock)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.create(NewExecution("e", "w", "f"), b""),
        lambda: store.read("e"),
        lambda: store.wait(0, 1.0),
        store.prune,
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="not open"):
            await call()
    async with store:
        with pytest.raises(ConfigurationError, match="already open"):
            await store.__aenter__()
        await store.read("e")
    for call in calls:
        with pytest.raises(ConfigurationError, match="not open"):
            await call()


async def test_a_store_is_refused_to_another_event_loop(path: Path, clock: VirtualClock) -> None:
    async with open_store(path, clock) as store:
        for call in (store.head("e"), store.send("e", Message("m", b"")), store.follow("e", 0, 1.0)):
            with pytest.raises(ConfigurationError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, call)
        assert await store.head("e") is None
