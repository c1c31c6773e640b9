"""The SQLite store beside other processes, on bad disks and on damaged files.

Run as a program, this file is the other process: `python test_sqlite_faults.py ROLE PATH ARGUMENTS…`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from outlast.adapters.sqlite import SqliteStore, schema
from outlast.adapters.sqlite.schema import APPLICATION_ID, MIGRATIONS, Database, Synchronous
from outlast.adapters.sqlite.transaction import Transaction
from outlast.composition.backends import connect
from outlast.core.errors import (
    ConfigurationError,
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageTooNew,
    StorageUnavailable,
)
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import Claim, Commit, Message, NewExecution, WorkerCard
from outlast.runtime.attempts.system_clock import SystemClock

PATIENCE_SECONDS = 60.0
"""After that a test has failed; nothing waits that long when all is well."""

NOBODY = 65534
FIRST = b"the first record"


def open_store(
    path: Path, *, synchronous: Synchronous = "off", busy_timeout_seconds: float = 20.0
) -> SqliteStore:
    return SqliteStore(
        path, SystemClock(), synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds
    )


def new_execution(id: str) -> NewExecution:
    return NewExecution(id, workflow="w", fingerprint="f")


class AskedClock(SystemClock):
    """Sets an event when somebody begins to wait."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.set()
        await super().sleep(seconds)


@pytest.fixture
def waiting_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set once a transaction found the file locked and is about to try again."""
    waiting, pause = threading.Event(), time.sleep

    def sleep(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    return waiting


async def create_and_claim(store: SqliteStore, id: str = "e") -> Claim:
    await store.create(new_execution(id), b"0")
    [claim] = (await store.claim("a", ["w"], "default", limit=1, lease_seconds=1000)).claims
    return claim


# The other process --------------------------------------------------------------------------------------


def report(line: str) -> None:
    print(line, flush=True)


async def append_for_ever(path: Path) -> None:
    """Append to `e`, up to three records at a time; print each length that is durable."""
    sys.stdin.readline()
    async with open_store(path, synchronous="full") as store:
        work = await store.claim("a", ["w"], "default", limit=1, lease_seconds=0)
        [claim] = work.claims
        length = claim.length
        while True:
            count = 1 + length % 3
            records = [b"%d" % number for number in range(length, length + count)]
            # The number that is consumed has no meaning here; it must only never part from the records.
            await store.append(claim, length, records, Commit(consumed=length + count))
            length += count
            report(str(length))


async def open_and_create(directory: Path, id: str) -> None:
    """Open the stores that it is asked to, at the same moments as others do, and use them."""
    report("ready")
    while name := sys.stdin.readline().strip():
        async with open_store(directory / name) as store:
            await store.create(new_execution(id), b"0")
        report("done")


async def work_in_turns(path: Path, worker: str, rounds: str) -> None:
    """Claim every free execution; mark each by a file, which no other process may find there."""
    async with open_store(path) as store:
        for _ in range(int(rounds)):
            work = await store.claim(worker, ["w"], "default", limit=2, lease_seconds=1000)
            for claim in work.claims:
                mark = path.with_name(f"held-{claim.execution_id}")
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            for claim in work.claims:
                record = f"{claim.token} {worker}".encode()
                await store.append(claim, claim.length, [record], Commit())
                path.with_name(f"held-{claim.execution_id}").unlink()
                await store.append(claim, claim.length + 1, [record], Commit(release=True, wake_at=0.0))
    report("done")


async def obey(path: Path) -> None:
    """Carry out the commands on the standard input on execution `e`."""
    async with open_store(path) as store:
        claim = await create_and_claim(store)
        report("ready")
        while order := (await asyncio.to_thread(sys.stdin.readline)).strip():
            match order:
                case "append":
                    await store.append(claim, 1, [b"1"], Commit())
                case "send":
                    await store.send("e", Message("m", b""))
                case "release":
                    await store.append(claim, 2, [], Commit(release=True))
            report("done")


ROLES = {role.__name__: role for role in (append_for_ever, open_and_create, work_in_turns, obey)}


class OtherProcess:
    """This file as a program, killed at the latest when the test ends."""

    def __init__(self, role: str, path: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, role, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def read_line(self) -> str:
        """Return the next line that it prints; '' once it is dead."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """Kill it, and return the lines that it had printed by then; a torn last one is dropped."""
        self._process.send_signal(signal.SIGKILL)
        rest, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        return [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.crash
async def test_acknowledged_writes_survive_sigkill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store:
        await store.create(new_execution("e"), b"0")
    acknowledged = 1
    others = [OtherProcess("append_for_ever", path) for _ in range(4)]
    for process in others:
        with process as other:
            other.say("go")
            # Where in its next appends the crash finds it is left to chance.
            for _ in range(random.randint(1, 50)):
                acknowledged = int(await asyncio.to_thread(other.read_line))
            reported = [int(line) for line in other.kill()]
        acknowledged = max([acknowledged, *reported])
        async with open_store(path) as store:
            records = list(await store.read("e"))
            assert len(records) >= acknowledged
            assert records == [b"%d" % number for number in range(len(records))]
            head = await store.head("e")
            assert head is not None
            assert head.length == len(records)
            # The last append is there whole or not at all: its records, the length and what it consumed.
            [claim] = (await store.claim("b", ["w"], "default", limit=1, lease_seconds=0)).claims
            assert claim.consumed == claim.length == len(records)
            assert claim.recovered
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert acknowledged > 10


@pytest.mark.crash
async def test_two_processes_that_claim_at_once_never_hold_the_same_execution(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ids = [f"e{number}" for number in range(3)]
    async with open_store(path) as store:
        for id in ids:
            await store.create(new_execution(id), b"0 -")
        with (
            OtherProcess("work_in_turns", path, "a", "60") as a,
            OtherProcess("work_in_turns", path, "b", "60") as b,
        ):
            assert (await asyncio.to_thread(a.read_line), await asyncio.to_thread(b.read_line)) == (
                "done",
                "done",
            )
        workers = set()
        for id in ids:
            written = [record.decode().split() for record in await store.read(id)]
            tokens = [int(token) for token, _ in written]
            assert tokens == sorted(tokens)
            assert tokens[1::2] == tokens[2::2]
            assert len(set(tokens[1::2])) == len(tokens[1::2]) > 0
            workers |= {worker for _, worker in written[1:]}
        assert workers == {"a", "b"}


@pytest.mark.crash
async def test_processes_that_open_a_new_file_at_once_share_one_store(tmp_path: Path) -> None:
    ids = ["e", "f", "g"]
    with ExitStack() as stack:
        others = [stack.enter_context(OtherProcess("open_and_create", tmp_path, id)) for id in ids]
        assert {other.read_line() for other in others} == {"ready"}
        for round in range(10):
            for other in others:
                other.say(f"runs{round}.db")
            assert {other.read_line() for other in others} == {"done"}
            async with open_store(tmp_path / f"runs{round}.db") as store:
                assert {head.id for head in await store.heads()} == set(ids)


def test_threads_that_open_a_new_file_at_once_share_one_store(tmp_path: Path) -> None:
    for round in range(20):
        database = Database(tmp_path / f"runs{round}.db", "off", busy_timeout_seconds=20.0)
        barrier = threading.Barrier(4)
        troubles: list[BaseException] = []

        def open_at_once(
            database: Database = database,
            barrier: threading.Barrier = barrier,
            troubles: list[BaseException] = troubles,
        ) -> None:
            barrier.wait()
            try:
                database.open().close()
            except BaseException as trouble:
                troubles.append(trouble)

        threads = [threading.Thread(target=open_at_once) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []


@pytest.mark.crash
async def test_changes_by_another_process_end_waits_and_follows(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    clock = AskedClock()
    async with SqliteStore(path, clock, synchronous="off") as store, asyncio.timeout(PATIENCE_SECONDS):
        with OtherProcess("obey", path) as other:
            assert await asyncio.to_thread(other.read_line) == "ready"
            for order in ("append", "send", "release"):
                version = (await store.claim("idle", [], "default", limit=0, lease_seconds=1)).version
                clock.asked.clear()
                if order == "append":
                    waiting = asyncio.create_task(store.follow("e", 1, 10 * PATIENCE_SECONDS))
                else:
                    waiting = asyncio.create_task(store.wait(version, 10 * PATIENCE_SECONDS))
                # Once another read is answered, the first look has found nothing: one comes after the other.
                await clock.asked.wait()
                await store.head("e")
                assert not waiting.done()
                other.say(order)
                await waiting
                assert await asyncio.to_thread(other.read_line) == "done"


# A file that somebody else uses --------------------------------------------------------------------------


async def test_a_file_that_stays_locked_is_unavailable_and_usable_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path, busy_timeout_seconds=0.05) as store:
        claim = await create_and_claim(store)
        with locked(path):
            with pytest.raises(StorageUnavailable, match="busy_timeout_seconds"):
                await store.append(claim, 1, [b"1"], Commit())
            # Readers do not mind.
            assert list(await store.read("e")) == [b"0"]
        await store.append(claim, 1, [b"1"], Commit())
        assert list(await store.read("e")) == [b"0", b"1"]


async def test_a_write_waits_until_the_others_have_finished(
    tmp_path: Path, waiting_for_the_lock: threading.Event
) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store, asyncio.timeout(PATIENCE_SECONDS):
        claim = await create_and_claim(store)
        with locked(path):
            writing = asyncio.create_task(store.append(claim, 1, [b"1"], Commit()))
            assert await asyncio.to_thread(waiting_for_the_lock.wait, PATIENCE_SECONDS)
            assert not writing.done()
        await writing
        assert list(await store.read("e")) == [b"0", b"1"]


async def test_a_locked_file_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path):
        pass
    with locked(path), pytest.raises(StorageUnavailable, match="locked by another process"):
        await open_store(path, busy_timeout_seconds=0.05).__aenter__()
    async with open_store(path):
        pass


async def test_a_write_that_is_cancelled_while_the_file_is_locked_writes_nothing(
    tmp_path: Path, waiting_for_the_lock: threading.Event
) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store, asyncio.timeout(PATIENCE_SECONDS):
        claim = await create_and_claim(store)
        with locked(path):
            writing = asyncio.create_task(store.append(claim, 1, [b"1"], Commit()))
            assert await asyncio.to_thread(waiting_for_the_lock.wait, PATIENCE_SECONDS)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await store.append(claim, 1, [b"another"], Commit())
        assert list(await store.read("e")) == [b"0", b"another"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as a process does that is in the middle of a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


# A full disk ---------------------------------------------------------------------------------------------


class SmallDatabase(Database):
    """A file that may not grow beyond 40 pages."""

    def open(self) -> sqlite3.Connection:
        connection = super().open()
        connection.execute("PRAGMA max_page_count = 40")
        return connection


async def append_until_refused(store: SqliteStore, claim: Claim) -> None:
    for length in range(claim.length, 1000):
        await store.append(claim, length, [bytes(10_000)], Commit())


@contextmanager
def tiny_disk(directory: Path) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
async def test_a_full_disk_raises_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        ballast = tmp_path / "ballast"
        async with open_store(tmp_path / "runs.db") as store:
            claim = await create_and_claim(store)
            ballast.write_bytes(bytes(200 * 1024))
            with pytest.raises(StorageFull, match="free space"):
                await append_until_refused(store, claim)
            length = len(await store.read("e"))
            # The writes that were refused together have failed one by one, and none was made.
            outcomes = await asyncio.gather(
                *(store.create(new_execution(f"f{number}"), bytes(100_000)) for number in range(3)),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [StorageFull] * 3
            assert len(set(map(id, outcomes))) == 3
            assert [head.id for head in await store.heads()] == ["e"]
            assert len(await store.read("e")) == length > 1
            head = await store.head("e")
            assert head is not None
            assert head.length == length
            ballast.unlink()
            await store.append(claim, length, [bytes(10_000)], Commit(status=Status.COMPLETED))
            assert len(await store.read("e")) == length + 1
        ballast.write_bytes(bytes(1))
        with suppress(OSError), ballast.open("ab") as file:
            while True:
                file.write(bytes(1024))
                file.flush()
        with pytest.raises(StorageFull, match="free space"):
            await open_store(tmp_path / "runs.db").__aenter__()
        ballast.unlink()
        async with open_store(tmp_path / "runs.db") as store:
            assert len(await store.read("e")) == length + 1


async def test_a_file_that_may_not_grow_is_full_until_something_is_forgotten(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    store._database = SmallDatabase(tmp_path / "runs.db", "off", busy_timeout_seconds=1.0)
    async with store:
        claim = await create_and_claim(store)
        with pytest.raises(StorageFull):
            await append_until_refused(store, claim)
        length = len(await store.read("e"))
        await store.append(claim, length, [], Commit(status=Status.COMPLETED))
        assert await store.prune(SystemClock().now() + 1) == 1
        # The forgotten executions have made room.
        await create_and_claim(store, "f")


# Damaged files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"this is a text file, and not a short one\n" * 200, b"short", bytes(8192), os.urandom(20_000)],
)
async def test_a_file_of_other_bytes_is_corrupt_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(StorageCorrupt, match="not an SQLite file"):
        await open_store(path).__aenter__()
    assert path.read_bytes() == content


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.touch()
    async with open_store(path) as store:
        await create_and_claim(store)


async def test_a_store_that_was_cut_off_is_corrupt(tmp_path: Path) -> None:
    path = await store_of_many_pages(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(StorageCorrupt, match="backup"):
        await read_everything(path)


async def test_a_store_with_overwritten_pages_is_corrupt(tmp_path: Path) -> None:
    path = await store_of_many_pages(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StorageCorrupt, match="backup"):
        await read_everything(path)


async def test_a_store_whose_rows_contradict_each_other_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store:
        claim = await create_and_claim(store)
        tamper(path, "INSERT INTO record SELECT key, 1, x'00' FROM execution")
        with pytest.raises(StorageCorrupt, match="contradict"):
            await store.append(claim, 1, [b"1"], Commit())


async def test_the_file_of_another_application_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    tamper(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StorageCorrupt, match="another application"):
        await open_store(path).__aenter__()
    tamper(path, f"PRAGMA application_id = {APPLICATION_ID + 1}")
    with pytest.raises(StorageCorrupt, match="another application"):
        await open_store(path).__aenter__()
    tamper(path, "PRAGMA application_id = 0")
    after = path.read_bytes()
    # Bytes 24 to 27 and 92 to 95 count the changes that this test has made itself.
    assert (before[:24], before[28:92], before[96:]) == (after[:24], after[28:92], after[96:])


async def test_a_store_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store:
        await create_and_claim(store)
    tamper(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StorageTooNew, match="upgrade outlast"):
        await open_store(path).__aenter__()
    tamper(path, f"PRAGMA user_version = {len(MIGRATIONS)}")
    async with open_store(path) as store:
        assert list(await store.read("e")) == [b"0"]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_store_of_an_older_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in (statement for migration in MIGRATIONS[:version] for statement in migration):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        for id, status, owner, ready_at, ended_at, ignores_mail in (
            ("free", "running", None, 0.0, None, 0),
            ("owned", "running", "a", 1e12, None, 1),
            ("held", "running", None, None, None, 1),
            ("held until a time", "running", None, 1e12, None, 1),
            ("over", "failed", None, None, 1.0, 0),
        ):
            connection.execute(
                """
                INSERT INTO execution (id, workflow, fingerprint, task_queue, status, length, created_at,
                    owner, ready_at, is_date, ended_at, ignores_mail)
                VALUES (?, 'w', 'f', 'default', ?, 1, 1.0, ?, ?, 1, ?, ?)
                """,
                (id, status, owner, ready_at, ended_at, ignores_mail),
            )
        connection.execute("INSERT INTO record SELECT key, 0, x'30' FROM execution")
        connection.commit()
    async with open_store(path) as store:
        for status, ids in {
            "paused": ["held"],
            "running": ["owned", "held until a time", "free"],
            "failed": ["over"],
        }.items():
            heads = await store.heads(Where(status=status, workflow="w"))
            assert [head.id for head in heads] == ids
            assert all(head.held == (status == "paused") for head in heads)
        await store.tag("over", {"a": "1"})
        assert [head.id for head in await store.heads(Where(tags={"a": "1"}))] == ["over"]
        assert await store.resume("held")
        claims = (await store.claim("b", ["w"], "default", limit=9, lease_seconds=10)).claims
        assert {claim.execution_id for claim in claims} == {"free", "held"}
        await store.append(claims[0], 1, [b"1"], Commit(overview="so far", waiting="timer", release=True))
        assert len(await store.heads(Where(waiting_for="timer"))) == 1
        await store.announce(WorkerCard("a", ("w",), "default", 1.0), 1e6)
        [worker] = await store.workers()
        assert worker.executions == ("owned",)


async def test_a_store_that_has_lost_its_tables_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store:
        claim = await create_and_claim(store)
        tamper(path, "DROP TABLE record")
        with pytest.raises(StorageError, match="no such table"):
            await store.append(claim, 1, [b"1"], Commit())
    tamper(path, "PRAGMA user_version = 0")
    with pytest.raises(StorageCorrupt, match="lost its tables"):
        await open_store(path).__aenter__()


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


async def store_of_many_pages(directory: Path) -> Path:
    path = directory / "runs.db"
    async with open_store(path) as store:
        claim = await create_and_claim(store)
        await store.append(claim, 1, [bytes(3000)] * 100, Commit())
    assert not path.with_name("runs.db-wal").exists()
    return path


async def read_everything(path: Path) -> None:
    async with open_store(path) as store:
        await store.heads()
        await store.read("e")


# A place that cannot be used -----------------------------------------------------------------------------


@contextmanager
def unprivileged_directory() -> Iterator[Path]:
    """Give a directory in which this process has the rights that the file modes say, also for root."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=False) as name:
        directory = Path(name)
        directory.chmod(0o755)
        if is_root:
            os.chown(directory, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield directory
        finally:
            directory.chmod(0o755)
            if is_root:
                os.seteuid(0)


posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes mean something else there")


@posix
async def test_a_read_only_file_says_so_when_it_is_opened() -> None:
    with unprivileged_directory() as directory:
        path = directory / "runs.db"
        async with open_store(path):
            pass
        path.chmod(0o444)
        with pytest.raises(StorageReadOnly, match="write access"):
            await open_store(path).__aenter__()
        path.chmod(0o644)
        async with open_store(path):
            pass


@posix
@pytest.mark.parametrize("exists", [True, False])
async def test_a_read_only_directory_says_so_when_it_is_opened(exists: bool) -> None:
    with unprivileged_directory() as directory:
        path = directory / "runs.db"
        if exists:
            async with open_store(path):
                pass
        directory.chmod(0o555)
        with pytest.raises(StorageReadOnly, match="directory"):
            await open_store(path).__aenter__()


@posix
async def test_the_error_says_that_a_file_may_not_be_read() -> None:
    with unprivileged_directory() as directory:
        path = directory / "runs.db"
        path.touch(mode=0o000)
        with pytest.raises(StorageError, match="permissions"):
            await open_store(path).__aenter__()


async def test_without_create_a_file_must_exist_and_nothing_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with pytest.raises(ConfigurationError, match="there is no file"):
        await connect(url, create=False).__aenter__()
    assert os.listdir(tmp_path) == []
    async with connect(url):
        pass
    async with connect(url, create=False) as backend:
        assert list(await backend.list()) == []


async def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a directory"):
        await open_store(tmp_path).__aenter__()


async def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"missing.* does not exist; create it first"):
        await open_store(tmp_path / "missing" / "runs.db").__aenter__()
    assert not (tmp_path / "missing").exists()


async def test_the_error_says_that_sqlite_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(ConfigurationError, match=r"needs 3\.37\.0"):
        await open_store(tmp_path / "runs.db").__aenter__()


async def test_names_that_mean_something_in_a_uri_are_plain_names(tmp_path: Path) -> None:
    path = tmp_path / "100%20 ?mode=memory#1.db"
    async with open_store(path) as store:
        await create_and_claim(store)
    assert path.is_file()


if __name__ == "__main__":
    role, path, *arguments = sys.argv[1:]
    with suppress(BrokenPipeError):
        asyncio.run(ROLES[role](Path(path), *arguments))


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("deed", ["removed", "replaced"])
async def test_nothing_is_acknowledged_once_the_file_was_removed_or_replaced(
    tmp_path: Path, suffix: str, deed: str
) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as store:
        await store.create(new_execution("before"), FIRST)
        part = path.with_name(path.name + suffix)
        copy = part.read_bytes()
        other = tmp_path / "other"
        other.write_bytes(copy)
        if deed == "replaced":
            other.replace(part)
        else:
            part.unlink()
        for _ in range(2):
            with pytest.raises(StorageError, match="deleted or replaced while it was open") as refusal:
                await store.create(new_execution("after"), FIRST)
            assert not refusal.value.retryable


async def test_a_write_to_a_file_that_is_removed_meanwhile_is_not_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    def remove_the_file_and_create(transaction: Transaction) -> object:
        path.unlink()
        return transaction.create(new_execution("after"), [FIRST])

    async with open_store(path) as store:
        await store.create(new_execution("before"), FIRST)
        with pytest.raises(StorageError, match="deleted or replaced"):
            await store._here().writer.run(remove_the_file_and_create)


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_the_files_of_a_store_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_store(tmp_path / "runs.db") as store:
            await store.create(new_execution("e"), FIRST)
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("runs.db", "runs.db-shm", "runs.db-wal"), 0o600)


async def test_a_long_wait_for_a_lock_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema, "LOG_AFTER_SECONDS", 0.0)
    path = tmp_path / "runs.db"
    async with open_store(path, busy_timeout_seconds=0.05) as store:
        with locked(path), pytest.raises(StorageUnavailable):
            await store.create(new_execution("e"), FIRST)
    assert "locked by another process" in caplog.text
