"""A real Temporal server for the tests, and what they ask of it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
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
)
"""The dev server holds tasks back for 50 ms each, unless an option forbids it."""

EXECUTABLE = str(Path(sys.executable).parent / "temporal")


class DoesNotAnswer(Exception):
    """A server has ended, or has not answered for long, where it should begin; what it said is shown."""


def start_server(port: int, *options: str) -> Child:
    """Start Temporal's dev server on loopback; return once it serves."""
    fast = [option for setting in FAST for option in ("--dynamic-config-value", setting)]
    with tempfile.TemporaryFile() as said:
        process = Child(
            [
                *(EXECUTABLE, "server", "start-dev", "--headless", "--log-level", "error"),
                *("--ip", "127.0.0.1", "--port", str(port), *fast, *options),
            ],
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


FOLDER = Path(tempfile.gettempdir()) / f"outlast-temporal-{os.getpid()}"
"""The folder of the shared server's file; it is removed when the tests have ended."""


@functools.cache
def shared_server() -> str:
    """Return host and port of the one server that all tests of this process share, started at first use."""
    stack = ExitStack()
    atexit.register(stack.close)
    FOLDER.mkdir(exist_ok=True)
    stack.callback(shutil.rmtree, FOLDER)
    # Safe against killing the server, which is all that happens to it.
    fast = ("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off")
    return stack.enter_context(temporal_server(fast, folder=FOLDER))


def stored_bytes() -> bytes:
    """Return all that the shared server has stored."""
    return b"".join(path.read_bytes() for path in sorted(FOLDER.iterdir()))


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
