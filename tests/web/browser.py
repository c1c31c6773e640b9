"""A real browser for the tests: the Chromium of the system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = next((path for name in NAMES if (path := shutil.which(name))), None)
PATIENCE_MILLISECONDS = 60_000
AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()


def executable() -> str:
    """Return the path of the browser; skip the test if there is none. CI must have one."""
    if EXECUTABLE is None:
        reason = f"no browser is on the PATH ({', '.join(NAMES)}); on Debian, install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return EXECUTABLE


@asynccontextmanager
async def opened_browser() -> AsyncIterator[Browser]:
    path = executable()
    async with async_playwright() as driver:
        # A container has no sandbox of its own for the browser.
        browser = await driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened_page(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Yield a page of a new profile. It must make no error, and break no rule of its security policy."""
    faults: list[str] = []
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    page.on(
        "console",
        lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None,
    )
    page.on(
        "request",
        lambda request: (
            faults.append(f"request to {request.url}")
            if not request.url.startswith(("http://127.0.0.1:", "data:image/png;base64,"))
            else None
        ),
    )
    try:
        yield page
    finally:
        await context.close()
    if faults:
        raise AssertionError(f"the page is at fault: {faults}")


async def faults_of_access(page: Page) -> list[str]:
    """Return what axe finds of the impacts "serious" and "critical"."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']}: {one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
