"""A run whose workers die goes on to its end, and names each test that one of them died of once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

PASSING = "def test_one(): pass\ndef test_two(): pass\n"
DEADLY = "import os\ndef test_before(): pass\ndef test_deadly(): os._exit(1)\ndef test_after(): pass\n"
DEADLY_LAST = "import os\ndef test_before(): pass\ndef test_deadly(): os._exit(1)\n"
DEADLY_ALONE = "import os\ndef test_deadly(): os._exit(1)\n"


@pytest.mark.parametrize(
    ("workers", "files", "failed", "passed"),
    [
        (1, [PASSING, DEADLY], 1, 4),
        (1, [PASSING, DEADLY_LAST, DEADLY_ALONE], 2, 3),
        (2, [PASSING, DEADLY_ALONE, DEADLY_LAST, PASSING, DEADLY, DEADLY_ALONE], 4, 7),
    ],
)
def test_a_run_ends_though_its_workers_die(
    tmp_path: Path, workers: int, files: list[str], failed: int, passed: int
) -> None:
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    for number, text in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(text)
    configuration = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path)]
    distribution = ["--numprocesses", str(workers), "--dist", "loadscope"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *configuration, "-p", "no:cacheprovider", *distribution, "."],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"{failed} failed, {passed} passed" in finished.stdout.splitlines()[-1], finished.stdout
