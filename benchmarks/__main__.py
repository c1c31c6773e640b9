"""Run the benchmarks: `python -m benchmarks`, `--quick` for a short run. One table, JSON, and a chart.

The tables of single parts, with their goals, are modules of their own: `python -m benchmarks.redis`,
`temporal`, `models`, `mcp`, `finding`, `inspector`, `checking`, `neighbours`, `tracing`, `turns`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import temporal
from benchmarks.comparison import compare, subjects
from benchmarks.figures import Figure, machine, print_table, write_json
from benchmarks.latencies import decision_to_effect, kill_to_step, payloads, replay, start_to_effect
from benchmarks.throughput import by_workers
from tests.adapters.redis_servers import VALKEY, ServerOptions, temporary_server


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a run: how many samples are taken of what."""

    turns: tuple[int, ...]
    rounds: int
    decisions: int
    sizes: tuple[int, ...]
    starts: int
    kills: int
    steps: int
    executions: int


FULL = Size((20, 100), 7, 300, (1, 1_000, 32_000, 1_000_000), 10, 30, 20_000, 300)
QUICK = Size((20,), 3, 100, (1, 32_000, 1_000_000), 3, 5, 2_000, 100)


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Yield the URL of a Redis server, and the address of a Temporal server, for the time of the run."""
    options = ServerOptions(append_only=True, settings={"appendfsync": "everysec"})
    with temporary_server(VALKEY, options) as redis:
        async with temporal.server(folder) as address:
            yield redis.url(), address


PARTS = ("comparison", "decisions", "payloads", "starts", "kills", "replay", "workers")


async def measured(size: Size, folder: Path, parts: Sequence[str]) -> list[Figure]:
    """Return the figures of these parts."""
    figures: list[Figure] = []
    async with servers(folder) as (redis_url, address):
        places = {
            "Outlast, memory": "memory:",
            "Outlast, SQLite": f"sqlite:///{folder}/latency.db",
            "Outlast, Redis": redis_url,
        }
        if "comparison" in parts:
            figures += await compare(subjects(folder, redis_url, address), folder, size.turns, size.rounds)
        if "decisions" in parts:
            figures += await decision_to_effect(places, size.decisions)
        if "payloads" in parts:
            figures += await payloads(places, size.sizes, size.rounds)
        if "starts" in parts:
            figures += await start_to_effect(f"sqlite:///{folder}/start.db", size.starts)
        if "kills" in parts:
            figures += await kill_to_step(f"sqlite:///{folder}/kill.db", size.kills)
        if "replay" in parts:
            figures += await replay(size.steps, size.rounds)
        if "workers" in parts:
            many = {
                "SQLite": f"sqlite:///{folder}/workers-{{number}}.db",
                "Redis": f"{redis_url}?prefix=workers-{{number}}",
            }
            figures += await by_workers(many, (1, 2, 4), size.executions)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds of each, in some minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all samples there")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts of the table")
    chosen = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measured(QUICK if chosen.quick else FULL, Path(folder), chosen.only))
    print_table(figures)
    if chosen.json is not None:
        write_json(chosen.json, figures, facts)
        print(
            f"kept in {os.fspath(chosen.json)}; draw the chart with: python -m benchmarks.chart {chosen.json}"
        )


if __name__ == "__main__":
    main()
