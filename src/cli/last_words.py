"""The last words of worker processes: files in a private folder of their supervisor, two for each process.

A worker process lets `faulthandler` write to its file: the stack of every thread, if a signal ends the
process. It shows files, lines and functions, and no values. The supervisor adds how the process ended. The
other processes of the same supervisor read the file when they take an execution over from the dead one.

The second file has the marks of the executions whose code was at work; see `isolation.at_work`.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Final

from outlast.core.records import Part
from outlast.runtime.isolation.at_work import part_in
from outlast.runtime.isolation.user_code import is_user_code

WORDS_MAX: Final = 100
"""The number of files that a supervisor keeps: those of the processes that ended last."""

_NAME = re.compile(r"[0-9a-f]{8}")
_THREAD = re.compile(r"(Current thread|Thread) 0x")
_FRAME = re.compile(r'  File "(?P<file>.*)", line \d+ in ')


def identity_of(words: Path) -> str:
    """Return the identity of this process's worker, whose last words go to the file `words`."""
    return f"{socket.gethostname()}:{os.getpid()}:{words.name}"


def last_words_of(identity: str, folder: Path) -> str | None:
    """Return what the worker of that identity left in `folder`; None if it left nothing."""
    words = _words_of(identity, folder)
    if words is None:
        return None
    try:
        return words.read_text(errors="replace") or None
    except FileNotFoundError:
        return None


def part_of(identity: str, execution_id: str, folder: Path) -> Part | None:
    """Return the part that an execution had in the loss of the worker of that identity, if it is known."""
    words = _words_of(identity, folder)
    return None if words is None else part_in(marks_beside(words), execution_id)


def marks_beside(words: Path) -> Path:
    """Return the file for the marks of the process whose last words go to `words`."""
    return words.with_suffix(".marks")


def _words_of(identity: str, folder: Path) -> Path | None:
    name = identity.rpartition(":")[2]
    return folder / name if _NAME.fullmatch(name) else None


def say_last(words: Path, fate: str) -> str:
    """Replace the stacks in the file `words` by the process's fate and what matters of them; return that."""
    try:
        written = words.read_text(errors="replace")
    except FileNotFoundError:
        written = ""
    said = "\n\n".join([fate, *stacks_in(written)])
    words.write_text(said)
    return said


def stacks_in(written: str) -> list[str]:
    """Return the stacks of those threads that were in user code, without the frames that led to it.

    The thread that was hit comes last, since readers keep the end of a long text. If no thread was in user
    code, its whole stack is returned alone.
    """
    stacks = [block.strip("\n") for block in written.split("\n\n") if _THREAD.match(block)]
    stacks.sort(key=lambda stack: stack.startswith("Current"))  # stable: the others keep their order
    cut = [below for stack in stacks if (below := _up_to_user_code(stack)) is not None]
    return cut or stacks[-1:]


def _up_to_user_code(stack: str) -> str | None:
    """Return a stack up to its outermost frame of user code; None if it has none."""
    title, *frames = stack.split("\n")
    found = [n for n, frame in enumerate(frames) if (at := _FRAME.match(frame)) and is_user_code(at["file"])]
    if not found:
        return None
    kept = frames[: found[-1] + 1]
    return "\n".join([title, *kept, "  ..."] if len(kept) < len(frames) else [title, *kept])


def forget_old(folder: Path) -> None:
    """Remove the files of the processes that ended longest ago."""
    files = [file for file in folder.iterdir() if _NAME.fullmatch(file.name)]
    files.sort(key=lambda file: file.stat().st_mtime)
    for words in files[:-WORDS_MAX]:
        words.unlink(missing_ok=True)
        marks_beside(words).unlink(missing_ok=True)
