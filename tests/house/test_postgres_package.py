"""The example of a store in PostgreSQL: its package and its tests, installed with the wheel and run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house.wheels import REPOSITORY, environment_with

PACKAGE = REPOSITORY / "examples" / "postgres_store"

SOME = "j1_ or j3_ or j4_ or j8_ or l1_ or l3_ or l5_ or i1_ or k3_"
CHOSEN = f"test_details or TestPostgresStore and ({SOME}) or TestPostgresDeltas and x1_"
"""A part that takes seconds. All of it runs with `pytest` in the folder of the package."""

PROFILE = """
from hypothesis import settings

settings.register_profile("quick", max_examples=10)
"""


def a_server_is_installed() -> bool:
    folders = (shutil.which("initdb"), *Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return any(folders)


@pytest.mark.wheel
@pytest.mark.server
@pytest.mark.skipif(not a_server_is_installed(), reason="no PostgreSQL server is installed")
def test_the_package_passes_its_tests_beside_the_wheel(
    wheel: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    package = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("outside") / "package")
    python = environment_with(tmp_path_factory.mktemp("environment"), f"{wheel}[conformance]", package)
    for file in PACKAGE.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "conftest.py").write_text(PROFILE)
    finished = subprocess.run(
        [
            *(python, "-I", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", CHOSEN, "--hypothesis-profile", "quick"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [passed] = re.findall(r"^(\d+) passed, .*deselected in", finished.stdout, re.MULTILINE)
    assert int(passed) > 70
