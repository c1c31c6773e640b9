"""The names that `import outlast` gives, its cost, and the modules that it must not load."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import outlast
import outlast.testing

REPOSITORY = Path(__file__).parents[2]
LOADED_ON_DEMAND = {
    "griffe",
    "mcp",
    "mistralai",
    "redis",
    "rich",
    "sqlite3",
    "starlette",
    "temporalio",
    "typer",
    "uvicorn",
}


LAZY = {"src": outlast, "src/testing": outlast.testing}
"""Packages whose names load when they are first used, by folder."""


@pytest.mark.parametrize("package", LAZY.values(), ids=LAZY)
def test_every_public_name_exists_and_is_listed(package: ModuleType) -> None:
    names = package.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(package, name) for name in names)
    assert not [name for name in names if name not in dir(package)]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("folder", LAZY)
def test_type_checkers_see_the_names_that_are_there(folder: str) -> None:
    """The names load lazily, so a stub declares them again; both must mean the same objects."""
    tree = ast.parse((REPOSITORY / folder / "__init__.pyi").read_text())
    found: dict[str, object] = {}
    for statement in tree.body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        for alias in statement.names:
            if alias.name in ("events", "workflow"):
                found[alias.name] = importlib.import_module(f"{statement.module}.{alias.name}")
                continue
            module = importlib.import_module(str(statement.module))
            found[alias.name] = getattr(module, alias.name)
    assert found == {name: getattr(LAZY[folder], name) for name in LAZY[folder].__all__}


def test_importing_loads_no_sdk() -> None:
    program = "import outlast, json, sys; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not LOADED_ON_DEMAND & set(json.loads(finished.stdout))


def test_the_editable_install_is_strict_and_knows_every_module() -> None:
    """mypy and pyright see the package only through its links, which `make setup` renews."""
    spec = importlib.util.find_spec("outlast")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    assert installed.name == "outlast"
    assert (installed / "__init__.py").samefile(REPOSITORY / "src" / "__init__.py")
    linked = {file.relative_to(installed) for file in installed.rglob("*.py")}
    sources = {file.relative_to(REPOSITORY / "src") for file in (REPOSITORY / "src").rglob("*.py")}
    assert linked == sources
