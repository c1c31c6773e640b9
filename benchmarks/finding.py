"""Pages of lists among few and many executions: `python -m benchmarks.finding`.

A page must cost the same among many executions as among few, for each filter that has an index.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.adapters.sqlite import SqliteStore
from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import NewExecution, Store
from outlast.testing import VirtualClock
from tests.adapters.redis_servers import VALKEY, temporary_server

FEW, MANY = 1_000, 100_000
PAGE = 100
PAGES = 20
AT_ONCE = 100
MILLISECONDS_MAX = 20.0

BEGAN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MIDDLE = datetime.fromtimestamp(BEGAN + MANY / 2, UTC)

INDEXED = {
    "everything": EVERYTHING,
    "workflow": Where(workflow="w1"),
    "status": Where(status="running"),
    "workflow and status": Where(workflow="w1", status="failed"),
    "paused": Where(status="paused"),
    "a tag of a tenth": Where(tags={"team": "t3"}),
    "a tag of one": Where(tags={"number": "500"}),
    "two tags": Where(tags={"team": "t3", "half": "1"}),
    "waiting_for, of half": Where(waiting_for="timer"),
    "waiting_for, of a thousandth": Where(waiting_for="approval"),
    "a tag, and a time": Where(tags={"team": "t3"}, created_before=MIDDLE),
    "id_prefix, of ten": Where(id_prefix="e00050"),
    "id_prefix, of ten, and a tag": Where(id_prefix="e00050", tags={"half": "1"}),
    "id_prefix, of the oldest 100": Where(id_prefix="e0000"),
    "id_prefix, of a hundred, and a status": Where(id_prefix="e0005", status="running"),
}
OTHERS = {
    "id_prefix, of the oldest 10,000": Where(id_prefix="e00"),
    "id_prefix, of all": Where(id_prefix="e"),
    "a tag that no running one has": Where(tags={"team": "t9"}, status="paused"),
}


async def fill(store: Store, clock: VirtualClock, count: int) -> None:
    """Create executions, one a second: a tenth has failed, a tenth is paused."""

    async def create(number: int) -> None:
        tags = {"team": f"t{number % 10}", "number": str(number), "half": str(number % 2)}
        waiting = "approval" if number % 1000 == 7 else "timer" if number % 2 else None
        new = NewExecution(
            *(f"e{number:06}", f"w{number % 5}", "f"),
            reason="held" if number % 10 == 1 else None,
            tags=tags,
            overview="s" * 300,
            waiting=waiting,
        )
        await store.create(new, b"x" * 200)
        if number % 10 == 6:
            await store.amend(new.id, 1, b"end", Status.FAILED)

    for first in range(0, count, AT_ONCE):
        await clock.advance(AT_ONCE)
        await asyncio.gather(*(create(number) for number in range(first, first + AT_ONCE)))


async def milliseconds(store: Store, where: Where) -> float:
    """Return the time of a page: the median of pages that follow each other, from the first on."""
    taken = []
    after: Cursor | None = None
    for _ in range(PAGES):
        began = time.perf_counter()
        page = await store.heads(where, limit=PAGE, after=after)
        taken.append((time.perf_counter() - began) * 1000)
        after = Cursor(page[-1].created_at, page[-1].id) if len(page) == PAGE else None
    return statistics.median(taken)


@asynccontextmanager
async def sqlite(folder: Path, clock: VirtualClock, count: int) -> AsyncIterator[Store]:
    async with SqliteStore(folder / f"{count}.db", clock, synchronous="off") as store:
        yield store


@asynccontextmanager
async def redis(folder: Path, clock: VirtualClock, count: int) -> AsyncIterator[Store]:
    with temporary_server(VALKEY) as server:
        async with RedisStore(RedisSettings.from_url(server.url()), clock) as store:
            yield store


async def main() -> None:
    table = Table(title=f"A page of {PAGE} executions, in ms", title_justify="left")
    for column in ("store", "filter", f"among {FEW:,}", f"among {MANY:,}", "ratio", "index"):
        table.add_column(column, justify="left" if column in ("store", "filter", "index") else "right")
    slow = []
    for opened in (sqlite, redis):
        costs: list[dict[str, float]] = []
        for count in (FEW, MANY):
            with tempfile.TemporaryDirectory() as folder:
                clock = VirtualClock(BEGAN)
                async with opened(Path(folder), clock, count) as store:
                    await fill(store, clock, count)
                    costs.append({name: await milliseconds(store, where) for name, where in FILTERS.items()})
        for name in FILTERS:
            few, many = (cost[name] for cost in costs)
            has_index = name in INDEXED
            table.add_row(
                *(opened.__name__, name, f"{few:.1f}", f"{many:.1f}", f"{many / few:.1f}"),
                "yes" if has_index else "",
            )
            if has_index and many > MILLISECONDS_MAX:
                slow.append(f"{opened.__name__}, {name}")
    Console().print(table)
    assert not slow, f"over {MILLISECONDS_MAX} ms: {'; '.join(slow)}"


FILTERS = {**INDEXED, **OTHERS}

if __name__ == "__main__":
    asyncio.run(main())
