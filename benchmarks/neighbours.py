"""The table of bad neighbours: how many good executions a second complete beside bad ones, and without them.

The workers are those of `outlast worker --processes 2` on an SQLite file; nobody kills them but the bad
executions. A good execution takes five steps. `python -m benchmarks.neighbours GOOD BAD LEASE_SECONDS` takes
other numbers than 5000 good ones, one bad one of each kind, and a lease of two seconds.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

import outlast
from outlast.adapters.sqlite import store as sqlite
from tests.crash.bad_neighbours import KINDS, Grounds, Harm, Kind
from tests.crash.chaos import carried_out, made
from tests.crash.processes import Processes
from tests.crash.supervised import Untroubled

SIGNALS = 1000


async def seconds_for(
    good: int, kinds: Sequence[Kind], bad: int, lease_seconds: float, hanging_url: str
) -> float:
    """Return the time in which so many good executions complete beside so many bad ones of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        trouble = Untroubled(Processes(url, Path(folder), lease_seconds=lease_seconds), random.Random(0))
        grounds = Grounds(hanging_url, SIGNALS, sqlite.LIMIT_BYTES)
        try:
            async with outlast.connect(url) as backend, made(trouble, 1800):
                await carried_out(backend, ["warm"])
                began = time.perf_counter()
                misbehaving = asyncio.gather(
                    *(
                        kind.start(backend, f"{kind.name}-{number}", number, grounds)
                        for kind in kinds
                        for number in range(bad)
                    )
                )
                await carried_out(backend, [f"good-{number}" for number in range(good)])
                took = time.perf_counter() - began
                await misbehaving
                return took
        finally:
            with suppress(ProcessLookupError):
                await trouble.close()


async def main() -> None:
    good, bad, lease_seconds = (*map(float, sys.argv[1:]), *(5000.0, 1.0, 2.0)[len(sys.argv) - 1 :])
    title = f"{good:.0f} good executions beside {bad:.0f} bad ones of each kind, lease {lease_seconds:g} s"
    table = Table(title=title, title_justify="left")
    for column in ("beside", "bad ones", "good ones per second", "share of the rate alone"):
        table.add_column(column, justify="left" if column == "beside" else "right")
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        hanging_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        alone = 0.0
        for what, harms in (
            ("nobody", []),
            ("those that harm themselves", [Harm.ITSELF]),
            ("those that hold the loop of their worker", [Harm.HOLDS_LOOP]),
            ("those that end their process", [Harm.ENDS_PROCESS]),
            ("those that block their process", [Harm.BLOCKS_PROCESS]),
        ):
            kinds = [kind for kind in KINDS if kind.harm in harms and not kind.has_keys]
            took = await seconds_for(int(good), kinds, int(bad), lease_seconds, hanging_url)
            rate = good / took
            alone = alone or rate
            table.add_row(what, f"{len(kinds) * int(bad)}", f"{rate:.1f}", f"{rate / alone:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    asyncio.run(main())
