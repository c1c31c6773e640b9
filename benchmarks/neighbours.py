"""The table of bad neighbours: the steps a second of good executions beside bad ones, and without them.

The workers are those of `outlast worker --processes 2` on an SQLite file; nobody kills them but the bad
executions. A good execution takes five steps, and so many are under way at once as in the tests of chaos. The
bad ones are there from the beginning, and each is at it until it has failed or is held; then it costs nothing
any more, so the longer a run, the nearer to 1 is the share. `python -m benchmarks.neighbours GOOD LEASE`
takes other numbers than 1000 good ones and a lease of two seconds.

A regular expression that a thread matches holds the interpreter, which nobody can interrupt; on the loop, in
the main thread, it can be.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
import sys
import tempfile
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

import outlast
from outlast.adapters.sqlite import store as sqlite
from tests.crash.bad_neighbours import KINDS, Grounds, Kind
from tests.crash.chaos import STEPS, carried_out, made
from tests.crash.processes import Processes
from tests.crash.supervised import Untroubled

NUMBERS = (1, 5, 20)
BESIDE = {
    "a busy loop of awaits": "never comes to rest",
    "a loop without awaits": "loops without awaits",
    "SystemExit in an activity": "leaves an activity",
    "a request that hangs": "asks a server that hangs",
    "a regular expression on the loop": "matches on the loop",
    "a regular expression in a thread": "matches for ever",
    "os._exit": "exits its process",
}
"""The kinds of bad executions that are tried, by what they do."""


async def rate(good: int, kind: Kind | None, bad: int, lease_seconds: float, hanging_url: str) -> float:
    """Return the steps a second of so many good executions beside so many bad ones of a kind."""
    # What the tests of chaos print is of no use here.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        url = f"sqlite:///{folder}/runs.db"
        trouble = Untroubled(Processes(url, Path(folder), lease_seconds=lease_seconds), random.Random(0))
        grounds = Grounds(hanging_url, 0, sqlite.LIMIT_BYTES)
        try:
            async with outlast.connect(url) as backend, made(trouble, 1800):
                await carried_out(backend, ["warm"])
                if kind is not None:
                    starting = (
                        kind.start(backend, f"bad-{number}", number, grounds) for number in range(bad)
                    )
                    await asyncio.gather(*starting)
                began = time.perf_counter()
                await carried_out(backend, [f"good-{number}" for number in range(good)])
                return good * len(STEPS) / (time.perf_counter() - began)
        finally:
            with suppress(ProcessLookupError):
                await trouble.close()


async def main() -> None:
    good, lease_seconds = (*map(float, sys.argv[1:]), *(1000.0, 2.0)[len(sys.argv) - 1 :])
    kinds = {kind.name: kind for kind in KINDS}
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        hanging_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        alone = await rate(int(good), None, 0, lease_seconds, hanging_url)
        title = (
            f"{good:.0f} good executions beside bad ones, lease {lease_seconds:g} s: steps a second, "
            f"and the share of the {alone:.0f} without bad ones"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("each of the bad ones does")
        for number in NUMBERS:
            table.add_column(f"{number} bad", justify="right")
        for does, name in BESIDE.items():
            rates = [
                await rate(int(good), kinds[name], number, lease_seconds, hanging_url) for number in NUMBERS
            ]
            table.add_row(does, *(f"{one:.0f} ({one / alone:.2f})" for one in rates))
    Console(width=120).print(table)


if __name__ == "__main__":
    asyncio.run(main())
