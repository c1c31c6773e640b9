"""Commands that use Temporal end with their own exit code, whatever the threads of its SDK are doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.adapters.temporal_server import shared_server

COMMANDS = 6
"""Without the care that is taken, one in eight ends by SIGABRT on Python 3.11."""


@pytest.mark.server
def test_no_command_is_aborted_after_its_work() -> None:
    line = [sys.executable, "-m", "outlast.cli"]
    backend = ["--backend", f"temporal://{shared_server()}"]
    running = [
        subprocess.Popen(
            [*line, *(["list"] if number % 2 else ["show", "unknown"]), *backend],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(COMMANDS)
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in running]
    assert [code for _, _, code in ended] == [1, 0] * (COMMANDS // 2)
    assert all("unknown" in said for _, said, code in ended if code)
