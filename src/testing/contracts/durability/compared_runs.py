"""Executions of random programs, compared with the same program without a crash.

They must have the same result and the same transcript, must not run a step again whose result was journaled,
and must not make an attempt twice.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from outlast.core.events import (
    ActivityCompletedData,
    ActivityFailedData,
    ActivityStartedData,
    ChildStartedData,
    EventKind,
    ToolCalledData,
    ToolFailedData,
    ToolReturnedData,
)
from outlast.core.json import JSON, canonical
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.durability.stage import Stage, all_events, data_of, transcript
from outlast.testing.contracts.durability.world import worlds

CRASHES_MAX = 2
"""The most crashes after which every activity of a program still has an attempt left."""

UNCERTAIN = (EventKind.SIGNAL_RECEIVED, EventKind.UPDATE_ACCEPTED, EventKind.UPDATE_COMPLETED)
"""The events that may or may not still happen when a program is about to end."""

Operation = list[Any]

Happened = list[tuple[str, dict[str, Any]]]


class ComparedRun:
    """One execution of a program, with the people who send it something, and a bystander."""

    workflow: ClassVar[type[Any]]
    """The workflow that runs the program, which is its argument."""

    def __init__(self, stage: Stage, program: list[Operation]) -> None:
        self._stage = stage
        self._program = program
        self._tasks: list[asyncio.Task[None]] = []
        self._deeds: dict[str, JSON] = {}
        self._over: set[JSON] = set()
        self.acting = asyncio.Lock()
        """Held while a person does something that a worker must answer."""

    async def begin(self) -> None:
        """Start it, watch it, and let people send it what it waits for."""
        self.execution, self.world = await self._stage.start(type(self).workflow, self._program)
        watched = await self._stage.again(self.execution)
        people = [self._watch(watched), *self.people(self.execution)]
        self._tasks = [asyncio.create_task(one) for one in people]

    @abstractmethod
    def people(self, execution: Execution) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what people do outside while it runs; each must end with it."""

    def check(self, happened: Happened) -> None:
        """Check what is not compared of the transcript."""

    def compared(self, text: str) -> str:
        """Return the part of a result or an event, as JSON, that no crash may change."""
        return text

    async def _watch(self, execution: Execution) -> None:
        async for event in execution.events():
            match event.data:
                case (
                    ActivityStartedData(key=str(key), arguments=arguments)
                    | ToolCalledData(key=str(key), arguments=arguments)
                ):
                    self._deeds[key] = arguments.get("what")
                case (
                    ActivityCompletedData(key=str(key))
                    | ActivityFailedData(key=str(key))
                    | ToolReturnedData(key=str(key))
                    | ToolFailedData(key=str(key))
                ):
                    self._over.add(self._deeds[key])
                case _:
                    pass

    def over(self) -> dict[JSON, int]:
        """Return the number of runs of each activity whose end the bystander has seen."""
        return {what: self.world.count(what) for what in self._over}

    async def end(self) -> tuple[str, list[str]]:
        """Return the result and the transcript, the latter without the order of what happened at once.

        It is chance whether the last signals and updates or the end came first, so that is left out.
        """
        result = await self._stage.later(self.execution.result(), 60)
        await self._stage.soon(asyncio.gather(*self._tasks))
        happened = await self._stage.soon(transcript(self.execution))
        self.check(happened)
        events = [
            canonical([kind, {name: value for name, value in data.items() if name != "due_at"}])
            for kind, data in happened
            if kind not in (*UNCERTAIN, EventKind.EXECUTION_STARTED) and not _is_given_up(kind, data)
        ]
        of_all = [self.world, *(worlds[child] for child in await self._children())]
        attempts = [(effect.key, effect.what, effect.attempt) for world in of_all for effect in world.effects]
        assert len(set(attempts)) == len(attempts), "an attempt was made twice"
        return self.compared(canonical(result)), sorted(map(self.compared, events))

    async def _children(self) -> set[str]:
        """Return the ids of all children, and check that there is one for each step."""
        found: set[str] = set()
        waiting = [self.execution]
        while waiting:
            started = data_of(await self._stage.soon(all_events(waiting.pop())), ChildStartedData)
            for ids in ({data.key for data in started}, {data.child for data in started}):
                assert len(ids) == len(started), "a child was started twice"
            for data in started:
                found.add(data.child)
                waiting.append(await (await self._stage.backend()).get(data.child))
        return found

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _is_given_up(kind: str, data: dict[str, Any]) -> bool:
    """Return whether it is the end of a child that was given up: the program may end first."""
    return kind == EventKind.CHILD_FAILED and data["failure"]["details"].get("status") == "cancelled"


R = TypeVar("R", bound=ComparedRun)

Crash = Callable[[Stage, R, int], Awaitable[None]]
"""Lets a worker work, and kills it at the place that the number says."""


async def compare(
    new_stage: Callable[[], Stage],
    new_run: Callable[[Stage, list[Operation]], R],
    program: list[Operation],
    crash: Crash[R],
    crashes: Sequence[int],
    **options: Any,
) -> None:
    """Run `program` without a crash, then with those that `crash` makes; the results must be equal."""
    stage = new_stage()
    quiet = new_run(stage, program)
    try:
        await quiet.begin()
        await stage.worker(quiet.workflow)
        expected = await quiet.end()
        most = Counter(effect.what for effect in quiet.world.effects)
    finally:
        await quiet.close()
        await stage.close()
    stage = new_stage()
    troubled = new_run(stage, program)
    try:
        await troubled.begin()
        over: dict[JSON, int] = {}
        for point in crashes:
            await crash(stage, troubled, point)
            # While nobody works, the bystander catches up.
            await stage.pass_time(stage.lease.total_seconds() + 0.1)
            assert over.items() <= troubled.over().items(), "what was journaled ran again"
            over = troubled.over()
        await stage.worker(troubled.workflow, **options)
        assert await troubled.end() == expected
        assert over.items() <= troubled.over().items(), "what was journaled ran again"
        for what, count in Counter(effect.what for effect in troubled.world.effects).items():
            assert count <= most[what] + len(crashes) or str(what).endswith((" reached", " passed"))
    finally:
        await troubled.close()
        await stage.close()


def after_deeds(**options: Any) -> Crash[ComparedRun]:
    """Return a crash that comes once so many more things were done, or at the end.

    The worker that crashes gets the `options`.
    """

    async def crash(stage: Stage, run: ComparedRun, deeds: int) -> None:
        process = await stage.worker(run.workflow, **options)
        enough = asyncio.ensure_future(run.world.happened_in_all(len(run.world.effects) + deeds))
        ended = asyncio.ensure_future(run.execution.result())
        both = asyncio.wait({enough, ended}, return_when=asyncio.FIRST_COMPLETED)
        await stage.later(both, 60)
        for task in (enough, ended):
            task.cancel()
        # A backend may be slow to notice that the worker it has asked is dead: crashes come between the acts.
        async with run.acting:
            await process.kill()

    return crash
