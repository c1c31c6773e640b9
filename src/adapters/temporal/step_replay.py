"""Running the code of executions over their histories again, without side effects."""

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
"""The most executions whose replay results a worker remembers."""

MakeReplayer = Callable[[OpenSteps, ThreadPoolExecutor], Replayer]
"""Makes a replayer of its worker's workflows; the code that it runs opens its steps in the `OpenSteps`."""


async def replay(make: MakeReplayer, history: WorkflowHistory, steps: OpenSteps | None = None) -> None:
    """Run the code of an execution over its history; afterwards `steps` holds the steps that it waits for.

    Raises:
        temporalio.workflow.NondeterminismError: other code made the history.
    """
    with ThreadPoolExecutor(1, "outlast-replay") as executor:
        await make(steps or OpenSteps(), executor).replay_workflow(history)


class Replays:
    """The steps of executions whose code does not run in this worker."""

    def __init__(self, client: Client, make: MakeReplayer) -> None:
        self._client = client
        self._make = make
        self._found: OrderedDict[tuple[str, str], asyncio.Task[OpenSteps]] = OrderedDict()

    async def find(self, place: Place) -> Step | None:
        """Return the step, if the execution's code asks for it; errors of the replay are raised.

        The last replays are remembered. An execution is replayed only once, even if several of its steps are
        looked up at the same time.
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
