"""Tests that are coroutines, in a project that may not know how to run them."""

from __future__ import annotations

import pytest


class AsyncioTests:
    """Makes anyio's pytest plugin run `async def` tests and fixtures on asyncio.

    It works whatever the settings of the project are. The fixture has the scope of the session, so that an
    `async def` fixture of any scope may stand beside it.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        return "asyncio"
