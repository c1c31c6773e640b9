"""Text while it is being written, in a plain script and in a durable run.

Run it: make example NAME=streaming
    or: uv run examples/streaming.py
    or, with outlast[mistral,testing] installed: python examples/streaming.py
"""

import asyncio

from stand_in import mistral

import outlast
from outlast.testing.mistral_server import ModelPrompt, Output, Say

poet = outlast.Agent(
    model="mistral-medium-latest",
    name="poet",
    description="Writes short poems",
    instructions="Answer with a poem of two lines.",
)


async def main() -> None:
    run = outlast.Runner.run_streamed(poet, "A poem about rain", outlast.LocalSession())
    async for event in run.events():
        if isinstance(event.data, outlast.events.TextDeltaData):
            print(event.data.text, end="", flush=True)
    result = await run.result()
    print(f"\n({result.turns} turn)")

    # A durable run has the same events, in any process that asks the backend for them.
    async with outlast.connect("memory:") as backend:
        session = outlast.RemoteSession(stream=True)
        await outlast.Runner.run(poet, "A poem about rain", session, id="poem-1", backend=backend)
        execution = await backend.get("poem-1")
        events = [event.data async for event in execution.events()]
        print("".join(data.text for data in events if isinstance(data, outlast.events.TextDeltaData)))


def stand_in(call: ModelPrompt) -> list[Output]:
    return [Say("It rains on the town,\nand the town looks down.")]


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
