"""Translates SQLite's result codes into the errors of `core.errors`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from outlast.core.errors import (
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)

_PRIMARY = 0xFF
"""The low byte of an extended result code is the primary result code."""


def is_refusal(error: Exception) -> bool:
    """Return whether `error` ends only one operation, so that the transaction around it can go on."""
    return not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection holds a lock, so that a later try may succeed."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY == sqlite3.SQLITE_BUSY


def storage_error(error: sqlite3.Error, path: Path) -> StorageError:
    """Return `error` as an error that helps the operator of the store at `path`."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    reason = f"{error} ({getattr(error, 'sqlite_errorname', 'no SQLite code')})"
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        # The shared-memory file could not grow: in practice that is a full disk.
        return _full(path, reason)
    match code & _PRIMARY:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnavailable(
                f"{path} stayed locked by another process for longer than the busy timeout ({reason}); "
                "try again, find the process that keeps a transaction open, or raise busy_timeout_seconds"
            )
        case sqlite3.SQLITE_FULL:
            return _full(path, reason)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return read_only(path, reason)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StorageCorrupt(
                f"{path} is damaged or is not an SQLite file ({reason}); restore it from a backup, "
                "save what is readable with `sqlite3 FILE .recover`, or choose another path"
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return StorageCorrupt(
                f"the rows of {path} contradict each other ({reason}), so another program has changed them; "
                "restore the file from a backup"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailable(
                f"{path} or its -wal and -shm files cannot be opened ({reason}); "
                "check that they exist, check their permissions, and check the limit of open files"
            )
        case sqlite3.SQLITE_IOERR:
            return StorageUnavailable(
                f"the operating system could not read or write {path} ({reason}); check its disk"
            )
    return StorageError(f"SQLite could not use {path}: {reason}")


def read_only(path: Path, reason: str) -> StorageReadOnly:
    return StorageReadOnly(
        f"{path} cannot be written ({reason}); give this user write access to the file and to its "
        "directory, or choose another path"
    )


def _full(path: Path, reason: str) -> StorageFull:
    return StorageFull(
        f"the disk of {path} is full ({reason}); free space on it, or prune old executions, and try again"
    )
