"""The text of replies that are still being written, in a second JSON file beside the store's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from outlast.core.event_stream import Delta
from outlast.ports.clock import Clock
from outlast.ports.deltas import KEEP_SECONDS, Deltas
from outlast_json.file import JsonFile


class JsonDeltas(Deltas):
    """Numbered pieces of text, by execution. A place is the number of the last piece that was read."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = JsonFile(path.with_name(f"{path.stem}-text.json"), clock, {"last": 0, "kept": {}})

    async def __aenter__(self) -> JsonDeltas:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing stays open between two calls."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        with self._file.writing() as data:
            self._forget(data["kept"])
            data["last"] += 1
            data["kept"].setdefault(execution_id, []).append([data["last"], *astuple(delta)])

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        with self._file.reading() as data:
            found = [one for one in data["kept"].get(execution_id, []) if one[0] > int(after or 0)]
        return [Delta(*values) for _, *values in found], str(found[-1][0]) if found else after

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        def is_more(data: Any) -> bool:
            kept = data["kept"].get(execution_id)
            return bool(kept) and kept[-1][0] > int(after or 0)

        await self._file.until(is_more, timeout_seconds)

    def _forget(self, kept: Any) -> None:
        """Forget executions that have been silent for long."""
        silent_since = self._clock.now() - KEEP_SECONDS
        for id in [id for id, pieces in kept.items() if pieces[-1][-1] < silent_since]:
            del kept[id]
