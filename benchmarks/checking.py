"""Replaying open executions against the code at hand: `python -m benchmarks.checking`."""

from __future__ import annotations

import asyncio
import tempfile
import time

from rich.console import Console

import outlast
from benchmarks.turns import Turns
from outlast.core.exports import ExportHeader, exported, read_export

EXECUTIONS = 1000
TURNS = 50
SECONDS_MAX = 60


async def fill(backend: outlast.Backend) -> list[outlast.Execution]:
    """Return executions that are at their last turn."""
    async with backend.worker([Turns]):
        execution = await backend.start(Turns, TURNS)
        await execution.result()
    export = read_export(await execution.export())
    records = export.records[:-1]
    header = ExportHeader.model_validate({**export.header.model_dump(), "records": len(records)})
    lines = list(exported(header, records))
    return [await backend.import_(lines, id=f"bench-{number}") for number in range(EXECUTIONS)]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with outlast.connect(f"sqlite:///{folder}/check.db?synchronous=off") as backend:
            executions = await fill(backend)
            began = time.perf_counter()
            for execution in executions:
                async for _ in execution.records():
                    pass
            reading = time.perf_counter() - began
            began = time.perf_counter()
            departed = [await execution.departure() for execution in executions]
            checking = time.perf_counter() - began
    assert departed == [None] * EXECUTIONS
    Console().print(
        f"{EXECUTIONS} executions of {TURNS} turns on SQLite are checked in {checking:.1f} s (at most "
        f"{SECONDS_MAX}), which is {checking / reading:.1f} times the time of reading their journals"
    )


if __name__ == "__main__":
    asyncio.run(main())
