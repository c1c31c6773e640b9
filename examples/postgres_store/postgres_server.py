"""A PostgreSQL server for tests: on a free loopback port, in a folder of its own, and gone at the end."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

USER = "outlast"
UNPRIVILEGED = "postgres", "nobody"
"""Users, of which the first that exists runs the server when the tests run as root: it refuses root."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "shared_buffers": "64MB",
    # A test kills processes, and cannot cut the power.
    "fsync": "off",
    "full_page_writes": "off",
}


def server_programs() -> Path | None:
    """Return the folder with `initdb` and `pg_ctl`; None if no server is installed."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    if named := os.environ.get("OUTLAST_POSTGRES_BIN"):
        folders.insert(0, Path(named))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def require_server() -> None:
    """Skip the module that calls this if there is no server here."""
    if server_programs() is None:
        pytest.skip(
            "no PostgreSQL server is installed: use apt-get install postgresql, or set OUTLAST_POSTGRES_BIN "
            "to the folder with initdb and pg_ctl",
            allow_module_level=True,
        )


class PostgresServer:
    """A server with a database that belongs to the user of the URL."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outlast-postgres-"))
        # Characters that a URL must escape.
        self.password = f"{secrets.token_hex(8)}/@:?#%"
        self.port = 0
        self._user: str | None = None
        if os.geteuid() == 0:
            import pwd

            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = next(name for name in UNPRIVILEGED if name in names)
            shutil.chown(self.folder, self._user)
        self._password_file = self.folder / "password"
        self._password_file.write_text(self.password)
        self._password_file.chmod(0o644)
        self._run(
            *("initdb", "--pgdata", self.folder / "data", "--username", USER, "--auth", "scram-sha-256"),
            *("--pwfile", self._password_file, "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )
        self._password_file.unlink()

    def url(self, schema: str) -> str:
        login = f"{USER}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/postgres?schema={schema}"

    def start(self) -> None:
        """Return when it answers; the port stays the same once it was found."""
        for _ in range(10):
            port = self.port or _free_port()
            settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(self.folder)}
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            try:
                self._run(
                    *("pg_ctl", "start", "--wait", "--silent", "--pgdata", self.folder / "data"),
                    *("--log", self.folder / "log", "--options", options),
                )
            except subprocess.CalledProcessError:
                if self.port:
                    raise
                # Somebody else has taken the port meanwhile.
                continue
            self.port = port
            return
        raise RuntimeError(f"no server comes up:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End it at once, as a crash does: it recovers from its log when it is started again."""
        self._run(
            "pg_ctl", "stop", "--wait", "--silent", "--mode", "immediate", "--pgdata", self.folder / "data"
        )

    def remove(self) -> None:
        """End it, if it runs, and remove all that it has."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str | Path) -> None:
        programs = server_programs()
        assert programs is not None
        subprocess.run(
            [programs / program, *arguments],
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            # A server would keep a pipe open, and whoever reads from it would wait for its end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            extra_groups=None if self._user is None else (),
        )


@functools.cache
def shared_server() -> PostgresServer:
    """Return one server for all tests of this process; each uses a schema of its own."""
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
