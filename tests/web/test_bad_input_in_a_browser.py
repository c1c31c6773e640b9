"""Nothing harms the page: hostile text in every place, foreign pages, stores and journals that fail."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from playwright.async_api import Route as Intercepted
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.records import FORMAT
from outlast.core.usage import Usage
from outlast.ports.durability.backend import Backend
from outlast.ports.llm import ModelReply, ModelRequest
from tests.adapters.redis_servers import VALKEY, ServerOptions, temporary_server
from tests.web.browser import PATIENCE_MILLISECONDS, opened_page
from tests.web.desk import WORKFLOWS, Echo, Idle
from tests.web.site import Site, inspected, listening

pytestmark = pytest.mark.server

expect.set_options(timeout=PATIENCE_MILLISECONDS)

MARKUP = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
NAME = f"{MARKUP}\u202egnp.exe\u2066"
"""Not every name may have control characters or half characters."""
ARGUMENT = f"{NAME}\x1b[31m red \x07"
"""A tool gets no half characters: such arguments are refused."""
TEXT = f"{ARGUMENT} half \ud83d"
SHOWN = ("⟨U+202E⟩", "⟨U+001B⟩")
"""How the page shows what nobody would see."""


@outlast.activity(requires_approval=True)
async def note(text: str) -> str:
    """Note a text.

    Args:
        text: <script>document.title='taken'</script>
    """
    raise RuntimeError(text)


def hostile_script(request: ModelRequest) -> ModelReply:
    reply = ModelReply(entries=(say(TEXT), call("note", {"text": ARGUMENT})))
    return reply.with_(usage=Usage(prompt_tokens=1, total_tokens=1))


@workflow.define(name=MARKUP)
class Hostile:
    """An agent that says, and calls a tool with, what would harm a page that believed it."""

    @workflow.entrypoint
    async def run(self, what: str) -> str:
        agent = outlast.Agent(model=MARKUP, name=NAME, tools=[note])
        session = outlast.ScriptedSession(hostile_script, stream=True, raise_on_tool_fail=True)
        return (await outlast.Runner.run(agent, what, session=session)).text


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend in this process, with a worker of a hostile name."""
    async with (
        outlast.connect("memory:") as opened,
        opened.worker([*WORKFLOWS, Hostile], identity=f"worker {NAME}"),
    ):
        yield opened


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page that has come in."""
    async with opened_page(browser) as page:
        await page.goto(site.entrance)
        yield page


OTHERS = "img, script:not([src]), svg:not(.machine svg), iframe, b, i:not(.tick, .mark)"
"""Elements that the page makes for nothing but the drawing of the machine and the marks of the timeline."""


async def harmless(page: Page) -> None:
    """Check that the page shows text as text: it made nothing of it, and nothing sticks out."""
    assert "taken" not in (await page.title()).replace(MARKUP, "")
    assert await page.locator(OTHERS).count() == 0
    overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0


async def test_hostile_text_is_shown_as_text_in_every_view(backend: Backend, site: Site, page: Page) -> None:
    id = f"e {NAME}"
    execution = await backend.start(Hostile, TEXT, id=id, tags={NAME: NAME})
    terminated = await backend.start(Idle, id="i-1")
    await terminated.terminate(TEXT)
    paused = await backend.start(Idle, id="i-2")
    await paused.pause(TEXT)
    async with asyncio.timeout(PATIENCE_MILLISECONDS / 1000):
        while not (waiting := await execution.pending()):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)

    # The list.
    await expect(page.get_by_role("row").filter(has_text="approval of tool note")).to_be_visible()
    for part in SHOWN:
        await expect(page.get_by_role("row").filter(has_text="terminated")).to_contain_text(part)
        await expect(page.get_by_role("row").filter(has_text="paused")).to_contain_text(part)
    await harmless(page)
    link = page.get_by_role("link", name=f"{MARKUP}⟨U+202E⟩gnp.exe⟨U+2066⟩={MARKUP}")
    await link.first.click()
    await expect(page.get_by_role("link", name="Remove the filter")).to_be_visible()
    await expect(page.get_by_role("row")).to_have_count(2)
    await harmless(page)
    await page.get_by_role("checkbox", name="Choose all of this page").check()
    await page.get_by_role("button", name="Tag 1…").click()
    await expect(page.get_by_role("dialog")).to_contain_text("⟨U+202E⟩")
    await harmless(page)
    await page.keyboard.press("Escape")

    # Workers.
    await page.get_by_role("link", name="Workers").click()
    await expect(page.get_by_role("article")).to_contain_text(MARKUP)
    await harmless(page)

    # The inbox: an input would hide such characters, so the arguments are edited as JSON.
    await page.get_by_role("link", name="Inbox").click()
    await expect(page.get_by_label("As JSON")).to_have_value(_contains("\\u202e"))
    await harmless(page)

    # Its page; and the decision, with a hostile reason and a hostile name.
    await page.get_by_role("link", name=MARKUP).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("⟨U+202E⟩")
    await expect(page.get_by_text("half \\ud83d").first).to_be_visible()
    await harmless(page)
    decision = json.dumps({"id": id, "call": waiting[0].key, "reason": TEXT, "by": TEXT})
    allowed = await site.client.post(
        "api/actions/allow", content=decision, headers={"Content-Type": "application/json"}
    )
    assert allowed.status_code == 200, allowed.text
    failure = page.get_by_role("region", name="Failure").first
    for part in SHOWN:
        await expect(failure).to_contain_text(part)
    await page.get_by_text("note {").click()
    await expect(page.get_by_text("allowed by").first).to_contain_text("⟨U+202E⟩")
    await harmless(page)
    await page.get_by_role("button", name="Journal").click()
    await expect(
        page.get_by_text("execution_failed").or_(page.get_by_text("execution_ended")).first
    ).to_be_visible()
    await harmless(page)


def _contains(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text))


async def test_ten_megabytes_are_cut_and_shown_whole_when_somebody_asks(
    browser: Browser, folder: Path
) -> None:
    large = "y" * 10_000_000 + "THE END"
    url = f"sqlite:///{folder / 'runs.db'}"
    async with (
        outlast.connect(url) as backend,
        backend.worker(WORKFLOWS),
        inspected(backend) as site,
        opened_page(browser) as page,
    ):
        await page.goto(site.entrance)
        await (await backend.start(Echo, large, id="e-1")).result()
        await page.get_by_role("link", name="e-1").click()
        result = page.get_by_label("result", exact=True).last
        await expect(result).to_contain_text("cut: 10,000,007 characters")
        await page.get_by_role("button", name="echo: done").click()
        await page.get_by_role("button", name="Load all").first.click()
        await page.get_by_role("button", name="Show all 10,0").first.click()
        # Not `to_contain_text`: it would print the ten megabytes if it failed.
        await page.wait_for_function("document.body.textContent.includes('THE END')")


async def test_a_foreign_page_in_the_same_browser_can_do_nothing(
    backend: Backend, site: Site, page: Page
) -> None:
    execution = await backend.start(Idle, id="i-1")
    await expect(page.get_by_role("link", name="i-1")).to_be_visible()

    async def attack(request: Request) -> Response:
        return HTMLResponse(
            f"""<!doctype html><title>waiting</title><body><script>
            const target = "{site.address}";
            const act = (options) => fetch(target + "api/actions/terminate", {{
              method: "POST", credentials: "include", body: '{{"id": "i-1"}}', ...options }});
            const frame = document.createElement("iframe");
            frame.src = target;
            document.body.append(frame);
            Promise.allSettled([
              act({{ mode: "no-cors" }}),
              act({{ headers: {{ "Content-Type": "application/json" }} }}),
              fetch(target + "api/fleet", {{ credentials: "include" }}).then((answer) => answer.text()),
              new Promise((loaded) => (frame.onload = loaded)),
            ]).then((outcomes) => (document.title = outcomes.map(({{ status }}) => status).join(" ")));
            </script></body>"""
        )

    async with listening(Starlette(routes=[Route("/", attack)])) as foreign:
        # The same host with another port: cookies go there, too.
        attacker = await page.context.new_page()
        await attacker.goto(foreign)
        await expect(attacker).to_have_title("rejected rejected rejected fulfilled")
        assert not await attacker.frames[1].get_by_text("Executions").count()
        await expect(page.get_by_role("link", name="i-1")).to_be_visible()
    assert (await execution.describe()).ended_at is None


async def test_a_wrong_token_says_where_to_find_the_right_one(browser: Browser, site: Site) -> None:
    async with opened_page(browser) as page:
        await page.goto(f"{site.address}?token={'0' * 48}")
        text = await page.inner_text("body")
        assert "the token in the URL is wrong" in text
        assert "Open the whole URL that was printed" in text


@pytest.mark.parametrize(
    "view", ["executions/nobody", "executions/%00%F0%9F", "executions/%3Cb%3E?at=x&pick=-1"]
)
async def test_an_unknown_id_is_one_clear_error(site: Site, page: Page, view: str) -> None:
    await page.goto(f"{site.address}#/{view}")
    await expect(page.get_by_role("alert")).to_contain_text("no execution")
    await page.get_by_role("link", name="Executions").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Executions")


@pytest.mark.crash
async def test_the_page_outlives_a_restart_of_the_server_behind_the_backend(browser: Browser) -> None:
    with temporary_server(VALKEY, ServerOptions(append_only=True)) as server:
        async with (
            outlast.connect(server.url()) as backend,
            inspected(backend) as site,
            opened_page(browser) as page,
            opened_page(browser) as follower,
        ):
            await backend.start(Idle, id="i-1")
            await page.goto(site.entrance)
            await expect(page.get_by_role("link", name="i-1")).to_be_visible()
            await follower.goto(f"{site.entrance}#/executions/i-1")
            await expect(follower.get_by_text("live", exact=True)).to_be_visible()
            await asyncio.to_thread(server.kill)
            for one in (page, follower):
                await expect(one.get_by_role("alert").first).to_contain_text("Waiting")
            # What was loaded stays.
            await expect(page.get_by_role("link", name="i-1")).to_be_visible()
            await expect(follower.get_by_role("heading", level=1)).to_have_text("i-1")
            await asyncio.to_thread(server.start)
            for one in (page, follower):
                await expect(one.get_by_role("alert")).to_have_count(0)
            await backend.start(Idle, id="i-2")
            await expect(page.get_by_role("link", name="i-2")).to_be_visible()
            async with backend.worker(WORKFLOWS):
                await (await backend.get("i-1")).cancel()
                await expect(follower.get_by_text("cancelled").first).to_be_visible()


async def test_a_worker_that_is_too_old_for_a_journal_is_named_in_the_list_and_on_the_page(
    browser: Browser, folder: Path
) -> None:
    path = folder / "runs.db"
    async with outlast.connect(f"sqlite:///{path}") as backend:
        await backend.start(Echo, "x", id="e-1")
        with sqlite3.connect(path) as file:
            [body] = file.execute("SELECT body FROM record").fetchone()
            newer = body.replace(b'"format":%d' % FORMAT, b'"format":%d' % (FORMAT + 1))
            assert newer != body
            file.execute("UPDATE record SET body = ?", (newer,))
        file.close()
        async with inspected(backend) as site, opened_page(browser) as page, backend.worker(WORKFLOWS):
            await page.goto(site.entrance)
            await expect(page.get_by_role("row").filter(has_text="e-1")).to_contain_text("upgrade outlast")
            await page.get_by_role("link", name="e-1").click()
            await expect(page.get_by_role("alert").first).to_contain_text("upgrade outlast")
            await page.get_by_role("button", name="Journal").click()
            await expect(page.get_by_role("alert").first).to_contain_text(f"this code reads up to {FORMAT}")


def waiting_call(id: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a call that waits, as the inspector sends it to the page."""
    about = {"id": id, "key": "1/1/c", "call_id": "c", "agent": "clerk", "tool": "note", "fingerprint": "f"}
    return {**about, "arguments": '{"constructor": "a"}', "parameters": parameters}


async def test_any_name_of_a_parameter_can_be_edited_and_a_call_that_cannot_be_shown_stands_alone(
    site: Site, page: Page
) -> None:
    names = ["constructor", "toString", "__proto__", "hasOwnProperty"]
    properties = {name: {"type": "string"} for name in names}
    broken = waiting_call("broken", {"properties": properties, "required": 7})
    cut = {
        **waiting_call("cut", {}),
        "arguments": '{"constructor": "… (cut: 9 characters)"}',
        "bytes": 200_000,
    }
    calls = [broken, cut, waiting_call("whole", {"type": "object", "properties": properties})]
    inbox = {"approvals": calls, "questions": [], "looked_at": 200, "is_all": True}
    sent: list[dict[str, Any]] = []

    async def decided(route: Intercepted) -> None:
        sent.append(json.loads(route.request.post_data or ""))
        await route.fulfill(json={"done": "The call is allowed."})

    await page.route("**/api/inbox?*", lambda route: route.fulfill(json=inbox))
    await page.route("**/api/approval?*", lambda route: route.fulfill(json={**calls[2], "id": "cut"}))
    await page.route("**/api/actions/allow", decided)
    await page.goto(f"{site.address}#/inbox")
    await expect(page.get_by_role("alert")).to_contain_text("The call of note in broken cannot be shown:")
    form = page.get_by_role("form", name="asks to call note in cut")
    await expect(form.get_by_role("textbox")).to_have_count(1)
    await form.get_by_role("button", name="Load all 200,000 bytes").click()
    await expect(form.get_by_label("constructor")).to_have_value("a")
    form = page.get_by_role("form", name="asks to call note in whole")
    for name in names:
        await expect(form.get_by_label(name)).to_have_value("a" if name == "constructor" else "")
        await form.get_by_label(name).fill("b")
    await form.get_by_role("button", name="Allow with these arguments").click()
    await expect(page.get_by_role("status").first).to_have_text("The call is allowed.")
    assert sent[0]["fingerprint"] == "f"
    assert json.loads(sent[0]["arguments"]) == dict.fromkeys(names, "b")
