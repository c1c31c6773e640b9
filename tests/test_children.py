"""Nothing that the tests have started outlives them."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time

from outlast.testing.contracts.crash.processes import end_with_parent
from tests.children import Child

PATIENCE_SECONDS = 30
PROGRAM = """
import sys
from tests.children import Child
Child(["sleep", "600"])
ended = Child(["true"])
ended.wait()
print("ready", flush=True)
sys.stdin.read()
"""


def begun(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_child_does_not_outlive_a_process_that_is_killed() -> None:
    with begun("-c", PROGRAM) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        # The child has the same output: it is at its end when the child is gone, too.
        assert process.stdout.read() == b""


def test_a_process_of_multiprocessing_does_not_outlive_the_one_that_asked_for_it() -> None:
    with begun("-m", "tests.test_children") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == b""


def test_a_child_reports_how_it_ended() -> None:
    with Child(["false"]) as child:
        assert child.wait(PATIENCE_SECONDS) == 1
        assert child.poll() == 1


def stay() -> None:
    end_with_parent()
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    multiprocessing.get_context("forkserver").Process(target=stay).start()
    time.sleep(600)
