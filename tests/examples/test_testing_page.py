"""The programs and tests of docs/how-to/testing.md run as they are printed, and pass strict type checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.programs import type_check

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "how-to" / "testing.md").read_text()
NAMED = re.compile(r"^\*\*`(?P<file>[^`]+)`\*\*\n\n```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of the page; blocks under the same name follow each other."""
    folder = tmp_path_factory.mktemp("page")
    for block in NAMED.finditer(PAGE):
        with (folder / block["file"]).open("a") as file:
            file.write(block["text"] + "\n\n")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_block_has_a_file() -> None:
    assert len(NAMED.findall(PAGE)) == len(re.findall(r"^```python$", PAGE, re.MULTILINE)) > 3


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    finished = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "outlast.testing.plugin")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    written = len(re.findall(r"^(?:async )?def test_", PAGE, re.MULTILINE))
    assert f"{written} passed" in finished.stdout


def test_the_programs_of_the_page_run(folder: Path) -> None:
    finished = run(folder, "by_hand.py")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "expired\nIt is 31 January 2030.\n"


def test_the_page_type_checks(folder: Path) -> None:
    finished = type_check(folder, folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
