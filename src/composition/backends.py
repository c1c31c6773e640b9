"""Making a backend from a URL or a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from outlast.core.argument_checks import check_text
from outlast.core.errors import ConfigurationError, MissingExtra, UnknownBackend
from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas
from outlast.ports.durability.backend import Backend
from outlast.ports.journal import Store
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.executions.journaled_backend import JournaledBackend

BACKEND_VARIABLE = "OUTLAST_BACKEND"
DEFAULT_BACKEND = "sqlite:///outlast.db"
ENTRY_POINTS = "outlast.backends"


def connect(url: str | None = None, **options: Any) -> Backend:
    """Return the backend at `url`; by default at `OUTLAST_BACKEND`, else an SQLite file here.

    It is an async context manager, and connects when it is entered. `memory:` lives in this process;
    `sqlite:///runs.db` is a relative path, `sqlite:////var/runs.db` an absolute one; a package can add a
    scheme by an entry point in the group `outlast.backends`, a function from the URL (and options, if
    there are any) to a `Backend`. With the option `create=False`, an SQLite file that does not exist is an
    error when the backend is entered; by default the file is created.

    `temporal://host:port/namespace` takes in its query `tls=true`, `tls_ca`, `tls_cert`, `tls_key` (paths of
    PEM files), `tls_server_name`, and `api_key_env` (the name of a variable that holds the key). Its
    `options` are those of `adapters.temporal.TemporalBackend`: `payload_codec`, `data_converter`,
    `interceptors`, `runtime`, `tls`, `api_key` and so on.

    Raises:
        UnknownBackend: neither this library nor an entry point knows the URL's scheme.
        MissingExtra: the adapter's dependency is not installed.
        ConfigurationError: the adapter cannot use the rest of the URL.
    """
    if url is not None:
        check_text("the URL of a backend", url, ConfigurationError)
    url = url or os.environ.get(BACKEND_VARIABLE) or DEFAULT_BACKEND
    parts = urlsplit(url)
    if (make := _OURS.get(parts.scheme)) is not None:
        return make(parts, options)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == parts.scheme:
            backend: Backend = point.load()(url, **options)
            return backend
    # The error quotes only the scheme: the rest may hold a password.
    others = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
    raise UnknownBackend(f"{parts.scheme}:" if parts.scheme else url.partition("@")[0], (*_OURS, *others))


def journaled_backend(store: Store, clock: Clock | None = None, deltas: Deltas | None = None) -> Backend:
    """Return the backend that this library's own engine makes of any store.

    It opens the store, and `deltas`, when it is entered, and closes them when it is exited.

    Args:
        store: Where executions are kept: an implementation of `outlast.ports.journal.Store`.
        clock: The clock that the store uses; by default the clock of this machine.
        deltas: Carries the text of replies that are still being written to readers of the events. Without it,
            they see each reply when it is whole.
    """
    return JournaledBackend(store, SystemClock() if clock is None else clock, deltas)


def _memory(parts: SplitResult, options: Mapping[str, Any]) -> Backend:
    from outlast.adapters.memory.deltas import MemoryDeltas
    from outlast.adapters.memory.store import MemoryStore

    _no_options("in-memory", options)
    if parts.netloc or parts.path or parts.query:
        raise ConfigurationError("the in-memory backend takes no more than its scheme: write `memory:`")
    clock = SystemClock()
    return journaled_backend(MemoryStore(clock), clock, MemoryDeltas(clock))


def _sqlite(parts: SplitResult, given: Mapping[str, Any]) -> Backend:
    from outlast.adapters.sqlite import SqliteDeltas, SqliteStore

    create = given.get("create", True)
    _no_options("SQLite", {name: value for name, value in given.items() if name != "create"})
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ConfigurationError(
            "an SQLite URL is sqlite:///runs.db for a file in the working directory, "
            "or sqlite:////var/lib/runs.db for an absolute path"
        )
    levels: dict[str, Literal["full", "normal", "off"]] = {"full": "full", "normal": "normal", "off": "off"}
    options = _options(parts, {"synchronous": tuple(levels)})
    clock = SystemClock()
    store = SqliteStore(
        Path(path), clock, synchronous=levels[options.get("synchronous", "full")], create=create
    )
    return journaled_backend(store, clock, SqliteDeltas(Path(path), clock))


def _no_options(what: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ConfigurationError(f"the {what} backend takes no options beside its URL: {', '.join(options)}")


def _redis(parts: SplitResult, options: Mapping[str, Any]) -> Backend:
    try:
        from outlast.adapters.redis import RedisDeltas, RedisSettings, RedisStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
            raise
        raise MissingExtra("redis") from error

    _no_options("Redis", options)
    settings = RedisSettings.from_url(parts.geturl())
    store = RedisStore(settings)
    return journaled_backend(store, store.clock, RedisDeltas(settings, store.clock))


def _temporal(parts: SplitResult, options: Mapping[str, Any]) -> Backend:
    try:
        from outlast.adapters.temporal import TemporalBackend, connection_options
        from outlast.composition.toolkit import toolkit
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "temporalio":
            raise
        raise MissingExtra("temporal") from error

    namespace = unquote(parts.path).strip("/") or "default"
    if not parts.hostname or parts.username or "/" in namespace:
        raise ConfigurationError("a Temporal URL is temporal://host:port/namespace")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    address = f"{parts.hostname}:{parts.port or 7233}"
    return TemporalBackend(address, namespace, toolkit(), **{**connection_options(query), **options})


def _options(parts: SplitResult, known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name not in known or value not in known[name]:
            allowed = "; ".join(f"{option}={'|'.join(values)}" for option, values in known.items())
            raise ConfigurationError(f"unknown option {name}={value} in the URL; it can have: {allowed}")
    return options


_OURS: dict[str, Callable[[SplitResult, Mapping[str, Any]], Backend]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "temporal": _temporal,
}
