"""The health of `outlast worker`, over HTTP, for whatever starts it: systemd, Docker, Kubernetes.

- `/livez` answers 200 as long as the process can do its work. If it does not, start another one.
- `/readyz` answers 200 while executions are carried on: at least one worker has begun, gives signs of life,
  and its store answers. Else it answers 503; so it does from the moment at which it is asked to stop.

Both answer with a JSON document that says how each worker is. There is no URL, no id and no name of a user in
it. A thread of its own answers, so that code of a user which blocks an event loop does not block the answer.
With worker processes, this is the process that looks after them: it runs no code of a user, it replaces a
worker that hangs, and it is alive throughout. Without (`--processes 0`) nobody replaces the worker, so it
counts as dead once its event loop has stood still for too long.

Rejected: to answer from the event loop of the worker. Whoever asks would wait with the code that blocks it,
and a process that only waits for a slow function would be ended for it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from outlast.core.errors import ConfigurationError

SILENT_SECONDS: Final = 3.0
"""A worker that gave its last sign of life longer ago is not ready."""
REQUEST_SECONDS: Final = 5.0
"""The time that a client has for its request."""


@dataclass(frozen=True, slots=True)
class Address:
    """The place where health is served."""

    port: int
    host: str


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker process, as it looks from outside."""

    process: int
    has_begun: bool
    silent_seconds: float
    """The time since its last sign of life."""
    store_answers: bool | None
    """None as long as nobody has asked the store."""

    @property
    def state(self) -> str:
        """One word or two for the worst that is known."""
        if not self.has_begun:
            return "starting"
        if self.silent_seconds > SILENT_SECONDS:
            return "silent"
        if not self.store_answers:
            return "starting" if self.store_answers is None else "without store"
        return "ready"


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a whole `outlast worker`."""

    workers: tuple[WorkerHealth, ...]
    is_stopping: bool = False
    is_alive: bool = True

    @property
    def is_ready(self) -> bool:
        """True while executions are carried on here."""
        return not self.is_stopping and any(worker.state == "ready" for worker in self.workers)

    def answer(self, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return the status and the document for a path."""
        match path.partition("?")[0]:
            case "/livez":
                good, words = self.is_alive, ("alive", "dead")
            case "/readyz":
                good, words = self.is_ready, ("ready", "stopping" if self.is_stopping else "not ready")
            case _:
                return HTTPStatus.NOT_FOUND, {"error": "ask for /livez or /readyz"}
        workers = [{"process": worker.process, "state": worker.state} for worker in self.workers]
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return status, {"status": words[not good], "workers": workers}


class OwnPulse:
    """The health of the worker in this process, which its event loop keeps up to date."""

    def __init__(self, process: int, dead_seconds: float) -> None:
        self._process = process
        self._dead_seconds = dead_seconds
        self._heard_at: float | None = None
        self.store_answers: bool | None = None
        self.is_stopping = False

    def beat(self) -> None:
        """Note that the event loop goes round."""
        self._heard_at = time.monotonic()

    def health(self) -> Health:
        """Return what is known; any thread may ask."""
        heard_at = self._heard_at
        silent = 0.0 if heard_at is None else time.monotonic() - heard_at
        worker = WorkerHealth(self._process, heard_at is not None, silent, self.store_answers)
        return Health((worker,), self.is_stopping, silent <= self._dead_seconds)


@contextmanager
def served(address: Address, health: Callable[[], Health]) -> Iterator[int]:
    """Answer requests for the time of the block; yield the port, which the machine chooses for port 0.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    class HealthHandler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            status, document = health().answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def version_string(self) -> str:
            return "outlast"

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: a probe asks every few seconds."""

    class HealthServer(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

    try:
        server = HealthServer((address.host, address.port), HealthHandler)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"health cannot be served on {address.host} port {address.port}: {error}; give another "
            "--health-port or --health-host"
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
