"""Checks of the types of arguments. Each error names the argument, shows it, and says what to write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from outlast.core.errors import ConfigurationError, DefinitionError

Problem = type[DefinitionError] | type[ConfigurationError]


def check_timedelta(what: str, given: Any, problem: Problem = DefinitionError) -> None:
    """Raise `problem` unless this is a timedelta."""
    if not isinstance(given, timedelta):
        seconds = given if isinstance(given, (int, float)) else 30
        raise problem(f"{what} is {given!r}; give a timedelta: timedelta(seconds={seconds})")


def check_whole_number(what: str, given: Any, least: int, problem: Problem = DefinitionError) -> None:
    """Raise `problem` unless this is a whole number that is not less than `least`."""
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise problem(f"{what} is {given!r}; use a whole number, {least} or more")


def check_mapping(what: str, given: Any, write: str, problem: Problem = DefinitionError) -> None:
    """Raise `problem` unless this is a mapping."""
    if not isinstance(given, Mapping):
        raise problem(f"{what} must be a dict, not {type(given).__name__}: write {write}")


def check_list(what: str, given: Any, problem: Problem = DefinitionError) -> None:
    """Raise `problem` unless this is a list, or another collection of things in order."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Collection):
        shown = repr(given) if isinstance(given, str) else type(given).__name__
        raise problem(f"{what} must be a list, not {shown}: write [...]")


def check_text(
    what: str, given: Any, problem: Problem = DefinitionError, *, may_be_empty: bool = True
) -> None:
    """Raise `problem` unless this is a text."""
    if not isinstance(given, str):
        raise problem(f"{what} must be text, not {type(given).__name__}")
    if not may_be_empty and not given.strip():
        raise problem(f"{what} is {given!r}; use a text that is not empty")
