"""Programs for Mistral Workflows, as its documentation writes them, with their import lines changed.

The files hold the lines as they were. What changes them are the rules of the page for users.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "tests" / "data" / "mistral_workflows"
PAGE = REPOSITORY / "docs" / "how-to" / "migrating-from-mistral.md"
RULE = re.compile(r"-e 's/(?P<old>\S.*?)/(?P<new>[^/]*)/'")
IMPORT = re.compile(r"(import|from) ")


def rules() -> list[tuple[str, str]]:
    """Return what the page replaces, and by what."""
    return [(rule["old"], rule["new"]) for rule in RULE.finditer(PAGE.read_text())]


def migrated(name: str) -> str:
    """Return the program after the rules of the page were applied to it."""
    text = (FOLDER / f"{name}.py.txt").read_text()
    for old, new in rules():
        text = re.sub(old, new, text, flags=re.MULTILINE)
    return text


def load(name: str, folder: Path) -> ModuleType:
    """Import the migrated program from a file in `folder`; a workflow is known by one module at a time."""
    file = folder / f"migrated_{name}.py"
    file.write_text(migrated(name))
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    specification.loader.exec_module(module)
    return module
