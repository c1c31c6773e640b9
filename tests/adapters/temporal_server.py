"""A real Temporal server for the tests, and what they ask of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FAST = ("history.transferProcessorMaxPollRPS=100000", "history.timerProcessorMaxPollRPS=100000")
"""The dev server holds tasks back for 50 ms each, unless it is told not to."""


@contextmanager
def temporal_server() -> Iterator[str]:
    """Run Temporal's dev server on loopback, in memory, for the time of the block; yield host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [option for setting in FAST for option in ("--dynamic-config-value", setting)]
    executable, address = str(Path(sys.executable).parent / "temporal"), f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(executable, "server", "start-dev", "--headless", "--log-level", "error"),
            *("--ip", "127.0.0.1", "--port", str(port), *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # It listens before it can serve; it can once it knows its namespace.
        deadline = time.monotonic() + 30
        while subprocess.run(
            [executable, "workflow", "count", "--address", address], capture_output=True, check=False
        ).returncode:
            assert process.poll() is None, "the Temporal server has ended"
            assert time.monotonic() < deadline, "the Temporal server does not answer"
        yield address
    finally:
        process.kill()
        process.wait()
