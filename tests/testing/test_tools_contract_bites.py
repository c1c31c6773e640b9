"""The tools contract bites: a sound source keeps it, and each broken one fails the test that it names."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

import outlast
from outlast.ports.tools import ToolSource
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.testing.contracts.tools.contract import (
    EFFECTS,
    Refusal,
    Toolbox,
    ToolsCapability,
    ToolsContract,
    ToolsWorld,
)
from tests.broken.sources import BROKEN_SOURCES, BrokenSource

TESTS = sorted(name for name in dir(ToolsContract) if name.startswith("test_"))
PROPERTIES: dict[str, Any] = {
    name: getattr(ToolsContract, name).hypothesis.inner_test
    for name in TESTS
    if hasattr(getattr(ToolsContract, name), "hypothesis")
}
"""The coroutine functions that Hypothesis calls, before anyio's plugin has put its own in their place."""


class Suite(ToolsContract):
    capabilities = frozenset(ToolsCapability)
    patience_seconds: ClassVar[float] = 5.0

    def __init__(self, kind: type[BrokenSource]) -> None:
        self._kind = kind

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ToolsWorld]:
        tools = Toolbox()
        activities = [
            outlast.activity(effect=EFFECTS[name], retry_policy_non_retryable=[Refusal])(function)
            for name, function in tools.functions().items()
        ]
        source: ToolSource = self._kind(ActivitySource(*activities))

        def break_down() -> None:
            tools.is_broken = True

        yield ToolsWorld(source, break_down)


class Impatient(Suite):
    """For tests that fail by waiting for ever."""

    patience_seconds = 0.3


class Failed(BaseException):
    """Ends a property test with its first failure: Hypothesis lets it pass, and tries nothing more."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def run(suite: ToolsContract, name: str) -> None:
    """Do with one test what pytest and anyio do; of a property test, nothing more once it has failed."""
    test: Any = getattr(suite, name)
    if name not in PROPERTIES:
        asyncio.run(test())
        return

    async def with_a_caller(*args: Any, **kwargs: Any) -> None:
        async with suite.calling() as caller:
            await PROPERTIES[name](*args, **{**kwargs, "caller": caller})

    def run_example(*args: Any, **kwargs: Any) -> None:
        try:
            asyncio.run(with_a_caller(*args, **kwargs))
        except BaseException as error:
            raise Failed(error) from error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test.hypothesis, "inner_test", run_example)
        try:
            test(caller=None)
        except Failed as failed:
            raise failed.error from None


@pytest.mark.parametrize("name", TESTS)
def test_a_source_without_a_mistake_passes_as_it_is_run_here(name: str) -> None:
    run(Suite(BrokenSource), name)


@pytest.mark.parametrize("kind", BROKEN_SOURCES, ids=lambda kind: kind.__name__)
def test_a_broken_source_fails_the_test_that_it_names(kind: type[BrokenSource]) -> None:
    with pytest.raises((Exception, asyncio.CancelledError, pytest.fail.Exception)) as failure:
        run(Impatient(kind), kind.fails)
    assert not isinstance(failure.value, pytest.skip.Exception)


def test_every_promise_is_tested_and_every_test_is_known_to_bite() -> None:
    promises = re.findall(r"^(T\d+)  ", inspect.getdoc(ToolSource) or "", re.MULTILINE)
    assert promises == ["T1", "T2", "T3", "T4", "T5", "T6"]
    for promise in promises:
        assert [name for name in TESTS if name.startswith(f"test_{promise.lower()}_")]
    assert {kind.fails for kind in BROKEN_SOURCES} == set(TESTS)
