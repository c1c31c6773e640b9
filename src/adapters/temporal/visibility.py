"""Conditions in the query language of Temporal's visibility store."""

from __future__ import annotations

_UNFINDABLE = '"\\'
"""Characters that some visibility stores keep with a backslash before them: no literal equals them."""


def quoted(text: str) -> str:
    """Return the text as a literal; it has none of the characters that cannot be found."""
    return "'" + text.replace("'", "\\'") + "'"


def begins_like(field: str, text: str) -> list[str]:
    """Return the conditions that find, among others perhaps, what has `text` in `field`.

    A text with a quotation mark or a backslash is looked for by what stands before it: the caller compares.
    """
    beginning = text[: min((text.find(one) for one in _UNFINDABLE if one in text), default=len(text))]
    if beginning == text:
        return [f"{field} = {quoted(text)}"]
    return [f"{field} STARTS_WITH {quoted(beginning)}"] if beginning else []
