"""A folder for the files of the workflows, and an inspector of a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

import outlast
from outlast.ports.durability.backend import Backend
from tests.web.browser import opened_browser
from tests.web.desk import FOLDER
from tests.web.site import Site, inspected


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files that let activities go on."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend in this process."""
    async with outlast.connect("memory:") as opened:
        yield opened


@pytest.fixture
async def site(backend: Backend) -> AsyncIterator[Site]:
    """An inspector of it."""
    async with inspected(backend) as site:
        yield site


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The browser of all tests of this process."""
    async with opened_browser() as browser:
        yield browser
