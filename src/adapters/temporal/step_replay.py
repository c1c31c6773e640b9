"""Running the code of executions over their histories again, without any effect."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from outlast.adapters.temporal.steps import OpenSteps, Place
from outlast.ports.durability.steps import Step

REPLAYS_MAX = 100
"""Of how many executions a worker remembers what a replay has found."""

MakeReplayer = Callable[[OpenSteps, ThreadPoolExecutor], Replayer]
"""Makes a replayer of what its worker runs; the code it runs opens its steps where it is told."""


async def replay(make: MakeReplayer, history: WorkflowHistory, steps: OpenSteps | None = None) -> None:
    """Run the code of an execution over its history; afterwards `steps` holds what the code waits for.

    Raises:
        temporalio.workflow.NondeterminismError: the code is not what made the history.
    """
    with ThreadPoolExecutor(1, "outlast-replay") as executor:
        await make(steps or OpenSteps(), executor).replay_workflow(history)


class Replays:
    """The steps of executions whose code runs in other workers, or in none."""

    def __init__(self, client: Client, make: MakeReplayer) -> None:
        self._client = client
        self._make = make
        self._found: OrderedDict[tuple[str, str], asyncio.Task[OpenSteps]] = OrderedDict()

    async def find(self, place: Place) -> Step | None:
        """Return the step, if the execution's code asks for it; whatever the replay raises is raised.

        The last replays are remembered, and however many steps of one execution are asked for at the same
        time, it is replayed once.
        """
        execution = place[:2]
        known = self._found.get(execution)
        if known is not None and (step := (await asyncio.shield(known)).find(place)) is not None:
            self._found.move_to_end(execution)
            return step
        if known is None or known is self._found.get(execution):
            replaying = asyncio.create_task(self._replayed(*execution))
            replaying.add_done_callback(lambda task: self._forget_failed(execution, task))
            self._found[execution] = replaying
            if len(self._found) > REPLAYS_MAX:
                self._found.popitem(last=False)
        return (await asyncio.shield(self._found[execution])).find(place)

    async def close(self) -> None:
        """Give up the replays that are under way."""
        replaying = list(self._found.values())
        self._found.clear()
        for task in replaying:
            task.cancel()
        await asyncio.gather(*replaying, return_exceptions=True)

    async def _replayed(self, execution_id: str, run_id: str) -> OpenSteps:
        history = await self._client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()
        steps = OpenSteps(keeps_unfinished=True)
        await replay(self._make, history, steps)
        return steps

    def _forget_failed(self, execution: tuple[str, str], task: asyncio.Task[OpenSteps]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._found.get(execution) is task:
            del self._found[execution]
