"""Random runs of agents on Temporal, carried to SQLite: replayed there exactly, forked at every record."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import outlast
from outlast.core.event_stream import Event
from outlast.core.events import EventKind
from outlast.core.json import JSON
from outlast.core.records import AnyRecord, StepCompleted
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.loading import departure_in
from outlast.testing.contracts.durability.stage import all_events
from outlast.testing.contracts.durability.world import worlds
from outlast.testing.contracts.examples import USUAL_EXAMPLES, few_examples
from tests.adapters.temporal_server import shared_server
from tests.runtime.test_agent_crashes import Person
from tests.runtime.test_reruns_of_agents import TwoAgents, said, stories

pytestmark = pytest.mark.server

PROGRAMS = 200 if settings().max_examples > USUAL_EXAMPLES else 5
"""The number of programs: some in an ordinary run, and more at night."""


class Backends:
    """A worker on Temporal and one on SQLite, for as long as the block lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._queue = uuid.uuid4().hex

    async def __aenter__(self) -> Backends:
        self.temporal = await self._worked_on(f"temporal://{shared_server()}/default")
        self.sqlite = await self._worked_on(f"sqlite:///{self._folder / 'here.db'}?synchronous=off")
        return self

    async def _worked_on(self, url: str) -> outlast.Backend:
        backend = await self._stack.enter_async_context(outlast.connect(url))
        await self._stack.enter_async_context(backend.worker([TwoAgents], task_queue=self._queue))
        return backend

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, program: dict[str, Any]) -> Execution:
        """Start the program on Temporal."""
        return await self.temporal.start(TwoAgents, program, task_queue=self._queue)


@pytest.fixture
async def backends(tmp_path: Path) -> AsyncIterator[Backends]:
    async with Backends(tmp_path) as backends:
        yield backends


async def decided(execution: Execution) -> JSON:
    """Return the result of an execution whose calls a person decides about."""
    person = Person(execution)
    try:
        async with asyncio.timeout(60):
            result: JSON = await execution.result()
        return result
    finally:
        await person.close()


def recorded(events: Sequence[Event]) -> list[Any]:
    """Return what has a record of its own on every backend."""
    beside = (EventKind.ATTEMPT_FAILED, EventKind.TEXT_DELTA)
    return [(one.position, one.data) for one in events if one.kind not in beside]


@given(story=stories())
@settings(few_examples(5, in_one_place=True), max_examples=PROGRAMS)
async def test_d25_a_run_on_temporal_is_replayed_exactly_on_sqlite_and_forked_at_every_record(
    backends: Backends, story: tuple[dict[str, Any], Any]
) -> None:
    program, _ = story
    execution = await backends.start(program)
    expected = await decided(execution)
    events = await all_events(execution)
    lines = list(await execution.export())

    copy = await backends.sqlite.import_(lines)
    assert list(await copy.export())[1:] == lines[1:]
    records = [record async for record in copy.records()]
    assert await departure_in(definition_of(TwoAgents), copy.id, records) is None
    assert await copy.result() == expected
    assert recorded(await all_events(copy)) == recorded(events)

    effects = len(worlds[execution.id].effects)
    for position in range(1, len(records) + 1):
        await check_fork(copy, records, position, expected, said(events))
    assert len(worlds[execution.id].effects) == effects


async def check_fork(
    copy: Execution, records: Sequence[AnyRecord], position: int, expected: JSON, transcript: list[str]
) -> None:
    """Check that a fork comes to the same end and repeats nothing of its copy."""
    id = f"{copy.id} from {position}"
    fork = await copy.fork(at=position, id=id)
    assert await decided(fork) == expected
    assert said(await all_events(fork)) == transcript
    completed = {f"{id}/{one.key}" for one in records[:position] if isinstance(one, StepCompleted)}
    assert not completed & {effect.key for effect in worlds[id].effects}
    del worlds[id]
