"""The steps of executions whose code does not run in this worker.

The code is run over the execution's history again, without side effects. That of this library's own workflows
gets its inputs from `code_replay`; a user's own Temporal workflow needs Temporal's replayer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.history import read_history
from outlast.adapters.temporal.payloads import limit_of
from outlast.adapters.temporal.steps import OpenSteps, Place, key_of
from outlast.core.errors import UnknownDefinition
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.steps import Step
from outlast.ports.live_code import MakeLiveCode

REPLAYS_MAX = 100
"""The most executions whose replay results a worker remembers."""

FindStep = Callable[[Place], Step | None]
"""Returns a step that the code of one execution waits for."""

Replay = Callable[[WorkflowHistory], Awaitable[FindStep]]
"""Runs the code of an execution over its history; raises an error if other code made the history."""

MakeReplayer = Callable[[OpenSteps, ThreadPoolExecutor], Replayer]
"""Makes a replayer of its worker's workflows; the code that it runs opens its steps in the `OpenSteps`."""


def by_code(
    make: MakeLiveCode, definitions: Mapping[str, WorkflowDefinition], converter: DataConverter
) -> Replay:
    """Return the replay of this library's own workflows."""

    async def replay(history: WorkflowHistory) -> FindStep:
        read = await read_history(history.events, converter)
        if read.workflow not in definitions:
            raise UnknownDefinition("workflow", read.workflow)
        replayed = CodeReplay(history.workflow_id, read, limit_of(converter))
        await replayed.run(make, definitions[read.workflow])
        return lambda place: replayed.requested.get(key_of(place.activity_id))

    return replay


def by_replayer(make: MakeReplayer) -> Replay:
    """Return the replay of workflows that users wrote for Temporal themselves."""

    async def replay(history: WorkflowHistory) -> FindStep:
        steps = OpenSteps(keeps_unfinished=True)
        with ThreadPoolExecutor(1, "outlast-replay") as executor:
            await make(steps, executor).replay_workflow(history)
        return steps.find

    return replay


class Replays:
    """Replays executions to find the steps that they wait for, and remembers the last ones."""

    def __init__(self, client: Client, replay: Replay) -> None:
        self._client = client
        self._replay = replay
        self._found: OrderedDict[tuple[str, str], asyncio.Task[FindStep]] = OrderedDict()

    async def find(self, place: Place) -> Step | None:
        """Return the step, if the execution's code asks for it; errors of the replay are raised.

        The last replays are remembered. An execution is replayed only once, even if several of its steps are
        looked up at the same time.
        """
        execution = place[:2]
        known = self._found.get(execution)
        if known is not None and (step := (await asyncio.shield(known))(place)) is not None:
            self._found.move_to_end(execution)
            return step
        if known is None or known is self._found.get(execution):
            replaying = asyncio.create_task(self._replayed(*execution))
            replaying.add_done_callback(lambda task: self._forget_failed(execution, task))
            self._found[execution] = replaying
            if len(self._found) > REPLAYS_MAX:
                self._found.popitem(last=False)
        return (await asyncio.shield(self._found[execution]))(place)

    async def close(self) -> None:
        """Give up the replays that are under way."""
        replaying = list(self._found.values())
        self._found.clear()
        for task in replaying:
            task.cancel()
        await asyncio.gather(*replaying, return_exceptions=True)

    async def _replayed(self, execution_id: str, run_id: str) -> FindStep:
        history = await self._client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()
        return await self._replay(history)

    def _forget_failed(self, execution: tuple[str, str], task: asyncio.Task[FindStep]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._found.get(execution) is task:
            del self._found[execution]
