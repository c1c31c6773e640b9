"""Translates errors of PostgreSQL, its driver and the network into those of `outlast.core.errors`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from outlast.core.errors import (
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Everything that a call of the driver raises because of the server, the network or the settings."""

# By class of SQLSTATE, or by the whole of it: https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE = ("08", "40", "53", "57", "55P03", "25P03", "25P04", "58000", "58030")
_FULL = ("53100",)
_READ_ONLY = ("25006",)
_REFUSED = ("28",)
_MISSING = ("3D000",)
_FORBIDDEN = ("42501",)
_FOREIGN = ("3F000", "42P01", "42703", "42883")
_DAMAGED = ("XX001", "XX002")


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn errors of the driver in the block into a `StorageError` that says what to do."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise storage_error(error, place) from error


def storage_error(error: Exception, place: str) -> StorageError:
    """Return `error` as an error that helps the operator of the server at `place`."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error.sqlstate or "", place, reason)
    if isinstance(error, ssl.SSLError):
        return StorageError(f"the TLS handshake with {place} failed ({reason}); see sslmode in the URL")
    if isinstance(error, TimeoutError):
        return StorageUnavailable(
            f"{place} did not answer in time ({reason}); check whether it is overloaded or unreachable"
        )
    if isinstance(error, OSError):
        return StorageUnavailable(
            f"cannot connect to {place} ({reason}); check whether the server runs there"
        )
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        # The connection, or the pool, was closed while the call went on.
        return StorageUnavailable(f"the connection to {place} is gone ({reason}); try again")
    return StorageError(f"the driver cannot talk to {place} ({reason}); check the URL")


def _of_server(code: str, place: str, reason: str) -> StorageError:
    if code.startswith(_FULL):
        return StorageFull(f"the disk of {place} is full ({reason}); make room, or prune old executions")
    if code.startswith(_UNAVAILABLE):
        return StorageUnavailable(f"{place} cannot do that now ({reason}); try again")
    if code.startswith(_READ_ONLY):
        return StorageReadOnly(f"{place} accepts no writes ({reason}); use the address of the primary server")
    if code.startswith(_REFUSED):
        return StorageError(
            f"{place} refuses these credentials ({reason}); correct the user and the password"
        )
    if code.startswith(_MISSING):
        return StorageError(f"{place} does not exist ({reason}); create the database")
    if code.startswith(_FORBIDDEN):
        return StorageError(
            f"the user may not do that on {place} ({reason}); grant CREATE on the database, or let its owner "
            "create the schema and grant all on it"
        )
    if code.startswith(_FOREIGN):
        return StorageCorrupt(
            f"the tables in {place} are not those of this package ({reason}); choose another schema=… in the "
            "URL"
        )
    if code.startswith(_DAMAGED):
        return StorageCorrupt(f"{place} has damaged data ({reason}); restore it from a backup")
    return StorageError(f"{place} returned an error: {reason}")
