"""The MCP table: a call over the shared connection, against MCP's bare SDK and a process for every call."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from mcp import Client, StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.types import Tool
from rich.console import Console
from rich.table import Table

import outlast
from outlast.adapters.scripted import call, say
from outlast.runtime.attempts.shared_resources import SharedResources

CALLS = 2000
ROUNDS = 40
AT_ONCE = 50
SPAWNS = 3
RUNS = 50
ARGUMENTS = {"text": "x" * 200}

Call = Callable[[], Awaitable[object]]


class CountingServer(MCPServer):
    """Counts how often it is asked for its tools."""

    lists = 0

    async def list_tools(self) -> list[Tool]:
        self.lists += 1
        return await super().list_tools()


server = CountingServer("bench", log_level="ERROR")


@server.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool()
async def lists() -> str:
    """Return how often the server was asked for its tools."""
    return str(server.lists)


COMMAND = [sys.executable, "-m", "benchmarks.mcp", "serve"]
SERVER = outlast.MCPStdioConfig(command=COMMAND[0], args=COMMAND[1:], name="bench")


@outlast.workflow.define(name="bench_mcp")
class Asking:
    """One run of an agent that asks the server how often it was asked for its tools."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        agent = outlast.Agent(model="none", name="bench", mcp_clients=[SERVER])
        session = outlast.ScriptedSession({"bench": [call("bench_lists"), say("done")]})
        result = await outlast.Runner.run(agent, "go", session)
        (result_entry,) = [entry for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
        return str(result_entry.result)


async def lists_in_runs() -> int:
    """Return how often runs of one worker, each an execution of its own, have the server list its tools."""
    async with outlast.connect("memory:") as backend, backend.worker([Asking]):
        executions = [await backend.start(Asking) for _ in range(RUNS)]
        return max([int(await execution.result()) for execution in executions])


async def medians(times: int, *calls: Call) -> list[float]:
    """Return the seconds that each of the calls takes, made in turn."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for one, seconds in zip(calls, taken, strict=True):
            began = time.perf_counter()
            await one()
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in taken]


def at_once(call: Call) -> Call:
    """Return the call made many times at once."""

    async def many() -> None:
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))

    return many


async def main() -> None:
    parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])
    async with SharedResources() as resources, Client(parameters) as client:
        await client.list_tools()
        await SERVER.list_tools(resources)

        def ours() -> Awaitable[object]:
            return SERVER.call("bench_echo", ARGUMENTS, resources)

        def bare() -> Awaitable[object]:
            return client.call_tool("echo", ARGUMENTS, read_timeout_seconds=60)

        async def spawning() -> None:
            async with Client(parameters) as once:
                await once.call_tool("echo", ARGUMENTS, read_timeout_seconds=60)

        async def listing() -> None:
            await SERVER.list_tools(resources)

        # One call after the other, in turn, so that other work of the machine slows both.
        one_bare, one = await medians(CALLS, bare, ours)
        fifty_bare, fifty = await medians(ROUNDS, at_once(bare), at_once(ours))
        (spawned,) = await medians(SPAWNS, spawning)
        (listed,) = await medians(CALLS, listing)
    asked = await lists_in_runs()
    table = Table(title="A call of a tool over stdio", title_justify="left")
    for column in ("what", "ms per call", "ratio", "to"):
        table.add_column(column, justify="left" if column in ("what", "to") else "right")
    table.add_row("MCP's SDK", f"{one_bare * 1e3:.3f}", "1.00", "itself")
    table.add_row("a warm connection", f"{one * 1e3:.3f}", f"{one / one_bare:.2f}", "MCP's SDK")
    table.add_row(
        f"{AT_ONCE} at once", f"{fifty / AT_ONCE * 1e3:.3f}", f"{fifty / fifty_bare:.2f}", "the same, bare"
    )
    table.add_row("a process for each", f"{spawned * 1e3:.3f}", f"{spawned / one:.0f}", "a warm connection")
    table.add_row("listing again", f"{listed * 1e3:.3f}", f"{listed / one:.3f}", "a call")
    Console().print(table)
    Console().print(f"In {RUNS} runs on one worker, the server was asked for its tools: {asked}")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        server.run("stdio")
    else:
        asyncio.run(main())
