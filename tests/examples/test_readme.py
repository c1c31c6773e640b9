"""The README's programs run as they are printed, and its claims about the command line hold."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from outlast.testing.mistral_server import Call, Handoff, MistralServer, ModelPrompt, Reply, Say
from tests.examples.interpreter import PYTHON

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def model(call: ModelPrompt) -> Reply:
    """Hand off if it can, call each tool on offer once, then answer."""
    if call.handoffs:
        return [Handoff(call.handoffs[0])]
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
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_program_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[number])
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
    assert "Low risk." in finished.stdout


def test_the_readme_has_programs_and_stays_short() -> None:
    assert len(BLOCKS) >= 2
    assert len(README.splitlines()) < 260
