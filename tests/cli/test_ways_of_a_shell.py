"""The command line among other programs: pipes, scripts, terminals, Ctrl-C and completion."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.test_commands import COMMAND, call, running_worker


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which `outlast` is this one."""
    outlast = f'outlast() {{ {sys.executable} -m outlast.cli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{outlast}{command}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.usefixtures("shop")
def test_output_goes_into_variables_and_pipes() -> None:
    started = shell('id=$(outlast start shop:order apple) && outlast list --json | grep -c "\\"$id\\""')
    assert (started.returncode, started.stdout, started.stderr) == (0, "1\n", "")
    carried = shell("outlast export o-1 | outlast import --backend sqlite:///there.db")
    assert carried.returncode == 1  # Both ends say why.
    assert carried.stdout == ""
    assert "no execution 'o-1'" in carried.stderr
    assert (
        not Path("there.db").exists()
        or "no executions" in call("list", "--backend", "sqlite:///there.db").stderr
    )


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("command", ["list", "list --json", "show o-1", "show o-1 --json", "export o-1"])
def test_a_pipe_that_closes_early_is_no_error_that_anybody_sees(command: str) -> None:
    call("start", "shop:order", "apple", "--id", "o-1")
    cut = shell(f"outlast {command} | true")
    assert cut.stderr == ""


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("list", "--json"),
        ("show", "x"),
        ("workers",),
        ("pending",),
        ("result", "x"),
        ("signal", "x", "y"),
        ("cancel", "x"),
        ("retry", "x"),
        ("export", "x"),
        ("check", "shop"),
        ("prune", "--older-than", "1d", "--yes"),
    ],
)
def test_a_command_that_starts_nothing_creates_no_file(arguments: tuple[str, ...]) -> None:
    ended = call(*arguments, "--backend", "sqlite:///typo.db")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: there is no file typo.db; check the path")
    assert not Path("typo.db").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory:", "error: the in-memory backend ends with its process"),
        ("runs.db", "error: no backend for 'runs.db'"),
        ("sqlite://runs.db", "error: an SQLite URL is sqlite:///runs.db"),
        ("sqlite:///no/such/folder/runs.db", "error: the directory no/such/folder of runs.db does not exist"),
        ("redis://127.0.0.1:1", "error: "),
        ("redis://127.0.0.1:port", "error: "),
        ("temporal://127.0.0.1:1", "error: "),
        ("temporal://", "error: a Temporal URL is temporal://host:port/namespace"),
    ],
)
def test_a_backend_that_cannot_be_used_is_one_sentence(url: str, message: str, shop: Path) -> None:
    ended = subprocess.run([*COMMAND, "list", "--backend", url], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(message)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "arguments", [("result", "o-1"), ("show", "o-1", "--follow"), ("start", "shop:order", "apple", "--wait")]
)
def test_ctrl_c_says_what_goes_on_without_the_command(arguments: tuple[str, ...]) -> None:
    call("start", "shop:order", "apple", "--id", "o-1")
    named = ["--id", "o-1"] if arguments[0] == "start" else []
    waiting = subprocess.Popen(
        [*COMMAND, *arguments, *named], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stdout is not None
    assert waiting.stderr is not None
    output, sign = (
        (waiting.stdout, "execution of order started") if "show" in arguments else (waiting.stderr, "waiting")
    )
    while sign not in output.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate()
    assert waiting.returncode == 130
    assert "of execution o-1, which goes on without this command; to wait again: outlast" in said
    assert "Traceback" not in said
    with running_worker("shop"):
        assert call("result", "o-1").stdout == '{"total":2.5}\n'


def test_a_person_is_asked_before_executions_are_forgotten(shop: Path) -> None:
    with running_worker("shop"):
        call("start", "shop:order", "apple", "--wait")
    prune = ["prune", "--older-than", "0s"]
    refused = call(*prune)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nobody can be asked, because the input is not a terminal: give --yes" in refused.stderr
    for answer, code, left in ((b"n\n", 1, 1), (b"y\n", 0, 0)):
        ours, theirs = pty.openpty()
        asked = subprocess.Popen(
            [*COMMAND, *prune], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.write(ours, answer)
        _, said = asked.communicate()
        os.close(ours)
        os.close(theirs)
        assert asked.returncode == code
        assert b"Forget every execution on sqlite:///shop.db that ended more than 0s ago" in said
        assert len(call("list", "--json").stdout.splitlines()) == left
    assert call(*prune, "--yes").stdout == "0 executions are forgotten\n"
    for wrong in ("1", "d", "-1d", "1y", "9999999d"):
        assert call("prune", "--older-than", wrong, "--yes").exit_code == 2


@pytest.mark.usefixtures("shop")
def test_a_shell_completes_commands_and_ids() -> None:
    for id in ("order-1", "order-2", "other"):
        call("start", "shop:order", "apple", "--id", id)

    def completed(words: str) -> list[str]:
        """Return what bash gets for the last word."""
        ended = subprocess.run(
            COMMAND,
            env={
                **os.environ,
                "_OUTLAST_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split(" ")) - 1),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.stderr == ""
        return ended.stdout.split()

    assert completed("outlast re") == ["result", "resume", "retry"]
    assert completed("outlast cancel order") == ["order-2", "order-1"]
    assert completed("outlast show --backend sqlite:///none.db order") == []
    assert "--follow" in completed("outlast show --f")
    assert not Path("none.db").exists()


@pytest.mark.usefixtures("shop")
def test_an_error_that_nobody_foresaw_is_one_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("gone")

    monkeypatch.setattr("outlast.cli.finding.opened", fail)
    failed = call("list")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert (
        failed.stderr == "error: unexpected KeyError: 'gone'; `outlast --debug …` shows where it was raised\n"
    )
    assert isinstance(call("--debug", "list").exception, KeyError)


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").stdout == "outlast 0.1.0\n"


@pytest.mark.usefixtures("shop")
def test_no_id_is_cut_where_the_terminal_is_narrow() -> None:
    id = "a-long-id-that-somebody-wants-to-copy-from-a-list-of-executions"
    call("start", "shop:order", "apple", "--id", id)
    for arguments in (["list"], ["show", id], ["pending"]):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        printed = subprocess.Popen([*COMMAND, *arguments], stdout=theirs, env={**os.environ, "TERM": "dumb"})
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Reading ends with an error when the other side is closed.
            while more := os.read(ours, 10_000):
                shown += more
        os.close(ours)
        assert printed.wait() == 0
        assert arguments == ["pending"] or id.encode() in shown


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_character_gets_its_number(encoding: str) -> None:
    id = "\N{SNOWMAN}-1"
    call("start", "shop:order", "apple", "--id", id)
    for command in ("list", "list --json", f"show {id}", f"cancel {id}", "show \N{SNOWMAN}"):
        shown = shell(f"outlast {command}", PYTHONIOENCODING=encoding)
        said = shown.stdout + shown.stderr
        # typer takes ASCII for a setting that somebody forgot, and writes UTF-8 all the same.
        assert "\\u2603" in said or (encoding == "ascii" and "\N{SNOWMAN}" in said)
        assert "Traceback" not in shown.stderr
        assert "unexpected" not in shown.stderr


@pytest.mark.usefixtures("shop")
def test_a_row_of_a_table_is_one_line_in_a_pipe() -> None:
    with running_worker("shop"):
        for letter in "ab":
            call("start", "shop:refusal", "no apples " * 20, "--id", letter * 190, "--wait")
    listed = shell("outlast list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["id", "b" * 190, "a" * 190]
    assert all(line == line.rstrip() for line in listed.stdout.splitlines())
