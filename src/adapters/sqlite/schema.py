"""The tables of a store, and opening a file that has them.

One row of `execution` has everything that is needed to find, claim and fence an execution. So an append
writes two pages, however long the journal is: the page of that row and the last page of the journal.
`ready_at` is the time from which an execution is claimable. While it has an owner, that is the end of the
lease. Otherwise it is the wake-up time, or the time since which it, or an unread message, waits for a worker.
It is NULL when only a message can make the execution claimable, and when the execution is held or has ended.
`ignores_mail` is 1 after a release with `hold`; it counts only while the execution has no owner. The status
of what is held is 'paused', since people look for that; it has not ended, and so `ended_at` is NULL.

Each index by which executions are listed ends with `created_at` and `id`, the order of lists: a page begins
in the middle of an index and reads as many rows as it shows. `tags` is a JSON object, or NULL; the table
`tag` is the index of it.

`ready_at` is a date only where `is_date` is 1. All else goes by the lease time, which no step of the wall
clock changes. It is `lease_time_ahead` of the monotonic clock of the machine, which all its processes share,
so that it begins as the time of the wall clock; that is noted once in a boot of the machine. (While a machine
is suspended, that clock stands still, and nobody's lease runs out.)

`counter` has one row: the last fencing token, the version of the claimable work, and the boot. A token is
never used twice in one file, not even for two executions that had the same id. The version grows with every
change that may give a worker something to do.

`worker` has the workers that announced themselves, and some that have died since; `workflows` is a JSON
array. `garbage` has the executions that are forgotten but still have rows to delete.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from outlast.adapters.sqlite.errors import is_busy, read_only, storage_error
from outlast.core.errors import (
    ConfigurationError,
    StorageCorrupt,
    StorageError,
    StorageTooNew,
)

Synchronous = Literal["full", "normal", "off"]

logger = logging.getLogger("outlast.sqlite")

SQLITE_OLDEST: Final = (3, 37, 0)
"""The first version with STRICT tables."""

APPLICATION_ID: Final = int.from_bytes(b"DAgt")

_VERSION_1 = (
    """
    CREATE TABLE execution (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        workflow TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        task_queue TEXT NOT NULL,
        keep_seconds REAL,
        status TEXT NOT NULL,
        length INTEGER NOT NULL,
        created_at REAL NOT NULL,
        ended_at REAL,
        forget_at REAL,
        reason TEXT,
        owner TEXT,
        token INTEGER NOT NULL DEFAULT 0,
        ready_at REAL,
        is_date INTEGER NOT NULL DEFAULT 0,
        sent INTEGER NOT NULL DEFAULT 0,
        consumed INTEGER NOT NULL DEFAULT 0,
        fruitless INTEGER NOT NULL DEFAULT 0,
        ignores_mail INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    """
    CREATE VIEW head AS SELECT
        key, id, workflow, fingerprint, task_queue, status, length, created_at, ended_at, reason, owner,
        fruitless, ignores_mail AND ready_at IS NULL AND status = 'running' AS held
    FROM execution
    """,
    "CREATE INDEX execution_ready ON execution (task_queue, workflow, ready_at) WHERE ready_at IS NOT NULL",
    "CREATE INDEX execution_mail ON execution (owner) WHERE owner IS NOT NULL AND sent > consumed",
    "CREATE INDEX execution_created ON execution (created_at)",
    "CREATE INDEX execution_workflow ON execution (workflow, created_at)",
    "CREATE INDEX execution_status ON execution (status, created_at)",
    """
    CREATE INDEX execution_ended ON execution (ended_at)
    WHERE ended_at IS NOT NULL AND keep_seconds IS NULL
    """,
    "CREATE INDEX execution_forget ON execution (forget_at) WHERE forget_at IS NOT NULL",
    """
    CREATE TABLE record (
        execution INTEGER NOT NULL,
        position INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (execution, position)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE message (
        execution INTEGER NOT NULL,
        number INTEGER NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (execution, number)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX message_id ON message (execution, id)",
    "CREATE TABLE garbage (execution INTEGER PRIMARY KEY) STRICT",
    """
    CREATE TABLE counter (
        token INTEGER NOT NULL,
        version INTEGER NOT NULL,
        boot TEXT NOT NULL,
        lease_time_ahead REAL NOT NULL
    ) STRICT
    """,
    "INSERT INTO counter VALUES (0, 0, '', 0.0)",
)

_VERSION_2 = (
    """
    CREATE TABLE worker (
        identity TEXT PRIMARY KEY,
        workflows TEXT NOT NULL,
        task_queue TEXT NOT NULL,
        started_at REAL NOT NULL,
        alive_until REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX execution_owner ON execution (owner, id) WHERE owner IS NOT NULL",
)

_VERSION_3 = (
    "ALTER TABLE execution ADD COLUMN overview TEXT",
    "ALTER TABLE execution ADD COLUMN waiting TEXT",
    "ALTER TABLE execution ADD COLUMN tags TEXT",
    "UPDATE execution SET status = 'paused' WHERE ignores_mail AND ready_at IS NULL AND status = 'running'",
    "DROP VIEW head",
    "DROP INDEX execution_created",
    "DROP INDEX execution_workflow",
    "DROP INDEX execution_status",
    "CREATE INDEX execution_created ON execution (created_at, id)",
    "CREATE INDEX execution_workflow ON execution (workflow, created_at, id)",
    "CREATE INDEX execution_status ON execution (status, created_at, id)",
    "CREATE INDEX execution_workflow_status ON execution (workflow, status, created_at, id)",
    "CREATE INDEX execution_waiting ON execution (waiting, created_at, id) WHERE waiting IS NOT NULL",
    """
    CREATE TABLE tag (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        created_at REAL NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (name, value, created_at, id)
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)
"""The statements that turn an empty file into version 1, version 1 into version 2, and so on."""

_SYNCHRONOUS: Final[dict[Synchronous, str]] = {
    "full": "PRAGMA synchronous = FULL",
    "normal": "PRAGMA synchronous = NORMAL",
    "off": "PRAGMA synchronous = OFF",
}

FileIdentity = tuple[int, int] | None
"""The device and inode of a file; None if there is no file."""

LOG_AFTER_SECONDS = 1.0
LOG_AGAIN_SECONDS = 10.0
"""The time after which a wait for a lock is logged, and logged again."""

RETRY_SECONDS = 0.001
"""The time to wait before trying again to get a lock that another connection holds."""


@dataclass(frozen=True, slots=True)
class FileIdentities:
    """The file of a store and its write-ahead log, as they were when they were opened.

    SQLite goes on writing to a file that was deleted or replaced, and whoever opens the path later sees
    nothing of it.
    """

    path: Path
    identities: tuple[tuple[str, FileIdentity], ...]

    def check(self) -> None:
        """Raise StorageError unless the files at the path are those that were opened."""
        for path, identity in self.identities:
            if _identity(path) != identity:
                raise StorageError(
                    f"{self.path} or its -wal file was deleted or replaced while it was open, so nothing "
                    "more is written; stop every process that uses it, put the right file in place, and "
                    "start them again"
                )


@dataclass(frozen=True, slots=True)
class Database:
    """The file of a store, and how to open it."""

    path: Path
    synchronous: Synchronous
    busy_timeout_seconds: float
    create: bool = True
    """True if a file that does not exist is created."""

    def open(self) -> sqlite3.Connection:
        """Return a connection for writing; afterwards the file exists and has the tables of this version.

        Any number of processes may open a new file at the same time; one of them creates the tables. A file
        of another application stays unchanged.

        Raises:
            StorageError: the file cannot be used.
            ConfigurationError: SQLite itself is too old; or, without `create`, the file does not exist.
        """
        self._check_surroundings()
        if self.create:
            self._create()
        give_up_at = time.monotonic() + self.busy_timeout_seconds
        while True:
            connection = self._connect("rwc" if self.create else "rw")
            try:
                self._configure(connection)
                self._prepare(connection)
            except sqlite3.Error as error:
                connection.close()
                # Two processes that switch a new file to WAL at the same time block each other, and SQLite
                # does not use its busy handler there.
                if not is_busy(error) or time.monotonic() > give_up_at:
                    raise storage_error(error, self.path) from error
                time.sleep(RETRY_SECONDS)
            except BaseException:
                connection.close()
                raise
            else:
                # From here on, `begin` waits for locks.
                connection.execute("PRAGMA busy_timeout = 0")
                return connection

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that may write; wait up to the busy timeout for transactions of others.

        SQLite's own busy handler is not used, because it sleeps longer and longer, up to 100 ms. When
        another process writes all the time, with shorter pauses than that, it can wait for seconds.
        """
        began = time.monotonic()
        say_at = began + LOG_AFTER_SECONDS
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                now = time.monotonic()
                if not is_busy(error) or now > began + self.busy_timeout_seconds:
                    raise
                if now > say_at:
                    logger.warning(
                        "%s has been locked by another process for %.0f s; waiting for it (a process that "
                        "was stopped in the middle of a write keeps the lock until it goes on or ends)",
                        self.path,
                        now - began,
                    )
                    say_at += LOG_AGAIN_SECONDS
                time.sleep(RETRY_SECONDS)
            else:
                return

    @property
    def log_path(self) -> Path:
        """The write-ahead log, which SQLite keeps beside the file."""
        absolute = self.path.absolute()
        return absolute.with_name(f"{absolute.name}-wal")

    def identities(self) -> FileIdentities:
        """Return what distinguishes the files that are open from others that take their place."""
        paths = (str(self.path.absolute()), str(self.log_path))
        return FileIdentities(self.path, tuple((path, _identity(path)) for path in paths))

    def open_for_reading(self) -> sqlite3.Connection:
        """Return a read-only connection to a file that `open` has prepared."""
        connection = self._connect("rw")
        try:
            self._configure(connection)
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            connection.close()
            raise storage_error(error, self.path) from error
        return connection

    def _create(self) -> None:
        """Create the file, if it does not exist, so that only its owner can read it.

        SQLite gives its -wal and -shm files the permissions of the file itself. The file is not opened here:
        closing it again would drop the locks of this process's other connections to it.
        """
        # Where that is not possible, SQLite creates the file, or says why it cannot be created.
        with suppress(OSError, AttributeError):
            os.mknod(self.path, stat.S_IFREG | stat.S_IRUSR | stat.S_IWUSR)

    def _check_surroundings(self) -> None:
        if sqlite3.sqlite_version_info < SQLITE_OLDEST:
            raise ConfigurationError(
                f"this Python has SQLite {sqlite3.sqlite_version}, but the store needs "
                f"{'.'.join(map(str, SQLITE_OLDEST))} or newer; use a newer Python or a newer libsqlite3"
            )
        if self.path.is_dir():
            raise StorageError(
                f"{self.path} is a directory; name a file in it, such as {self.path / 'runs.db'}"
            )
        if not self.path.parent.is_dir():
            raise StorageError(
                f"the directory {self.path.parent} of {self.path.name} does not exist; create it first"
            )
        if not (self.create or self.path.exists()):
            raise ConfigurationError(
                f"there is no file {self.path}; check the path and, if it is relative, the working directory"
            )
        # Checked before SQLite opens the file: SQLite would open it, and leave -wal and -shm files that are
        # read-only too. And not by opening the file: closing it would drop the locks that other connections
        # of this process have on it.
        effective = os.access in os.supports_effective_ids
        if self.path.exists() and not os.access(self.path, os.W_OK, effective_ids=effective):
            raise read_only(self.path, "its permissions do not let this user write")

    def _connect(self, mode: str) -> sqlite3.Connection:
        try:
            return sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=self.busy_timeout_seconds,
                isolation_level=None,  # Only explicit BEGIN and COMMIT; the module starts none by itself.
            )
        except sqlite3.OperationalError as error:
            if not self.path.exists():
                raise read_only(
                    self.path, f"this user may not create it in its directory: {error}"
                ) from error
            raise storage_error(error, self.path) from error

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute(_SYNCHRONOUS[self.synchronous])
        if self.synchronous == "full":
            # On macOS, a plain fsync leaves the data in the cache of the drive.
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("PRAGMA trusted_schema = OFF")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        self._version(connection)
        connection.execute("COMMIT")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StorageError(
                f"{self.path} cannot use a write-ahead log (its journal mode stays {mode!r}); "
                "put the file on a local disk, not on a network file system"
            )
        # Ask again, now that no other process can write.
        connection.execute("BEGIN IMMEDIATE")
        version = self._version(connection)
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables in the file; 0 if the file is empty.

        Raises:
            StorageError: the file belongs to another application, is too new, or is damaged.
        """
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application_id, version, objects) == (0, 0, 0):
            return 0
        if application_id != APPLICATION_ID:
            raise StorageCorrupt(
                f"{self.path} is an SQLite file of another application, and was not changed; "
                "choose another path for the store"
            )
        if version > len(MIGRATIONS):
            raise StorageTooNew(
                f"{self.path} was written by a newer version of outlast (schema version {version}; this "
                f"version reads up to {len(MIGRATIONS)}); upgrade outlast, or use another file"
            )
        if not version or not objects:
            raise StorageCorrupt(
                f"{self.path} has lost its tables or their version number; restore it from a backup"
            )
        return int(version)


def _identity(path: str) -> FileIdentity:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def boot_id() -> str:
    """Return a text that changes when the machine is started again.

    Where the system offers none, it is made of the time of the start; then a large step of the wall clock
    counts as one.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"at {round((time.time() - time.monotonic()) / 600)}"
