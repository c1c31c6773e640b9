"""Running single tests of a suite outside pytest, to see which mistakes they catch."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from outlast.ports.journal import Store
from outlast.testing.conformance.mutants import MUTANTS, Mutant
from outlast.testing.contracts.journal.contract import JournalContract
from outlast.testing.contracts.journal.stage import JournalContractBase
from outlast.testing.contracts.journal.storage import MovableClock, Storage

PATIENCE_SECONDS = 2.0
"""How long a mutant may keep a test waiting."""


def names_of_tests(suite: type[JournalContractBase], beginning: str = "") -> list[str]:
    """Return the names of the tests that begin so, without those of random programs."""
    return [name for name in dir(suite) if name.startswith(f"test_{beginning}") and "random" not in name]


def run_test(suite: type[JournalContractBase], name: str) -> None:
    """Do with one test what pytest does; raises what the test raises."""

    async def run_async() -> None:
        async with AsyncExitStack() as closing:
            storage = suite.new_storage()
            closing.push_async_callback(storage.dispose)
            arguments: dict[str, object] = {"storage": storage}
            if "store" in parameters:
                arguments["store"] = store = await storage.open().__aenter__()
                closing.push_async_exit(store)
            await method(**{parameter: arguments[parameter] for parameter in parameters})

    method = getattr(suite(), name)
    parameters = inspect.signature(method).parameters
    if inspect.iscoroutinefunction(method):
        asyncio.run(run_async())
    else:
        method()


def first_failure(suite: type[JournalContractBase], names: Sequence[str]) -> str | None:
    """Return the first of these tests that fails; None if all pass or are skipped."""
    for name in names:
        try:
            run_test(suite, name)
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception):
            return name
    return None


def mutated(suite: type[JournalContract], mutant: type[Mutant]) -> type[JournalContract]:
    """Return the suite on the same storage, whose stores make the mistake."""

    class MutatedStorage(Storage):
        def __init__(self) -> None:
            self._storage = suite.new_storage()

        @property
        def clock(self) -> MovableClock:
            return self._storage.clock

        def open(self) -> Store:
            return mutant(self._storage.open())

        async def dispose(self) -> None:
            await self._storage.dispose()

    class MutatedSuite(suite):  # type: ignore[misc, valid-type]
        new_storage = MutatedStorage
        patience_seconds = PATIENCE_SECONDS

    return MutatedSuite


def missed_mutants(suite: type[JournalContract]) -> list[type[Mutant]]:
    """Return the mutants that no test of the promise that they break catches."""
    return [
        mutant
        for mutant in MUTANTS
        if first_failure(mutated(suite, mutant), names_of_tests(suite, mutant.breaks)) is None
    ]
