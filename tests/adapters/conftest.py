"""What of a contract suite runs only at night, because an adapter is slow."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that their class names in `only_nightly`, by the beginning of the name."""
    for item in items:
        prefixes = tuple(f"test_{name}" for name in getattr(getattr(item, "cls", None), "only_nightly", ()))
        if prefixes and item.name.startswith(prefixes):
            item.add_marker(pytest.mark.nightly)
