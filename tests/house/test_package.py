"""What `import durable_agents` gives, costs and must not load; and that the checkout is what is installed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import durable_agents

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


def test_every_public_name_exists_and_is_listed() -> None:
    names = durable_agents.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(durable_agents, name) for name in names)
    assert not [name for name in names if name not in dir(durable_agents)]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        durable_agents.nonsense  # noqa: B018


def test_type_checkers_see_the_names_that_are_there() -> None:
    """The names load lazily, so `__init__.py` says twice what they are; both must mean the same objects."""
    tree = ast.parse((REPOSITORY / "src" / "__init__.py").read_text())
    (seen,) = [node for node in tree.body if isinstance(node, ast.If)]
    found: dict[str, object] = {}
    for statement in seen.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            module = importlib.import_module(str(statement.module))
            found[alias.name] = getattr(module, alias.name)
    assert found == {name: getattr(durable_agents, name) for name in durable_agents.__all__}


def test_importing_loads_no_sdk() -> None:
    program = "import durable_agents, json, sys; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not LOADED_ON_DEMAND & set(json.loads(finished.stdout))


def test_the_editable_install_is_strict_and_knows_every_module() -> None:
    """mypy and pyright see the package only through its links, which `make setup` renews."""
    spec = importlib.util.find_spec("durable_agents")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    assert installed.name == "durable_agents"
    assert (installed / "__init__.py").samefile(REPOSITORY / "src" / "__init__.py")
    linked = {file.relative_to(installed) for file in installed.rglob("*.py")}
    sources = {file.relative_to(REPOSITORY / "src") for file in (REPOSITORY / "src").rglob("*.py")}
    assert linked == sources
