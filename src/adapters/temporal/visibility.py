"""Conditions in the query language of Temporal's visibility store."""

from __future__ import annotations

_UNFINDABLE = '"\\'
"""Characters that some visibility stores keep with a backslash before them: no literal equals them."""


def quoted(text: str) -> str:
    """Return the text as a literal; it must not have characters that cannot be found."""
    return "'" + text.replace("'", "\\'") + "'"


def begins_like(field: str, text: str) -> list[str]:
    """Return conditions that find all executions with `text` in `field`, and perhaps others.

    For a text with a quotation mark or a backslash, only the part before it is looked for: the caller must
    compare.
    """
    if _findable(text) == text:
        return [f"{field} = {quoted(text)}"]
    return beginning(field, text)


def beginning(field: str, text: str) -> list[str]:
    """Return conditions that find all executions whose `field` begins with `text`, and perhaps others."""
    findable = _findable(text)
    return [f"{field} STARTS_WITH {quoted(findable)}"] if findable else []


def _findable(text: str) -> str:
    return text[: min((text.find(one) for one in _UNFINDABLE if one in text), default=len(text))]
