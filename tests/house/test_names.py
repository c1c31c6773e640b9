"""Names: the old one is gone, one class has one name, and a package knows itself only in one direction."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "src"

OLD_NAME = re.compile("durable" + "[-_. ]?" + "agents?", re.IGNORECASE)
"""Spelt in two pieces, so that this file does not hold it."""
PROSE = re.compile(r"[Dd]urable [Aa]gents?")
"""The kind of program, in two words: that may stand anywhere."""


def modules() -> dict[str, Path]:
    """Return every module of the package, by dotted name."""
    found: dict[str, Path] = {}
    for file in sorted(SOURCES.rglob("*.py")):
        parts = ("outlast", *file.relative_to(SOURCES).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a module imports: at its top, later, and for types alone."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("outlast"):
                for alias in names:
                    whole = f"{module}.{alias.name}"
                    yield whole if whole in known else module
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in known)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[first]
            ):
                # A late import by name is an import, too.
                if isinstance(first, ast.Constant) and first.value in known:
                    yield str(first.value)


def test_the_old_name_stands_nowhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    assert [file.name for file in files if OLD_NAME.search(file.name)] == []
    found = [
        f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}"
        for file in files
        if file.is_file()
        for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1)
        if OLD_NAME.search(PROSE.sub("", line))
    ]
    assert found == []


def test_no_two_classes_have_one_name() -> None:
    """The names in `compat` are those of other frameworks, and their meaning there is what counts."""
    homes: dict[str, list[str]] = defaultdict(list)
    for name, file in modules().items():
        if name.startswith("outlast.compat."):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_package_has_a_cycle_inside() -> None:
    """Late imports, and imports for types, count too: a reader follows them in a circle all the same."""
    known = modules()
    edges = {name: set(imports_of(name, file, known)) - {name} for name, file in known.items()}
    found: dict[str, str] = {}
    for package, inside in groupby(sorted(known), key=lambda name: ".".join(name.split(".")[:3])):
        names = set(inside)
        graph = {name: edges[name] & names - _initials(name) for name in names}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found[package] = " -> ".join(error.args[1])
    assert found == {}


def _initials(name: str) -> set[str]:
    """Return the packages that a module is in: to import from them is how `__init__.py` is reached."""
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}
