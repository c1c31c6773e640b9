"""Imports that are cut short between their writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast.core.errors import ExecutionAlreadyExists, StorageUnavailable
from outlast.core.records import Status
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.lifeline import Lifeline
from outlast.testing.contracts.durability.stage import Stage, all_events


@outlast.workflow.define(name="imports.sum")
class Sum:
    @outlast.workflow.entrypoint
    async def run(self, one: int, other: int) -> int:
        return one + other


class CutShort(Lifeline):
    """A store that is gone when the end of an import is to be written."""

    async def amend(self, *arguments: Any, **options: Any) -> bool:
        raise StorageUnavailable("it is gone")


async def test_d25_an_import_that_was_cut_short_is_completed_by_another_one() -> None:
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
    try:
        execution, _ = await stage.start(Sum, 1, 2)
        await stage.worker(Sum)
        assert await stage.soon(execution.result()) == 3
        lines = list(await execution.export())
        assert isinstance(stage.storage, InStore)
        dying = await stage.enter(stage.storage.open_on(CutShort(stage.storage.storage.open())))
        with pytest.raises(StorageUnavailable):
            await dying.import_(lines, id="copy")
        backend = await stage.backend()
        copy = await backend.get("copy")
        assert (await copy.describe()).status is not Status.COMPLETED
        await backend.import_(lines, id="copy")
        assert await stage.soon(copy.result()) == 3
        assert [one.data for one in await all_events(copy)] == [
            one.data for one in await all_events(execution)
        ]
        with pytest.raises(ExecutionAlreadyExists):
            await backend.import_(lines, id="copy")
    finally:
        await stage.close()
