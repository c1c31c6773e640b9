"""The pictures of the page in the docs: there, small, and made from a real run by a script that works."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.house.wheels import REPOSITORY
from tests.web.browser import executable

IMAGES = REPOSITORY / "docs" / "images"
BYTES_MAX = 150_000


def named_in(page: Path) -> set[Path]:
    """Return the pictures that a page of the docs shows."""
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)|<img src=\"([^\"]+)\" alt=\"[^\"]+\"", page.read_text())
    return {(page.parent / "".join(link)).resolve() for link in links}


def test_every_picture_is_shown_and_small() -> None:
    shown = named_in(REPOSITORY / "README.md").union(*map(named_in, (REPOSITORY / "docs").rglob("*.md")))
    assert shown == {*IMAGES.iterdir()}
    for image in shown:
        assert image.stat().st_size < BYTES_MAX, image


@pytest.mark.server
@pytest.mark.crash
@pytest.mark.nightly
async def test_the_script_makes_the_pictures_of_a_run_whose_worker_is_killed() -> None:
    executable()
    made = await runpy.run_path(str(REPOSITORY / "docs" / "pictures.py"))["pictures"]()
    assert {f"{name}.webp" for name in made} == {image.name for image in IMAGES.glob("*.webp")}
    for content in made.values():
        assert content[:4] + content[8:12] == b"RIFFWEBP"
        assert len(content) < BYTES_MAX
