"""A process may die at any call of its store: a parent has one child for each step, and none outlives it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from outlast.core.children import OnParentEnd
from outlast.core.errors import ExecutionCancelled, ExecutionTerminated
from outlast.core.events import ChildStartedData
from outlast.ports.durability.execution import Execution
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.children import Child, MappingParent, Parent, TalkingParent
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage, all_events, data_of
from outlast.testing.lifeline import Lifeline

LEASE = timedelta(seconds=10)
"""More calls of the store than any of these executions takes."""


async def crash(stage: Stage, awaited: Execution, call: int, *, after_effect: bool) -> bool:
    """Let a process die at that call of its store; return whether it came to that."""
    assert isinstance(stage.storage, InStore)
    lifeline = Lifeline(stage.storage.storage.open(), dies_at=call, dies_after_effect=after_effect)
    backend = await stage.enter(stage.storage.open_on(lifeline))
    process = await stage.worker(Parent, MappingParent, TalkingParent, Child, backend=backend)
    died = asyncio.ensure_future(lifeline.died.wait())
    ended = asyncio.ensure_future(awaited.result())
    await stage.later(asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED), 60)
    has_died = died.done()
    died.cancel()
    ended.cancel()
    with suppress(asyncio.CancelledError, ExecutionCancelled, ExecutionTerminated):
        await ended
    await process.kill()
    return has_died


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_crash_at_any_call_of_the_store_makes_no_second_child(after_effect: bool) -> None:
    has_died, call = True, 0
    while has_died:
        call += 1
        stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
        try:
            execution, _ = await stage.start(MappingParent, ["one", "two", "fail"], 2)
            has_died = await crash(stage, execution, call, after_effect=after_effect)
            await stage.worker(MappingParent, Child)
            count, failed, *_ = await stage.later(execution.result(), 60)
            assert (count, failed) == (3, [2])
            started = data_of(await stage.soon(all_events(execution)), ChildStartedData)
            assert len(started) == len({data.child for data in started}) == 3
            assert len(list(await stage.soon((await stage.backend()).list()))) == 4
        finally:
            await stage.close()


@pytest.mark.parametrize("on_parent_end", ["cancel", "terminate"])
@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_crash_at_any_call_of_the_store_leaves_no_child_behind(
    on_parent_end: OnParentEnd, after_effect: bool
) -> None:
    has_died, call = True, 0
    while has_died:
        call += 1
        stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
        try:
            execution, _ = await stage.start(TalkingParent, "wait", on_parent_end, None)
            await stage.soon(execution.signal("say", "end"))
            has_died = await crash(stage, execution, call, after_effect=after_effect)
            await stage.worker(TalkingParent, Child)
            [child_id] = await stage.later(execution.result(), 60)
            child = await (await stage.backend()).get(child_id)
            with pytest.raises(ExecutionCancelled if on_parent_end == "cancel" else ExecutionTerminated):
                await stage.later(child.result(), 60)
        finally:
            await stage.close()


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_parent_learns_of_the_end_of_a_child_whatever_call_its_worker_died_at(
    after_effect: bool,
) -> None:
    has_died, call = True, 0
    while has_died:
        call += 1
        stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
        try:
            execution, _ = await stage.start(Parent, ["one"])
            parents = await stage.worker(Parent)
            [started] = [await stage.event(execution, "child_started")]
            assert isinstance(started.data, ChildStartedData)
            child = await (await stage.backend()).get(started.data.child)
            has_died = await crash(stage, child, call, after_effect=after_effect)
            await stage.worker(Child)
            assert await stage.later(execution.result(), 60) == ["one done"]
            await parents.stop()
        finally:
            await stage.close()
