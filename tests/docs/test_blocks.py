"""Each block of Python in the docs runs as it is printed if it is a program, and type checks in any case."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.testing.mistral_server import Call, HandOff, MistralServer, ModelPrompt, Reply, Say
from tests.docs.pages import ALL, REPOSITORY, TUTORIAL, Block, blocks_of
from tests.docs.programs import is_whole, module_of, names_missing_in, type_check
from tests.examples.interpreter import PYTHON

SHOWN_ELSEWHERE = {
    "docs/how-to/writing-a-backend.md": "parts of examples/json_backend: tests/house/test_outside_package.py",
    "docs/how-to/testing.md": "files of one project: tests/examples/test_testing_page.py",
    "docs/start/examples.md": "whole files of examples: tests/examples",
}


def blocks() -> Iterator[Block]:
    for page in ALL:
        if page.relative_to(REPOSITORY).as_posix() not in SHOWN_ELSEWHERE:
            yield from (block for block in blocks_of(page) if block.language == "python")


BLOCKS = list(blocks())
PROGRAMS = [block for block in BLOCKS if is_whole(block) and block.page not in TUTORIAL]
"""Those of the tutorial need one another; `test_tutorial` runs them."""


def model(call: ModelPrompt) -> Reply:
    """Hand off if it can, call each tool on offer once, then answer."""
    if call.handoffs:
        return [HandOff(call.handoffs[0])]
    if call.results or not call.tools:
        return [Say("Low risk.")]
    arguments = {"deal_type": "loan", "amount": 400_000, "city": "Lyon", "country": "France"}
    return [
        Call(
            tool["function"]["name"],
            {name: arguments[name] for name in tool["function"]["parameters"]["properties"]},
        )
        for tool in call.tools
    ]


@pytest.mark.server
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_runs(block: Block, tmp_path: Path) -> None:
    program = tmp_path / (block.title or "program.py")
    program.write_text(block.text)
    with MistralServer(model) as server:
        finished = subprocess.run(
            [*PYTHON, program],
            cwd=tmp_path,
            env={**os.environ, "MISTRAL_API_KEY": server.api_key, "MISTRAL_SERVER_URL": server.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        server.raise_errors()
    assert (finished.returncode, finished.stderr) == (0, "")
    if "Runner" in block.text:
        assert "Low risk." in finished.stdout


def test_every_block_type_checks(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    for block in BLOCKS:
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    for page in {block.page for block in BLOCKS}:
        name = page.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", "_").replace("-", "_")
        (shown / f"{name}.py").write_text(module_of([block for block in BLOCKS if block.page == page]))
    finished = type_check(shown, tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_readme_has_programs_and_stays_short() -> None:
    readme = REPOSITORY / "README.md"
    assert [block for block in PROGRAMS if block.page == readme]
    assert len(readme.read_text().splitlines()) < 130


def test_names_that_a_page_does_not_define_are_found() -> None:
    source = """
import os

async def block():
    found = [name for name in os.environ if wanted(name)]
    print(found, await backend.get("q-1"))
"""
    assert names_missing_in(source) == {"backend", "wanted"}


def test_a_block_with_a_mistake_does_not_type_check(tmp_path: Path) -> None:
    page = Path(__file__)
    source = module_of([Block(page, 1, "python", None, "await execution.resul()\n")])
    assert "from tests.docs.given import execution" in source
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "page.py").write_text(source)
    finished = type_check(tmp_path / "shown", tmp_path)
    assert '"Execution[Any]" has no attribute "resul"' in finished.stdout
