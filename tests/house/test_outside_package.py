"""A stranger's backend: the package of docs/how-to/writing-a-backend.md, installed with the wheel and run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from outlast.ports.journal import Store
from tests.house.wheels import REPOSITORY, environment_with

PAGE = REPOSITORY / "docs" / "how-to" / "writing-a-backend.md"
PACKAGE = REPOSITORY / "examples" / "json_backend"

BLOCK = re.compile(
    r"(?:^\*\*`(?P<file>[^`]+)`\*\*\n\n)?^```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")

SOME = "d1_ or d2_ or d6_ or d9_ or d13_ or d15_ or d18_ or crash"
"""Of the durability suite; all of it runs on every store of our own."""

A_STORE_THAT_FORGETS = """
from outlast.testing import JournalContract
from outlast_json.store import JsonStore
from test_outlast_json import TemporaryFile


class Forgetful(JsonStore):
    async def read(self, execution_id, after=0, limit=None):
        return list(await super().read(execution_id, after, limit))[:1]


class ForgetfulFile(TemporaryFile):
    def open(self):
        return Forgetful(self.path, self.clock)


class TestForgetful(JournalContract):
    new_storage = ForgetfulFile
"""


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, its extra `conformance`, and the package."""
    package = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("outside") / "package")
    return environment_with(tmp_path_factory.mktemp("environment"), f"{wheel}[conformance]", package)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the tests and programs of the package, and without the package."""
    for file in PACKAGE.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_page_shows_the_package_as_it_is() -> None:
    blocks = [(match["file"], match["text"]) for match in BLOCK.finditer(PAGE.read_text())]
    assert {file for file, _ in blocks} >= {
        "pyproject.toml",
        "conftest.py",
        "hello.py",
        "outlast_json/__init__.py",
        "test_outlast_json.py",
    }
    for file, text in blocks:
        assert file is not None, f"no file is named above this block:\n{text}"
        assert text in (PACKAGE / file).read_text(), f"{file} does not hold this block:\n{text}"


def test_the_page_knows_how_large_the_port_is() -> None:
    assert f"{len(Store.__abstractmethods__)} methods" in " ".join(PAGE.read_text().split())


@pytest.mark.wheel
@pytest.mark.parametrize(
    ("chosen", "at_least"),
    [
        ("TestJsonStore and not many and not full_inbox or TestJsonDeltas", 100),
        (f"TestJsonBackend and ({SOME})", 40),
        ("TestOnRealTime and l1_ or TestJsonUnderCrashes and (j3_ or d6_)", 4),
    ],
    ids=["store", "backend", "real time and real processes"],
)
def test_the_suites_pass_in_a_project_without_any_settings(
    python: Path, folder: Path, chosen: str, at_least: int
) -> None:
    with (folder / "conftest.py").open("a") as conftest:
        conftest.write('settings.register_profile("quick", max_examples=5)\n')
    finished = run(python, folder, *PYTEST, "-k", chosen, "--hypothesis-profile", "quick")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [passed] = re.findall(r"^(\d+) passed, .*deselected in", finished.stdout, re.MULTILINE)
    assert int(passed) > at_least


@pytest.mark.wheel
def test_a_promise_that_is_broken_shows_the_values_that_were_compared(python: Path, folder: Path) -> None:
    (folder / "test_forgetful.py").write_text(A_STORE_THAT_FORGETS)
    finished = run(
        python, folder, "-m", "pytest", "-q", "test_forgetful.py", "-k", "j3", "-p", "no:cacheprovider"
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert re.search(r"^E +(Assertion\w+: )?assert \[b'.*\] == ", finished.stdout, re.MULTILINE), (
        finished.stdout
    )


@pytest.mark.wheel
def test_the_url_leads_to_the_backend_in_every_process(python: Path, folder: Path) -> None:
    for _ in range(2):
        finished = run(python, folder, "hello.py")
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "Hello, Ada!\n", "")
    assert (folder / "runs.json").exists()
