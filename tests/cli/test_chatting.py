"""Talking to an agent in a shell: the conversation goes on with the next command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import outlast
from outlast.adapters.scripted import call, say


@outlast.activity
async def look(city: str) -> str:
    return f"rain in {city}"


def script(request):
    if "nothing" in str(request.new[-1]):
        raise ValueError("no key")
    if request.turn == 1 and "weather" in str(request.new[-1].content):
        return call("look", {"city": "Lyon"})
    said = len([entry for entry in request.history if entry.type == "message.input"])
    return say(f"Answer {said + (request.turn == 1)}.\\nThat is all.")


clerk = outlast.Agent(model="m", name="clerk", tools=[look])
session = outlast.ScriptedSession(script)


@outlast.workflow.define(name="support")
class Support(outlast.AgentWorkflow):
    agent = clerk
    session = session
"""


def chat(folder: Path, typed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "outlast.cli", "chat", *arguments, "--backend", f"sqlite:///{folder}/chat.db"],
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [("talk:clerk", "--session", "session"), ("talk:Support",)], ids=["agent", "workflow"]
)
def test_a_conversation_goes_on_with_the_same_id(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "talk.py").write_text(MODULE)
    first = chat(tmp_path, "Hello\n\nThe weather?\n", *arguments, "--id", "c-1")
    assert (first.returncode, first.stdout) == (0, "Answer 1.\nThat is all.\nAnswer 2.\nThat is all.\n")
    assert "[clerk calls look]" in first.stderr
    again = chat(tmp_path, "Again\n", *arguments, "--id", "c-1")
    assert (again.returncode, again.stdout) == (0, "Answer 3.\nThat is all.\n")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("talk:look", "is not an agent but a Activity"),
        ("talk:nobody", "has nothing called 'nobody'"),
        ("talk", "write MODULE:NAME"),
        ("nowhere:clerk", "was not found"),
    ],
)
def test_what_is_no_agent_is_refused(tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "talk.py").write_text(MODULE)
    refused = chat(tmp_path, "", target, "--id", "c-1")
    assert refused.returncode == 1
    assert said in refused.stderr
    assert not (tmp_path / "chat.db").exists()


def test_lines_from_a_pipe_that_get_an_error_are_a_failure(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(MODULE)
    ended = chat(tmp_path, "Say nothing\nHello\n", "talk:clerk", "--session", "session", "--id", "c-1")
    assert ended.returncode == 1
    assert "error: " in ended.stderr
    assert "That is all." in ended.stdout
