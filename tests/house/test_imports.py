"""The import contracts of `.importlinter` name every package, and each of them bites."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "src"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that a test may spoil."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(SOURCES, tmp_path / "outlast", ignore=ignored))


def lint(copy: Path) -> str:
    """Return the output of import-linter on the copy: a line for each contract, ending in KEPT or BROKEN."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    finished = subprocess.run(
        [sys.executable, "-c", command, "--no-logo", "--no-cache", "--config", REPOSITORY / ".importlinter"],
        cwd=copy.parent,
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout


def test_the_layers_name_every_package() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(REPOSITORY / ".importlinter")
    layers = contracts["importlinter:contract:layers"]
    named = layers["layers"].replace("|", " ").split()
    found = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or any(path.glob("**/*.py"))}
    assert sorted(named) == sorted(found - {"__init__"})
    assert layers.getboolean("exhaustive")


def test_every_folder_is_a_package() -> None:
    folders = {file.parent for file in SOURCES.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("core", "import asyncio", "The core decides and never performs"),
        ("core", "from time import monotonic", "The core decides and never performs"),
        ("core", "from outlast import ports", "Imports point one way"),
        ("ports", "from outlast import runtime", "Imports point one way"),
        ("adapters", "from outlast import runtime", "Imports point one way"),
        ("runtime", "from outlast.adapters import memory", "Imports point one way"),
        ("testing", "import outlast.cli", "Imports point one way"),
        ("web", "import outlast.runtime", "Imports point one way"),
        ("web", "import outlast.adapters.sqlite", "Imports point one way"),
        ("new_room", "", "Imports point one way"),
        ("adapters/memory", "import outlast.adapters.sqlite", "Adapters do not know each other"),
        ("adapters/memory", "import sqlite3", "sqlite3 only in its adapter"),
        ("adapters/redis", "import temporalio.client", "temporalio only in its adapter"),
        ("runtime", "def later():\n    import mistralai", "mistralai only in its adapter"),
        ("testing", "import mcp", "mcp only in its adapter"),
        ("cli", "import redis", "redis only in its adapter"),
        ("runtime", "import pickle", "Nothing stored is code"),
    ],
)
def test_a_forbidden_import_is_found(copy: Path, module: str, statement: str, contract: str) -> None:
    folder = copy / module
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    with file.open("a") as source:
        source.write(f"\n{statement}\n")
    assert f"{contract} BROKEN" in lint(copy)
