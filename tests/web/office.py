"""A workflow with everything that the page of one execution can show."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, handoff, say
from outlast.core import chunks
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply, ModelRequest
from tests.web.desk import file, hold_seat, pay, print_ticket


def picture(width: int, height: int, *, noise: bool = False) -> str:
    """Return a picture as a `data:` URL; noise makes a wide one large."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = b"\0" + (Random(1).randbytes(3 * width) if noise else b"\x2b\x59\xc3" * width)
    data = part(b"IHDR", header) + part(b"IDAT", zlib.compress(row * height)) + part(b"IEND", b"")
    encoded = base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()
    return f"data:image/png;base64,{encoded}"


@outlast.activity(retry_policy_max_attempts=5, retry_policy_initial_interval=timedelta(milliseconds=20))
async def look_up(city: str) -> dict[str, Any]:
    """Look up the trains, at the third attempt."""
    seen = file(f"looked-{city}")
    count = len(seen.read_text()) if seen.exists() else 0
    seen.write_text("x" * (count + 1))
    if count < 2:
        raise ConnectionError(f"the timetable does not answer, attempt {count + 1}")
    return {"city": city, "trains": [{"departs": "08:04", "price": 40}, {"departs": "10:04", "price": 31}]}


SEEN = say(
    (
        chunks.ThinkingChunk(thinking=({"type": "text", "text": "The early one is full."},)),
        chunks.TextChunk(text="I found two trains; here is the map."),
        chunks.ImageURLChunk(image_url=picture(160, 60)),
        chunks.ToolReferenceChunk(tool="web_search", title="Timetable", url="https://rail.example/lyon"),
        chunks.DocumentURLChunk(document_url="https://rail.example/terms.pdf", document_name="Terms"),
        chunks.ToolFileChunk(tool="code_interpreter", file_id="f-1", file_name="prices.csv"),
    )
)
LARGE = chunks.ImageURLChunk(image_url=picture(40_000, 1, noise=True))
REPLIES: dict[str, list[tuple[Any, ...]]] = {
    "clerk": [
        (
            say("I look for trains."),
            call("look_up", {"city": "Lyon"}),
            call("look_up", {"city": "Nice"}),
            call("guide", {"input": "What is there to see?"}),
        ),
        (SEEN, call("hold_seat", {"seat": "12A"})),
        (say("The cashier goes on."), handoff("cashier")),
    ],
    "cashier": [
        (say("Somebody must allow this."), call("pay", {"amount": 31, "payee": "rail"})),
        (say("All is paid. Bon voyage!"),),
    ],
    "guide": [(say("The old town, early in the morning."),)],
    "judge": [(say('{"allowed": true, "reason": "polite"}'),)],
    "porter": [(say((chunks.TextChunk(text="The bags are here."), LARGE)),)],
}


def script(request: ModelRequest) -> ModelReply:
    handle = request.handle if isinstance(request.handle, dict) else {}
    counts = handle.get("replies", {})
    assert isinstance(counts, dict)
    number = counts.get(request.agent, 0)
    assert isinstance(number, int)
    entries = REPLIES[request.agent][number]
    tokens = 100 * (request.turn + 1) + len(request.agent)
    usage = Usage(prompt_tokens=tokens, completion_tokens=17, total_tokens=tokens + 17)
    return ModelReply(entries=entries, usage=usage)


@workflow.define(name="office")
class Office:
    """Two agents arrange a trip with a guide, another one checks the answer, and one works beside them."""

    @workflow.entrypoint
    async def run(self, name: str) -> dict[str, Any]:
        judge = outlast.Agent(model="small", name="judge", description="Checks answers")
        cashier = outlast.Agent(
            model="large", name="cashier", description="Pays", tools=[pay], output_guardrails=[judge]
        )
        guide = outlast.Agent(model="small", name="guide", description="Knows the place")
        tools = [look_up, hold_seat, guide]
        clerk = outlast.Agent(
            model="large", name="clerk", description="Plans", tools=tools, handoffs=[cashier]
        )
        porter = outlast.Agent(model="small", name="porter", description="Carries bags")
        await asyncio.sleep(0.05)
        trip, bags = await asyncio.gather(
            outlast.Runner.run(
                clerk, f"A trip to Lyon for {name}", session=outlast.ScriptedSession(script, stream=True)
            ),
            outlast.Runner.run(porter, "The bags", session=outlast.ScriptedSession(script)),
        )
        ticket = await print_ticket(name)
        usages = [one.usage.model_dump(mode="json") for one in (trip, bags)]
        return {"answer": trip.text, "ticket": ticket, "usages": usages}


def let_work(folder: Path) -> None:
    """Let the activities of the workflow go on."""
    for name in ("open", "paper"):
        (folder / name).touch()


WORKFLOWS = [Office]
