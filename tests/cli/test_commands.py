"""The commands, as a shell sees them: their output and their exit codes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import outlast
from outlast.adapters.sqlite.store import SqliteStore
from outlast.cli.commands import app
from outlast.ports.journal import Commit
from outlast.runtime.attempts.system_clock import SystemClock

COMMAND = [sys.executable, "-m", "outlast.cli"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def lines(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in call(*arguments).stdout.splitlines()]


@contextmanager
def running_worker(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, "worker", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            process.communicate()


@pytest.mark.usefixtures("shop")
def test_a_started_execution_is_carried_on_by_a_worker_and_can_be_looked_at() -> None:
    started = call("start", "order", "apple", "4", "--id", "o-1", "--module", "shop")
    assert (started.exit_code, started.stdout) == (0, "o-1\n")
    assert lines("list", "--json")[0]["status"] == "running"
    with running_worker("shop:Order", "--lease", "2"):
        waited = call("start", "shop:order", "apple", "4", "--id", "o-1", "--wait")
    assert (waited.exit_code, waited.stdout) == (0, '{"total":10.0}\n')
    assert waited.stderr.startswith("o-1\n")
    [listed] = lines("list", "--workflow", "order", "--status", "completed", "--json")
    description, *events = lines("show", "o-1", "--json")
    assert description == listed
    assert [event["kind"] for event in events] == [
        "execution_started",
        "activity_started",
        "activity_completed",
        "execution_completed",
    ]
    assert "activity price_of completed: 2.5" in call("show", "o-1").stdout


@pytest.mark.usefixtures("shop")
def test_a_worker_stops_in_order_when_it_is_asked_to() -> None:
    with running_worker("shop") as worker:
        assert worker.stderr is not None
        assert "runs order, refusal on sqlite:///shop.db" in worker.stderr.readline()
        assert call("start", "shop:order", "apple", "--wait").exit_code == 0
        worker.terminate()
        _, said = worker.communicate()
    assert worker.returncode == 0
    assert "stops: what it cannot finish in 30 s goes on in another worker" in said


@pytest.mark.usefixtures("shop")
def test_workers_that_are_alive_are_listed() -> None:
    call("start", "shop:order", "apple")
    idle = call("workers")
    assert (idle.exit_code, idle.stdout, idle.stderr) == (0, "", "no workers\n")
    with running_worker("shop", "--processes", "0") as worker:
        # It has done something, so it works by now.
        assert call("start", "shop:order", "apple", "--wait").exit_code == 0
        [alive] = lines("workers", "--json")
        assert f":{worker.pid}:" in alive["identity"]
        assert alive["workflows"] == ["order", "refusal"]
        assert (alive["task_queue"], alive["executions"]) == ("default", [])
        table = call("workers").stdout
        assert alive["identity"] in table
        assert "order, refusal" in table
    assert call("workers").stderr == "no workers\n"


@pytest.mark.usefixtures("shop")
def test_following_shows_an_execution_to_its_end() -> None:
    call("start", "shop:order", "apple", "--id", "o-1")
    with running_worker("shop"):
        followed = call("show", "o-1", "--follow")
    assert followed.stdout.rstrip().endswith('result  {"total":2.5}')
    *_, end, _, times, lane, _, _, _, _, _, _ = followed.stdout.splitlines()
    assert end.endswith("execution completed")
    assert times.strip()
    assert lane.startswith("workflow code  ╞price_of")
    assert "\x1b" not in followed.stdout


@pytest.mark.usefixtures("shop")
def test_an_execution_that_nobody_carries_on_is_shown_as_far_as_it_came() -> None:
    call("start", "shop:order", "apple", "--id", "o-1")
    shown = call("show", "o-1")
    assert shown.exit_code == 0
    assert "running" in shown.stdout
    assert shown.stdout.rstrip().endswith("execution of order started")


@pytest.mark.usefixtures("shop")
def test_a_failed_execution_says_why() -> None:
    with running_worker("shop"):
        failed = call("start", "shop:refusal", "--id", "r-1", "--wait")
    assert failed.exit_code == 1
    assert "failed with ValueError: out of stock" in failed.stderr
    assert "ValueError: out of stock" in call("list").stdout


@pytest.mark.usefixtures("shop")
def test_text_from_outside_cannot_steer_the_terminal() -> None:
    with running_worker("shop"):
        failed = call("start", "shop:refusal", "[red]gone\x1b[2J", "--id", "[red]r-1", "--wait")
    for shown in (failed.stderr, call("list").stdout, call("show", "[red]r-1").stdout):
        assert "[red]r-1" in shown
        assert "[red]gone [2J" in shown
        assert "\x1b" not in shown


@pytest.mark.usefixtures("shop")
def test_an_empty_list_says_so_beside_the_output() -> None:
    call("start", "shop:order", "apple")
    listed = call("list", "--workflow", "refusal")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "no executions\n")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("list", "--backend", "carrier-pigeon://loft"), 1, "error: no backend for 'carrier-pigeon:'"),
        (("show", "nobody"), 1, "error: there is no file shop.db"),
        (("start", "order", "apple"), 1, "error: where is workflow 'order' defined?"),
        (("start", "shop:order", "apple", '{"open'), 2, "Invalid JSON"),
        (("start", "shop:order", "apple", "many"), 2, "valid integer"),
        (("start", "shop:order"), 2, "takes article, count; 0 were given"),
        (("list", "--status", "odd"), 2, "is not one of"),
        (("dance",), 2, "No such command"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("no_such_module",), "error: module 'no_such_module' was not found"),
        (("json",), "error: module 'json' has no workflow"),
        (("shop", "--lease", "0"), "error: the worker's lease must be longer than nothing"),
    ],
)
def test_a_worker_that_cannot_begin_ends_with_one_message_and_an_exit_code(
    arguments: tuple[str, ...], fault: str, processes: str
) -> None:
    command = [*COMMAND, "worker", "--processes", processes, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert fault in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.usefixtures("shop")
def test_debug_shows_where_an_error_was_raised() -> None:
    call("start", "shop:order", "apple")
    result = call("--debug", "show", "nobody")
    assert isinstance(result.exception, outlast.ExecutionNotFound)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_names_it(missing: str) -> None:
    program = f"""import sys
sys.modules[{missing!r}], sys.argv = None, ["outlast", "demo"]
from outlast.cli import main
main()"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert 'pip install "outlast[cli]"' in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_password_in_a_backend_is_not_printed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_BACKEND", "carrier-pigeon://ann:hunter2@loft/1")
    for arguments in (["worker", "shop"], ["worker", "shop", "--processes", "0"], ["list"]):
        ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.usefixtures("shop")
def test_a_held_execution_is_shown_as_held_and_goes_on_when_it_is_resumed() -> None:
    async def hold() -> None:
        async with SqliteStore(Path("shop.db"), SystemClock()) as store:
            work = await store.claim("lost", ["order"], "default", limit=1, lease_seconds=10.0)
            commit = Commit(release=True, hold=True, reason="held: it ended five workers")
            await store.append(work.claims[0], 1, [], commit)

    call("start", "order", "apple", "--id", "o-1", "--module", "shop")
    asyncio.run(hold())
    [listed] = lines("list", "--json")
    assert (listed["status"], listed["held"]) == ("paused", True)
    for arguments in (["list"], ["show", "o-1"]):
        assert "held: it ended five workers" in call(*arguments).stdout
    resumed = call("resume", "o-1", "nobody")
    assert (resumed.exit_code, resumed.stdout) == (1, "o-1 is resumed\n")
    assert "no execution 'nobody'" in resumed.stderr
    assert call("resume", "o-1").stdout == "o-1 was not paused, and goes on as before\n"
    assert not lines("list", "--json")[0]["held"]


HEAP = """
import gc
import outlast


@outlast.activity
def frozen() -> int:
    return gc.get_freeze_count()


@outlast.workflow.define(name="heap")
class Heap:
    @outlast.workflow.entrypoint
    async def run(self) -> int:
        return await frozen()
"""


@pytest.mark.usefixtures("shop")
def test_collections_of_a_worker_leave_out_what_it_has_loaded() -> None:
    Path("heap.py").write_text(HEAP)
    call("start", "heap:heap", "--id", "h-1")
    with running_worker("heap"):
        assert int(call("result", "h-1").stdout) > 10_000
