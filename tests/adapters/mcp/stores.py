"""Every backend, with a way to read each byte that it keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from temporalio.client import Client

import outlast
from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.executions.journaled_backend import JournaledBackend
from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions
from tests.adapters.temporal_server import shared_server

Kept = Callable[[str], Awaitable[Mapping[str, bytes]]]
"""Returns all that is kept in each place, of one execution where a server keeps those of others beside it."""

READABLE = {
    b"string": "GET {}",
    b"hash": "HGETALL {}",
    b"list": "LRANGE {} 0 -1",
    b"set": "SMEMBERS {}",
    b"zset": "ZRANGE {} 0 -1",
    b"stream": "XRANGE {} - +",
}
"""The command that reads a whole key, by the type of the key."""


@asynccontextmanager
async def storing(scheme: str, folder: Path) -> AsyncIterator[tuple[outlast.Backend, Kept]]:
    """Yield a backend of a kind that keeps nothing yet, and what reads all that it keeps."""
    match scheme:
        case "memory":
            medium, clock = Medium(), SystemClock()
            deltas = MemoryDeltas(clock)
            async with JournaledBackend(MemoryStore(clock, medium=medium), clock, deltas) as memory:
                yield memory, _in_memory(medium, vars(deltas))
        case "sqlite":
            async with outlast.connect(f"sqlite:///{folder}/runs.db") as backend:
                yield backend, _on_disk(folder)
        case "redis":
            # Nothing that is on the disk is compressed, and all is there once it is acknowledged.
            options = ServerOptions(append_only=True, settings={"rdbcompression": "no"})
            with RedisServer(VALKEY, folder, options) as server:
                async with outlast.connect(server.url()) as backend:
                    yield backend, _in_redis(server, folder)
        case _:
            address = shared_server()
            async with outlast.connect(f"temporal://{address}/default") as backend:
                yield backend, _in_temporal(address)


def _in_memory(*roots: Any) -> Kept:
    async def kept(_: str) -> Mapping[str, bytes]:
        return {"memory": b"\n".join(_texts(roots, set()))}

    return kept


def _texts(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield every text in a structure of plain data and objects, and how each object shows itself."""
    if id(value) in seen:
        return
    seen.add(id(value))
    match value:
        case bytes():
            yield value
        case str():
            yield value.encode()
        case Mapping():
            yield from _texts([*value.keys(), *value.values()], seen)
        case Iterable():
            for item in value:
                yield from _texts(item, seen)
        case _:
            if dataclasses.is_dataclass(value):
                yield from _texts([getattr(value, one.name) for one in dataclasses.fields(value)], seen)
            yield repr(value).encode()


def _on_disk(folder: Path) -> Kept:
    async def kept(_: str) -> Mapping[str, bytes]:
        return {"files": _files(folder, "*")}

    return kept


def _files(folder: Path, pattern: str) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob(pattern)) if file.is_file())


def _in_redis(server: RedisServer, folder: Path) -> Kept:
    async def kept(_: str) -> Mapping[str, bytes]:
        with server.client() as client:
            client.save()
            values = {key: _whole(client, key) for key in client.scan_iter()}
        return {
            "keys": b"\n".join(_texts(values, set())),
            "append-only file": _files(folder, "*.aof"),
            "snapshot": _files(folder, "dump.rdb"),
        }

    return kept


def _whole(client: Redis, key: bytes) -> Any:
    command, *rest = READABLE[client.type(key)].split()  # type: ignore[index]  # it decodes nothing
    return client.execute_command(command, key, *rest[1:])  # type: ignore[no-untyped-call]  # redis-py's


def _in_temporal(address: str) -> Kept:
    async def kept(id: str) -> Mapping[str, bytes]:
        client = await Client.connect(address)
        history = await client.get_workflow_handle(id).fetch_history()
        return {"history": b"\n".join(event.SerializeToString() for event in history.events)}

    return kept
