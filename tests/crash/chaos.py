"""Many executions, and one fault after the other, chosen by a seed that is printed.

None is lost and none ends twice. What their activities did is counted in a file outside, and is what the
promises say. `OUTLAST_SEED` repeats a run as far as the machine does.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from multiprocessing.context import ForkServerProcess
from typing import Any

import outlast
from outlast.core.events import EventKind
from outlast.ports.finding import Where
from outlast.testing.contracts.crash.effects import Effects
from tests.crash.processes import Processes, insist
from tests.crash.program import UNKNOWN, Brief

WORKERS = 2
AT_ONCE = 50
"""The number of executions that are under way at a time."""
STEPS = {"first", "second", "third", "once", "last"}
LOOKED_THROUGH_AT_ONCE = 20
LOOK_AGAIN_SECONDS = 5.0

Fault = Callable[[], Awaitable[None]]
Results = Mapping[str, Mapping[str, int]]
"""The results by execution id: for each step, the number of the attempt whose result counts."""


class Trouble:
    """The faults that may happen, one method each: a fault is over when its method returns.

    Between two faults nothing goes wrong for up to `rest_seconds`.
    """

    def __init__(self, processes: Processes, chance: random.Random, *, rest_seconds: float = 0.3) -> None:
        self.rest_seconds = rest_seconds
        self.processes = processes
        self.chance = chance
        self.happened: Counter[str] = Counter()

    def begin(self) -> None:
        """Begin one more worker."""
        self.processes.begin()

    def faults(self) -> list[Fault]:
        return [self.worker_is_killed, self.worker_is_paused_past_its_lease]

    async def make(self, enough: asyncio.Event) -> None:
        """Let one thing after the other go wrong, until there is `enough`; then all of it is over."""
        faults = self.faults()
        while faults:
            self.chance.shuffle(faults)
            for fault in faults:
                with suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), self.chance.uniform(0.0, self.rest_seconds))
                if enough.is_set():
                    return
                self.happened[fault.__name__] += 1
                await fault()

    async def supervise(self) -> None:
        """Begin a process for each that has ended, for whatever reason."""
        while True:
            # A worker that cannot connect when it begins has ended, as it should.
            self.happened["worker has ended"] += self.processes.supervise()
            await asyncio.sleep(0.05)

    async def any_worker(self) -> ForkServerProcess:
        """Return any worker, as soon as all are at work.

        On a slow machine it takes long until one has begun: the others must get something done meanwhile.
        """
        while True:
            if self.processes.alive and self.processes.are_all_at_work:
                return self.chance.choice(self.processes.alive)
            await asyncio.sleep(0.05)

    async def worker_is_killed(self) -> None:
        await self.processes.end(await self.any_worker(), signal.SIGKILL)
        self.processes.begin()

    async def worker_is_paused_past_its_lease(self) -> None:
        paused = await self.any_worker()
        self.processes.send(paused, signal.SIGSTOP)
        await asyncio.sleep(1.5 * self.processes.lease_seconds)
        self.processes.send(paused, signal.SIGCONT)


@asynccontextmanager
async def made(trouble: Trouble, seconds: float) -> AsyncIterator[None]:
    """Make trouble for the time of the block, which may last so long. Should that fail, so does the block."""
    for _ in range(WORKERS):
        trouble.begin()
    async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
        enough = asyncio.Event()
        making = group.create_task(trouble.make(enough))
        supervising = group.create_task(trouble.supervise())
        try:
            yield
            enough.set()
            await making
        finally:
            supervising.cancel()
    print({name: times for name, times in trouble.happened.items() if times})


async def carried_out(backend: outlast.Backend, ids: Collection[str], *, held_at_most: int = 0) -> Results:
    """Carry executions out, so many at a time, and return their results.

    So many may be held, by mere bad luck, and are resumed.
    """
    room, results = asyncio.Semaphore(AT_ONCE), {}

    async def carry_out_one(id: str) -> None:
        async with room:
            execution = await insist(lambda: backend.start(Brief, id=id))
            # A signal that was sent and not acknowledged is sent again, and does the same once more.
            await insist(lambda: execution.signal("release"))
            results[id] = await insist(execution.result)

    watching = asyncio.create_task(resume_when_held(backend, ids, held_at_most))
    carrying = asyncio.gather(*map(carry_out_one, ids))
    first: set[asyncio.Future[Any]] = {watching, carrying}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        await carrying
    finally:
        watching.cancel()
        carrying.cancel()
    return results


async def resume_when_held(backend: outlast.Backend, ids: Collection[str], most: int) -> None:
    """Resume those of the executions that are held; raise when there are more of them than that."""
    good, resumed = frozenset(ids), 0
    while True:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        for described in await insist(lambda: backend.list(Where(status="paused"), limit=1000)):
            if described.held and described.id in good:
                assert resumed < most, described
                resumed += await insist((await insist(partial(backend.get, described.id))).resume)
                print(f"{described.id} was held and is resumed: {described.error}")


async def carry_out(count: int, url: str, trouble: Trouble) -> None:
    """Run so many executions through all the trouble, and check what became of them."""
    ids = [f"x-{number}" for number in range(count)]
    async with outlast.connect(url) as backend:
        async with made(trouble, 150 + count / 2):
            results = await carried_out(backend, ids)
        await check_events(backend, results)
        assert not await backend.list(Where(status="running"))
    check_effects(trouble.processes.effects, results)


def check_effects(effects: Effects, results: Results) -> None:
    """Every step was done; none again after its result was journaled, and none too late."""
    begun: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    first_line: dict[tuple[str, str], int] = {}
    last_line: dict[tuple[str, str], int] = {}
    in_time = {(key, attempt) for key, attempt, _, word in effects.lines() if word == "in time"}
    for number, (key, attempt, step, word) in enumerate(effects.lines()):
        place = key.partition("/")[0], step
        if word == "begin":
            first_line.setdefault(place, number)
        if word == "begin" and (key, attempt) in in_time:
            begun[place].append(attempt)
            last_line[place] = number
    wrong = []
    for id, steps in results.items():
        assert {*steps} - {"unknown"} == STEPS
        for step, attempt in steps.items():
            made = begun[id, step]
            # An attempt that is late comes after a higher one, one that is repeated after an equal one.
            if made != sorted({*made}) or (attempt != UNKNOWN and made and made[-1] > attempt):
                wrong.append(f"step {step!r} of {id}: attempts {made}, and the result is of {attempt}")
            if attempt == UNKNOWN and last_line.get((id, step), -1) > first_line[id, "unknown"]:
                wrong.append(f"step {step!r} of {id} began after its outcome was said to be unknown")
    unknown = sum(steps["once"] == UNKNOWN for steps in results.values())
    retried = sum(attempt > 1 for steps in results.values() for attempt in steps.values())
    print(
        f"{len(results)} completed; {retried} steps needed a further attempt, {unknown} outcomes are unknown"
    )
    stood_still = sum(word == "stood still" for _, _, _, word in effects.lines())
    print(f"{stood_still} attempts began as their process stood still")
    if wrong:
        text = effects.path.read_text()
        lines = [line for line in text.splitlines() if line.partition("/")[0] in "\n".join(wrong[:3])]
        raise AssertionError("\n".join([*wrong[:20], *lines]))


async def check_events(backend: outlast.Backend, results: Results) -> None:
    """Check that the stream of every execution has every event once."""
    room = asyncio.Semaphore(LOOKED_THROUGH_AT_ONCE)

    async def check_one(id: str, steps: Mapping[str, int]) -> None:
        async with room:
            execution = await insist(lambda: backend.get(id))
            kinds = Counter([event.kind async for event in execution.events()])
        unknown = [*steps.values()].count(UNKNOWN)
        assert kinds[EventKind.ACTIVITY_STARTED] == len(steps)
        assert kinds[EventKind.ACTIVITY_COMPLETED] == len(steps) - unknown
        assert kinds[EventKind.ACTIVITY_FAILED] == unknown
        assert (kinds[EventKind.EXECUTION_COMPLETED], kinds[EventKind.TIMER_FIRED]) == (1, 1)

    await asyncio.gather(*(check_one(id, steps) for id, steps in results.items()))
