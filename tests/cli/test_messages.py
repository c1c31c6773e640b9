"""Talking to an execution from a shell: signals, queries, updates and the result."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_commands import COMMAND, running_worker

DESK = """
import outlast
from outlast import workflow


@workflow.define(name="desk")
class Desk:
    def __init__(self) -> None:
        self.notes = []
        self.closed = False

    @workflow.entrypoint
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed)
        return self.notes

    @workflow.signal
    async def note(self, text: str, times: int = 1) -> None:
        self.notes += [text] * times

    @workflow.query
    def count(self, prefix: str = "") -> int:
        return sum(note.startswith(prefix) for note in self.notes)

    @workflow.update
    async def close(self, last: str) -> int:
        self.notes.append(last)
        self.closed = True
        return len(self.notes)
"""


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which knows no workflow but those of its own modules."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def desk(shop: Path) -> None:
    (shop / "desk.py").write_text(DESK)
    call("start", "desk:desk", "--id", "d-1")


@pytest.mark.usefixtures("desk")
def test_an_execution_gets_signals_answers_and_ends() -> None:
    sent = call("signal", "d-1", "note", "tea")
    assert sent.returncode == 0
    assert "is sent to d-1; nothing has checked it" in sent.stderr
    assert "--module" in sent.stderr
    assert call("signal", "d-1", "note", "none", "-2").returncode == 0
    assert (
        call("signal", "d-1", "note", "--arg", "text=milk", "--arg", "times=2", "--module", "desk").stdout
        == ""
    )
    with running_worker("desk"):
        updated = call("update", "d-1", "close", '{"not": "text"}', "--module", "desk", "--id", "u-1")
        again = call("update", "d-1", "close", "other", "--id", "u-1")
        result = call("result", "d-1")
    assert (updated.returncode, updated.stdout) == (0, "4\n")
    assert again.stdout == "4\n"
    assert json.loads(result.stdout) == ["tea", "milk", "milk", '{"not": "text"}']
    query = call("query", "d-1", "count", "m", "--module", "desk")
    assert (query.returncode, query.stdout) == (0, "2\n")
    shown = call("show", "d-1").stdout
    assert "signal note(tea) received" in shown
    assert "signal note(text=milk, times=2) received" in shown
    assert 'result  ["tea","milk","milk"' in shown


REFUSED = [
    (
        ("signal", "d-1", "nota", "tea", "--module", "desk"),
        2,
        "workflow 'desk' has no signal 'nota'; it has: note",
    ),
    (("signal", "d-1", "note", "--module", "desk"), 2, "signal 'note' takes text, times; 0 were given"),
    (
        ("signal", "d-1", "note", "tea", "few", "--module", "desk"),
        2,
        "times: Input should be a valid integer",
    ),
    (("signal", "nobody", "note", "tea"), 1, "no execution 'nobody'"),
    (("signal", "d-1", "note", '{"open'), 2, "begins like JSON and is not JSON"),
    (("query", "d-1", "count"), 1, "where is workflow 'desk' defined? Give --module"),
    (("query", "d-1", "total", "--module", "desk"), 2, "has no query 'total'; it has: count"),
    (
        ("query", "d-1", "count", "--module", "shop"),
        1,
        "module 'shop' has no workflow 'desk'; it has: order, refusal",
    ),
    (("query", "d-1", "count", "--module", "nowhere"), 1, "module 'nowhere' was not found"),
    (("update", "d-1", "close", "--module", "desk"), 2, "update 'close' takes last; 0 were given"),
    (("update", "d-1", "close", "a", "--module", "desk", "--id", ""), 1, "id of an update"),
    (("result", "nobody"), 1, "no execution 'nobody'"),
]
"""Commands, their exit code, and a part of what they say."""


@pytest.mark.usefixtures("desk")
def test_a_message_that_cannot_be_sent_is_one_sentence_and_changes_nothing(
    subtests: pytest.Subtests,
) -> None:
    before = call("show", "d-1", "--json").stdout
    for arguments, code, message in REFUSED:
        with subtests.test(" ".join(arguments)):
            refused = call(*arguments)
            assert (refused.returncode, refused.stdout) == (code, "")
            assert message in " ".join(refused.stderr.split())
            assert "Traceback" not in refused.stderr
    assert call("show", "d-1", "--json").stdout == before


@pytest.mark.usefixtures("shop")
def test_the_result_of_an_execution_that_failed_is_an_error() -> None:
    call("start", "shop:refusal", "--id", "r-1")
    with running_worker("shop"):
        failed = call("result", "r-1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "failed with ValueError: out of stock" in failed.stderr
