"""On Temporal, code gets only what a workflow task has brought, also when a query comes before the task."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType
from temporalio.bridge.proto.workflow_activation import (
    DoUpdate,
    FireTimer,
    InitializeWorkflow,
    QueryWorkflow,
    RemoveFromCache,
    ResolveActivity,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.client import WorkflowHistory

import outlast
from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.driver import TemporalDriver
from outlast.adapters.temporal.early_jobs import ALONE, EarlyJobs
from outlast.runtime.definitions.known_workflows import definition_of
from tests.adapters.temporal_histories import replayed_by_temporal
from tests.adapters.temporal_server import shared_server

START = WorkflowActivationJob(initialize_workflow=InitializeWorkflow())
RESULT = WorkflowActivationJob(resolve_activity=ResolveActivity(seq=1))
TIMER = WorkflowActivationJob(fire_timer=FireTimer(seq=1))
UPDATE = WorkflowActivationJob(do_update=DoUpdate(id="u"))
LONE_QUERY = WorkflowActivationJob(query_workflow=QueryWorkflow(query_id=ALONE))
QUERY_OF_A_TASK = WorkflowActivationJob(query_workflow=QueryWorkflow(query_id="1"))
REMOVAL = WorkflowActivationJob(remove_from_cache=RemoveFromCache())


@dataclass
class InCache:
    """A workflow in a worker's cache."""

    drops: list[None] = field(default_factory=list)
    early: EarlyJobs = field(init=False)

    def __post_init__(self) -> None:
        self.early = EarlyJobs(self._drop)

    def _drop(self) -> None:
        self.drops.append(None)

    def gets(
        self, *jobs: WorkflowActivationJob, task: int, events: int, replayed: bool = False, size: int = 1000
    ) -> list[WorkflowActivationJob]:
        """Return the jobs that the workflow gets if those come, in the workflow task of that number."""
        activation = WorkflowActivation(
            jobs=jobs,
            timestamp=Timestamp(seconds=task),
            history_size_bytes=size * task,
            history_length=events,
            is_replaying=replayed,
        )
        self.early.sift(activation)
        return list(activation.jobs)


@pytest.mark.parametrize("early", [RESULT, TIMER], ids=["a result", "a timer"])
def test_a_workflow_does_not_get_what_no_workflow_task_has_brought(early: WorkflowActivationJob) -> None:
    cached = InCache()
    assert cached.gets(START, task=1, events=3, replayed=True) == [START]
    assert cached.gets(early, task=1, events=7) == []
    assert len(cached.drops) == 1
    assert cached.gets(LONE_QUERY, task=1, events=7, replayed=True) == [LONE_QUERY]
    assert cached.gets(REMOVAL, task=1, events=7) == [REMOVAL]


def test_it_gets_that_first_if_the_workflow_task_finds_it_in_the_cache() -> None:
    cached = InCache()
    cached.gets(START, task=1, events=3, replayed=True)
    assert cached.gets(RESULT, task=1, events=7) == []
    assert cached.gets(TIMER, task=1, events=8) == []
    assert cached.gets(UPDATE, task=2, events=9) == [RESULT, TIMER, UPDATE]
    assert cached.gets(UPDATE, task=3, events=15) == [UPDATE]


def test_the_outcome_of_a_local_activity_comes_in_the_task_that_asked_for_it() -> None:
    cached = InCache()
    assert cached.gets(START, task=1, events=3) == [START]
    assert cached.gets(RESULT, task=1, events=3) == [RESULT]
    assert not cached.drops


def test_a_replay_gets_all_also_if_the_clock_of_the_server_stood_still() -> None:
    cached = InCache()
    assert cached.gets(START, task=1, events=3, replayed=True) == [START]
    assert cached.gets(RESULT, task=1, events=9, replayed=True) == [RESULT]
    assert not cached.drops


def test_nothing_is_kept_if_the_server_does_not_say_how_long_the_history_is() -> None:
    cached = InCache()
    cached.gets(START, task=1, events=3, size=0)
    assert cached.gets(RESULT, task=1, events=9, size=0) == [RESULT]


def test_jobs_after_a_replay_and_then_a_lone_query_make_the_workflow_drop_out() -> None:
    """Another worker had begun their workflow task, and may never complete it."""
    cached = InCache()
    cached.gets(START, task=1, events=3, replayed=True)
    assert cached.gets(RESULT, task=2, events=9) == [RESULT]
    assert not cached.drops
    assert cached.gets(LONE_QUERY, task=2, events=9, replayed=True) == [LONE_QUERY]
    assert len(cached.drops) == 1
    cached.gets(LONE_QUERY, task=2, events=9, replayed=True)
    assert len(cached.drops) == 1


def test_a_workflow_stays_if_its_task_is_known_to_be_its_own() -> None:
    taken_over = InCache()
    taken_over.gets(START, task=1, events=3, replayed=True)
    taken_over.gets(RESULT, task=2, events=9)
    taken_over.gets(QUERY_OF_A_TASK, task=2, events=9, replayed=True)
    taken_over.gets(LONE_QUERY, task=2, events=9, replayed=True)
    taken_over.gets(RESULT, task=3, events=15)
    taken_over.gets(LONE_QUERY, task=3, events=15, replayed=True)
    begun_here = InCache()
    begun_here.gets(START, task=1, events=3)
    begun_here.gets(LONE_QUERY, task=1, events=3, replayed=True)
    assert not taken_over.drops
    assert not begun_here.drops


@outlast.activity(name="early_jobs_work")
async def work(what: int) -> int:
    """Do something."""
    return what


@outlast.workflow.define(name="early_jobs")
class Counted:
    """Does something and ends, or waits for so many updates."""

    def __init__(self) -> None:
        self.counted = 0

    @outlast.workflow.entrypoint
    async def run(self, expected: int) -> int:
        await work(expected)
        await outlast.workflow.wait_condition(lambda: self.counted == expected)
        return self.counted

    @outlast.workflow.update
    def count(self) -> int:
        self.counted += 1
        return self.counted

    @outlast.workflow.query
    def count_so_far(self) -> int:
        return self.counted


ROUNDS_MAX = 8

DEFINITIONS = {definition_of(Counted).name: definition_of(Counted)}


@pytest.fixture
async def backend() -> AsyncIterator[TemporalBackend]:
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        yield backend


@pytest.mark.server
async def test_the_core_of_the_sdk_hands_over_early_jobs_and_code_does_not_get_them(
    backend: TemporalBackend,
) -> None:
    queue = uuid.uuid4().hex
    execution = await backend.start(Counted, 0, task_queue=queue)
    async with backend.worker([Counted], task_queue=queue):
        assert await execution.result() == 0
    whole = await backend.client.get_workflow_handle(execution.id).fetch_history()
    assert await replayed_by_temporal(DEFINITIONS, whole)
    kinds = [event.event_type for event in whole.events]
    end_of_work = kinds.index(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED) + 1
    # The workflow task that brings the result and ends the code was not begun.
    early = WorkflowHistory(execution.id, whole.events[:end_of_work])
    assert await replayed_by_temporal(DEFINITIONS, early) is None


@pytest.mark.server
async def test_a_worker_drops_what_a_lone_query_may_have_made_and_the_execution_goes_on(
    backend: TemporalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, closed = uuid.uuid4().hex, asyncio.Event()
    loop, close = asyncio.get_running_loop(), TemporalDriver.close

    def noted(driver: TemporalDriver) -> None:
        close(driver)
        loop.call_soon_threadsafe(closed.set)

    execution = await backend.start(Counted, ROUNDS_MAX, task_queue=queue)
    async with backend.worker([Counted], task_queue=queue):
        assert await execution.update("count") == 1
    counted, is_dropped = 1, False
    while not is_dropped:
        counted += 1
        assert counted < ROUNDS_MAX, "no round ended with an execution that was dropped"
        monkeypatch.setattr(TemporalDriver, "close", noted)
        async with backend.worker([Counted], task_queue=queue):
            assert await execution.update("count") == counted
            assert await execution.query("count_so_far") == counted
            # On a busy machine the query may come together with a task. Then there is nothing to drop.
            with suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), 5)
            is_dropped = closed.is_set()
            monkeypatch.setattr(TemporalDriver, "close", close)
    async with backend.worker([Counted], task_queue=queue):
        for later in range(counted + 1, ROUNDS_MAX + 1):
            assert await execution.update("count") == later
        assert await execution.result() == ROUNDS_MAX
