"""The commands that end executions, run them again, and carry them elsewhere, as a shell sees them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import outlast
from outlast.cli.commands import app

COMMAND = [sys.executable, "-m", "outlast.cli"]
DEPOT = '''
from datetime import timedelta
from pathlib import Path
import outlast
from outlast import workflow

@outlast.activity(retry_policy_max_attempts=1)
async def pack(what: str) -> str:
    """Pack something."""
    with open("packed", "a") as log:
        print(what, file=log)
    if not Path("mended").exists():
        raise LookupError(f"no box for {what}")
    return f"box of {what}"

@workflow.define(name="parcel")
class Parcel:
    @workflow.entrypoint
    async def run(self, what: str) -> str:
        return f"sent: {await pack(what)}"
'''


@outlast.activity(name="pack")
async def pack_elsewhere(what: str) -> int:
    """Pack something in another way than the depot does, under the same name."""
    return len(what)


def call(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


@contextmanager
def worker() -> Iterator[None]:
    process = subprocess.Popen(
        [*COMMAND, "worker", "depot", "--processes", "0", "--lease", "2"], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An execution whose step has failed, on an SQLite file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTLAST_BACKEND", "sqlite:///depot.db")
    Path("depot.py").write_text(DEPOT)
    with worker():
        started = call("start", "depot:parcel", "tea", "--id", "p-1", "--wait")
    assert started.exit_code == 1
    assert "no box for tea" in started.stderr


@pytest.mark.usefixtures("failed")
def test_what_failed_says_where_and_is_retried_once_it_is_mended() -> None:
    assert 'raise LookupError(f"…")' in call("show", "p-1").stdout
    Path("mended").touch()
    retried = call("retry", "p-1", "nobody")
    assert (retried.exit_code, retried.stdout) == (1, "p-1 is open again\n")
    assert "no execution 'nobody'" in retried.stderr
    with worker():
        assert call("start", "depot:parcel", "tea", "--id", "p-1", "--wait").stdout.endswith(
            '"sent: box of tea"\n'
        )
    assert Path("packed").read_text() == "tea\ntea\n"
    assert "execution retried; what came after position 2 is void" in call("show", "p-1").stdout
    assert "has completed; fork it" in call("retry", "p-1").stderr


@pytest.mark.usefixtures("failed")
def test_a_fork_has_an_edited_result_and_changes_nothing_else() -> None:
    key = next(
        json.loads(line)["data"]["key"]
        for line in call("show", "p-1", "--json").stdout.splitlines()
        if '"activity_started"' in line
    )
    forked = call("fork", "p-1", "--id", "p-2", "--edit", f'{key}="bag"', "--module", "depot")
    assert (forked.exit_code, forked.stdout) == (0, "p-2\n")
    with worker():
        waited = call("show", "p-2", "--follow", "--json")
    assert json.loads(waited.stdout.splitlines()[-1])["data"] == {"result": "sent: bag"}
    assert Path("packed").read_text() == "tea\n"
    for options, message in (
        (["--at", "99"], "positions 1 to"),
        (["--edit", "nonsense"], "is not KEY=JSON"),
        (["--edit", "k={"], "is not JSON"),
        (["--edit", f"{key}=1", "--module", "depot"], "does not fit: expected a valid string; got 1\n"),
        (["--edit", 'input={"what": 1}', "--module", "depot"], "does not fit: what: expected a valid string"),
        (["--edit", "input=1"], "is an object"),
        (["--id", "p-1"], "the id 'p-1' is in use; choose another id\n"),
    ):
        refused = call("fork", "p-1", *options)
        assert refused.exit_code != 0
        assert message in refused.stderr


@pytest.mark.usefixtures("failed")
def test_an_execution_is_carried_to_another_backend() -> None:
    exported = call("export", "p-1")
    assert json.loads(exported.stdout.splitlines()[0])["id"] == "p-1"
    call("export", "p-1", "--output", "p-1.jsonl")
    assert Path("p-1.jsonl").read_text().splitlines()[1:] == exported.stdout.splitlines()[1:]
    assert stat.S_IMODE(Path("p-1.jsonl").stat().st_mode) == 0o600
    there = ["--backend", "sqlite:///there.db"]
    assert call("import", "p-1.jsonl", *there).stdout == "p-1\n"
    assert call("import", *there, "--id", "p-2", text=exported.stdout).stdout == "p-2\n"
    here, copied = call("show", "p-1", "--json").stdout, call("show", "p-1", "--json", *there).stdout
    assert [json.loads(line).get("data") for line in here.splitlines()] == [
        json.loads(line).get("data") for line in copied.splitlines()
    ]
    assert "p-1" in call("import", "p-1.jsonl", *there).stderr
    assert (
        "not an export" in call("import", "depot.py", *there).stderr
        or call("import", "depot.py", *there).exit_code
    )


@pytest.mark.usefixtures("failed")
def test_executions_are_ended_from_outside() -> None:
    for id in ("p-2", "p-3"):
        call("start", "depot:parcel", "milk", "--id", id)
    terminated = call("terminate", "p-2", "p-1", "--reason", "no milk today")
    assert (terminated.exit_code, terminated.stdout) == (1, "p-2 is terminated\n")
    assert "execution terminated: no milk today" in call("show", "p-2").stdout
    assert call("list", "--status", "terminated", "--json").stdout.count("p-2") == 1
    assert call("cancel", "p-3").stdout == "p-3 is asked to end\n"
    assert call("cancel", "p-1").exit_code == 1


@pytest.mark.usefixtures("failed")
def test_what_is_paused_is_shown_as_paused_and_goes_on_when_it_is_resumed() -> None:
    call("start", "depot:parcel", "milk", "--id", "p-2")
    Path("mended").touch()
    paused = call("pause", "--id-prefix", "p-", "--reason", "no boxes", "--yes")
    assert (paused.exit_code, paused.stdout) == (0, "p-2 is asked to pause\n")
    with worker():
        listed = ""
        deadline = time.monotonic() + 60
        while "p-2" not in listed:
            listed = call("list", "--status", "paused", "--json").stdout
            assert time.monotonic() < deadline
        shown = call("show", "p-2").stdout
        assert "waits for  paused: no boxes" in shown
        assert "execution paused: no boxes" in shown
        assert call("resume", "--status", "paused", "--yes").stdout == "p-2 is resumed\n"
        assert call("result", "p-2").stdout == '"sent: box of milk"\n'
