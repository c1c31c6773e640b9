"""`outlast check`: which open executions would depart from the code at hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import outlast
from outlast.core.events import EventKind

COMMAND = [sys.executable, "-m", "outlast.cli"]
DEPOT = '''
import outlast
from outlast import workflow

@outlast.activity()
async def pack(what: str) -> str:
    """Pack something."""
    with open("packed", "a") as log:
        print(what, file=log)
    return f"box of {what}"

@workflow.define(name="parcel")
class Parcel:
    @workflow.entrypoint
    async def run(self, what: str) -> str:
        packed = await pack(what)
        await workflow.wait_condition(lambda: self.is_released)
        return packed

    def __init__(self) -> None:
        self.is_released = False

    @workflow.signal
    def release(self) -> None:
        self.is_released = True
'''


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


async def packed() -> None:
    """Return once the step is in the journal."""
    async with outlast.connect("sqlite:///depot.db") as backend:
        async for event in (await backend.get("p-1")).events():
            if event.kind is EventKind.ACTIVITY_COMPLETED:
                return


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An execution that has packed something and waits, on an SQLite file."""
    (tmp_path / "depot.py").write_text(DEPOT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTLAST_BACKEND", "sqlite:///depot.db")
    assert run("start", "depot:parcel", "lamp", "--id", "p-1").returncode == 0
    process = subprocess.Popen([*COMMAND, "worker", "depot", "--processes", "0"], stderr=subprocess.DEVNULL)
    try:
        asyncio.run(asyncio.wait_for(packed(), 60))
    finally:
        process.terminate()
        process.wait()
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    assert old in DEPOT
    (folder / "depot.py").write_text(DEPOT.replace(old, new))


def test_code_that_still_fits_goes_on(waiting: Path) -> None:
    checked = run("check", "depot")
    assert (checked.returncode, checked.stdout) == (0, "p-1 goes on\n")
    change(waiting, "return packed", "return await pack(packed)")
    assert run("check", "depot").returncode == 0
    assert (waiting / "packed").read_text() == "lamp\n"


def test_code_that_departs_is_shown_with_the_difference(waiting: Path) -> None:
    exported = run("export", "p-1", "-o", "p.jsonl")
    assert exported.returncode == 0
    change(waiting, "await pack(what)", "await pack(what.upper())")
    for options in ([], ["--file", "p.jsonl"]):
        checked = run("check", "depot", *options)
        assert checked.returncode == 1
        assert "p-1 would depart" in checked.stdout
        assert '"lamp"' in checked.stdout
        assert '"LAMP"' in checked.stdout
        told = json.loads(run("check", "depot", "--json", *options).stdout)
        assert (told["id"], told["workflow"], told["departs"], told["position"]) == ("p-1", "parcel", True, 2)
    # Nothing ran, and the execution goes on once the code is right again.
    assert (waiting / "packed").read_text() == "lamp\n"
    change(waiting, "return packed", "return packed")
    assert run("check", "depot").returncode == 0


def test_executions_of_other_workflows_are_left_out(waiting: Path) -> None:
    (waiting / "shed.py").write_text(DEPOT.replace('"parcel"', '"letter"'))
    checked = run("check", "shed")
    assert (checked.returncode, checked.stdout) == (0, "")
