"""The journal of an execution on Temporal is that of the other backends, record for record."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import outlast
from outlast.adapters.temporal import TemporalBackend
from outlast.core.records import AnyRecord
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.testing.contracts.examples import few_examples
from tests.adapters.temporal_differential import (
    Op,
    Program,
    comparable,
    conduct,
    failed_attempts,
    gates,
    programs,
    without_local_activities,
)
from tests.adapters.temporal_histories import replay
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


class Stage:
    """A worker on SQLite and one on Temporal."""

    def __init__(self, folder: Path, *, cached: int) -> None:
        self._urls = [f"sqlite:///{folder / 'journals.db'}?synchronous=off", f"temporal://{shared_server()}"]
        self.cached = cached
        self._queue = uuid.uuid4().hex
        self._stack = AsyncExitStack()
        self.backends: list[outlast.Backend] = []
        self.failed: list[list[Any]] = []
        """The attempts that failed, on each backend."""

    async def __aenter__(self) -> Stage:
        for url in self._urls:
            backend = await self._stack.enter_async_context(outlast.connect(url))
            worker = backend.worker([Program], task_queue=self._queue, max_cached_executions=self.cached)
            await self._stack.enter_async_context(worker)
            self.backends.append(backend)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def journals(self, program: list[Op], execution_id: str) -> list[list[AnyRecord]]:
        """Run a program on both, under one id; return the journals."""
        journals, self.failed = [], []
        for backend in self.backends:
            gates.pop(execution_id, None)
            execution = await backend.start(Program, program, id=execution_id, task_queue=self._queue)
            async with asyncio.timeout(60):
                await conduct(execution)
            journals.append([record async for record in execution.records()])
            self.failed.append(await failed_attempts(execution))
        return journals

    async def check_history(self, execution_id: str) -> None:
        """Replay the history on Temporal by its own replayer, and by the code alone."""
        [backend] = [one for one in self.backends if isinstance(one, TemporalBackend)]
        history = await backend.client.get_workflow_handle(execution_id).fetch_history()
        definition = definition_of(Program)
        await replay({definition.name: definition}, history)


@pytest.fixture(params=[1000, 0], ids=["cached", "every task replays"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path, cached=request.param) as stage:
        yield stage


@given(program=programs)
@few_examples(6, in_one_place=True)
async def test_journals_are_equal_record_for_record(stage: Stage, program: list[Op]) -> None:
    if not stage.cached:
        program = [without_local_activities(op) for op in program]
    execution_id = uuid.uuid4().hex
    on_sqlite, on_temporal = await stage.journals(program, execution_id)
    for number, (here, there) in enumerate(
        zip(comparable(on_sqlite), comparable(on_temporal), strict=False), 1
    ):
        assert here == there, f"record {number}"
    assert len(comparable(on_sqlite)) == len(comparable(on_temporal))
    assert stage.failed[0] == stage.failed[1]
    replay_as_ours(execution_id, on_temporal)
    await stage.check_history(execution_id)


def replay_as_ours(execution_id: str, records: list[AnyRecord]) -> None:
    """Replay a journal that came from Temporal as one of ours."""
    definition = definition_of(Program)
    info = WorkflowInfo(execution_id, definition.name)
    live = LiveExecution(definition, info, records, limit_bytes=2_000_000)
    try:
        while not live.go_on():
            pass
        assert live.machine.end is not None
    finally:
        live.close()
