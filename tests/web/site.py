"""Inspectors that tests serve on loopback, the backends behind them, and clients with the token."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp
from uvicorn import Config, Server

import outlast.web
from outlast.ports.durability.backend import Backend
from tests.adapters.redis_servers import VALKEY, shared_server
from tests.adapters.temporal_server import new_namespace
from tests.adapters.temporal_server import shared_server as shared_temporal_server

IN_THIS_PROCESS = ["memory", "sqlite"]
SERVERS = ["redis", "temporal"]


async def url_of(kind: str, folder: Path) -> str:
    """Return the URL of a backend of that kind, with no executions yet."""
    match kind:
        case "sqlite":
            return f"sqlite:///{folder / 'runs.db'}"
        case "redis":
            return f"{shared_server(VALKEY).url()}?prefix={uuid.uuid4().hex}"
        case "temporal":
            address = shared_temporal_server()
            return f"temporal://{address}/{await new_namespace(address)}"
    return "memory:"


@asynccontextmanager
async def listening(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serve an application, at any free port by default; yield its address, which ends with a slash."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = Server(Config(app, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving


@dataclass
class Site:
    """An inspector that is served, and a client that has come in."""

    address: str
    inspector: outlast.web.Inspector
    client: httpx2.AsyncClient

    @property
    def entrance(self) -> str:
        """The URL that opens the page in a browser."""
        return f"{self.address}?token={self.inspector.token}"

    async def read(self, what: str, **parameters: Any) -> Any:
        """Return the answer to a request; raise if it is an error."""
        answer = await self.client.get(f"api/{what}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def act(self, verb: str, **document: Any) -> httpx2.Response:
        return await self.client.post(f"api/actions/{verb}", json=document)

    async def events(self, id: str, last: int | None = None) -> list[dict[str, Any]]:
        """Return the events of an execution that has ended, as a reader that was cut off gets them."""
        found: list[dict[str, Any]] = []
        async for kind, _, data in self.messages(id, last):
            assert kind in ("events", "end"), data
            found += data if kind == "events" else []
        return found

    async def messages(self, id: str, last: int | None = None) -> AsyncIterator[tuple[str, int | None, Any]]:
        """Yield the kind, the id and the data of each message."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        async with self.client.stream("GET", "api/events", params={"id": id}, headers=headers) as answer:
            assert answer.status_code == 200
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    position = int(fields["id"]) if "id" in fields else None
                    yield fields["event"], position, json.loads(fields["data"])
                    fields = {}


@asynccontextmanager
async def inspected(backend: Backend, **options: Any) -> AsyncIterator[Site]:
    """Serve an inspector of a backend; yield it with a client that has come in."""
    app = outlast.web.inspector(backend, **options)
    async with listening(app) as address, httpx2.AsyncClient(base_url=address, timeout=30) as client:
        entered = await client.get(f"?token={app.token}")
        assert entered.status_code == 303
        yield Site(address, app, client)
