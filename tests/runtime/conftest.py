"""Fixtures of the tests of the runtime."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def sigint() -> Iterator[None]:
    """Let SIGINT raise `KeyboardInterrupt`, as in a script, whatever the test does with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
