"""Modules that are run again as a copy, as Temporal's sandbox does for every execution.

The definitions of a copy are for its execution only: the process goes on with those of the original.
"""

from __future__ import annotations

from collections.abc import Callable

_recognised: list[Callable[[], bool]] = []


def ignore_definitions_where(is_copy: Callable[[], bool]) -> None:
    """Keep definitions that are made while `is_copy()` is true from replacing existing ones."""
    if is_copy not in _recognised:
        _recognised.append(is_copy)


def in_copy() -> bool:
    """Return whether the running code belongs to a copy."""
    return any(is_copy() for is_copy in _recognised)
