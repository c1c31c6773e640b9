"""The inspector beside a worker, and its page in a browser: `python -m benchmarks.inspector`.

Worker, inspector, followers and browser are processes of their own, as in use; they share an SQLite file.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from playwright.async_api import Page, expect
from rich.console import Console
from rich.table import Table

import outlast
from benchmarks.finding import AT_ONCE, MANY
from benchmarks.turns import Turns
from outlast.adapters.scripted import call, say
from outlast.adapters.sqlite import SqliteStore
from outlast.core.entries import FunctionCall, MessageOutput
from outlast.core.exports import ExportHeader, exported
from outlast.core.failure import Failure
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepKind,
    StepScheduled,
    encode_record,
)
from outlast.core.usage import Usage
from outlast.core.waiting import Overview, WaitingFor, WaitingKind
from outlast.ports.journal import NewExecution
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.testing import VirtualClock
from tests.children import Child
from tests.web.browser import opened_browser, opened_page

FLEET_MILLISECONDS_MAX = 150.0
DECISION_MILLISECONDS_MAX = 100.0
IDLE_SHARE_MAX = 0.1
FRAME_MILLISECONDS = 1000 / 60
ROUNDS = 15
PAGES = 50
TURNS = 200
FOLLOWED_ROUNDS = 3
IDLE_SECONDS = 10.0
RECORDS = 10_000
SCROLLED = 6000
"""The pixels that are scrolled in each second of the test of frames."""


@outlast.activity(name="bench_pay", requires_approval=True)
async def pay(round: int) -> float:
    """Return the time at which the tool runs."""
    return time.time()


@outlast.workflow.define(name="bench_decisions")
class Decisions:
    """A run in which a person allows one call after the other."""

    @outlast.workflow.entrypoint
    async def run(self, rounds: int) -> int:
        asked = [call("bench_pay", {"round": number}) for number in range(rounds)]
        replies: list[MessageOutput | FunctionCall] = [*asked, say("done")]
        session = outlast.ScriptedSession({"clerk": replies})
        clerk = outlast.Agent(model="none", name="clerk", tools=[pay])
        return (await outlast.Runner.run(clerk, "go", session, max_turns=rounds + 1)).turns


@outlast.workflow.define(name="bench_followed")
class Followed:
    """The run of `Turns`, once its readers are there."""

    def __init__(self) -> None:
        self._may_begin = False

    @outlast.workflow.entrypoint
    async def run(self, turns: int) -> int:
        await outlast.workflow.wait_condition(lambda: self._may_begin)
        return await Turns().run(turns)

    @outlast.workflow.signal
    def begin(self) -> None:
        """Let it begin."""
        self._may_begin = True


class _Slow(outlast.ScriptedSession):
    async def reply(self, request: ModelRequest, resources: Resources, publish: Any = None) -> ModelReply:
        await asyncio.sleep(10 * IDLE_SECONDS)
        return await super().reply(request, resources, publish)


@outlast.workflow.define(name="bench_slow")
class Slow:
    """A run that waits for its model."""

    @outlast.workflow.entrypoint
    async def run(self) -> int:
        session = _Slow({"clerk": [say("done")]}, stream=True)
        return (await outlast.Runner.run(outlast.Agent(model="none", name="clerk"), "go", session)).turns


WORKFLOWS = [Decisions, Followed, Slow]


# Processes ---------------------------------------------------------------------------------------------


@contextmanager
def worker(url: str) -> Iterator[Child]:
    command = ["-m", "outlast.cli", "worker", "benchmarks.inspector", "--processes", "0", "--backend", url]
    with _process([*command, "--log-level", "error"], stdout=subprocess.DEVNULL) as process:
        yield process


@contextmanager
def inspector(url: str) -> Iterator[tuple[Child, str]]:
    """Yield the process of an inspector, and the URL that opens its page."""
    with _process(
        ["-m", "outlast.cli", "inspect", "--backend", url, "--port", "0"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().decode().strip()


@contextmanager
def followers(entrance: str, id: str, count: int) -> Iterator[None]:
    """So many readers that follow one execution, as open pages do, in one process of their own."""
    with _process(
        ["-m", "benchmarks.inspector", "follow", entrance, id, str(count)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"following"
        yield


@contextmanager
def _process(command: list[str], **options: Any) -> Iterator[Child]:
    process = Child([sys.executable, *command], **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def follow(entrance: str, id: str, count: int) -> None:
    """Follow an execution with so many connections, and throw away what they bring."""
    host = urlsplit(entrance).netloc
    async with httpx2.AsyncClient(base_url=f"http://{host}") as client:
        await client.get(f"/?{urlsplit(entrance).query}")
        [(name, value)] = client.cookies.items()
    request = f"GET /api/events?id={id} HTTP/1.1\r\nHost: {host}\r\nCookie: {name}={value}\r\n\r\n".encode()

    async def read() -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(request)
        await reader.readuntil(b"event: events")
        writers.append(writer)
        return reader

    writers: list[asyncio.StreamWriter] = []
    readers = [await read() for _ in range(count)]
    print("following", flush=True)

    async def drain(reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 20):
            pass

    await asyncio.gather(*map(drain, readers))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def page_at(entrance: str, view: str) -> AsyncIterator[Page]:
    async with opened_browser() as browser, opened_page(browser) as page:
        await page.goto(entrance)
        await page.goto(f"{entrance.partition('?')[0]}#/{view}")
        yield page


# What is measured --------------------------------------------------------------------------------------


async def create(store: SqliteStore, number: int) -> None:
    """Create an execution as a worker leaves it: a tenth has failed, the others wait for a person."""
    began = time.time()
    waits = WaitingFor(kind=WaitingKind.APPROVAL, text="tool pay of agent clerk")
    overview = Overview(waiting_for=(waits,), turns=number % 7, usage=Usage(total_tokens=100 * number))
    new = NewExecution(
        *(f"e{number:06}", "bench_list", "f"),
        tags={"team": f"t{number % 10}"},
        overview=overview.to_text(),
        waiting=WaitingKind.APPROVAL,
    )
    started = ExecutionStarted(at=began, workflow=new.workflow, arguments={"number": number})
    await store.create(new, encode_record(started))
    if number % 10 == 6:
        failure = Failure(kind="LookupError", message="no paper")
        await store.amend(
            new.id, 1, encode_record(ExecutionEnded(status=Status.FAILED, failure=failure)), Status.FAILED
        )


PAINTED = """
    new Promise((done, fail) => {
      const look = () => {
        if (performance.now() > 60000) return fail(new Error("the page shows no list"));
        if (document.querySelectorAll("tbody tr").length < 100) return requestAnimationFrame(look);
        requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0));
      };
      look();
    })
"""
"""The time from the request for the page to the paint of its list."""


async def list_painted(folder: Path) -> tuple[float, float]:
    """Return the milliseconds from request to paint of a list, and those of its data's request alone."""
    async with SqliteStore(folder / "many.db", VirtualClock(time.time()), synchronous="off") as store:
        for first in range(0, MANY, AT_ONCE):
            await asyncio.gather(*(create(store, number) for number in range(first, first + AT_ONCE)))
    with inspector(f"sqlite:///{folder}/many.db") as (_, entrance):
        async with page_at(entrance, "") as page:
            painted, requests = [], []
            for _ in range(ROUNDS):
                await page.reload(wait_until="commit")
                painted.append(await page.evaluate(PAINTED))
                requests.append(
                    await page.evaluate(
                        "performance.getEntriesByType('resource')"
                        ".find((one) => one.name.includes('api/fleet')).duration"
                    )
                )
    return statistics.median(painted), statistics.median(requests)


async def from_decision_to_tool(folder: Path) -> float:
    """Return the milliseconds from a click on "Allow" to the moment when the tool runs."""
    url = f"sqlite:///{folder}/decisions.db"
    async with outlast.connect(url) as backend:
        with worker(url), inspector(url) as (_, entrance):
            execution = await backend.start(Decisions, ROUNDS, id="d-1")
            async with page_at(entrance, "executions/d-1") as page:
                clicked = []
                for number in range(ROUNDS):
                    form = page.locator("form.approval", has_text="bench_pay")
                    await expect(form.get_by_label("round")).to_have_value(str(number))
                    # The click itself is that of the page, so that the driver's way to it does not count.
                    clicked.append(
                        await form.evaluate(
                            """(form) => {
                              form.querySelector("button.main").click();
                              return performance.timeOrigin + performance.now();
                            }"""
                        )
                    )
                await execution.result()
        ran = [
            float(event.data["result"]) * 1000  # type: ignore[arg-type]  # what the tool returns
            async for event in execution.events(follow=False)
            if event.kind == "tool_returned"
        ]
    taken: list[float] = [at - click for at, click in zip(ran, clicked, strict=True)]
    return statistics.median(taken)


async def cost_of_followers(folder: Path) -> tuple[dict[int, tuple[float, float]], dict[str, float]]:
    """Return the cost of a turn to the worker, in ms and in ms of processor time, without pages and with.

    Also the shares of a core that the inspector takes with all of them while an execution waits.
    """
    url = f"sqlite:///{folder}/followed.db"
    costs: dict[int, tuple[float, float]] = {}
    async with outlast.connect(url) as backend:
        with worker(url) as process, inspector(url) as (page_server, entrance):
            for count in (0, PAGES):
                walls, computed = [], []
                for number in range(FOLLOWED_ROUNDS + 1):
                    execution = await backend.start(Followed, TURNS, id=f"f-{count}-{number}")
                    with followers(entrance, execution.id, count) if count else nullcontext():
                        before, began = cpu_seconds(process.pid), time.perf_counter()
                        await execution.signal("begin")
                        await execution.result()
                        walls.append((time.perf_counter() - began) * 1000 / TURNS)
                        computed.append((cpu_seconds(process.pid) - before) * 1000 / TURNS)
                # The first round finds nothing warm.
                costs[count] = statistics.median(walls[1:]), statistics.median(computed[1:])
            idle = {}
            for what, workflow, arguments in (("a person", Decisions, [1]), ("a model", Slow, [])):
                execution = await backend.start(workflow, *arguments)
                with followers(entrance, execution.id, PAGES):
                    await asyncio.sleep(1)
                    before = cpu_seconds(page_server.pid)
                    await asyncio.sleep(IDLE_SECONDS)
                    idle[what] = (cpu_seconds(page_server.pid) - before) / IDLE_SECONDS
                await execution.terminate("measured")
    return costs, idle


FRAMES = """
    ([name, seconds, speed]) => new Promise((done) => {
      const list = document.querySelector(`.virtual.${name}`);
      const frames = [];
      const begun = performance.now();
      let last = begun;
      const step = (now) => {
        frames.push(now - last);
        last = now;
        list.scrollTop = ((now - begun) / 1000) * speed;
        if (now - begun < seconds * 1000) requestAnimationFrame(step);
        else done(frames.slice(1));
      };
      requestAnimationFrame(step);
    })
"""


async def frames(folder: Path) -> dict[str, list[float]]:
    """Return the milliseconds of each frame while a long journal, and a long conversation, is scrolled."""
    url = f"sqlite:///{folder}/long.db"
    async with outlast.connect(url) as backend:
        await backend.import_(list(long_journal(RECORDS)), id="l-1")
    found = {}
    with inspector(url) as (_, entrance):
        for name, view in (("records", "?view=journal"), ("talk", "")):
            async with page_at(entrance, f"executions/l-1{view}") as page:
                await page.locator(f".virtual.{name} li").first.wait_for()
                await expect(page.locator("label[for=travel]")).to_contain_text(f"of {RECORDS}")
                await expect(page.locator(f".virtual.{name} li").first).to_be_visible()
                found[name] = await page.evaluate(FRAMES, [name, 5, SCROLLED])
    return found


def long_journal(length: int) -> Iterator[str]:
    """Yield the export of an execution with so many records."""
    journal: list[AnyRecord] = [ExecutionStarted(at=1.7e9, workflow="bench_long", arguments={})]
    for number in range((length - 2) // 2):
        key = f"{number}.0"
        journal.append(
            StepScheduled(key=key, kind=StepKind.ACTIVITY, name="look_up", arguments={"n": number})
        )
        journal.append(StepCompleted(at=1.7e9 + number, key=key, result="word " * (number % 40)))
    journal.append(ExecutionEnded(status=Status.COMPLETED, result=None))
    header = ExportHeader(
        id="l-1", workflow="bench_long", task_queue="default", exported_at=1.8e9, records=len(journal)
    )
    return exported(header, journal)


async def main() -> None:
    table = Table(title="The inspector", title_justify="left")
    for column in ("what", "measured", "at most"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decision = await from_decision_to_tool(folder)
        costs, idle = await cost_of_followers(folder)
        scrolled = await frames(folder)
        painted, request = await list_painted(folder)
    table.add_row(
        f"100 of {MANY:,} executions, from request to paint",
        f"{painted:.0f} ms",
        f"{FLEET_MILLISECONDS_MAX:.0f} ms",
    )
    table.add_row("  of which the request for the data", f"{request:.0f} ms", "")
    table.add_row(
        "a click on Allow, until the tool runs", f"{decision:.0f} ms", f"{DECISION_MILLISECONDS_MAX:.0f} ms"
    )
    for count, (wall, computed) in costs.items():
        table.add_row(f"a turn of the worker with {count} pages", f"{wall:.2f} ms", "")
        table.add_row("  of which the worker computes", f"{computed:.2f} ms", "")
    ratio = costs[PAGES][1] / costs[0][1]
    table.add_row(f"  ratio of computing, {PAGES} pages to none", f"{ratio:.2f}", "")
    for what, share in idle.items():
        table.add_row(
            f"the inspector with {PAGES} pages, while {what} is waited for",
            f"{share:.1%} of a core",
            f"{IDLE_SHARE_MAX:.0%}",
        )
    for name, taken in scrolled.items():
        late = sum(frame > 1.5 * FRAME_MILLISECONDS for frame in taken) / len(taken)
        table.add_row(
            f"{RECORDS:,} records scrolled ({name}): median, 99th percentile, late frames",
            f"{statistics.median(taken):.1f} ms, {statistics.quantiles(taken, n=100)[98]:.1f} ms, {late:.1%}",
            f"{FRAME_MILLISECONDS:.1f} ms",
        )
    Console(width=110).print(table)
    missed = [
        *(["the list"] if painted > FLEET_MILLISECONDS_MAX else []),
        *(["a decision"] if decision > DECISION_MILLISECONDS_MAX else []),
        *(f"waiting for {what}" for what, share in idle.items() if share > IDLE_SHARE_MAX),
    ]
    if missed:
        print(f"over the goal: {'; '.join(missed)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        asyncio.run(follow(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        asyncio.run(main())
