"""Histories of released versions replay for ever."""

from __future__ import annotations

import pytest
from temporalio.worker import Replayer

import outlast
from outlast.runtime.definitions.known_workflows import definition_of
from tests.adapters.temporal_histories import pinned, replay
from tests.adapters.temporal_native import WORKFLOWS as NATIVE
from tests.adapters.temporal_programs import WORKFLOWS

HISTORIES = pinned()


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_history_that_was_written_once_can_be_replayed(name: str) -> None:
    if name.startswith("native"):
        replayer = Replayer(workflows=NATIVE, plugins=[outlast.OutlastPlugin()])
        await replayer.replay_workflow(HISTORIES[name])
        return
    definitions = {one.name: one for one in map(definition_of, WORKFLOWS)}
    await replay(definitions, HISTORIES[name])


def test_there_is_a_history_of_every_sort() -> None:
    sorts = {name.partition("-")[0] for name in HISTORIES}
    assert sorts == {
        *("agents", "asyncio", "cancelled", "conversation", "native", "signals", "updates"),
        *("forked", "held", "paused", "imported", "reopened", "continued", "continuation"),
    }
