"""A process is stopped while it holds the write lock of an SQLite file: the others wait, and then go on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import closing
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import outlast
from outlast.adapters.sqlite import SqliteStore, schema
from outlast.ports.finding import Where
from outlast.ports.journal import NewExecution
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.processes import FORK_SERVER, end_with_parent
from outlast.testing.contracts.crash.programs import GatedProgram

pytestmark = pytest.mark.crash

LEASE_SECONDS = 1.0


class StopsItsProcess(SystemClock):
    """Stops its process when somebody asks for the time, once: the store asks inside its transactions."""

    is_armed = False

    def now(self) -> float:
        if self.is_armed:
            self.is_armed = False
            # To this very thread: a signal to the process may be taken by another one, and this one goes on.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return super().now()


def write_and_stop(path: str, link: Connection) -> None:
    """Write to the store, and be stopped in the middle of the second transaction."""
    end_with_parent()

    async def write() -> None:
        clock = StopsItsProcess()
        async with SqliteStore(Path(path), clock, clean_seconds=None) as store:
            await store.create(NewExecution("before", "w", "f"), b"first")
            clock.is_armed = True
            link.send("next it stops")
            await store.create(NewExecution("interrupted", "w", "f"), b"first")
            link.send("went on")

    asyncio.run(write())


async def until_stopped(number: int) -> None:
    """Return when the process has been stopped."""
    status = Path(f"/proc/{number}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux shows who is stopped")
@pytest.mark.parametrize("how", [signal.SIGCONT, signal.SIGKILL])
async def test_workers_wait_for_a_process_that_is_stopped_with_the_lock_and_then_go_on(
    how: signal.Signals,
    tmp_path: Path,
    effects: Effects,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(schema, "LOG_AFTER_SECONDS", 0.1)
    path = tmp_path / "runs.db"
    lease = timedelta(seconds=LEASE_SECONDS)
    ours, theirs = FORK_SERVER.Pipe()
    with closing(ours), closing(theirs):
        async with (
            outlast.connect(f"sqlite:///{path}") as backend,
            backend.worker([GatedProgram], lease=lease),
        ):
            execution = await backend.start(GatedProgram)
            await effects.until(lambda: effects.attempts("gate") == [1])
            other = FORK_SERVER.Process(target=write_and_stop, args=(str(path), theirs))
            other.start()
            assert other.pid is not None
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    assert await asyncio.to_thread(ours.recv) == "next it stops"
                    await until_stopped(other.pid)
                    effects.path.with_name("gate").touch()
                    await effects.until(lambda: effects.attempts("gate", "end") == [1])
                    starting = asyncio.create_task(backend.start(GatedProgram, id="meanwhile"))
                    # Longer than the lease of the worker, which cannot renew it either.
                    _, waiting = await asyncio.wait([starting], timeout=1.5 * LEASE_SECONDS)
                    assert waiting
                    assert effects.attempts("after") == []
                    assert "locked by another process" in caplog.text
                    os.kill(other.pid, how)
                    assert await execution.result() == ["before done", "gate done", "after done"]
                    assert await (await starting).result() == ["before done", "gate done", "after done"]
                    if how is signal.SIGCONT:
                        assert await asyncio.to_thread(ours.recv) == "went on"
                    await asyncio.to_thread(other.join, PATIENCE_SECONDS)
            finally:
                other.kill()
                other.join()
            written = [one.id for one in await backend.list(Where(workflow="w"))]
            assert sorted(written) == (["before", "interrupted"] if how is signal.SIGCONT else ["before"])
    effects.check()
    assert effects.attempts("before") == [1, 1]
