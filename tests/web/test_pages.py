"""The page in a real browser: hostile text, the keyboard alone, breaks, and what screen readers need."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

import outlast
import outlast.web
from outlast.core.errors import StorageUnavailable
from outlast.core.events import EventKind
from outlast.ports.durability.backend import Backend
from tests.web.browser import PATIENCE_MILLISECONDS, faults_of_access, opened_page
from tests.web.desk import WORKFLOWS, Echo, Idle, Trip
from tests.web.site import Site, inspected, listening

pytestmark = pytest.mark.server

expect.set_options(timeout=PATIENCE_MILLISECONDS)

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "javascript:document.title = 'taken'",
    "\u202egnp.exe \u2066 \x1b[31m \x00",
    {"__proto__": {"toString": "x"}, "constructor": 1, "type": "text"},
    "half \ud83d",
    "tag \U000e0041 selector \ufe0f \U000e0101 joiner \u034f filler \u3164 \u115f \u1160 \uffa0 mark \u061c",
    "]]>--></pre></script><svg onload=document.title=1>",
]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend in this process, with a worker."""
    async with outlast.connect("memory:") as opened, opened.worker(WORKFLOWS):
        yield opened


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page that has come in."""
    async with opened_page(browser) as page:
        await page.goto(site.entrance)
        yield page


def address(site: Site, id: str, parameters: str = "") -> str:
    return f"{site.address}#/executions/{id}{parameters}"


async def test_text_is_text_whatever_it_says(backend: Backend, site: Site, page: Page) -> None:
    for number, hostile in enumerate(HOSTILE):
        await (await backend.start(Echo, hostile, id=f"e-{number}<b>")).result()
        await page.goto(address(site, f"e-{number}%3Cb%3E"))
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"e-{number}<b>")
        result = page.get_by_label("result", exact=True).last
        await expect(result).to_be_visible()
        text = await result.inner_text()
        if isinstance(hostile, str):
            assert "".join(text.split()) == "".join(shown(hostile).split())
        else:
            assert json.loads(text) == hostile
        await page.get_by_role("button", name="Journal").click()
        await expect(page.get_by_text("execution_started").first).to_be_visible()
        assert await page.title() == f"e-{number}<b> · Outlast"
    await page.goto(site.address)
    await expect(page.get_by_role("link", name="e-0<b>")).to_be_visible()
    assert await page.locator("script:not([src]), img, svg, b").count() == 0


def shown(text: str) -> str:
    """Return a text as the page shows it: with characters that nobody sees by their number."""
    hidden = re.compile(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u034f\u061c\u115f\u1160\u202a-\u202e\u2066-\u2069\u3164\ud800-\udfff"
        r"\ufe0f\uffa0\U000e0041\U000e0101]"
    )
    return hidden.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


async def test_numbers_keep_their_digits(backend: Backend, site: Site, page: Page) -> None:
    value = {"long": 12345678901234567890, "float": 1.0, "small": 1e-07, "plain": 7}
    await (await backend.start(Echo, value, id="e-1")).result()
    await page.goto(address(site, "e-1"))
    result = page.get_by_label("result", exact=True).last
    await expect(result).to_contain_text("12345678901234567890")
    assert json.loads(await result.inner_text(), parse_float=str) == {
        "long": 12345678901234567890,
        "float": "1.0",
        "small": "1e-07",
        "plain": 7,
    }


async def test_the_keyboard_alone_allows_a_call(
    backend: Backend, site: Site, page: Page, folder: Path
) -> None:
    (folder / "open").touch()
    (folder / "paper").touch()
    execution = await backend.start(Trip, "Ada", id="t-1")
    await expect(page.get_by_role("link", name="t-1")).to_be_visible()
    await until_focused(page, "link", "t-1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("form", name="cashier asks to call pay")).to_be_visible()
    await until_focused(page, "button", "Allow")
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("completed").first).to_be_visible()
    assert (await execution.result()).endswith("ticket of Ada")
    # In the timeline, the arrow keys go from one step to the next.
    await until_focused(page, "button", "turn 1: done")
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("heading", name=re.compile("Position 4: tool called"))).to_be_visible()
    await page.keyboard.press("End")
    await expect(page.get_by_role("button", name="completed", exact=True)).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_role("button", name=re.compile("print_ticket: done"))).to_be_focused()


async def until_focused(page: Page, role: Any, name: str) -> None:
    """Press Tab until the element has the focus."""
    wanted = page.get_by_role(role, name=name).first
    await expect(wanted).to_be_visible()
    for _ in range(80):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {role} {name!r}")


async def test_a_dialog_keeps_the_keyboard_and_a_refusal_says_why(
    backend: Backend, site: Site, page: Page
) -> None:
    await backend.start(Idle, id="i-1")
    await page.goto(address(site, "i-1"))
    await page.get_by_role("button", name="Send a signal…").click()
    dialog = page.get_by_role("dialog", name="Send a signal")
    await dialog.get_by_label("Signal (the name of the handler)").fill("wish")
    await dialog.get_by_label("Arguments").fill("[1")
    await dialog.get_by_role("button", name="Send a signal").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("cannot be read as JSON")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await page.get_by_role("button", name="Terminate…").click()
    dialog = page.get_by_role("dialog", name="Terminate")
    await expect(dialog).to_contain_text("without any clean-up")
    await dialog.get_by_role("button", name="Terminate").click()
    await expect(page.get_by_text("terminated").first).to_be_visible()


async def test_the_past_is_shown_as_it_was(backend: Backend, site: Site, page: Page, folder: Path) -> None:
    (folder / "open").touch()
    await backend.start(Trip, "Ada", id="t-1")
    await page.goto(address(site, "t-1"))
    await expect(page.get_by_text("Somebody must allow this.")).to_be_visible()
    slider = page.get_by_role("slider")
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_text("showing the past")).to_be_visible()
    await expect(page.get_by_text("I look for a train.")).to_have_count(0)
    for _ in range(2):
        await page.keyboard.press("ArrowRight")
    await expect(page.get_by_text("I look for a train.")).to_be_visible()
    await expect(page.get_by_text("Somebody must allow this.")).to_have_count(0)
    await expect(page.locator(".tokens")).to_have_text("110")
    await expect(page.locator(".cost")).to_have_text("$0.0001")
    assert "at=3" in page.url
    await page.reload()
    await expect(page.get_by_text("I look for a train.")).to_be_visible()
    for at, shown in (("0", "1"), ("-5", "1"), ("abc", "15"), ("1e9", "15"), ("2.7", "2")):
        await page.goto(address(site, "t-1", f"?at={at}"))
        await expect(page.get_by_text(re.compile(r"^Position \d+ of 15"))).to_contain_text(
            f"Position {shown} of 15"
        )
        await expect(page.get_by_text("NaN")).to_have_count(0)
    await page.goto(address(site, "t-1", "?at=3"))
    await page.get_by_role("button", name="Now").click()
    await expect(page.get_by_text("Somebody must allow this.")).to_be_visible()
    await expect(page.locator(".tokens")).to_have_text("440")
    await expect(page.locator(".cost")).to_have_text("$0.0004")


VIEWS = {
    "": "i-1",
    "?status=running&tag.team=red": "a condition of its code",
    "?status=terminated&within=1h": "No execution fits.",
    "inbox": "Choose all",
    "workers": "Carries",
    "executions/t-1": "Somebody must allow this.",
    "executions/t-1?view=journal": "execution_started",
    "executions/t-1?pick=4": "Position 4: tool called",
    "executions/nobody": "no execution 'nobody'",
}
"""The views, each with a text that is there when it is loaded."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
async def test_axe_finds_nothing_serious_on_any_view(
    browser: Browser, backend: Backend, folder: Path, scheme: Any, width: int
) -> None:
    (folder / "open").touch()
    await backend.start(Trip, "Ada", id="t-1")
    await backend.start(Trip, "Bob", id="t-2")
    failed = await backend.start(Echo, "x", id="e-1")
    await failed.result()
    await backend.start(Idle, id="i-1", tags={"team": "red"})
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    async with inspected(backend) as site, opened_page(browser, bypass_csp=True, **options) as page:
        await page.goto(site.entrance)
        for view, text in VIEWS.items():
            await page.goto(f"{site.address}#/{view}")
            await expect(page.get_by_text(text).first).to_be_visible()
            assert await faults_of_access(page) == [], view
            if view == "inbox":
                for id in ("t-1", "t-2"):
                    await expect(page.get_by_role("form", name=f"asks to call pay in {id}")).to_have_count(1)
            overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, f"{view} is wider than the window"
        await page.goto(f"{site.address}#/executions/t-1")
        await page.get_by_role("button", name="Cancel…").click()
        assert await faults_of_access(page) == []
        await page.goto(f"{site.address}#/?status=running")
        await page.get_by_role("checkbox", name="Choose all of this page").check()
        for verb in ("Pause", "Terminate", "Tag"):
            await page.get_by_role("button", name=re.compile(f"{verb} 3…")).click()
            assert await faults_of_access(page) == [], verb
            await page.keyboard.press("Escape")


class _Away:
    """A backend whose store can be away."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        if self.is_away:
            raise StorageUnavailable("the store does not answer")
        return getattr(self._backend, name)


async def test_the_page_says_that_the_backend_is_away_and_goes_on_when_it_is_back(
    browser: Browser, backend: Backend
) -> None:
    place: Any = _Away(backend)
    async with inspected(place) as site, opened_page(browser) as page:
        await page.goto(site.entrance)
        await backend.start(Idle, id="i-1")
        await expect(page.get_by_role("link", name="i-1")).to_be_visible()
        place.is_away = True
        await expect(page.get_by_role("alert")).to_contain_text("the store does not answer")
        await expect(page.get_by_role("link", name="i-1")).to_be_visible()
        place.is_away = False
        await expect(page.get_by_role("alert")).to_have_count(0)
        await page.get_by_role("link", name="i-1").click()
        await page.get_by_role("button", name="Send an update…").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Update (the name of the handler)").fill("wish")
        place.is_away = True
        await dialog.get_by_role("button", name="Send an update").click()
        # Nobody sends it again by itself.
        await expect(dialog.get_by_role("alert")).to_have_text("Error: the store does not answer")
        await expect(dialog.get_by_label("Id (empty: a new one)")).to_have_value("")


async def test_the_page_goes_on_when_the_inspector_is_back_and_shows_nothing_twice(
    browser: Browser, backend: Backend, folder: Path
) -> None:
    app = outlast.web.inspector(backend, token="t" * 32)
    execution = await backend.start(Trip, "Ada", id="t-1")
    async with opened_page(browser) as page:
        async with listening(app) as address:
            await page.goto(f"{address}?token={app.token}#/executions/t-1")
            await expect(page.get_by_text("I look for a train.")).to_be_visible()
        await expect(page.get_by_role("alert").first).to_contain_text("does not answer")
        (folder / "open").touch()
        (folder / "paper").touch()
        async with asyncio.timeout(30):
            async for event in execution.events():
                if event.kind == EventKind.APPROVAL_REQUESTED:
                    break
        [waiting] = await execution.pending()
        await execution.decide(waiting.key, "allow")
        await execution.result()
        async with listening(app, urlsplit(address).port or 0):
            await expect(page.get_by_text("All is paid. Bon voyage!").first).to_be_visible()
            await expect(page.get_by_role("alert")).to_have_count(0)
            assert await page.get_by_text("I look for a train.").count() == 1
            positions = await page.locator(".item .select").all_inner_texts()
            assert positions == sorted(positions, key=int)


async def test_a_page_without_the_token_says_what_to_do(browser: Browser, site: Site) -> None:
    async with opened_page(browser) as page:
        await page.goto(site.address)
        assert "Open the whole URL that was printed" in await page.inner_text("body")


async def test_an_inspector_that_only_reads_offers_no_action(
    browser: Browser, backend: Backend, folder: Path
) -> None:
    (folder / "open").touch()
    await backend.start(Trip, "Ada", id="t-1")
    async with inspected(backend, read_only=True) as site, opened_page(browser) as page:
        await page.goto(f"{site.entrance}#/executions/t-1?pick=4")
        await expect(page.get_by_role("form", name="cashier asks to call pay")).to_be_visible()
        names = await page.get_by_role("button").all_inner_texts()
        assert not [name for name in names if re.match("Allow|Deny|Cancel|Terminate|Fork|Send", name)]
        assert "Ask a query…" in names


async def test_the_fields_of_a_call_keep_what_is_not_edited_as_it_was(
    backend: Backend, site: Site, page: Page, folder: Path
) -> None:
    (folder / "open").touch()
    (folder / "paper").touch()
    execution = await backend.start(Trip, "Ada", id="t-1")
    await page.goto(address(site, "t-1"))
    form = page.get_by_role("form", name="cashier asks to call pay")
    await form.get_by_label("amount").fill("12345678901234567890")
    await form.get_by_role("button", name="Allow with these arguments").click()
    await execution.result()
    assert (folder / "paid").read_text() == "12345678901234567890 rail\n"


async def test_a_fork_with_an_edit_keeps_what_is_too_large_to_be_shown(
    backend: Backend, site: Site, page: Page
) -> None:
    large = {"text": "x" * 150_000, "price": 40}
    await (await backend.start(Echo, large, id="e-1")).result()
    await page.goto(address(site, "e-1"))
    await page.get_by_role("button", name="echo: done").click()
    await page.get_by_role("button", name="Fork with another result…").click()
    dialog = page.get_by_role("dialog", name="Fork")
    field = dialog.get_by_label("Result of the step, as JSON")
    await expect(dialog).to_contain_text("stays as it is")
    await expect(dialog).to_contain_text("1 step up to position 3 is not run again")
    await dialog.get_by_label("Fork after position").fill("2")
    await expect(dialog).to_contain_text("0 steps up to position 2 are not run again")
    await expect(dialog).to_contain_text("Under way there, and run again: echo")
    await dialog.get_by_label("Fork after position").fill("3")
    await expect(field).to_have_count(0)
    await dialog.get_by_role("button", name=re.compile("Load all")).click()
    await field.fill((await field.input_value()).replace("40", "41"))
    await dialog.get_by_label("Id of the fork").fill("e-2")
    await dialog.get_by_role("button", name="Fork").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("e-2")
    assert await (await backend.get("e-2")).result() == {**large, "price": 41}


async def test_an_execution_that_ends_leaves_what_was_under_way(
    backend: Backend, site: Site, page: Page
) -> None:
    execution = await backend.start(Trip, "Ada", id="t-1")
    await page.goto(address(site, "t-1"))
    await expect(page.get_by_role("button", name="hold_seat: under way")).to_be_visible()
    await execution.terminate("enough")
    await expect(page.get_by_role("button", name="hold_seat: left")).to_be_visible()
    await expect(page.locator(".item.call", has_text="hold_seat")).to_contain_text("left")
    await execution.retry()
    await expect(page.get_by_role("button", name="hold_seat: under way")).to_be_visible()
    await execution.terminate("enough")


async def test_the_past_shows_when_an_execution_was_paused(backend: Backend, site: Site, page: Page) -> None:
    execution = await backend.start(Idle, id="i-1")
    await execution.pause()
    await page.goto(address(site, "i-1", "?at=2"))
    await expect(page.locator(".head .status")).to_have_text("‖ paused")
    await execution.resume()
    await page.goto(address(site, "i-1"))
    await expect(page.locator(".head .status")).to_have_text("▶ running")
    await execution.terminate("enough")
    await expect(page.locator(".head .status")).to_have_text("■ terminated")
    await page.goto(address(site, "i-1", "?at=2"))
    await expect(page.get_by_text("showing the past")).to_be_visible()
    await expect(page.locator(".head .status")).to_have_text("‖ paused")
