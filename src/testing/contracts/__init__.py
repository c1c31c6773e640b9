"""The contract suites: one folder for each port.

A suite is a class of pytest tests. It brings all that its tests need: the mark that runs them on asyncio,
the settings of Hypothesis, and pytest's rewriting of `assert`, so that a failure shows the values that were
compared. It therefore runs in any project that has pytest, without a `conftest.py`.
"""

from importlib.util import find_spec

from outlast.core.errors import MissingExtra

if any(find_spec(package) is None for package in ("anyio", "hypothesis", "jsonschema", "pytest")):
    raise MissingExtra("conformance")

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{port}" for port in ("crash", "deltas", "durability", "journal", "session", "tools"))
)
