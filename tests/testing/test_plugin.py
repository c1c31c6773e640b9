"""The fixture `env` in the projects of others, whatever runs their async tests, and its cost for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = "outlast.testing.plugin"

PROGRAM = """
import asyncio
import outlast
from outlast import workflow


@outlast.activity
async def remind(day: int) -> int:
    return day


@workflow.define(name="trial")
class Trial:
    @workflow.entrypoint
    async def run(self, days: int) -> int:
        for day in range(days):
            await asyncio.sleep(86_400)
            await remind(day)
        return days
"""

IN_A_FUNCTION = """
import pytest
from program import Trial

{mark}
async def test_a_month(env):
    assert await env.execute(Trial.run, 30) == 30
    assert len(env.effects) == 30

{mark}
@pytest.mark.parametrize("days", [1, 2])
async def test_days(days, env, tmp_path):
    trial = await env.start(Trial.run, days)
    await env.skip(days=1)
    assert len(env.effects) == 1
    assert await trial.result() == days


class TestTrial:
    {mark}
    async def test_in_a_class(self, env):
        assert await env.execute(Trial.run, 1) == 1

    {mark}
    async def test_that_fails(self, env):
        assert await env.execute(Trial.run, 1) == 2
"""


def run(folder: Path, *plugins: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with these plugins and no others."""
    chosen = [argument for plugin in plugins for argument in ("-p", plugin)]
    if "asyncio" in plugins:  # which warns of a default of its own that is to change
        chosen += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.mark.parametrize(
    ("mark", "plugins"),
    [
        ("@pytest.mark.anyio", ("anyio",)),
        ("", ("anyio",)),
        ("@pytest.mark.asyncio", ("asyncio",)),
        ("", ("asyncio",)),
        ("@pytest.mark.anyio", ("anyio", "asyncio")),
        ("@pytest.mark.asyncio", ("anyio", "asyncio")),
        ("", ()),
    ],
    ids=[
        "anyio",
        "anyio without its mark",
        "pytest-asyncio",
        "pytest-asyncio without its mark",
        "both, with anyio's mark",
        "both, with pytest-asyncio's mark",
        "pytest alone",
    ],
)
def test_async_tests_get_an_open_environment(project: Path, mark: str, plugins: tuple[str, ...]) -> None:
    backend = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    (project / "test_trial.py").write_text(IN_A_FUNCTION.format(mark=mark) + backend)
    finished = run(project, PLUGIN, *plugins)
    assert "1 failed, 4 passed" in finished.stdout, finished.stdout + finished.stderr
    assert "assert 1 == 2" in finished.stdout


@pytest.mark.parametrize(
    ("plugin", "setting"),
    [("anyio", "anyio_mode"), ("asyncio", "asyncio_mode")],
    ids=["anyio", "pytest-asyncio"],
)
def test_an_async_fixture_may_use_it_before_the_test(project: Path, plugin: str, setting: str) -> None:
    (project / "pytest.ini").write_text(f"[pytest]\n{setting} = auto\n")
    (project / "test_trial.py").write_text(
        """
import pytest
from program import Trial

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def trial(env):
    return await env.start(Trial.run, 3)

async def test_it(trial, env):
    await env.skip(days=2)
    assert len(env.effects) == 2

async def test_that_ends(trial):
    assert await trial.result() == 3
"""
    )
    finished = run(project, PLUGIN, plugin)
    assert "2 passed" in finished.stdout, finished.stdout + finished.stderr


def test_a_plain_test_learns_how_to_use_it(project: Path) -> None:
    (project / "test_trial.py").write_text("def test_it(env):\n    env.crash_worker()\n")
    finished = run(project, PLUGIN)
    assert "let an `async def` test take the fixture `env`" in finished.stdout


def test_a_fixture_of_the_project_with_that_name_wins(project: Path) -> None:
    (project / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef env():\n    return 5\n")
    (project / "test_env.py").write_text("def test_it(env):\n    assert env == 5\n")
    assert "1 passed" in run(project, PLUGIN).stdout


def test_a_project_that_does_not_use_it_pays_next_to_nothing(project: Path) -> None:
    (project / "test_other.py").write_text(
        """
import sys

def test_it():
    loaded = {name for name in sys.modules if name.partition(".")[0] == "outlast"}
    assert loaded == {"outlast", "outlast.testing", "outlast.testing.plugin"}
    assert not {"pydantic", "hypothesis"} & set(sys.modules)
"""
    )
    finished = run(project, PLUGIN)
    assert "1 passed" in finished.stdout, finished.stdout + finished.stderr
