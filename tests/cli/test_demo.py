"""The demonstration, with real processes: its output, its proof, and that it leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from outlast.cli.demo.effects import effects_in

COMMAND = [sys.executable, "-W", "error", "-m", "outlast.cli", "demo", "--directory"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MISTRAL_")}

pytestmark = [pytest.mark.crash, pytest.mark.server]


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_killed_worker_loses_nothing_and_no_tool_runs_twice(tmp_path: Path) -> None:
    finished = subprocess.run(
        [*COMMAND, tmp_path], env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    output = finished.stdout
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "Model    a stand-in for Mistral's API on this machine" in output
    assert "Proven: 6 tools were called and had 6 effects; none ran twice, none was lost." in output
    assert "The model answered 8 questions, none twice" in output
    killed, survivor = map(int, re.findall(r"process (\d+) started", output))
    assert f"process {killed} killed (SIGKILL)" in output
    [effects] = [effects_in(path) for path in tmp_path.glob("*.effects")]
    assert Counter(effect.process for effect in effects) == {killed: 3, survivor: 3}
    assert len({effect.idempotency_key for effect in effects}) == 6
    assert {effect.attempt for effect in effects} == {1}
    assert has_ended(killed)
    assert has_ended(survivor)
    assert "\x1b" not in output


@pytest.mark.parametrize("moment", ["turn 1: model asked", "killed (SIGKILL)"])
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, moment: str) -> None:
    seen = ""
    with subprocess.Popen(
        [*COMMAND, tmp_path], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            seen += line
            if moment in line:
                demo.send_signal(signal.SIGINT)
        assert "Traceback" not in demo.stderr.read()
    assert demo.returncode == 130
    workers = [int(number) for number in re.findall(r"process (\d+) started", seen)]
    assert workers
    assert all(map(has_ended, workers))
