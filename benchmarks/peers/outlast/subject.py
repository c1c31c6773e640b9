"""This library: `subject.py URL`. The model is a scripted session."""

from __future__ import annotations

import asyncio
import sys
import uuid

from serving import TEXT, serve, versions

import outlast
from outlast.adapters.scripted import Reply, call, say
from outlast.ports.llm import ModelRequest


@outlast.activity(name="bench_echo")
async def echo(text: str) -> str:
    """Return the text."""
    return text


agent = outlast.Agent(model="none", name="bench", tools=[echo])


@outlast.workflow.define(name="bench_turns")
class Turns:
    """One run of an agent that calls one tool a turn, and then says that it is done."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int) -> int:
        def reply(request: ModelRequest) -> Reply:
            return say("done") if request.turn > turns else call("bench_echo", {"text": TEXT})

        session = outlast.ScriptedSession(reply)
        return (await outlast.Runner.run(agent, "go", session, max_turns=turns + 1)).turns - 1


async def main(url: str) -> None:
    async with outlast.connect(url) as backend, backend.worker([Turns]):

        async def run(turns: int) -> int:
            return await (await backend.start(Turns, turns, id=uuid.uuid4().hex)).result()

        await serve(run, versions("outlast"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
