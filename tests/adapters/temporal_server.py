"""A real Temporal server for the tests, and what they ask of it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import EventType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.execution import TemporalExecution
from outlast.ports.durability.execution import Execution
from tests.children import Child
from tests.ports import free_port

PATIENCE_SECONDS = 30.0

FAST = (
    "history.transferProcessorMaxPollRPS=100000",
    "history.timerProcessorMaxPollRPS=100000",
    'history.timerProcessorMaxTimeShift="1ms"',
    "worker.perNamespaceWorkerCount=0",
)
"""Else the dev server holds tasks back for 50 ms each, and has workers of its own in each namespace."""

EXECUTABLE = str(Path(sys.executable).parent / "temporal")


class DoesNotAnswer(Exception):
    """A server that was started has ended, or does not answer; the message is what it has printed."""


def start_server(port: int, *options: str) -> Child:
    """Start Temporal's dev server on loopback; return once it serves."""
    fast = [option for setting in FAST for option in ("--dynamic-config-value", setting)]
    with tempfile.TemporaryFile() as said:
        process = Child(
            [
                *(EXECUTABLE, "server", "start-dev", "--headless", "--log-level", "error"),
                *("--ip", "127.0.0.1", "--port", str(port), *fast, *options),
            ],
            # It makes much that is soon unused, and memory is plenty.
            env={**os.environ, "GOGC": "400"},
            stdout=said,
            stderr=said,
        )
        # It listens before it can serve; it can once it knows its namespace.
        deadline = time.monotonic() + PATIENCE_SECONDS
        counting = [EXECUTABLE, "workflow", "count", "--address", f"127.0.0.1:{port}"]
        while subprocess.run(counting, capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                said.seek(0)
                raise DoesNotAnswer(said.read().decode(errors="replace"))
    return process


@contextmanager
def temporal_server(options: Sequence[str] = (), *, folder: Path | None = None) -> Iterator[str]:
    """Run a server for the time of the block, in memory unless it has a folder; yield its address."""
    process, port = _started_server(options, folder)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _started_server(options: Sequence[str], folder: Path | None) -> tuple[Child, int]:
    """Start a server; somebody else may take one of its ports, free a moment ago, before it does."""
    failures = []
    for _ in range(10):
        port = free_port()
        stored = () if folder is None else ("--db-filename", str(folder / f"{port}.db"))
        try:
            return start_server(port, *stored, *options), port
        except DoesNotAnswer as failure:
            failures.append(failure)
    raise ExceptionGroup("no Temporal server comes up", failures)


class StoredServer:
    """A server with a file: both are there until it is closed, or the tests have ended."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="temporal-")))
        # Safe against killing the server, which is all that happens to it.
        fast = ("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off")
        self.address = self._closing.enter_context(temporal_server(fast, folder=self._folder))
        self.tests = 0
        self.tests_now = 0
        atexit.register(self.close)

    def close(self) -> None:
        self._closing.close()
        atexit.unregister(self.close)

    def stored_bytes(self) -> bytes:
        """Return all that it has stored."""
        return b"".join(path.read_bytes() for path in sorted(self._folder.iterdir()))


TESTS_MAX = 50
"""A namespace stays as long as its server: with hundreds of them, most of a server's work is for nobody."""


class SuccessiveServers:
    """For tests that need namespaces of their own: one server after another, each for some of them."""

    def __init__(self) -> None:
        self._server: StoredServer | None = None

    def take(self) -> StoredServer:
        """Return a server that stays until the test gives it back."""
        if self._server is not None and self._server.tests >= TESTS_MAX and not self._server.tests_now:
            self._server.close()
            self._server = None
        if self._server is None:
            self._server = StoredServer()
        self._server.tests += 1
        self._server.tests_now += 1
        return self._server

    def give_back(self, server: StoredServer) -> None:
        server.tests_now -= 1


@functools.cache
def stored_server() -> StoredServer:
    """Return the one server that the tests of this process share, started at first use."""
    return StoredServer()


def shared_server() -> str:
    """Return host and port of the server that the tests of this process share."""
    return stored_server().address


async def new_namespace(address: str) -> str:
    """Return a namespace that holds nothing yet, once all of the server knows it."""
    name = f"n-{uuid.uuid4().hex}"
    client = await Client.connect(address)
    day = Duration(seconds=86_400)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=day)
    )
    queue = DescribeTaskQueueRequest(namespace=name, task_queue=TaskQueue(name="none"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await client.workflow_service.describe_task_queue(queue)
                return name
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0.01)  # nothing announces it


async def obstacle_of(execution: Execution) -> str:
    """Return why the execution cannot go on, once one of its workflow tasks has failed."""
    assert isinstance(execution, TemporalExecution)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in execution.handle.fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                break
        error = (await execution.describe()).error
    assert error is not None
    return error
