"""The list of executions, the inbox and the workers, in a real browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Locator, Page, expect

import outlast
from outlast.ports.durability.backend import Backend
from tests.web.browser import PATIENCE_MILLISECONDS, faults_of_access, opened_page
from tests.web.desk import WORKFLOWS, Echo, Idle, Survey, Trip
from tests.web.site import Site, inspected

pytestmark = pytest.mark.server

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend in this process, with a worker."""
    async with outlast.connect("memory:") as opened, opened.worker(WORKFLOWS, identity="worker-1"):
        yield opened


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page that has come in."""
    async with opened_page(browser) as page:
        await page.goto(site.entrance)
        yield page


def row(page: Page, id: str) -> Locator:
    """Return the row of an execution."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=id, exact=True))


def filters_of(page: Page) -> dict[str, list[str]]:
    """Return the filters that the address has."""
    return parse_qs(urlsplit(page.url).fragment.partition("?")[2], keep_blank_values=True)


async def shown_ids(page: Page) -> list[str]:
    """Return the ids of the rows, in their order."""
    return await page.locator("td.id > a").all_inner_texts()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE_MILLISECONDS / 1000):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_row_shows_what_is_going_on(backend: Backend, page: Page, folder: Path) -> None:
    await backend.start(Trip, "Ada", id="t-1", tags={"team": "red"})
    cells = row(page, "t-1").get_by_role("cell")
    await expect(cells.filter(has_text="step hold_seat")).to_contain_text("on worker-1")
    (folder / "open").touch()
    await expect(cells.filter(has_text="approval of tool pay")).to_be_visible()
    await expect(row(page, "t-1")).to_contain_text("running")
    await expect(row(page, "t-1")).to_contain_text("cashier")
    await expect(row(page, "t-1").locator("[data-unit=turns]")).to_have_text("4")
    await expect(row(page, "t-1").locator("[data-unit=tokens]")).to_have_text("440")
    await expect(row(page, "t-1").locator("[data-unit=cost]")).to_have_text("$0.0004")
    await expect(row(page, "t-1").get_by_role("link", name="team=red")).to_be_visible()
    [waiting] = await (await backend.get("t-1")).pending()
    await (await backend.get("t-1")).decide(waiting.key, "allow")
    await expect(row(page, "t-1")).to_contain_text("no paper for Ada")
    await expect(row(page, "t-1")).to_contain_text("took")


async def test_filters_stand_in_the_address_and_come_back_with_it(
    backend: Backend, site: Site, page: Page
) -> None:
    for number, team in enumerate(("red", "blue", "red")):
        await (await backend.start(Echo, 1, id=f"e-{number}", tags={"team": team})).result()
    await backend.start(Idle, id="i-1", tags={"team": "red"})
    await expect(row(page, "i-1")).to_be_visible()
    await row(page, "e-0").get_by_role("link", name="team=red").click()
    await expect(row(page, "e-1")).to_have_count(0)
    await page.get_by_label("Workflow", exact=True).fill("echo")
    await page.keyboard.press("Enter")
    await expect(row(page, "i-1")).to_have_count(0)
    await page.get_by_role("combobox", name="Status").select_option("completed")
    await until(lambda: _is("status" in filters_of(page)))
    await page.get_by_label("Id begins with", exact=True).fill("e-")
    await page.keyboard.press("Tab")
    await until(lambda: _is("id_prefix" in filters_of(page)))
    await page.get_by_role("combobox", name="Started").select_option("1h")
    await until(lambda: _is(len(filters_of(page)) == 5))
    assert filters_of(page) == {
        "tag.team": ["red"],
        "workflow": ["echo"],
        "status": ["completed"],
        "id_prefix": ["e-"],
        "within": ["1h"],
    }
    await page.reload()
    await expect(row(page, "e-2")).to_be_visible()
    assert await shown_ids(page) == ["e-2", "e-0"]
    for words in ("completed", "workflow echo", "id begins with e-", "started in the last hour", "team=red"):
        await expect(page.get_by_role("link", name=f"Remove the filter {words}")).to_be_visible()
    await expect(page.get_by_label("Workflow", exact=True)).to_have_value("echo")
    await page.get_by_label("Tag", exact=True).fill("team=blue")
    await page.keyboard.press("Enter")
    await expect(row(page, "e-1")).to_be_visible()
    await page.get_by_role("link", name="Remove the filter team=blue").click()
    await until(lambda: _is("tag.team" not in filters_of(page)))
    await expect(row(page, "e-0")).to_be_visible()
    await page.get_by_role("link", name="Remove all filters").click()
    await expect(row(page, "i-1")).to_be_visible()
    assert filters_of(page) == {}


async def _is(holds: bool) -> bool:
    return holds


async def test_a_filter_by_time_and_one_by_what_is_waited_for(
    backend: Backend, site: Site, page: Page
) -> None:
    await (await backend.start(Echo, 1, id="e-1")).result()
    await backend.start(Idle, id="i-1")
    await page.get_by_role("combobox", name="Waits for").select_option("condition")
    await expect(row(page, "e-1")).to_have_count(0)
    await expect(row(page, "i-1")).to_be_visible()
    await page.get_by_role("link", name="Remove all filters").click()
    await page.get_by_role("combobox", name="Started").select_option("between")
    await page.get_by_label("Until", exact=True).fill("2020-02-29T12:30")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("No execution fits.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Until", exact=True)).to_have_value("2020-02-29T12:30")
    await page.get_by_role("link", name="Show all executions").click()
    await expect(row(page, "e-1")).to_be_visible()


async def test_a_filter_that_cannot_be_says_what_is_wrong(site: Site, page: Page) -> None:
    await page.get_by_label("Tag", exact=True).fill("red")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("NAME=VALUE")
    await page.goto(f"{site.address}#/?status=asleep")
    await expect(page.get_by_role("alert")).to_contain_text("there is no status 'asleep'")


async def test_the_list_goes_on_page_by_page(browser: Browser, backend: Backend) -> None:
    for number in range(230):
        await backend.start(Idle, id=f"i-{number}", tags={"parity": str(number % 2)})
    async with inspected(backend) as site, opened_page(browser) as page:
        await page.goto(f"{site.entrance}#/?tag.parity=1")
        seen: list[str] = []
        await expect(page.get_by_text("100 executions on this page")).to_be_visible()
        seen += await shown_ids(page)
        await page.get_by_role("link", name="Older").click()
        await expect(page.get_by_text("15 executions on this page")).to_be_visible()
        seen += await shown_ids(page)
        assert seen == [f"i-{number}" for number in range(229, 0, -2)]
        await page.get_by_role("link", name="Newest").click()
        await expect(row(page, "i-229")).to_be_visible()


async def test_a_selection_is_paused_tagged_resumed_and_ended(
    backend: Backend, site: Site, page: Page
) -> None:
    for number in range(3):
        await backend.start(Idle, id=f"i-{number}")
    await (await backend.start(Echo, 1, id="e-1")).result()
    await expect(row(page, "e-1")).to_contain_text("completed")
    await page.get_by_role("checkbox", name="Choose all of this page").check()
    await page.get_by_role("checkbox", name="Choose i-0").uncheck()
    await expect(page.get_by_text("3 executions chosen")).to_be_visible()
    await page.get_by_role("button", name="Pause 2…").click()
    dialog = page.get_by_role("dialog", name="Pause 2 executions?")
    await expect(dialog).to_contain_text("begins no step until somebody resumes it")
    await expect(dialog.get_by_role("listitem")).to_have_count(2)
    await dialog.get_by_label("Reason").fill("stock-taking")
    await dialog.get_by_role("button", name="Pause 2").click()
    await expect(page.get_by_text("Pause: done for 2 of 2 executions.")).to_be_visible()
    for id in ("i-1", "i-2"):
        await expect(row(page, id)).to_contain_text("paused: stock-taking")
    await page.get_by_role("button", name="Tag 3…").click()
    dialog = page.get_by_role("dialog", name="Tag 3 executions")
    await dialog.get_by_role("button", name="Change the tags of 3").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Add a tag")
    await dialog.get_by_label("Add or replace").fill("team=red\nnote=a=b")
    await dialog.get_by_role("button", name="Change the tags of 3").click()
    await expect(row(page, "e-1").get_by_role("link", name="note=a=b")).to_be_visible()
    await page.get_by_role("button", name="Resume 2…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Resume 2").click()
    await expect(row(page, "i-2")).to_contain_text("running")
    await page.get_by_role("button", name="Cancel 2…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await expect(row(page, "i-2")).to_contain_text("running")
    await page.get_by_role("button", name="Cancel 2…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel 2").click()
    await expect(row(page, "i-2")).to_contain_text("cancelled")
    await page.get_by_role("button", name="Retry 2…").click()
    dialog = page.get_by_role("dialog", name="Retry 2 executions?")
    await expect(dialog).to_contain_text("No step runs again")
    await dialog.get_by_role("button", name="Retry 2").click()
    await expect(row(page, "i-1")).to_contain_text("running")
    assert {one.id: str(one.status) for one in await backend.list()} == {
        "i-0": "running",
        "i-1": "running",
        "i-2": "running",
        "e-1": "completed",
    }


async def test_what_one_of_a_selection_refuses_is_shown_and_stops_no_other(
    backend: Backend, page: Page
) -> None:
    for number in range(3):
        await backend.start(Idle, id=f"i-{number}")
    await expect(row(page, "i-2")).to_be_visible()
    await page.get_by_role("checkbox", name="Choose all of this page").check()
    await page.get_by_role("button", name="Terminate 3…").click()
    dialog = page.get_by_role("dialog", name="Terminate 3 executions?")
    await (await backend.get("i-1")).terminate("somebody was faster")
    await dialog.get_by_role("button", name="Terminate 3").click()
    await expect(dialog).to_contain_text("3 of 3 done, 1 refusal.")
    await expect(dialog.get_by_role("listitem").filter(has_text="i-1")).to_contain_text("is terminated")
    await dialog.get_by_role("button", name="Close").click()
    assert {str(one.status) for one in await backend.list()} == {"terminated"}


async def test_a_retry_says_before_what_would_run_again(
    backend: Backend, site: Site, page: Page, folder: Path
) -> None:
    (folder / "open").touch()
    execution = await backend.start(Trip, "Ada", id="t-1")
    await until(lambda: _any(execution.pending()))
    [waiting] = await execution.pending()
    await execution.decide(waiting.key, "allow")
    with pytest.raises(outlast.ExecutionFailed):
        await execution.result()
    await page.get_by_role("checkbox", name="Choose t-1").check()
    await page.get_by_role("button", name="Retry 1…").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Tried anew: print_ticket.")
    await page.keyboard.press("Escape")
    await page.goto(f"{site.address}#/executions/t-1")
    await page.get_by_role("button", name="Retry…").click()
    dialog = page.get_by_role("dialog", name="Retry")
    await expect(dialog).to_contain_text("Tried anew: print_ticket.")
    (folder / "paper").touch()
    await dialog.get_by_role("button", name="Retry").click()
    assert (await execution.result()).endswith("ticket of Ada")


async def _any(found: Awaitable[object]) -> bool:
    return bool(await found)


async def test_one_execution_is_paused_tagged_and_resumed_from_its_page(
    backend: Backend, site: Site, page: Page
) -> None:
    execution = await backend.start(Idle, id="i-1", tags={"old": "x"})
    await page.goto(f"{site.address}#/executions/i-1")
    await page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog", name="Pause")
    await dialog.get_by_label("Reason").fill("stock-taking")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(page.get_by_text("paused: stock-taking").first).to_be_visible()
    await expect(page.get_by_role("button", name="Pause…")).to_have_count(0)
    await page.get_by_role("button", name="Tag…").click()
    dialog = page.get_by_role("dialog", name="Tag i-1")
    await dialog.get_by_role("checkbox", name="old=x").check()
    await dialog.get_by_label("Add or replace").fill("team=red")
    await dialog.get_by_role("button", name="Change the tags").click()
    await expect(dialog).to_have_count(0)
    assert (await execution.describe()).tags == {"team": "red"}
    await page.get_by_role("button", name="Resume…").click()
    dialog = page.get_by_role("dialog", name="Resume")
    await expect(dialog).to_contain_text("No completed step runs again")
    await dialog.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("button", name="Pause…")).to_be_visible()
    assert str((await execution.describe()).status) == "running"


async def test_calls_of_several_executions_get_one_decision_with_the_name_of_who_made_it(
    browser: Browser, backend: Backend, folder: Path
) -> None:
    for name in ("open", "paper"):
        (folder / name).touch()
    executions = [await backend.start(Trip, name, id=f"t-{name}") for name in ("Ada", "Bob", "Cy")]
    async with inspected(backend, user="Grace") as site, opened_page(browser) as page:
        await page.goto(f"{site.entrance}#/inbox")
        await expect(page.get_by_role("form")).to_have_count(3)
        await expect(page.get_by_label("Decided by")).to_have_value("Grace")
        await page.get_by_label("Decided by").fill("Grace Hopper")
        await page.get_by_role("checkbox", name="Choose the call of pay in t-Ada").check()
        await page.get_by_role("checkbox", name="Choose the call of pay in t-Cy").check()
        await page.get_by_role("button", name="Deny 2…").click()
        dialog = page.get_by_role("dialog", name="Deny 2 calls?")
        await expect(dialog).to_contain_text("No call is made")
        await dialog.get_by_label("Reason").fill("too dear")
        await dialog.get_by_role("button", name="Deny 2").click()
        await expect(page.get_by_text("Deny: done for 2 of 2 calls.")).to_be_visible()
        await expect(page.get_by_role("form")).to_have_count(1)
        # The browser remembers who decides.
        await page.reload()
        await expect(page.get_by_label("Decided by")).to_have_value("Grace Hopper")
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_text("Nothing waits for a person.")).to_be_visible()
        for execution in executions:
            await execution.result()
        await page.goto(f"{site.address}#/executions/t-Cy")
        await expect(page.get_by_text("denied by Grace Hopper: too dear").first).to_be_visible()
    assert (folder / "paid").read_text() == "40 rail\n"


async def test_questions_are_answered_in_the_inbox_by_somebody(browser: Browser, backend: Backend) -> None:
    execution = await backend.start(Survey, id="s-1")
    async with inspected(backend, user="Grace") as site, opened_page(browser, bypass_csp=True) as page:
        await page.goto(f"{site.entrance}#/?waiting_for=answer")
        await expect(row(page, "s-1")).to_contain_text("Which customer?")
        await page.get_by_role("link", name="Inbox").click()
        form = page.get_by_role("form", name="Which customer?")
        await expect(form).to_contain_text("of sales")
        await form.get_by_label("Answer").fill("ACME <b>")
        await form.get_by_role("button", name="Answer").click()
        form = page.get_by_role("form", name="How many seats?")
        await form.get_by_label("Answer, as JSON").fill('"many"')
        assert await faults_of_access(page) == []
        await form.get_by_role("button", name="Answer").click()
        await expect(form.get_by_role("alert")).to_contain_text("answer")
        await form.get_by_label("Answer, as JSON").fill("3")
        await form.get_by_role("button", name="Answer").click()
        await expect(page.get_by_text("Nothing waits for a person.")).to_be_visible()
        assert await execution.result() == ["ACME <b>", 3]
        answered = [event for event in await site.events("s-1") if event["kind"] == "question_answered"]
        assert [event["data"]["by"] for event in answered] == ["Grace", "Grace"]


async def test_workers_and_what_each_carries_are_shown(
    backend: Backend, site: Site, page: Page, folder: Path
) -> None:
    await backend.start(Trip, "Ada", id="t-1")
    await until(lambda: _is((folder / "held").exists()))
    await expect(page.get_by_text("1 worker is alive and at work on 1 execution.")).to_be_visible()
    await page.get_by_role("link", name="1 worker").click()
    card = page.get_by_role("article").filter(has_text="worker-1")
    await expect(card).to_contain_text("echo, idle, purchase, survey, trip")
    await card.get_by_role("link", name="t-1").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("t-1")
    (folder / "open").touch()


async def test_the_page_says_that_no_worker_is_alive(browser: Browser) -> None:
    async with (
        outlast.connect("memory:") as backend,
        inspected(backend) as site,
        opened_page(browser) as page,
    ):
        await page.goto(site.entrance)
        await expect(page.get_by_text("There are no executions here yet.")).to_be_visible()
        await expect(page.get_by_text("No worker is alive: nothing goes on.")).to_be_visible()
        await backend.start("trip", "Ada", id="t-1")
        await expect(row(page, "t-1")).to_contain_text("no live worker runs workflow 'trip'")
        await page.get_by_role("link", name="Workers").click()
        await expect(page.get_by_text("No worker is alive: nothing goes on.")).to_be_visible()


async def test_on_a_phone_a_row_is_a_card_that_can_be_read_and_chosen(
    browser: Browser, backend: Backend, site: Site, folder: Path
) -> None:
    (folder / "open").touch()
    await backend.start(Trip, "Ada", id="a-rather-long-id-" + "0123456789" * 6, tags={"team": "x" * 80})
    async with opened_page(browser, viewport={"width": 360, "height": 740}, bypass_csp=True) as page:
        await page.goto(site.entrance)
        card = page.get_by_role("row").filter(has_text="a-rather-long-id")
        await expect(card).to_contain_text("approval of tool pay")
        await expect(card).to_contain_text("440")
        inside = await card.evaluate(
            "row => [...row.querySelectorAll('*')]"
            ".every(one => one.getBoundingClientRect().right <= innerWidth)"
        )
        assert inside, "a part of the card is outside of the window"
        await card.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Terminate 1…").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        assert await faults_of_access(page) == []
        box = await dialog.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


async def test_the_keyboard_alone_filters_chooses_and_ends(backend: Backend, page: Page) -> None:
    execution = await backend.start(Idle, id="i-1")
    await (await backend.start(Echo, 1, id="e-1")).result()
    await expect(row(page, "i-1")).to_be_visible()
    await _focus(page, page.get_by_label("Workflow", exact=True))
    await page.keyboard.type("idle")
    await page.keyboard.press("Enter")
    await expect(row(page, "e-1")).to_have_count(0)
    await _focus(page, page.get_by_role("checkbox", name="Choose i-1"))
    await page.keyboard.press("Space")
    await _focus(page, page.get_by_role("button", name="Terminate 1…"))
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=re.compile("Terminate"))
    await _focus(page, dialog.get_by_label("Reason"))
    await page.keyboard.press("Enter")
    await expect(row(page, "i-1")).to_contain_text("terminated")
    assert str((await execution.describe()).status) == "terminated"


async def _focus(page: Page, wanted: Locator) -> None:
    """Press Tab until the element has the focus."""
    await expect(wanted).to_be_visible()
    for _ in range(60):
        if await wanted.evaluate("element => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted}")
