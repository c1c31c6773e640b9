"""An agent with tools of two MCP servers and an activity of its own; its worker is killed while a tool works.

The weather server is a child process of the worker. The exchange server listens on this machine, and wants a
token, which the worker reads from its environment. A forecast changes nothing, as its server says; so the
call that was under way is made again, by another worker on another process of the server.

Run it: make example NAME=mcp_servers
    or: uv run examples/mcp_servers.py
    or, with outlast[mcp,mistral,testing] installed: python examples/mcp_servers.py
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from stand_in import Call, ModelPrompt, Reply, Say, mistral

import outlast

DATABASE = "sqlite:///trips.db"
READ_ONLY = ToolAnnotations(read_only_hint=True)

weather = MCPServer("weather", log_level="ERROR")
exchange = MCPServer("exchange", log_level="ERROR")


@weather.tool(annotations=READ_ONLY)
async def forecast(city: str) -> str:
    """Foretell tomorrow's weather in a city."""
    await asyncio.sleep(2)
    return f"24 degrees in {city}"


@exchange.tool(annotations=READ_ONLY)
async def convert(euros: float, ctx: Context) -> float:
    """Return how many dollars that is."""
    if (ctx.headers or {}).get("authorization") != f"Bearer {os.environ['EXCHANGE_TOKEN']}":
        raise ToolError("who are you?")
    return round(euros * 1.08, 2)


@outlast.activity()
async def book_terrace(city: str) -> str:
    """Book a table on a terrace in a city."""
    return f"a table on a terrace in {city} is booked"


@outlast.workflow.define(name="trip")
class Trip:
    @outlast.workflow.entrypoint
    async def run(self, city: str, exchange_url: str) -> str:
        planner = outlast.Agent(
            model="mistral-medium-latest",
            name="planner",
            instructions="Look at the weather, convert the price of 40 euros, and book if it is warm.",
            tools=[book_terrace],
            mcp_clients=[
                outlast.MCPStdioConfig(command=sys.executable, args=[__file__, "weather"], name="weather"),
                outlast.MCPStreamableHTTPConfig(
                    url=exchange_url, name="exchange", headers={"Authorization": "Bearer env:EXCHANGE_TOKEN"}
                ),
            ],
        )
        return (await outlast.Runner.run(planner, f"I am in {city} tomorrow.", outlast.RemoteSession())).text


def stand_in(call: ModelPrompt) -> Reply:
    """Call the weather tool, then every other tool; then answer with the results."""
    match list(call.results.values()):
        case []:
            return [Call("weather_forecast", {"city": "Lyon"})]
        case [_]:
            return [Call("exchange_convert", {"euros": 40}), Call("book_terrace", {"city": "Lyon"})]
        case [dollars, booked]:
            return [Say(f"It is warm, and {booked}. 40 euros are {dollars} dollars.")]
        case more:
            raise AssertionError(more)


@contextmanager
def running(role: str) -> Iterator[subprocess.Popen[str]]:
    """Run this program in another process, as one of its roles, for the time of the block."""
    with subprocess.Popen([sys.executable, __file__, role], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def main() -> None:
    os.environ["EXCHANGE_TOKEN"] = "a token for the exchange"
    with running("exchange") as server, mistral(stand_in):
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/mcp"
        async with outlast.connect(DATABASE) as backend:
            trip = await backend.start(Trip, "Lyon", url)
            with running("worker"):
                async for event in trip.events():
                    if isinstance(event.data, outlast.events.ToolCalledData):
                        await asyncio.sleep(0.5)
                        print(f"{event.data.tool} is at work, and the worker is killed")
                        break
            with running("worker"):
                print(await trip.result())


def serve_exchange() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(exchange.streamable_http_app(), log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["weather"]:
            weather.run("stdio")
        case ["exchange"]:
            serve_exchange()
        case ["worker"]:
            asyncio.run(outlast.run_worker([Trip], DATABASE, lease=timedelta(seconds=2)))
        case _:
            asyncio.run(main())
