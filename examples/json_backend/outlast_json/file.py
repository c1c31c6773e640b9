"""A JSON value in a file that several processes share: one of them at a time reads and writes it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outlast.core.errors import StorageCorrupt, StorageUnavailable
from outlast.ports.clock import Clock

POLL_SECONDS = 0.01


class JsonFile:
    """The file. Its blocks hold no `await`, so that a task that is cancelled never leaves one half-way."""

    def __init__(self, path: Path, clock: Clock, empty: dict[str, Any]) -> None:
        self._path = path
        self._clock = clock
        self._empty = json.dumps(empty)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Give the value; what becomes of it is not kept."""
        with self._locked(fcntl.LOCK_SH):
            yield self._load()

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Give the value, and keep it as it is at the end of the block, unless that raises.

        It outlives the process. To outlive the machine, it would need an `fsync`.
        """
        with self._locked(fcntl.LOCK_EX):
            value = self._load()
            yield value
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(value))
            os.replace(new, self._path)

    async def until(self, holds: Callable[[Any], bool], timeout_seconds: float) -> None:
        """Return when `holds` is true of the value, or when the time is up by the clock."""
        time_is_up = asyncio.create_task(self._clock.sleep(timeout_seconds))
        seen: object = None
        try:
            while not time_is_up.done():
                if (now := self._mark()) != seen:
                    seen = now
                    with self.reading() as value:
                        if holds(value):
                            return
                await asyncio.wait([time_is_up], timeout=POLL_SECONDS)
        finally:
            time_is_up.cancel()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        try:
            with open(self._path.with_suffix(".lock"), "a") as lock:
                fcntl.flock(lock, how)
                yield
        except OSError as error:
            raise StorageUnavailable(f"cannot use {self._path}: {error.strerror}; check the path") from error

    def _load(self) -> Any:
        try:
            return json.loads(self._path.read_text())
        except FileNotFoundError:
            return json.loads(self._empty)
        except ValueError as error:
            raise StorageCorrupt(f"{self._path} does not hold JSON; choose another file") from error

    def _mark(self) -> object:
        """Return something that differs after every write."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return "no file"
        return status.st_ino, status.st_mtime_ns
