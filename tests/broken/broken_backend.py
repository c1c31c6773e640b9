"""The parts of a deliberately broken backend."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar
from unittest.mock import patch

from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.journal.storage import Storage


class BrokenBackend(InStore):
    """A backend with one mistake in it: its `lifeline` lies, or a part of the engine is `replaced`."""

    breaks: ClassVar[str]
    """The beginning, after `test_`, of the names of the tests that must catch it."""
    replaced: ClassVar[tuple[tuple[Any, str, Any], ...]] = ()
    """Which attributes of what are something else while the backend is in use."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._replaced = ExitStack()
        for owner, name, other in self.replaced:
            self._replaced.enter_context(patch.object(owner, name, other))

    async def dispose(self) -> None:
        self._replaced.close()
        await super().dispose()
