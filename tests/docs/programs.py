"""Makes modules of the blocks of a page, so that a type checker reads them as a reader does: in order.

A block that awaits at its top level, as in a notebook, becomes the body of a coroutine; any other one stands
in the module as it is. A name that the page uses and does not define comes from `given.pyi`.
"""

from __future__ import annotations

import ast
import builtins
import os
import subprocess
import symtable
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.docs.pages import REPOSITORY, Block

AWAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
PREDEFINED = {*dir(builtins), "__name__"}


def is_whole(block: Block) -> bool:
    """Return whether a block is a program that can be run: it imports the library, and starts something."""
    return "import outlast" in block.text and any(
        start in block.text for start in ("asyncio.run(", "run_sync(")
    )


def module_of(blocks: Sequence[Block]) -> str:
    """Return the source of a module that holds the blocks, each after a comment that says where it stands."""
    body = "\n\n".join(f"# {block}\n{_statements(block, number)}" for number, block in enumerate(blocks))
    given = ", ".join(sorted(names_missing_in(body)))
    imports = f"from tests.docs.given import {given}\n" if given else ""
    return f"from __future__ import annotations\n\n{imports}\n{body}"


def _statements(block: Block, number: int) -> str:
    tree = compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    if any(isinstance(node, AWAITS) for node in _outside_functions(tree)):
        return f"async def block_{number}():\n{textwrap.indent(block.text, '    ')}"
    return block.text


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, FUNCTIONS):
            yield from _outside_functions(child)


def names_missing_in(source: str) -> set[str]:
    """Return the names that a module uses and neither defines nor imports."""
    module = symtable.symtable(source, "page", "exec")
    defined = {one.get_name() for one in module.get_symbols() if one.is_assigned() or one.is_imported()}
    return {name for name in _used_globally(module) if name not in defined | PREDEFINED}


def _used_globally(table: symtable.SymbolTable) -> Iterator[str]:
    for one in table.get_symbols():
        if one.is_referenced() and (one.is_global() or table.get_type() == "module"):
            yield one.get_name()
    for child in table.get_children():
        yield from _used_globally(child)


def type_check(shown: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy on a folder whose modules import one another from `root`.

    It runs in the repository, with the settings there, and where it has read the library before.
    """
    return subprocess.run(
        [sys.executable, "-m", "mypy", shown],
        cwd=REPOSITORY,
        env={**os.environ, "MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
