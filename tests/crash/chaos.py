"""Many executions while one thing after the other goes wrong, chosen by a seed that is printed.

None is lost and none ends twice. What their activities did is counted in a file outside, and is what the
promises say. `OUTLAST_SEED` repeats a run as far as the machine does.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import outlast
from outlast.core.events import EventKind
from tests.crash.processes import Processes, insist
from tests.crash.program import Brief

WORKERS = 2
AT_ONCE = 50
"""How many executions are under way at a time."""
RESULT = ["first done", "second done", "third done", "last done"]

Fault = Callable[[], Awaitable[None]]


class Trouble:
    """What may go wrong, and how it ends: each fault is over when its method returns."""

    def __init__(self, processes: Processes, chance: random.Random) -> None:
        self.processes = processes
        self.chance = chance
        self.happened: Counter[str] = Counter()

    def faults(self) -> list[Fault]:
        return [self.worker_is_killed, self.worker_is_paused_past_its_lease]

    async def make(self, enough: asyncio.Event) -> None:
        """Let one thing after the other go wrong, until there is `enough`; then all of it is over."""
        faults = self.faults()
        while True:
            self.chance.shuffle(faults)
            for fault in faults:
                await asyncio.sleep(self.chance.uniform(0.0, 0.3))
                if enough.is_set():
                    return
                # A worker that cannot connect when it begins has ended, as it should.
                self.processes.supervise()
                self.happened[fault.__name__] += 1
                await fault()

    async def worker_is_killed(self) -> None:
        await self.processes.end(self.chance.choice(self.processes.alive), signal.SIGKILL)
        self.processes.begin()

    async def worker_is_paused_past_its_lease(self) -> None:
        paused = self.chance.choice(self.processes.alive)
        self.processes.send(paused, signal.SIGSTOP)
        await asyncio.sleep(1.5 * self.processes.lease_seconds)
        self.processes.send(paused, signal.SIGCONT)


async def carry_out(count: int, url: str, trouble: Trouble) -> None:
    """Run so many executions through all the trouble, and check what became of them."""
    processes, room = trouble.processes, asyncio.Semaphore(AT_ONCE)
    async with outlast.connect(url) as backend:

        async def carry_out_one(number: int) -> None:
            async with room:
                execution = await insist(lambda: backend.start(Brief, id=f"x-{number}"))
                # A signal that was sent and not acknowledged is sent again, and does the same once more.
                await insist(lambda: execution.signal("release"))
                assert await insist(execution.result) == RESULT

        for _ in range(WORKERS):
            processes.begin()
        # Should making trouble fail, so does the test, at once.
        async with asyncio.timeout(150 + count / 2), asyncio.TaskGroup() as group:
            enough = asyncio.Event()
            group.create_task(trouble.make(enough))
            await asyncio.gather(*(carry_out_one(number) for number in range(count)))
            enough.set()
        print(dict(trouble.happened))
    await check(count, url, trouble)


async def check(count: int, url: str, trouble: Trouble) -> None:
    """Nothing was done twice, and every execution tells of everything once."""
    effects = trouble.processes.effects
    begun = Counter((key, attempt) for key, attempt, _, word in effects.lines() if word == "begin")
    async with outlast.connect(url) as backend:
        for id in {key.partition("/")[0] for (key, _), times in begun.items() if times > 1}:
            told = [line for line in effects.path.read_text().splitlines() if line.startswith(f"{id}/")]
            told += [repr(event) async for event in (await backend.get(id)).events()]
            raise AssertionError("\n".join(["an attempt was made twice:", *told]))
        assert len({key for key, _ in begun}) == count * len(RESULT)
        for number in range(count):
            execution = await insist(lambda number=number: backend.get(f"x-{number}"))  # type: ignore[misc]  # bound now
            kinds = Counter([event.kind async for event in execution.events()])
            assert kinds[EventKind.ACTIVITY_COMPLETED] == kinds[EventKind.ACTIVITY_STARTED] == len(RESULT)
            assert (kinds[EventKind.EXECUTION_COMPLETED], kinds[EventKind.TIMER_FIRED]) == (1, 1)
        assert await backend.list(status="running") == []
