"""Noticing that a file was written, by Linux's inotify, for which Python's library has no call."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from pathlib import Path

_IN_MODIFY = 0x2
_BYTES_AT_ONCE = 4096


class FileChanges:
    """Reports of the writes to one file, by any process of this machine. Use it in one event loop only.

    A report comes when bytes are written, which is before SQLite has made them durable and visible.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()

    @classmethod
    def of(cls, path: Path) -> FileChanges | None:
        """Return the reports for the file at `path`; None where the system gives none."""
        if sys.platform != "linux":
            return None
        library = ctypes.CDLL(None)
        descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return None
        if library.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
            os.close(descriptor)
            return None
        return cls(descriptor)

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for writes since the last call, for so long in real time; return whether there were any."""
        written = asyncio.Event()
        self._loop.add_reader(self._descriptor, written.set)
        try:
            async with asyncio.timeout(timeout_seconds):
                await written.wait()
        except TimeoutError:
            return False
        finally:
            self._loop.remove_reader(self._descriptor)
        # Linux joins reports that are alike, so the file has one at a time.
        os.read(self._descriptor, _BYTES_AT_ONCE)
        return True

    def close(self) -> None:
        os.close(self._descriptor)
