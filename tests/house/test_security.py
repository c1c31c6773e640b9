"""SECURITY.md promises nothing without a test that exists, and the release says what it consists of."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

import outlast
from outlast.cli.health import Health, WorkerHealth
from outlast.cli.working import worker

REPOSITORY = Path(__file__).parents[2]
POLICY = (REPOSITORY / "SECURITY.md").read_text()
SHOWN_BY = re.compile(r"^\| .* \| `([\w/.]+)::(\w+)` \|$", re.MULTILINE)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("file", "test"), SHOWN_BY.findall(POLICY))
def test_each_promise_has_a_test(file: str, test: str) -> None:
    assert re.search(rf"^\s*(async )?def {test}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


def test_no_promise_is_without_a_test() -> None:
    promised = POLICY.partition("## What is defended")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(SHOWN_BY.findall(POLICY)) > 5


def test_the_health_port_is_on_loopback_by_default() -> None:
    options = inspect.signature(worker).parameters
    assert options["health_host"].default == "127.0.0.1"
    assert options["health_port"].default is None


def test_health_says_nothing_but_states() -> None:
    health = Health((WorkerHealth(7, has_begun=True, silent_seconds=0.0, store_answers=True),))
    _, document = health.answer("/readyz")
    assert json.loads(json.dumps(document)) == {
        "status": "ready",
        "workers": [{"process": 7, "state": "ready"}],
    }


def test_the_version_stands_in_one_place_and_the_changelog_has_it() -> None:
    assert outlast.__version__ == PROJECT["version"] == version("outlast")
    spelt = re.compile(rf"[\"']{re.escape(outlast.__version__)}[\"']")
    assert [file for file in (REPOSITORY / "src").rglob("*.py") if spelt.search(file.read_text())] == []
    assert f"\n## {outlast.__version__} " in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_pythons_that_are_named_are_those_that_ci_runs() -> None:
    tested = re.search(
        r"python-version: (\[.*\])", (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    )
    assert tested is not None
    named = {
        one.removeprefix("Programming Language :: Python :: ")
        for one in PROJECT["classifiers"]
        if one.startswith("Programming Language :: Python :: 3.")
    }
    assert named <= {*json.loads(tested[1])}
    assert f">={min(named, key=lambda one: int(one.split('.')[1]))}" == PROJECT["requires-python"]


@pytest.mark.wheel
def test_the_wheel_names_its_licences_and_holds_their_texts(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        folder = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        packed = set(archive.namelist())
    assert metadata["License-Expression"] == "Apache-2.0 AND MIT"
    licences = metadata.get_all("License-File")
    assert licences is not None
    assert {"LICENSE", "src/web/static/vendor/preact.LICENSE"} <= {*licences}
    assert all(f"{folder}/licenses/{name}" in packed for name in licences)
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
