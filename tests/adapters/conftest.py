"""Marking the contract tests that run only at night, because an adapter is slow."""

from __future__ import annotations

import pytest

from tests.nightly import beginnings, check_names


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that their class names in `only_nightly`, by the beginning of the name."""
    check_names(items)
    for item in items:
        names = beginnings(getattr(item, "cls", None))
        if names and item.name.startswith(names):
            item.add_marker(pytest.mark.nightly)
