"""A reader follows the tutorial from an empty folder, with nothing installed but the wheel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import TUTORIAL, Block, blocks_of
from tests.house.wheels import build_wheel, environment_with

BLOCKS = [block for page in TUTORIAL for block in blocks_of(page)]
INSTALLED = re.compile(r'pip install "outlast(\[[\w,]+\])"')
PREPARES = re.compile(r"python -m venv |\. \.venv/|pip install ")
"""Commands whose outcome the environment of the test has already."""

PATIENCE_SECONDS = 120
"""The tutorial waits for a lease once: ten seconds."""


class Reader:
    """A reader at a terminal, in a folder of their own."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        kept = {
            name: text for name, text in os.environ.items() if not name.startswith(("MISTRAL_", "OUTLAST_"))
        }
        self.environment = {
            **kept,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "PYTHONWARNINGS": "error",
        }

    def run(self, command: str) -> str:
        """Run a command, and return what the terminal shows."""
        if exported := re.fullmatch(r"export (\w+)=(.*)", command):
            self.environment[exported[1]] = exported[2]
            return ""
        finished = subprocess.run(
            ["bash", "-c", f"exec {command}" if command.startswith("python") else command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert finished.returncode in (0, -signal.SIGKILL), finished.stdout
        return finished.stdout + ("Killed\n" if finished.returncode else "")

    @contextmanager
    def in_another_terminal(self, command: str) -> Iterator[None]:
        """Let a command run during the block; then ask it to stop, as Ctrl-C does."""
        with subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, log


def sessions_in(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a block of the terminal, each with the output that the page shows."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def agrees(output: str, shown: str) -> bool:
    """Return whether the output is what a page shows; `…` stands for any text, also of several lines."""
    pattern = "".join(".*?" if part == "…" else re.escape(part) for part in re.split("(…)", shown.rstrip()))
    return re.fullmatch(pattern, output.rstrip(), re.DOTALL) is not None


@pytest.mark.wheel
@pytest.mark.crash
def test_the_tutorial_works_as_it_is_printed(tmp_path: Path) -> None:
    [extras] = {found for block in blocks_of(TUTORIAL[0]) for found in INSTALLED.findall(block.text)}
    wheel = build_wheel(tmp_path / "distributions")
    python = environment_with(tmp_path / "environment", f"{wheel}{extras}")
    folder = tmp_path / "empty"
    folder.mkdir()
    reader = Reader(folder, python.parent)
    with ExitStack() as terminals:
        for block in BLOCKS:
            if block.language == "python" and block.title:
                (folder / block.title).write_text(block.text)
            for command, shown in sessions_in(block) if block.language == "console" else ():
                if PREPARES.match(command):
                    continue
                if block.title:
                    terminals.enter_context(reader.in_another_terminal(command))
                    continue
                output = reader.run(command)
                assert agrees(output, shown), f"{block}: {command}\n{output}"


def test_the_tutorial_has_programs_a_crash_and_a_worker() -> None:
    assert [block.title for block in BLOCKS if block.language == "python" and block.title] == [
        "trip.py",
        "booking.py",
        "trips.py",
    ]
    commands = [pair for block in BLOCKS if block.language == "console" for pair in sessions_in(block)]
    assert ("python booking.py", "Killed\n") in commands
    assert [block for block in BLOCKS if block.title == "second terminal"]


@pytest.mark.parametrize(
    ("output", "shown", "agree"),
    [
        ("deal-1\n", "deal-1\n", True),
        ("deal-2\n", "deal-1\n", False),
        ("took 3.5 s\nend\n", "took … s\nend\n", True),
        ("a\nb\nc\nd\n", "…\nd\n", True),
        ("a\nb\n", "…\nc\n", False),
        ("", "deal-1\n", False),
    ],
)
def test_three_dots_stand_for_any_text_and_nothing_else_does(output: str, shown: str, agree: bool) -> None:
    assert agrees(output, shown) == agree
