"""Links lead to what exists, each page is in the navigation, and the reference names everything.

`make docs` checks the links of the site once more, strictly, when it builds it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import outlast
from outlast.core import errors
from outlast.testing import DurabilityContract
from tests.docs.pages import ALL, DOCS, FENCE, PAGES, REPOSITORY, blocks_of, links_of

CONFIGURATION = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
API = DOCS / "reference" / "api"


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        given = re.search(r"\{#([\w-]+)\}$", heading)
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(given[1] if given else re.sub(r"[ -]+", "-", plain))
    return found


@pytest.mark.parametrize("page", ALL, ids=named)
def test_every_link_leads_to_what_exists(page: Path) -> None:
    for target, anchor in links_of(page):
        assert target.exists(), target
        if anchor is not None and not anchor.startswith("outlast."):  # That of a docstring: see `make docs`.
            assert anchor in anchors_of(target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_of_the_site_links_to_nothing_outside_of_it(page: Path) -> None:
    assert [target for target, _ in links_of(page) if not target.is_relative_to(DOCS)] == []


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"[\w/-]+\.md$", CONFIGURATION.partition("\nnav:")[2], re.MULTILINE)
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", ALL, ids=named)
def test_every_block_of_code_names_its_language(page: Path) -> None:
    assert [str(block) for block in blocks_of(page) if not block.language] == []
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(r"(?<=\n\n)    \S.*", text) == [], "put it into a fence"


def test_the_reference_has_every_public_name_once() -> None:
    shown = [
        name
        for page in API.glob("*.md")
        for name in re.findall(r"^::: outlast\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    elsewhere = {name for name in outlast.__all__ if isinstance(getattr(errors, name, None), type)}
    assert sorted(shown) == sorted({*outlast.__all__} - elsewhere - {"events"})


def test_every_error_is_on_its_page_once_and_the_public_ones_are_bold() -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\*\*)?`(\w+)`", page, re.MULTILINE)
    classes = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.OutlastError) and one is not errors.OutlastError
    }
    assert sorted(name for _, name in rows) == sorted(classes)
    assert {name for bold, name in rows if bold} == classes & {*outlast.__all__}


def test_every_promise_is_on_its_page_and_has_a_test_in_the_suite() -> None:
    page = (DOCS / "explanation" / "promises.md").read_text(encoding="utf-8")
    promised = re.findall(r"^\| D(\d+) \|", page, re.MULTILINE)
    tested = {found[1] for name in dir(DurabilityContract) if (found := re.match(r"test_d(\d+)_", name))}
    assert promised == [str(number) for number in range(1, len(promised) + 1)]
    assert {*promised} == tested


def test_every_outside_yardstick_is_on_its_page_under_its_name() -> None:
    page = (DOCS / "explanation" / "yardsticks.md").read_text(encoding="utf-8")
    shown = re.findall(r"`(test_resume_contract_\w+)`", page)
    assert sorted(shown) == [name for name in dir(DurabilityContract) if "resume_contract" in name]


INTERNAL = {
    "OUTLAST_CONFORMANCE_URL",
    "OUTLAST_CONTRACT_SECRET",
    "OUTLAST_CRASH_EFFECTS",
    "OUTLAST_DEMO_EFFECTS",
}
"""Variables by which one process of the library passes something to another."""


def test_every_variable_that_is_read_is_on_the_page_of_settings() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    read = {
        name
        for file in (REPOSITORY / "src").rglob("*.py")
        for name in re.findall(r'"((?:OUTLAST|MISTRAL)_[A-Z_]+)"', file.read_text(encoding="utf-8"))
    }
    documented = set(re.findall(r"^\| `((?:OUTLAST|MISTRAL)_\w+)`", page, re.MULTILINE))
    assert documented == read - INTERNAL


def test_the_page_of_examples_takes_in_each_of_them() -> None:
    text = (DOCS / "start" / "examples.md").read_text(encoding="utf-8")
    taken = re.findall(r'^--8<-- "examples/(\w+)\.py"$', text, re.MULTILINE)
    files = {path.stem for path in (REPOSITORY / "examples").glob("*.py")} - {"stand_in"}
    assert {*taken} == files
