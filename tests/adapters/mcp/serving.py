"""MCP servers made with the SDK, in processes of their own, on real pipes and real ports.

Importing the SDK's server takes longer than most tests. So every server is forked from one process that has
imported everything, the nursery. The command that a test gives as its stdio server hands its stdin, stdout
and stderr over to that process, and waits for the fork to end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass
class Servers:
    """The servers of one kind that are forked for one test."""

    notes: Path
    socket: Path

    def processes(self) -> list[int]:
        """Return the process ids of all that there have been, the first one first."""
        return [int(line) for line in self.notes.read_text().split()] if self.notes.exists() else []

    def kill(self) -> None:
        """Kill those that there are; more may come."""
        for process_id in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    def close(self) -> None:
        """Kill those that there are; none may come any more."""
        self.socket.unlink(missing_ok=True)
        self.kill()


@dataclass
class StdioServers(Servers):
    """A command that is a server."""

    command: str
    args: list[str]


@dataclass
class HTTPServer(Servers):
    """A server that listens on loopback."""

    port: int

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Nursery:
    """A process from which servers are forked, in no time."""

    folder: Path
    _number: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def stdio(self, *words: str) -> Iterator[StdioServers]:
        """Yield a command for the kind of server that `words` say."""
        notes, way = self._way()
        args = ["-I", "-S", str(HERE / "connect.py"), str(way), str(notes), *words]
        servers = StdioServers(notes, way, sys.executable, args)
        try:
            yield servers
        finally:
            servers.close()

    @contextmanager
    def http(self, *words: str, port: int = 0) -> Iterator[HTTPServer]:
        """Yield a server of the kind that `words` say, over the way that the first of them says."""
        notes, way = self._way()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(way))
            connection.sendall(" ".join([str(notes), f"{port}", *words]).encode())
            server = HTTPServer(notes, way, int(connection.recv(100)))
            try:
                yield server
            finally:
                server.close()
                connection.recv(1)  # which ends with the process, so that its port is free

    def _way(self) -> tuple[Path, Path]:
        number = next(self._number)
        way = self.folder / f"way{number}"
        way.symlink_to(self.folder / "nursery")
        return self.folder / f"notes{number}", way


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """Keep a process that forks servers for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "nursery.py"), str(folder / "nursery")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield Nursery(folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
