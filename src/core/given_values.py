"""Values that users give, checked where they are given: the error says which one it is, and what to write.

A value that is only used later would fail there, in the middle of a run, with an error of Python's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from outlast.core.errors import DefinitionError


def check_number(what: str, value: Any, *, least: int = 1) -> None:
    """Raise DefinitionError unless this is a whole number of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DefinitionError(f"{what} is {value!r}; use a whole number, {least} or more")


def check_text(what: str, value: Any, *, may_be_empty: bool = False) -> None:
    """Raise DefinitionError unless this is a text."""
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise DefinitionError(
            f"{what} is {value!r}; use a text" + ("" if may_be_empty else ", not an empty one")
        )


def check_duration(what: str, value: Any) -> None:
    """Raise DefinitionError unless this is a `timedelta`."""
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{what} is {value!r}; use a timedelta, such as timedelta(seconds=30)")


def check_list(what: str, value: Any) -> None:
    """Raise DefinitionError unless this is a list, or another collection of things in order."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        shown = repr(value) if isinstance(value, str) else type(value).__name__
        raise DefinitionError(f"{what} must be a list, not {shown}: write [...]")
