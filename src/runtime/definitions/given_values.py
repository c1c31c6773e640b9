"""Values that users give, checked where they are given: the error says which one it is, and what to write."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from outlast.core.errors import DefinitionError


def check_number(what: str, value: Any, *, least: int = 1) -> None:
    """Raise DefinitionError unless this is a whole number of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DefinitionError(f"{what} is {value!r}; give a whole number, {least} or more")


def check_text(what: str, value: Any) -> None:
    """Raise DefinitionError unless this is a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise DefinitionError(f"{what} is {value!r}; give a text that is not empty")


def check_duration(what: str, value: Any) -> None:
    """Raise DefinitionError unless this is a `timedelta`."""
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{what} is {value!r}; give a timedelta, such as timedelta(seconds=30)")
