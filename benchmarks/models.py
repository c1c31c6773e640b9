"""The tables of model calls: CPU time of one turn over HTTP.

A turn of LocalSession sends the whole conversation, and is compared with the SDK's own request. A turn of
RemoteSession sends what is new, so it must cost the same however long its run is.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import outlast
from outlast.adapters.mistral.chat import reply_of, request_of
from outlast.adapters.mistral.client import json_of, open_client
from outlast.core.entries import Entry
from outlast.ports.deltas import Publish, publish_nothing
from outlast.ports.llm import ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.agent_binding import bind_agents
from outlast.testing.mistral_server import Call, MistralServer, Say
from outlast.testing.mistral_server.model import ModelPrompt, Reply

TURNS = (20, 100, 400)
CALLS = 30
KEY = "key-of-the-benchmark"
TEXT = "The weather of Lyon is asked for, with all that a forecaster has to say about it. " * 3
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


async def complete(request: Request) -> Response:
    """Answer with a text, whole or as a stream of 20 pieces."""
    body = json.loads(await request.body())
    if not body.get("stream"):
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": USAGE,
            }
        )
    deltas = [{"index": 0, "delta": {"content": TEXT[:12]}, "finish_reason": None}] * 20
    deltas.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [f"data: {json.dumps({'choices': [delta]})}\n\n" for delta in deltas]
    return Response("".join([*events, "data: [DONE]\n\n"]), media_type="text/event-stream")


def look_up(city: str) -> str:
    """Return the weather of a city."""
    return city


def conversation(turns: int) -> tuple[Entry, ...]:
    """Return a conversation with so many turns: a question, then calls with results."""
    entries: list[Entry] = [outlast.MessageInput(content=TEXT)]
    for number in range(turns):
        call_id = f"call{number:05d}"
        arguments = json.dumps({"city": f"Lyon {number}"})
        entries.append(outlast.FunctionCall(tool_call_id=call_id, name="look_up", arguments=arguments))
        entries.append(outlast.FunctionResult(tool_call_id=call_id, result=TEXT))
    return tuple(entries)


def request(turns: int) -> ModelRequest:
    """Return the request that follows so many turns."""
    agent = outlast.Agent(model="m", name="a", instructions=TEXT, tools=[look_up])
    *history, last = conversation(turns)
    graph = bind_agents(agent, {}).graph
    return ModelRequest.model_construct(
        graph=graph,
        agent="a",
        turn=1,
        history=tuple(history),
        new=(last,),
        idempotency_key="k",
        may_call=True,
    )


async def cpu(call: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds of CPU time that a call needs in this process."""
    for _ in range(3):
        await call()
    taken = []
    for _ in range(CALLS):
        begun = time.process_time()
        await call()
        taken.append(1000 * (time.process_time() - begun))
    return statistics.median(taken)


async def measured(url: str) -> Table:
    """Return the table."""
    table = Table("turns", "answer", "SDK, ms of CPU", "LocalSession, ms of CPU", "ratio")
    session = outlast.LocalSession(server_url=url, api_key=KEY)
    async with SharedResources() as resources, open_client(session.endpoint(), ("chat", "Chat")) as client:
        (chat,) = client.parts
        for turns in TURNS:
            asked = request(turns)

            async def by_sdk(asked: ModelRequest = asked) -> object:
                body = request_of(asked.graph, "a", (*asked.history, *asked.new))
                return reply_of(await json_of(chat.complete_async(**body, retries=None)))

            async def streamed_by_sdk(asked: ModelRequest = asked) -> None:
                body = request_of(asked.graph, "a", (*asked.history, *asked.new))
                async with await chat.stream_async(**body, retries=None) as stream:
                    async for _ in stream.response.aiter_bytes():
                        pass

            for what, sdk, publish in (
                ("whole", by_sdk, None),
                ("streamed", streamed_by_sdk, publish_nothing),
            ):

                async def ours(asked: ModelRequest = asked, publish: Publish | None = publish) -> object:
                    return await session.reply(asked, resources, publish)

                theirs, own = await cpu(sdk), await cpu(ours)
                row = (f"{turns}", what, f"{theirs:.1f}", f"{own:.1f}", f"{theirs / own:.1f}")
                table.add_row(*row)
    return table


@outlast.activity(name="bench_look_up")
async def look_up_remotely(city: str) -> str:
    """Return the weather of a city."""
    return TEXT


async def remote_turn(url: str, turns: int) -> float:
    """Return the milliseconds of CPU time that a turn needs in this process, with its tool call."""
    agent = outlast.Agent(
        model="mistral-medium-latest", name="a", instructions=TEXT, tools=[look_up_remotely]
    )
    session = outlast.RemoteSession(server_url=url, api_key=KEY)
    begun = time.process_time()
    result = await outlast.Runner.run(agent, TEXT, session, max_turns=turns + 1)
    assert result.turns == turns + 1
    return 1000 * (time.process_time() - begun) / (turns + 1)


def measured_remotely(port: int) -> Table:
    """Return the table of RemoteSession."""
    table = Table("turns", "RemoteSession, ms of CPU per turn", "to a turn of the shortest run")
    shortest: float | None = None
    for turns in TURNS:
        with serving("serve-remote", port, str(turns)):
            url = f"http://127.0.0.1:{port}"
            taken = statistics.median([asyncio.run(remote_turn(url, turns)) for _ in range(3)])
        shortest = shortest or taken
        table.add_row(f"{turns}", f"{taken:.2f}", f"{taken / shortest:.2f}")
    return table


@contextmanager
def serving(what: str, port: int, *arguments: str) -> Iterator[None]:
    """Run a server in another process."""
    command = [sys.executable, "-m", "benchmarks.models", what, str(port), *arguments]
    server = subprocess.Popen(command)
    try:
        until_listening(port)
        yield
    finally:
        server.terminate()
        server.wait()


def until_listening(port: int) -> None:
    """Return when somebody listens on the port."""
    for _ in range(500):
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise TimeoutError("the server does not come up")


def serve_remote(port: int, turns: int) -> None:
    """Serve Mistral's API: a model that calls a tool in each of so many turns, and then answers."""

    def reply(prompt: ModelPrompt) -> Reply:
        if prompt.replies < turns:
            return [Call("bench_look_up", {"city": f"Lyon {prompt.replies}"})]
        return [Say("done")]

    with MistralServer(reply, api_key=KEY, port=port):
        signal.pause()


def main() -> None:
    """Serve, or measure against a server in another process."""
    if sys.argv[1:2] == ["serve-remote"]:
        serve_remote(int(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["serve"]:
        app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
        config = uvicorn.Config(app, port=int(sys.argv[2]), lifespan="off", log_level="error")
        uvicorn.Server(config).run()
        return
    port = 8391
    with serving("serve", port):
        Console().print(asyncio.run(measured(f"http://127.0.0.1:{port}")))
    Console().print(measured_remotely(port))


if __name__ == "__main__":
    main()
