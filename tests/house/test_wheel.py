"""The wheel, alone in a fresh environment with its two base dependencies: what a user of pip gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from uv import find_uv_bin

pytestmark = pytest.mark.wheel

REPOSITORY = Path(__file__).parents[2]

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

TIME_THE_IMPORT = """
import time
before = time.perf_counter()
import outlast
print(time.perf_counter() - before)
"""


def uv(*arguments: str | Path) -> str:
    return subprocess.run(
        [find_uv_bin(), *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as built from the source distribution, so that both are known to be complete."""
    folder = tmp_path_factory.mktemp("distributions")
    uv("build", "--quiet", "--out-dir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel and what it requires."""
    environment = tmp_path_factory.mktemp("environment")
    uv("venv", "--quiet", "--clear", "--python", sys.executable, environment)
    interpreter = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    uv("pip", "install", "--quiet", "--python", interpreter, wheel)
    return interpreter


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


def test_every_module_imports_or_misses_only_what_an_extra_brings(python: Path) -> None:
    outcomes = json.loads(run(python, IMPORT_EVERYTHING))
    assert outcomes["outlast"] == "imported"
    assert set(outcomes.values()) <= {"imported", "missing extra"}, outcomes


def test_importing_takes_less_than_300_milliseconds(python: Path) -> None:
    run(python, TIME_THE_IMPORT)  # writes the byte code
    # Other processes only ever add to the time, so the shortest of several is the nearest to the truth.
    assert min(float(run(python, TIME_THE_IMPORT)) for _ in range(7)) < 0.3
