"""Talking to an agent in a shell: the conversation goes on with the next command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MODULE = """
import outlast
from outlast.adapters.scripted import call, say
from outlast.testing import calls


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


@outlast.activity(requires_approval=True)
async def pay(euros: int) -> str:
    return f"paid {euros}"


def lead(asked):
    if asked.agent == "helper":
        return f"a report on {asked.text}"
    if asked.results:
        return "; ".join(asked.results.values())
    match asked.text:
        case "delegate":
            return calls(("helper", {"input": "one"}), ("helper", {"input": "two"}))
        case "pay":
            return call("pay", {"euros": 3})
        case "ask":
            return call("ask_person", {"question": "Which one?"})
    return "hello"


helper = outlast.Agent(model="m", name="helper")
leader = outlast.Agent(model="m", name="leader", tools=[helper, pay, outlast.AskPerson()])
leading = outlast.ScriptedSession(lead)


@outlast.workflow.define(name="support")
class Support(outlast.AgentWorkflow):
    agent = clerk
    session = session


@outlast.workflow.define(name="unready", on_failure="hold")
class Unready(outlast.AgentWorkflow):
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


LEADER = ("talk:leader", "--session", "leading", "--id", "c 1")


def test_only_the_answer_is_on_stdout_and_not_what_agents_within_say(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(MODULE)
    done = chat(tmp_path, "delegate\n", *LEADER)
    assert (done.returncode, done.stdout) == (0, "a report on one; a report on two\n")


def outlast(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "outlast.cli", *arguments, "--backend", f"sqlite:///{folder}/chat.db"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@contextmanager
def open_chat(
    folder: Path, module: str = MODULE, arguments: tuple[str, ...] = LEADER
) -> Iterator[subprocess.Popen[str]]:
    (folder / "talk.py").write_text(module)
    command = [sys.executable, "-m", "outlast.cli", "chat", *arguments]
    with subprocess.Popen(
        [*command, "--backend", f"sqlite:///{folder}/chat.db"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def command_on(process: subprocess.Popen[str], start: str) -> list[str]:
    """Return the arguments of the command that the next line on stderr with that start says to give."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(start):
            _, _, *arguments = shlex.split(line.rpartition(": ")[2].rstrip("]\n"))
            assert arguments[-2:] == ["--backend", "URL"]
            return arguments[:-2]
    raise AssertionError(f"nothing begins with {start!r}")


@pytest.mark.parametrize(
    ("message", "start", "command", "answer"),
    [
        ("pay", '[leader may call pay {"euros":3} after: ', "allow", "paid 3\n"),
        ("ask", "[question: Which one? Reply with: ", "answer", "ANSWER\n"),
    ],
)
def test_what_an_answer_waits_for_is_said_with_the_command_to_go_on(
    tmp_path: Path, message: str, start: str, command: str, answer: str
) -> None:
    with open_chat(tmp_path) as process:
        send(process, message)
        first = command_on(process, start)
    # It is said again to whoever goes on with the conversation.
    with open_chat(tmp_path) as process:
        arguments = command_on(process, start)
        assert arguments == first
        outlast(tmp_path, command, *arguments)
        send(process, "more")
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == [answer, "hello\n"]


def test_a_pause_is_said_with_the_command_to_go_on(tmp_path: Path) -> None:
    with open_chat(tmp_path) as process:
        send(process, "hello")
        assert process.stdout is not None
        assert process.stdout.readline() == "hello\n"
        outlast(tmp_path, "pause", "c 1", "--reason", "lunch")
        send(process, "hello")
        command_on(process, "[paused: lunch; it goes on after: ")
    with open_chat(tmp_path) as process:
        outlast(tmp_path, "resume", *command_on(process, "[paused: lunch; it goes on after: "))
        assert process.stdout is not None
        send(process, "hello")
        assert process.stdout.readline() == "hello\n"


def test_a_conversation_that_is_held_says_why(tmp_path: Path) -> None:
    for _ in range(2):
        with open_chat(tmp_path, arguments=("talk:Unready", "--id", "c 1")) as process:
            send(process, "hello")
            assert command_on(process, "[held: ") == ["c 1"]


def test_a_conversation_that_another_agent_cannot_go_on_with_says_so(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(MODULE)
    chat(tmp_path, "hello\n", *LEADER)
    with open_chat(tmp_path, MODULE.replace('name="leader"', 'name="other"')) as process:
        send(process, "hello")
        assert process.stderr is not None
        assert any("what to do: run the code that wrote the journal" in line for line in process.stderr)


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
