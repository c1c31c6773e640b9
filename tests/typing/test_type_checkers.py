"""Type checkers know what the programs in this folder say that they know.

In the programs, `assert_type` says what a type is, and `type: ignore[...]` stands where an error is expected:
both checkers report a comment that ignores nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]
PROGRAMS = sorted(
    str(file.relative_to(REPOSITORY)) for file in FOLDER.glob("*.py") if not file.name.startswith("test_")
)


def report_of(*arguments: str, **environment: str) -> str:
    """Return the report of a checker that found mistakes; nothing if it found none."""
    command = [sys.executable, "-m", *arguments]
    found = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return found.stdout + found.stderr if found.returncode else ""


def test_mypy_agrees() -> None:
    assert report_of("mypy", *PROGRAMS) == ""


def test_pyright_agrees() -> None:
    if shutil.which("node") is None:
        pytest.skip("pyright needs Node, which is not on this machine")
    python = ["--pythonpath", sys.executable]
    environment = {"PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    assert report_of("pyright", "--project", str(FOLDER), *python, **environment) == ""
