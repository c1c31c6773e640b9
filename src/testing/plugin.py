"""The pytest plugin: the fixture `env`, for tests that are `async def` functions.

anyio's plugin or pytest-asyncio runs such a test, if a project has one of them and it takes the test; else
this plugin runs it, on an event loop of its own.

It is loaded in every project where this library is installed. So it imports nothing heavy, does nothing until
a test asks for `env`, and a fixture of that name in a project takes its place.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from outlast.testing.environment import Environment


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test that takes `env` from here, if no other plugin has run it."""
    test = pyfuncitem.obj
    if not hasattr(test, "runs_in_environment") or not inspect.iscoroutinefunction(test):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(test(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def env(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """An `outlast.testing.Environment`, open on the event loop of the test, and closed when the test ends."""
    from outlast.testing.environment import Environment

    environment = Environment.of_a_fixture()
    item: Any = request.node
    test = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(test):
        yield environment
        return

    # Whoever runs the test, anyio's plugin or pytest-asyncio's, runs it on the loop that it has chosen: only
    # inside the test is that loop known, and still open at the end.
    @functools.wraps(test)
    async def opened(*args: Any, **kwargs: Any) -> Any:
        async with environment:
            return await test(*args, **kwargs)

    opened.runs_in_environment = True  # type: ignore[attr-defined]
    item.obj = opened
    yield environment
    item.obj = test
