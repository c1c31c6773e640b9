"""The wheel in a fresh environment, with its two base dependencies only, as pip installs it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.house.wheels import REPOSITORY, environment_with

pytestmark = pytest.mark.wheel

# Each module either imports or misses a package that one of the extras brings; nothing else may go wrong.
IMPORT_EVERYTHING = r"""
import importlib
import importlib.metadata
import json
import pathlib
import re
import outlast
from outlast.core.errors import MissingExtra

required = importlib.metadata.requires("outlast")
extras = {re.match(r"[\w-]+", line)[0] for line in required if "extra ==" in line}
root = pathlib.Path(outlast.__file__).parent
outcomes = {}
for file in sorted(root.rglob("*.py")):
    module = file.relative_to(root.parent).with_suffix("")
    name = ".".join(module.parts).removesuffix(".__init__")
    if module.name == "__main__":
        continue  # importing it would run it
    try:
        importlib.import_module(name)
        outcomes[name] = "imported"
    except MissingExtra:
        outcomes[name] = "missing extra"
    except ModuleNotFoundError as error:
        brought = error.name.partition(".")[0] in extras
        outcomes[name] = "missing extra" if brought else repr(error)
    except Exception as error:
        outcomes[name] = repr(error)
print(json.dumps(outcomes))
"""

CLASS = re.compile(r"^class (\w+)", re.MULTILINE)

TIME_THE_IMPORT = """
import time
before = time.perf_counter()
import outlast
print(time.perf_counter() - before)
"""


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel and its dependencies."""
    return environment_with(tmp_path_factory.mktemp("environment"), wheel)


def run(python: Path, program: str) -> str:
    return subprocess.run(
        [python, "-I", "-W", "error", "-c", program],
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_wheel_holds_every_source_file_and_the_typing_marker(wheel: Path) -> None:
    sources = REPOSITORY / "src"
    expected = {
        f"outlast/{file.relative_to(sources).as_posix()}"
        for file in sources.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert "outlast/py.typed" in packed


def test_the_wheel_holds_none_of_the_deliberate_mistakes(wheel: Path) -> None:
    """The broken implementations, which show that the suites bite, stay in `tests/broken`."""
    archive = ZipFile(wheel)
    assert [name for name in archive.namelist() if re.search("broken|lying", name)] == []
    mistakes = {
        name
        for file in (REPOSITORY / "tests" / "broken").glob("*.py")
        for name in CLASS.findall(file.read_text())
    }
    assert mistakes
    shipped = {
        name
        for file in archive.namelist()
        if file.endswith(".py")
        for name in CLASS.findall(archive.read(file).decode())
    }
    assert mistakes & shipped == set()


def test_every_module_imports_or_misses_only_what_an_extra_brings(python: Path) -> None:
    outcomes = json.loads(run(python, IMPORT_EVERYTHING))
    assert outcomes["outlast"] == "imported"
    assert set(outcomes.values()) <= {"imported", "missing extra"}, outcomes


def test_importing_takes_less_than_300_milliseconds(python: Path) -> None:
    run(python, TIME_THE_IMPORT)  # writes the byte code
    # Other processes only ever add to the time, so the shortest of several is the nearest to the truth.
    assert min(float(run(python, TIME_THE_IMPORT)) for _ in range(7)) < 0.3
