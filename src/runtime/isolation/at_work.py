"""Marks of whose code is at work in this process, kept where they outlive it.

When a process ends by the code that it runs, nothing inside can write down whose code that was. So it is
written down before: each entry into code of a user marks the execution that the code belongs to, and the mark
is taken away when the code is left. The marks are words of memory. A process that has a supervisor maps them
to a file (`keep_in`); what stands there when the process ends, stays, in whatever way it ends. That costs one
store into memory for each entry, and no call of the system.

A mark is a number made from the id of the execution, so that a reader needs no table: it knows the id for
which it asks. There is one mark for the code that runs on the event loop, and one for each thread, since
several of them can be in the middle of something at the same time. Code that waits is not at work.

What marks cannot show: code can let something end the process that runs later, in a thread of its own making.
So an execution that is under suspicion has a mark of another sort for as long as it is tried. That mark is
read only if the process was ended from inside.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, MutableSequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any, Final

from outlast.core.records import Part

THREADS_MAX: Final = 1024
"""The number of threads that can have a mark at a time."""

_FAULT, _UNMARKED, ON_LOOP, _FIRST_THREAD = range(4)
"""The words of the file: whether the code of the process is at fault (its supervisor writes that), how many
threads are at work without a mark, the mark of the loop, and then those of threads."""
_WORDS: Final = Struct(f"={_FIRST_THREAD + THREADS_MAX}Q")
_WORD: Final = Struct("=Q")

marked: ContextVar[int] = ContextVar("outlast_mark", default=0)
"""The mark of the execution whose attempt this context belongs to; 0 if there is none."""


_SUSPECTED: Final = 1
"""The bit of a mark that says that the execution is under suspicion, not that its code is at work."""


@lru_cache(maxsize=4096)
def mark_of(execution_id: str) -> int:
    """Return the mark of an execution whose code is at work, which is not 0."""
    digest = blake2b(execution_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) & ~_SUSPECTED or 2


def suspicion_of(execution_id: str) -> int:
    """Return the mark of an execution that is under suspicion, whether its code is at work or not."""
    return mark_of(execution_id) | _SUSPECTED


class Marks:
    """The marks of this process."""

    def __init__(self) -> None:
        self.words: MutableSequence[int] | memoryview[int] = [0] * (_FIRST_THREAD + THREADS_MAX)
        self._free = list(range(_FIRST_THREAD, _FIRST_THREAD + THREADS_MAX))

    def keep_in(self, file: Path) -> None:
        """Keep the marks in a new file from now on; call it before anything is marked."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, bytes(_WORDS.size))  # A hole in a file could not be filled on a full disk.
            self.words = memoryview(mmap.mmap(descriptor, _WORDS.size)).cast("Q")
        finally:
            os.close(descriptor)

    @contextmanager
    def at_work(self, mark: int) -> Iterator[None]:
        """Mark an execution for the time of the block, beside the code that runs on the loop."""
        words = self.words
        try:
            place = self._free.pop()
        except IndexError:
            words[_UNMARKED] += 1
            yield
            return  # Whoever reads the marks knows from then on that they are not complete.
        words[place] = mark
        try:
            yield
        finally:
            words[place] = 0
            self._free.append(place)


MARKS: Final = Marks()


class MarkingThreads(ThreadPoolExecutor):
    """Threads for the default executor of a loop: what an attempt hands to them is marked as its code."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        mark = marked.get()
        if not mark:
            return super().submit(fn, *args, **kwargs)
        return super().submit(_with_mark, mark, fn, *args, **kwargs)


def _with_mark(mark: int, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    with MARKS.at_work(mark):
        return fn(*args, **kwargs)


# Reading the marks of another process ----------------------------------------------------------------------


def find_fault(file: Path, is_at_fault: bool) -> None:
    """Write into the marks of a process whether its own code ended it, or holds it up."""
    with (
        suppress(FileNotFoundError),
        file.open("r+b") as words,
    ):  # It may not have come so far as to make any.
        words.seek(_FAULT * _WORD.size)
        words.write(_WORD.pack(is_at_fault))


def part_in(file: Path, execution_id: str) -> Part | None:
    """Return the part that an execution had by the marks of its process; None if they do not show it."""
    try:
        written = file.read_bytes()
    except FileNotFoundError:
        return None
    if len(written) != _WORDS.size:
        return None
    words = _WORDS.unpack(written)
    if words[_UNMARKED]:
        return None
    return part_by({mark for mark in words[ON_LOOP:] if mark}, bool(words[_FAULT]), execution_id)


def part_by(marks: Set[int], is_at_fault: bool, execution_id: str) -> Part:
    """Return the part that an execution had in the loss of a process with all these marks."""
    at_work = {mark for mark in marks if not mark & _SUSPECTED}
    if mark_of(execution_id) in at_work:
        return Part.ALONE if is_at_fault and len(at_work) == 1 else Part.PRESENT
    if is_at_fault and suspicion_of(execution_id) in marks:
        return Part.TRIED if at_work else Part.PRESENT
    return Part.ABSENT if at_work or (is_at_fault and marks) else Part.IDLE
