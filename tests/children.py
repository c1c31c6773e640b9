"""Server processes of the tests, none of which outlives the tests, also when these are killed.

One more process, the reaper, reads from a pipe which of them are alive. The other end is held by the tests
alone: when it is closed, they have ended, in whatever way, and what is left is killed.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

REAPER = """
import os, signal, sys
alive = {}
for line in sys.stdin:
    number = int(line)
    if number < 0:
        handle = alive.pop(-number, None)
        if handle is not None:
            os.close(handle)
        continue
    try:
        alive[number] = os.pidfd_open(number)
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # a system without handles
        alive[number] = None
for number, handle in alive.items():
    try:
        if handle is None:
            os.kill(number, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
"""A handle stays with its process, where the system has such: a number may by then be that of another one."""


class Child(subprocess.Popen[bytes]):
    """A process that is killed when this one is gone."""

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(command, **options)
        self._is_registered = True
        os.write(reaper(), b"%d\n" % self.pid)

    def poll(self) -> int | None:
        return self._reported(super().poll())

    def wait(self, timeout: float | None = None) -> int:
        code = super().wait(timeout)
        self._reported(code)
        return code

    def _reported(self, code: int | None) -> int | None:
        """Report the end to the reaper, because the number may soon be that of another process."""
        if code is not None and self._is_registered:
            self._is_registered = False
            os.write(reaper(), b"-%d\n" % self.pid)
        return code


@functools.cache
def reaper() -> int:
    """Return the end of the reaper's pipe to write to."""
    read, write = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", "-c", REAPER],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
        setsid=True,  # An interrupt from the keyboard is not for it.
    )
    os.close(read)
    return write
