"""A person at the page while a worker is killed: they see the crash, and mend a failure by a fork."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

import outlast
from tests.children import Child
from tests.crash.processes import Effects
from tests.house.wheels import REPOSITORY
from tests.web.browser import PATIENCE_MILLISECONDS, opened_page
from tests.web.desk import Trip
from tests.web.site import inspected, url_of

pytestmark = [pytest.mark.server, pytest.mark.crash]

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@contextmanager
def worker(url: str) -> Iterator[Child]:
    """Run a worker in a process of its own."""
    command = [sys.executable, "-m", "outlast.cli", "worker", "tests.web.desk", "--processes", "0"]
    process = Child([*command, "--lease", "2", "--backend", url, "--log-level", "warning"], cwd=REPOSITORY)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["sqlite", "redis", "temporal"])
async def test_a_person_sees_a_crash_allows_a_call_and_mends_a_failure(
    browser: Browser, folder: Path, kind: str
) -> None:
    url = await url_of(kind, folder)
    async with outlast.connect(url) as backend, inspected(backend) as site, opened_page(browser) as page:
        with worker(url) as lost:
            await page.goto(site.entrance)
            await backend.start(Trip, "Ada", id="trip 1/é")
            await page.get_by_role("link", name="trip 1/é").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("trip 1/é")
            await Effects(folder).until((folder / "held").exists)
            lost.kill()
            lost.wait()
        with worker(url):
            await _after_the_crash(page, folder, kind)
            if kind != "temporal":
                await _mended_by_a_fork(page)
    assert (folder / "paid").read_text() == "55 rail\n"
    assert len((folder / "held").read_text().splitlines()) == 2


async def _after_the_crash(page: Page, folder: Path, kind: str) -> None:
    """Allow the call with other arguments, and find the step that fails."""
    if kind != "temporal":  # Temporal's history does not say that a worker was lost.
        crash = page.get_by_role("region", name="A crash")
        await expect(crash).to_contain_text("A worker was lost")
        await expect(crash).to_contain_text("find_train")
        await expect(crash).to_contain_text("attempted again: hold_seat")
        await expect(
            page.get_by_role("button", name=re.compile("A worker was lost; a gap of"))
        ).to_be_visible()
    (folder / "open").touch()
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
    await form.get_by_role("button", name="Allow with these arguments").click()
    await expect(page.get_by_text("All is paid. Bon voyage!")).to_be_visible()
    failure = page.get_by_role("region", name="Failure").first
    await expect(failure).to_contain_text("no paper for Ada")
    await expect(failure).to_contain_text("print_ticket")
    await expect(failure).to_contain_text("desk.py")
    # A call with other arguments shows both.
    await page.get_by_text("pay {").click()
    await expect(page.get_by_label("arguments of the model")).to_contain_text("40")


async def _mended_by_a_fork(page: Page) -> None:
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
