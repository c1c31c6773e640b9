"""A person at the page while a worker is killed: they see the crash, and mend a failure by a fork."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from outlast.ports.durability.backend import Backend
from outlast.testing.contracts.crash.effects import Effects
from tests.web.browser import PATIENCE_MILLISECONDS, opened_page
from tests.web.desk import Purchase, Trip
from tests.web.site import inspected
from tests.web.stages import worked_on

pytestmark = [pytest.mark.server, pytest.mark.crash]

expect.set_options(timeout=PATIENCE_MILLISECONDS)

KINDS = ["memory", "sqlite", "redis", "temporal"]
NAMES_LOST_WORKERS = {"memory", "sqlite", "redis"}
"""The backends whose journals name the worker that was lost; Temporal's history has the attempt alone."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_sees_a_crash_allows_a_call_and_mends_a_failure(
    browser: Browser, folder: Path, kind: str
) -> None:
    async with (
        worked_on(kind, folder) as place,
        inspected(place.backend) as site,
        opened_page(browser) as page,
    ):
        async with place.worker() as kill:
            await page.goto(site.entrance)
            await place.backend.start(Trip, "Ada", id="trip 1/é")
            await page.get_by_role("link", name="trip 1/é").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("trip 1/é")
            await Effects(folder).until(lambda: _is_written(folder / "held"))
            lost = await _workers(place.backend) if kind in NAMES_LOST_WORKERS else []
            await kill()
        async with place.worker():
            if kind in NAMES_LOST_WORKERS:
                await _sees_the_crash(page, place.backend, lost)
            (folder / "open").touch()
            await _allows_with_other_arguments(page)
            await _finds_the_failure(page)
            await _gives_another_result(page)
    assert (folder / "paid").read_text() == "55 rail\n"
    assert len((folder / "held").read_text().splitlines()) == 2


def _is_written(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


async def _workers(backend: Backend) -> list[str]:
    return [one.identity for one in await backend.workers()]


async def _sees_the_crash(page: Page, backend: Backend, lost: list[str]) -> None:
    """See who was lost, the gap, who took over, and what was not repeated."""
    crash = page.get_by_role("region", name="A crash")
    await expect(crash).to_contain_text("A worker was lost")
    await expect(crash).to_contain_text(f"Lost{lost[0]}")
    [taker] = {*await _workers(backend)} - {*lost}
    await expect(crash).to_contain_text(f"Took over{taker}")
    await expect(crash).to_contain_text("nothing happened for")
    await expect(crash).to_contain_text("find_train")
    await expect(crash).to_contain_text("Attempted againhold_seat")
    await expect(
        page.get_by_role("button", name=re.compile("was lost; a gap of .* took over"))
    ).to_be_visible()


async def _allows_with_other_arguments(page: Page) -> None:
    form = page.get_by_role("form", name="cashier asks to call pay")
    await expect(form).to_contain_text("pay")
    await form.get_by_label("amount").fill("all of it")
    await expect(form.get_by_role("alert")).to_contain_text("amount must be a number")
    await form.get_by_role("button", name="Edit as JSON").click()
    await form.get_by_label("As JSON").fill('{"amount": "all of it"}')
    await form.get_by_role("button", name="Allow with these arguments").click()
    await expect(form.get_by_role("alert")).to_contain_text("amount")
    await form.get_by_role("button", name="Back to the fields").click()
    await form.get_by_label("amount").fill("55")
    await form.get_by_label("Decided by").fill("Grace")
    await form.get_by_role("button", name="Allow with these arguments").click()
    await expect(page.get_by_text("All is paid. Bon voyage!")).to_be_visible()


async def _finds_the_failure(page: Page) -> None:
    failure = page.get_by_role("region", name="Failure").first
    await expect(failure).to_contain_text("no paper for Ada")
    await expect(failure).to_contain_text("print_ticket")
    await expect(failure).to_contain_text("desk.py")
    # A call with other arguments shows both, and who wanted that.
    await page.get_by_text("pay {").click()
    await expect(page.get_by_text("allowed with other arguments by Grace").first).to_be_visible()
    await expect(page.get_by_label("arguments of the model")).to_contain_text("40")


async def _gives_another_result(page: Page) -> None:
    """Fork with another result of the step that failed, and see the end."""
    await page.get_by_role("button", name=re.compile("print_ticket: failed")).click()
    await page.get_by_role("button", name="Fork with another result…").click()
    dialog = page.get_by_role("dialog", name="Fork")
    await expect(dialog).to_contain_text("not run again")
    await dialog.get_by_label("A result instead of the failure").fill('"ticket by hand"')
    await dialog.get_by_label("Id of the fork").fill("trip-2")
    await dialog.get_by_role("button", name="Fork", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("trip-2")
    await expect(page.get_by_text("completed").first).to_be_visible()
    await expect(page.get_by_label("result", exact=True).last).to_contain_text("ticket by hand")
    await expect(page.get_by_text("first difference").first).to_be_visible()
    await page.get_by_role("button", name=re.compile("First difference: position")).click()
    await expect(page.get_by_role("heading", name=re.compile("activity completed"))).to_be_visible()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_edits_the_argument_that_a_step_failed_with_forks_allows_and_sees_the_end(
    browser: Browser, folder: Path, kind: str
) -> None:
    async with (
        worked_on(kind, folder) as place,
        inspected(place.backend) as site,
        opened_page(browser) as page,
    ):
        async with place.worker() as kill:
            await page.goto(site.entrance)
            original = await place.backend.start(Purchase, "Ada", id="p-1")
            await page.get_by_role("link", name="p-1").click()
            await Effects(folder).until(lambda: _is_written(folder / "held"))
            await kill()
        (folder / "open").touch()
        async with place.worker():
            await _allow(page, amount="80")
            await expect(page.get_by_role("region", name="Failure").first).to_contain_text(
                "card blue ends at 50"
            )
            # The step that failed, and the reply of the model that asked for it.
            await page.get_by_role("button", name=re.compile("charge: failed")).click()
            await expect(page.get_by_role("heading", name=re.compile("tool called"))).to_be_visible()
            await page.get_by_role("button", name=re.compile("turn 3: done")).click()
            await page.get_by_role("button", name="Fork with another result…").click()
            dialog = page.get_by_role("dialog", name="Fork")
            reply = dialog.get_by_label("Result of the step, as JSON")
            written = await reply.input_value()
            edited = written.replace("80", "40")
            assert edited != written
            json.loads(edited)
            await reply.fill(edited)
            await dialog.get_by_label("Id of the fork").fill("p-2")
            await dialog.get_by_role("button", name="Fork", exact=True).click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("p-2")
            await _allow(page, amount="40")
            await expect(page.get_by_text("The seat is yours.").first).to_be_visible()
            await expect(page.get_by_text("completed").first).to_be_visible()
            await expect(page.get_by_text("first difference").first).to_be_visible()
            assert str((await original.describe()).status) == "failed"
    assert (folder / "charged").read_text() == "40 blue\n"
    assert len((folder / "held").read_text().splitlines()) == 2


async def _allow(page: Page, *, amount: str) -> None:
    form = page.get_by_role("form", name="buyer asks to call charge")
    await expect(form.get_by_label("amount")).to_have_value(amount)
    await form.get_by_role("button", name="Allow", exact=True).click()
    await expect(form).to_have_count(0)
