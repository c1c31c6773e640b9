"""Modules that are run again in copy, as Temporal's sandbox does for every execution.

What a copy defines is for its execution only: the process goes on with the definitions of the original.
"""

from __future__ import annotations

from collections.abc import Callable

_recognised: list[Callable[[], bool]] = []


def ignore_definitions_where(is_copy: Callable[[], bool]) -> None:
    """Let definitions that are made while `is_copy()` holds replace none that there are."""
    if is_copy not in _recognised:
        _recognised.append(is_copy)


def in_copy() -> bool:
    """Whether the running code belongs to a copy."""
    return any(is_copy() for is_copy in _recognised)
