"""The log of `outlast worker`, as its standard error has it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "outlast.cli"]


def worker_log(*options: str) -> list[str]:
    """Return the lines that a worker writes while it carries one execution to its end."""
    worker = subprocess.Popen(
        [*COMMAND, "worker", "shop", "--processes", "0", *options], stderr=subprocess.PIPE, text=True
    )
    try:
        start = [*COMMAND, "start", "shop:order", "apple", "--id", "o-1", "--wait"]
        subprocess.run(start, check=True, capture_output=True)
    finally:
        worker.terminate()
        _, written = worker.communicate()
    return [line for line in written.splitlines() if "o-1" in line]


@pytest.mark.usefixtures("shop")
def test_a_worker_logs_a_line_for_each_thing_that_happens() -> None:
    begins, step, ended = worker_log()
    assert begins.endswith("INFO outlast.execution: execution o-1 of order begins")
    assert "execution o-1 activity price_of ended after" in step
    assert "execution o-1 completed after" in ended


@pytest.mark.usefixtures("shop")
def test_a_log_for_machines_has_the_fields() -> None:
    begins, step, ended = map(json.loads, worker_log("--log-format", "json"))
    assert (begins["event"], begins["execution_id"], begins["workflow"]) == ("started", "o-1", "order")
    assert (step["event"], step["activity"], step["level"]) == ("step_completed", "price_of", "INFO")
    assert (ended["event"], ended["status"]) == ("ended", "completed")
    assert "apple" not in json.dumps([begins, step, ended])


@pytest.mark.usefixtures("shop")
def test_a_worker_logs_less_when_it_is_asked_to() -> None:
    assert worker_log("--log-level", "warning") == []
