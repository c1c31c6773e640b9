"""The effects of attempts, as lines of a file that outlives the processes that are killed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from outlast.runtime.definitions.activity import activity

EFFECTS = "OUTLAST_CRASH_EFFECTS"
"""The environment variable with the path of the file of effects; next to it stand the gates."""

PATIENCE_SECONDS = 60.0
"""The longest real time for which a test waits for another process."""


def note(word: str, what: str) -> None:
    """Write that an attempt at the step `what` came to the point `word`.

    The file is opened for appending, so the lines of processes that are killed are kept whole and in order.
    """
    info = activity.info()
    line = f"{info.idempotency_key}\t{info.attempt}\t{what}\t{word}\t{os.getpid()}\n".encode()
    descriptor = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def gate_path(name: str) -> Path:
    """Return the file whose existence opens a gate."""
    return Path(os.environ[EFFECTS]).with_name(name)


class Effects:
    """The effects of attempts, by the file that they wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int, str, str]]:
        """Return idempotency key, attempt, step and word of each line."""
        text = self.path.read_text() if self.path.exists() else ""
        split = (line.split("\t") for line in text.splitlines())
        return [(key, int(attempt), what, word) for key, attempt, what, word, _ in split]

    def processes(self) -> set[int]:
        """Return the ids of the processes that have made attempts."""
        text = self.path.read_text() if self.path.exists() else ""
        return {int(line.rpartition("\t")[2]) for line in text.splitlines()}

    def attempts(self, what: str, word: str = "begin") -> list[int]:
        """Return the numbers of the attempts at a step that came to that point, in this order."""
        return [attempt for _, attempt, one, said in self.lines() if (one, said) == (what, word)]

    def open_gate(self, name: str) -> None:
        """Let those go on who wait at the gate."""
        self.path.with_name(name).touch()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when another process has made that true; raises TimeoutError after a minute."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """No attempt was made twice: each line `begin` has a key and an attempt of its own."""
        begun = [(key, attempt) for key, attempt, _, word in self.lines() if word == "begin"]
        assert [again for again, times in Counter(begun).items() if times > 1] == []
