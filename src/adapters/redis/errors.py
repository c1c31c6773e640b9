"""Translates errors of Redis, its client and the network into those of `core.errors`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import (
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

REDIS_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
"""Everything that a call of the client may raise because of the server or the network."""


@contextmanager
def translated(settings: RedisSettings) -> Iterator[None]:
    """Turn errors of the client in the block into a `StorageError` that says what to do.

    It also raises a cancellation that the block has lost. The client uses `asyncio.wait_for`, which on
    Python 3.11 ignores a cancellation that comes together with its result (fixed in 3.12).
    """
    task = asyncio.current_task()
    cancelled_before = 0 if task is None else task.cancelling()
    try:
        yield
    except REDIS_ERRORS as error:
        raise storage_error(error, settings.place) from error
    if task is not None and task.cancelling() > cancelled_before:
        raise asyncio.CancelledError


def storage_error(error: Exception, place: str) -> StorageError:
    """Return `error` as an error that helps the operator of the server at `place`."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthenticationWrongNumberOfArgsError():
            return _refused(place, reason)
        case exceptions.NoPermissionError() | exceptions.AuthorizationError():
            return _not_permitted(place, reason)
        case exceptions.ReadOnlyError():
            return _replica(place, reason)
        case exceptions.OutOfMemoryError():
            return _full(place, reason)
        case exceptions.BusyLoadingError():
            return StorageUnavailable(f"{place} is still loading its data ({reason}); try again soon")
        case exceptions.InvalidResponse():
            return _other_protocol(place, reason)
        case exceptions.MaxConnectionsError():
            return StorageUnavailable(
                f"all connections to {place} are in use ({reason}); raise max_connections in the URL"
            )
        case exceptions.ClusterError() | exceptions.RedisClusterException() | exceptions.TryAgainError():
            return StorageUnavailable(
                f"the cluster at {place} does not serve all slots now ({reason}); check its nodes"
            )
        case exceptions.MovedError() | exceptions.AskError():
            return StorageUnavailable(f"the cluster at {place} is moving slots ({reason}); try again")
        case exceptions.TimeoutError() | TimeoutError():
            return _late(place, reason)
        case exceptions.ResponseError():
            return _response_error(error, place, reason)
        case exceptions.ConnectionError() | OSError():
            return _unreachable(error, place, reason)
    return StorageError(f"Redis at {place} returned an error: {reason}")


def _late(place: str, reason: str) -> StorageUnavailable:
    # A server without TLS takes a TLS handshake for the start of a command, and waits for its end.
    hint = ", or does not use TLS (then write redis://)" if place.startswith("rediss:") else ""
    return StorageUnavailable(
        f"{place} did not answer in time ({reason}); check whether it is overloaded or unreachable{hint}, or "
        "raise timeout in the URL"
    )


def _response_error(error: exceptions.ResponseError, place: str, reason: str) -> StorageError:
    text = str(error)
    if text.startswith(("WRONGTYPE", "ORPHAN")) or "WRONGTYPE" in text:
        return StorageCorrupt(
            f"a key under this backend's prefix on {place} was not written by this library ({reason}); "
            "delete it, or choose another prefix=… in the URL"
        )
    if text.startswith(("WRONGPASS", "NOAUTH", "ERR invalid password", "invalid username")):
        return _refused(place, reason)
    if "READONLY" in text:
        return _replica(place, reason)
    if "OOM" in text:
        return _full(place, reason)
    if any(words in text for words in ("NOPERM", "ACL failure", "user executing the script can't")):
        return _not_permitted(place, reason)
    if text.startswith("MISCONF"):
        return StorageFull(
            f"{place} accepts no writes because it cannot save them ({reason}); check its log and its disk"
        )
    if text.startswith(("NOREPLICAS", "UNBLOCKED", "MASTERDOWN", "BUSY", "UNKILLABLE")):
        return StorageUnavailable(f"{place} cannot accept writes now ({reason}); try again")
    if "non local key" in text or "cluster is down" in text:
        return StorageUnavailable(
            f"the cluster at {place} is moving slots, or failing over ({reason}); try again"
        )
    if "DB index is out of range" in text or "SELECT is not allowed" in text:
        return StorageError(
            f"{place}: this database does not exist ({reason}); use a smaller number, or 0 on a cluster"
        )
    return StorageError(f"Redis at {place} returned an error: {reason}")


def _unreachable(error: Exception, place: str, reason: str) -> StorageError:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, exceptions.InvalidResponse) for cause in causes):
        return _other_protocol(place, reason)
    for cause in causes:
        if isinstance(cause, FileNotFoundError):
            return StorageError(
                f"a TLS file in the URL of {place} does not exist; correct ssl_ca_certs, ssl_certfile and "
                "ssl_keyfile"
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StorageError(
                f"the certificate of {place} is not trusted ({cause.verify_message}); name the file of its "
                "certificate authority with ssl_ca_certs=FILE in the URL"
            )
        if isinstance(cause, ssl.SSLError):
            return StorageError(
                f"the TLS handshake with {place} failed ({cause.reason}); if the server does not use TLS, "
                "write redis://; if it asks for a client certificate, give ssl_certfile and ssl_keyfile"
            )
    if "rotocol" in str(error):
        return _other_protocol(place, reason)
    return StorageUnavailable(
        f"cannot connect to {place} ({reason}); check whether the server runs there, and whether it uses TLS "
        "(then the URL begins with rediss://)"
    )


def _refused(place: str, reason: str) -> StorageError:
    return StorageError(
        f"{place} refuses these credentials ({reason}); correct user and password in the URL: "
        "redis://user:password@host, or redis://:password@host for the default user"
    )


def _not_permitted(place: str, reason: str) -> StorageError:
    return StorageError(
        f"the user of the Redis URL may not run a command on {place} ({reason}); use ACL SETUSER to grant "
        "the keys and channels of the prefix, and the commands that docs/how-to/redis.md lists"
    )


def _replica(place: str, reason: str) -> StorageUnavailable:
    # It may pass: after a failover the address soon leads to the new primary.
    return StorageUnavailable(
        f"{place} is a replica and accepts no writes ({reason}); wait for the failover to end, or put the "
        "address of the primary into the URL"
    )


def _full(place: str, reason: str) -> StorageFull:
    return StorageFull(
        f"{place} has reached its maxmemory ({reason}); raise maxmemory, or prune old executions"
    )


def _other_protocol(place: str, reason: str) -> StorageError:
    return StorageError(
        f"the server at {place} is not a Redis server ({reason}); correct host and port in the URL"
    )
