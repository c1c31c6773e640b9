"""The names in `only_nightly`: the tests of a suite that run only at night, because an adapter is slow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest


def beginnings(suite: type | None) -> tuple[str, ...]:
    """Return how the names begin of the tests that a suite leaves for the night."""
    return tuple(f"test_{name}" for name in getattr(suite, "only_nightly", ()))


def without_a_test(suite: type, items: Iterable[pytest.Function]) -> list[str]:
    """Return those beginnings that no test of the suite has.

    A case in brackets (`a_timer[5.0]`) is looked for only among all cases of its test: when some were chosen
    on the command line, the others are not there to be seen.
    """
    cases: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        cases[item.originalname].add(item.name)
    tests = [name for name in dir(suite) if name.startswith("test_")]
    missing = []
    for beginning in beginnings(suite):
        name, bracket, _ = beginning.partition("[")
        if bracket and name in tests:
            are_all = len(cases[name]) == _number_of_cases(suite, name)
            found = not are_all or any(case.startswith(beginning) for case in cases[name])
        else:
            found = not bracket and any(test.startswith(name) for test in tests)
        if not found:
            missing.append(beginning)
    return missing


def check_names(items: Sequence[pytest.Item]) -> None:
    """Raise UsageError if a name in an `only_nightly` has become wrong: its tests would run every time."""
    suites: defaultdict[type, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.cls is not None and beginnings(item.cls):
            suites[item.cls].append(item)
    for suite, of_it in suites.items():
        if missing := without_a_test(suite, of_it):
            raise pytest.UsageError(
                f"only_nightly of {suite.__name__} has names that no test begins with: {', '.join(missing)}; "
                "correct them"
            )


def _number_of_cases(suite: type, name: str) -> int:
    marks = getattr(getattr(suite, name), "pytestmark", [])
    return math.prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")
