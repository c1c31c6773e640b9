"""Values as HTML, which notebooks show in place of a `repr`.

Every text is escaped, and stands where no typesetting of formulas looks for it: models and tools wrote much
of it. There is no Markdown, because notebooks take HTML that stands in Markdown for HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

SHOWN_CHARACTERS_MAX = 5_000
"""The most characters that are shown of one text."""
_TEXT = '<pre style="margin: 0; white-space: pre-wrap; text-align: left">{}</pre>'
_CELL = '<td style="text-align: left; vertical-align: top">{}</td>'


def shown(text: object) -> str:
    """Return a text as HTML that shows it, the end of a long one left out."""
    whole = str(text)
    cut = whole[:SHOWN_CHARACTERS_MAX]
    left_out = len(whole) - len(cut)
    return _TEXT.format(escape(cut) + (f"\n… ({left_out} more characters)" if left_out else ""))


def fact_table(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """Return names and values, one pair a row; a value that is None or empty is left out."""
    kept = [(name, value) for name, value in facts if value not in (None, "", (), {})]
    return grid(title, (), [(name, value) for name, value in kept])


def grid(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows of values under headings."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = ["".join(_CELL.format(shown("" if one is None else one)) for one in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in ([head] if head else []) + lines)
    return f"<table><caption>{shown(title)}</caption>{body}</table>"
