"""The page of one execution: its timeline, conversation, machine, sums and journal, as a person uses them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Browser, Page, expect

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.entries import Entry
from outlast.core.errors import ModelOverloaded
from outlast.core.exports import ExportHeader, exported
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepKind,
    StepScheduled,
)
from outlast.core.usage import Usage
from outlast.ports.deltas import Publish
from outlast.ports.durability.backend import Backend
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.testing.contracts.examples import few_examples
from tests.web import office
from tests.web.browser import PATIENCE_MILLISECONDS, opened_page
from tests.web.desk import Echo, file, hold_seat
from tests.web.office import Office, let_work
from tests.web.site import Site, inspected

pytestmark = pytest.mark.server

expect.set_options(timeout=PATIENCE_MILLISECONDS)

MANY = 10_000
IN_PAGE_MAX = 400
"""The most rows of a list of any length that are in the page."""


class Stammering(outlast.ScriptedSession):
    """Begins a reply, and gives it up at the first attempt once the test lets it."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        if request.attempt == 1 and publish is not None:
            publish("The train at noon is fr")
            while not file("overloaded").exists():  # noqa: ASYNC110 - the test makes it
                await asyncio.sleep(0.01)
            raise ModelOverloaded(503, "try again")
        return await super().reply(request, resources, publish)


@workflow.define(name="stammer")
class Stammer:
    """Asks a model that gives up its first reply."""

    @workflow.entrypoint
    async def run(self) -> str:
        session = Stammering({"clerk": [say("The train at noon is full.")]}, stream=True)
        return (await outlast.Runner.run(outlast.Agent(model="m", name="clerk"), "go", session)).text


@workflow.define(name="family")
class Family:
    """Starts a child."""

    @workflow.entrypoint
    async def run(self) -> Any:
        return await workflow.execute_child(Echo.run, "hello")


@workflow.define(name="steered")
class Steered:
    """Asks a person, and runs an agent that people talk to."""

    @workflow.entrypoint
    async def run(self) -> str:
        city = await workflow.ask("Which city?", str, to="sales")
        workflow.tag({"city": city})
        clerk = outlast.Agent(model="m", name="clerk", tools=[hold_seat])
        session = outlast.ScriptedSession({"clerk": [call("hold_seat", {"seat": "1"}), say("Done.")]})
        try:
            return (await outlast.Runner.run(clerk, "go", session)).text
        except outlast.RunInterrupted:
            return "interrupted"


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend in this process, with a worker."""
    async with (
        outlast.connect("memory:") as opened,
        opened.worker([*office.WORKFLOWS, Echo, Stammer, Steered, Family]),
    ):
        yield opened


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page that has come in."""
    async with opened_page(browser, viewport={"width": 1400, "height": 1000}) as page:
        await page.goto(site.entrance)
        yield page


def address(site: Site, id: str, parameters: str = "") -> str:
    return f"{site.address}#/executions/{id}{parameters}"


async def allow(backend: Backend, id: str) -> None:
    """Allow the call of an execution that waits for a person, once there is one."""
    execution = await backend.get(id)
    async with asyncio.timeout(60):
        while not (waiting := await execution.pending()):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    await execution.decide(waiting[0].key, "allow")


@pytest.fixture
async def ended(backend: Backend, folder: Path) -> dict[str, Any]:
    """The result of an execution with everything in it."""
    let_work(folder)
    execution = await backend.start(Office, "Ada", id="o-1")
    await allow(backend, "o-1")
    result: dict[str, Any] = await execution.result()
    return result


async def position_of(site: Site, kind: str, **data: Any) -> int:
    """Return the position of the first such event of the execution with everything in it."""
    for event in await site.events("o-1"):
        if event["kind"] == kind and data.items() <= event["data"].items():
            position: int = event["position"]
            return position
    raise AssertionError(f"there is no {kind} with {data}")


async def test_the_machine_is_drawn_with_the_phase_that_the_run_had(
    site: Site, page: Page, ended: dict[str, Any]
) -> None:
    drawing = page.get_by_role("img", name=re.compile("The phases of a run"))
    phases = {
        "awaiting model": await position_of(site, "turn_started", agent="cashier"),
        "awaiting tools": await position_of(site, "approval_requested"),
        "checking answer": await position_of(site, "turn_started", agent="judge"),
        "finished": await position_of(site, "activity_started", name="print_ticket"),
    }
    for lit, position in phases.items():
        await page.goto(address(site, "o-1", f"?at={position}"))
        runs = page.locator(".machine select")
        await expect(runs).to_contain_text("clerk")
        names = await runs.locator("option").all_inner_texts()
        clerk = next(number for number, name in enumerate(names) if name.startswith("clerk"))
        await runs.select_option(index=clerk)
        await expect(drawing).to_have_attribute("aria-label", f"The phases of a run; lit: {lit}")
        await expect(drawing.locator(".lit text")).to_have_text(lit)
    about = await site.read("about")
    assert await drawing.locator(".phase").count() == len(about["machine"]["phases"])
    arrows = {(one["before"], one["after"]) for one in about["machine"]["transitions"]}
    assert await drawing.locator("path.arrow").count() == len(arrows)


async def test_selecting_in_the_timeline_selects_in_the_conversation_and_the_other_way_round(
    page: Page, site: Site, ended: dict[str, Any]
) -> None:
    await page.goto(address(site, "o-1"))
    await page.get_by_role("button", name=re.compile(r"^turn 2: done")).first.click()
    await expect(page.locator(".item.picked")).to_contain_text("I found two trains")
    call = page.locator(".item.call", has_text="pay")
    await call.get_by_role("button", name=re.compile("Select position")).click()
    related = page.locator(".span.related")
    await expect(related).to_have_count(2)
    names = [await related.nth(number).get_attribute("aria-label") for number in range(2)]
    assert [str(name).split(":")[0] for name in names] == ["approval of pay", "pay"]


async def test_a_reply_shows_thinking_images_references_and_files(
    page: Page, site: Site, ended: dict[str, Any]
) -> None:
    await page.goto(address(site, "o-1"))
    item = page.locator(".item.message", has_text="I found two trains")
    await expect(item.get_by_role("img", name="An image of the conversation")).to_be_visible()
    width = await item.get_by_role("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width == 160
    await expect(item.get_by_text("The early one is full.")).to_be_hidden()
    await item.get_by_text("Thinking").click()
    await expect(item.get_by_text("The early one is full.")).to_be_visible()
    await expect(item).to_contain_text("Source: Timetable https://rail.example/lyon")
    await expect(item).to_contain_text("Document: Terms https://rail.example/terms.pdf")
    await expect(item).to_contain_text("File: prices.csv")
    # Nothing of a model's text is an address that somebody can click.
    assert await item.get_by_role("link").count() == 0
    # A large image is cut in what the page follows.
    large = page.locator(".item.message", has_text="The bags are here.").get_by_role("img")
    assert await large.evaluate("image => image.decode().then(() => image.naturalWidth)") == 40_000


async def test_failed_attempts_are_ticks_and_are_listed(
    page: Page, site: Site, ended: dict[str, Any]
) -> None:
    await page.goto(address(site, "o-1"))
    bar = page.get_by_role("button", name=re.compile("look_up: done, .*, attempt 3")).first
    await expect(bar.locator(".tick")).to_have_count(2)
    await bar.click()
    await expect(page.locator(".attempts li")).to_have_count(2)
    await expect(page.locator(".attempts li").first).to_contain_text(
        "the timetable does not answer, attempt 1"
    )


async def test_the_text_of_an_attempt_that_was_given_up_is_struck_through(
    page: Page, site: Site, backend: Backend, folder: Path
) -> None:
    execution = await backend.start(Stammer, id="s-1")
    await page.goto(address(site, "s-1"))
    await expect(page.locator(".item.live")).to_contain_text("The train at noon is fr")
    assert await page.locator("s").count() == 0
    (folder / "overloaded").touch()
    await execution.result()
    await expect(page.locator("s", has_text="The train at noon is fr")).to_have_count(1)
    await expect(page.locator(".item.message")).to_contain_text("The train at noon is full.")


async def test_a_parent_and_its_child_lead_to_each_other(page: Page, site: Site, backend: Backend) -> None:
    await (await backend.start(Family, id="f-1")).result()
    await page.goto(address(site, "f-1"))
    await page.locator(".item.call").get_by_role("link").click()
    await expect(page.get_by_text("Child of")).to_be_visible()
    await page.get_by_role("link", name="f-1").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("f-1")


async def test_what_people_say_is_in_the_conversation_and_in_the_timeline(
    page: Page, site: Site, backend: Backend
) -> None:
    execution = await backend.start(Steered, id="s-1")
    await page.goto(address(site, "s-1"))
    talk = page.get_by_role("region", name="Conversation").last
    await expect(talk).to_contain_text("question to sales: Which city?")
    form = page.get_by_role("form", name="Which city?")
    await form.get_by_label("Answer").fill("Lyon")
    await form.get_by_label("Decided by").fill("Bob")
    await form.get_by_role("button", name="Answer").click()
    await expect(page.get_by_role("button", name="question: Which city?: done")).to_be_visible()
    await expect(form).to_have_count(0)
    await expect(page.get_by_role("button", name="hold_seat: under way")).to_be_visible()
    await execution.say("Please stop at Dijon.", by="Ann")
    await execution.interrupt("too far", by="Eve")
    assert await execution.result() == "interrupted"
    await expect(talk).to_contain_text("The workflow ends with")
    for text in (
        "question answered by Bob: Lyon",
        "tagged city=Lyon",
        "message by Ann to clerk: Please stop at Dijon.",
        "run interrupted by Eve: too far",
    ):
        await expect(talk).to_contain_text(text)
        if "question" not in text:
            await expect(page.get_by_role("button", name=text)).to_be_visible()


async def test_the_sums_of_tokens_are_the_usage_of_each_run(
    page: Page, site: Site, ended: dict[str, Any]
) -> None:
    await page.goto(address(site, "o-1"))
    rows = page.get_by_role("region", name="Tokens").get_by_role("row")
    await expect(page.locator(".item.result")).to_be_visible()  # All events are there.
    cells = "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    found = {
        name.lstrip("▸▾ "): [count.replace(",", "") for count in counts]
        for name, *counts in await rows.evaluate_all(cells)
    }
    names = ["prompt_tokens", "completion_tokens", "total_tokens"]
    trip, bags = ([str(usage[name]) for name in names] for usage in ended["usages"])
    judge = found["judge, run 3"]
    assert found["clerk → cashier, run 1"] == trip
    assert found["porter, run 4"] == bags
    guide = found["guide, run 2"]
    assert int(judge[2]) > 0
    assert int(guide[2]) > 0
    whole = [str(int(one) + int(other)) for one, other in zip(trip, bags, strict=True)]
    assert found["Execution"] == whole
    await page.get_by_role("button", name="clerk → cashier, run 1").click()
    turns = [
        await row.locator("td").last.inner_text()
        for row in await rows.filter(has_text=re.compile(r"turn \d")).all()
    ]
    assert sum(int(turn.replace(",", "")) for turn in turns) == int(trip[2]) - int(judge[2]) - int(guide[2])


# The sums of any program ---------------------------------------------------------------------------------

COUNTS = ["prompt_tokens", "completion_tokens", "total_tokens"]
counts = st.integers(0, 10**6)


@st.composite
def ledgers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Runs, one after the other: what each turn costs, and the runs within."""
    return [
        {
            "turns": draw(st.lists(counts, min_size=1, max_size=3)),
            "helper": draw(st.none() | counts),
            "judge": draw(st.none() | counts),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


def note(text: str) -> str:
    """Note something."""
    return text


PRICES = {"m": outlast.Price(input="0.15", output="0.075")}


@workflow.define(name="ledger")
class Ledger:
    """Runs agents that cost what they are said to."""

    @workflow.entrypoint
    async def run(self, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [await self._usage_of(one) for one in runs]

    async def _usage_of(self, costs: dict[str, Any]) -> dict[str, Any]:
        def script(request: ModelRequest) -> ModelReply:
            turns = costs["turns"]
            entry: Entry = say('{"allowed": true}' if request.agent == "judge" else "done")
            if request.agent == "boss" and request.turn < len(turns):
                has_helper = costs["helper"] is not None and request.turn == 1
                entry = call("helper", {"input": "go"}) if has_helper else call("note", {"text": "x"})
            cost = turns[request.turn - 1] if request.agent == "boss" else costs[request.agent]
            usage = Usage(prompt_tokens=cost, completion_tokens=cost + 1, total_tokens=2 * cost + 1)
            return ModelReply(entries=(entry,), usage=usage)

        helper = outlast.Agent(model="m", name="helper", description="Helps")
        judges = [] if costs["judge"] is None else [outlast.Agent(model="m", name="judge")]
        boss = outlast.Agent(model="m", name="boss", tools=[note, helper], output_guardrails=judges)
        result = await outlast.Runner.run(boss, "go", outlast.ScriptedSession(script, prices=PRICES))
        usage: dict[str, Any] = result.usage.model_dump(mode="json")
        return usage


SUMS = """
    async (events) => {
      const { modelOf } = await import("/static/model.js");
      const { runs, usage } = modelOf(events);
      const sumOf = (run) => ({
        usage: run.usage,
        turns: [...run.turns.values()].map((turn) => turn.usage),
        within: run.within.map(sumOf),
      });
      return { runs: runs.filter((run) => run.depth === 0).map(sumOf), valid: usage.valid };
    }
"""


def parts_of_a_dollar(usage: dict[str, Any]) -> int:
    """Return the cost as the page counts it."""
    return int(Decimal(usage["cost"]) * 10**12)


@few_examples(8)
@given(runs=ledgers())
async def test_the_sums_of_any_program_are_those_of_its_results(
    browser: Browser, runs: list[dict[str, Any]]
) -> None:
    async with outlast.connect("memory:") as place, place.worker([Ledger]), inspected(place) as site:
        execution = await place.start(Ledger, runs, id="b-1")
        usages = await execution.result()
        async with opened_page(browser) as page:
            await page.goto(site.entrance)
            found = await page.evaluate(SUMS, await site.events("b-1"))

    def check(run: dict[str, Any]) -> None:
        for name in (*COUNTS, "cost"):
            parts = [*run["turns"], *(one["usage"] for one in run["within"])]
            assert run["usage"][name] == sum(one[name] for one in parts)
        for one in run["within"]:
            check(one)

    for run in found["runs"]:
        check(run)
    shown = [{name: run["usage"][name] for name in (*COUNTS, "cost")} for run in found["runs"]]
    assert shown == [
        {name: usage[name] for name in COUNTS} | {"cost": parts_of_a_dollar(usage)} for usage in usages
    ]
    for name in COUNTS:
        assert found["valid"][name] == sum(usage[name] for usage in usages)
    assert found["valid"]["cost"] == sum(map(parts_of_a_dollar, usages))
    assert found["valid"]["unpriced"] == 0


# Long ----------------------------------------------------------------------------------------------------


def long_journal(records: int) -> Iterator[str]:
    """Yield the export of an execution with so many records."""
    steps = (records - 2) // 2
    journal: list[AnyRecord] = [ExecutionStarted(at=1.0e9, workflow="echo", arguments={"what": 1})]
    for number in range(steps):
        key = f"{number}.0"
        given: dict[str, JSON] = {"what": f"number {number}"}
        journal.append(StepScheduled(key=key, kind=StepKind.ACTIVITY, name="echo", arguments=given))
        journal.append(StepCompleted(at=1.0e9 + number, key=key, result={"was": number, "text": "x" * 50}))
    journal.append(ExecutionEnded(status=Status.COMPLETED, result=1))
    header = ExportHeader(
        id="l-1", workflow="echo", task_queue="default", exported_at=2.0e9, records=len(journal)
    )
    return exported(header, journal)


async def test_a_long_journal_is_a_list_of_which_the_page_has_a_part(
    page: Page, site: Site, backend: Backend
) -> None:
    await backend.import_(list(long_journal(MANY)), id="l-1")
    await page.goto(address(site, "l-1", "?view=journal"))
    records = page.get_by_role("region", name="Records", exact=True)
    await expect(records.get_by_text("execution_started")).to_be_visible()
    await expect(page.get_by_role("heading", name=f"Journal {MANY:,} records")).to_be_visible()
    await records.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    await expect(records.get_by_text("execution_ended")).to_be_visible()
    await expect(records.get_by_text("execution_started")).to_have_count(0)
    assert await records.locator("li").count() < IN_PAGE_MAX
    await page.get_by_label("Go to position").fill("5000")
    await page.keyboard.press("Enter")
    await expect(records.locator("li.picked")).to_contain_text("step_scheduled")
    await expect(records.locator("li.picked")).to_be_in_viewport()
    await page.get_by_label("Search in the records").fill("number 4321")
    await expect(records.locator("li")).to_have_count(1)
    await expect(records.locator("li")).to_contain_text("8644")
    await page.get_by_label("Search in the records").fill("step_completed")
    await expect(page.get_by_role("heading", name="the first 200 with this text")).to_be_visible()
    await records.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    await expect(records.locator('li[aria-posinset="150"]')).to_have_count(1)
    await page.get_by_role("button", name="Run", exact=True).click()
    talk = page.get_by_role("region", name="Conversation").last
    await talk.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    await expect(talk.get_by_text("The workflow ends with")).to_be_visible()
    assert await talk.locator("li").count() < IN_PAGE_MAX
    assert await page.locator(".span").count() < IN_PAGE_MAX


async def test_a_very_long_text_is_laid_out_where_it_is_seen(
    page: Page, site: Site, backend: Backend
) -> None:
    text = "long words \U0001f682" * 75_000
    await (await backend.start(Echo, text, id="e-1")).result()
    await page.goto(address(site, "e-1", "?pick=1"))
    details = page.locator("section", has_text="Position 1:").last
    await details.get_by_role("button", name=re.compile("Load all")).click()
    await details.get_by_role("button", name=re.compile("Show all")).click()
    shown = details.get_by_label("data of the event")
    await expect(shown.locator(".piece").nth(40)).to_be_attached()
    whole = await shown.evaluate("element => element.textContent")
    assert json.loads(whole) == {"workflow": "echo", "arguments": {"what": text}}
    piece = shown.locator(".piece").first
    assert await piece.evaluate("one => getComputedStyle(one).contentVisibility") == "auto"
