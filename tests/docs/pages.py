"""The pages of the docs, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIAL = [DOCS / "start" / f"{name}.md" for name in ("index", "first-agent", "first-crash", "first-deploy")]
ALL = [*sorted(REPOSITORY.glob("*.md")), *PAGES]
"""The pages of the site, and those that stand beside it in the repository."""

LINK = re.compile(r"\]\((?P<target>[^)\s#]*)(?:#(?P<anchor>[^)]*))?\)|src=\"(?P<source>[^\"]*)\"")
FENCE = re.compile(r"^```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code: where it stands, its language, and the text in quotes after `title=`."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page, in order."""
    content = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(content):
        title = re.search(r'title="([^"]*)"', found["options"])
        line = content[: found.start()].count("\n") + 1
        yield Block(page, line, found["language"], title and title[1], found["text"])


def links_of(page: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the files that a page links to, and the anchor in each; links to the web are left out."""
    for found in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target = found["target"] or found["source"] or page.name
        if "://" not in target:
            yield (page.parent / target).resolve(), found["anchor"]
