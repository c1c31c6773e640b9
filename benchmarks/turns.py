"""The table of a turn in memory and on SQLite; each figure is a ratio to a floor measured in the same run."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.entries import FunctionCall, MessageOutput
from outlast.ports.llm import ModelRequest

ROUNDS = 5


@outlast.activity(name="bench_echo")
async def echo(text: str) -> str:
    """Return the text."""
    return text


agent = outlast.Agent(model="none", name="bench", tools=[echo])


@outlast.workflow.define(name="bench_turns")
class Turns:
    """One run of an agent that calls one tool a turn."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int) -> int:
        def reply(request: ModelRequest) -> MessageOutput | FunctionCall:
            return say("done") if request.turn == turns else call("bench_echo", {"text": "x" * 200})

        session = outlast.ScriptedSession(reply)
        return (await outlast.Runner.run(agent, "go", session, max_turns=turns)).turns


async def seconds_per_turn(url: str, turns: int, callers: int = 1) -> float:
    async with outlast.connect(url) as backend, backend.worker([Turns]):
        started = time.perf_counter()
        execution = await backend.start(Turns, turns)
        await asyncio.gather(*(execution.result() for _ in range(callers)))
        return (time.perf_counter() - started) / turns


async def seconds_per_commit(path: Path, commits: int) -> float:
    """The floor: one row of the same size in one durable commit, by plain sqlite3."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, body BLOB)")
    started = time.perf_counter()
    for _ in range(commits):
        connection.execute("INSERT INTO records (body) VALUES (?)", (b"x" * 500,))
    elapsed = (time.perf_counter() - started) / commits
    connection.close()
    return elapsed


async def median(measure: Callable[[int], Awaitable[float]]) -> float:
    return statistics.median([await measure(number) for number in range(ROUNDS)])


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        short = await median(lambda n: seconds_per_turn("memory:", 20))
        long = await median(lambda n: seconds_per_turn("memory:", 200))
        awaited = await median(lambda n: seconds_per_turn("memory:", 200, callers=2000))
        floor = await median(lambda n: seconds_per_commit(root / f"floor{n}.db", 200))
        few = await median(lambda n: seconds_per_turn(f"sqlite:///{root}/few{n}.db", 20))
        many = await median(lambda n: seconds_per_turn(f"sqlite:///{root}/many{n}.db", 200))
    table = Table(title="Cost of a turn with one tool call (two journaled steps)", title_justify="left")
    for column in ("backend", "turns", "ms per turn", "ratio", "to"):
        table.add_column(column, justify="left" if column in ("backend", "to") else "right")
    table.add_row("memory", "20", f"{short * 1e3:.2f}", "1.00", "itself")
    table.add_row("memory", "200", f"{long * 1e3:.2f}", f"{long / short:.2f}", "a turn of 20")
    table.add_row(
        "memory", "200", f"{awaited * 1e3:.2f}", f"{awaited / long:.2f}", "one waiting caller, not 2,000"
    )
    table.add_row("SQLite", "20", f"{few * 1e3:.2f}", f"{few / floor / 2:.2f}", "two bare commits")
    table.add_row("SQLite", "200", f"{many * 1e3:.2f}", f"{many / few:.2f}", "a turn of 20")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
