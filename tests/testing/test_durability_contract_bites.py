"""Each broken backend is caught by a test that has the number of the promise that it breaks."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from outlast.ports import durability
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage
from tests.broken.backends import BROKEN_BACKENDS, BrokenBackend

PATIENCE_SECONDS = 0.3
"""Long enough for whatever comes; a broken backend may never give an answer."""


def names_of_tests(beginning: str) -> list[str]:
    return [name for name in dir(DurabilityContract) if name.startswith(f"test_{beginning}")]


def cases(name: str) -> list[dict[str, Any]]:
    """Return the arguments of each case of a test, as its marks say."""
    columns = []
    for mark in getattr(getattr(DurabilityContract, name), "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args[0], mark.args[1]
            if isinstance(names, str):
                columns.append([{names: value} for value in values])
            else:
                columns.append([dict(zip(names, value, strict=True)) for value in values])
    return [{key: value for one in row for key, value in one.items()} for row in itertools.product(*columns)]


class Quiet:
    """Stands in for `caplog`, of which the suite uses this one method."""

    @contextmanager
    def at_level(self, level: int) -> Iterator[None]:
        yield


async def run(storage_class: type[InStore], name: str, arguments: dict[str, Any], patience: float) -> None:
    """Do with one case what pytest does."""
    method = getattr(DurabilityContract(), name)
    stage = Stage(storage_class(MemoryStorage()), DurabilityContract.lease, patience)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fixtures = {"stage": stage, "caplog": Quiet(), "monkeypatch": monkeypatch}
        needed = inspect.signature(method).parameters
        try:
            await method(**arguments, **{key: one for key, one in fixtures.items() if key in needed})
        finally:
            await stage.close()


def first_failure(storage_class: type[InStore], promise: str, patience: float) -> str | None:
    for name in names_of_tests(promise):
        for arguments in cases(name):
            try:
                asyncio.run(run(storage_class, name, arguments, patience))
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):
                return name
    return None


@pytest.fixture(autouse=True)
def without_the_log() -> Iterator[None]:
    """Keep the library's log out of the output; tests that look at the log add a handler of their own."""
    logger, silent = logging.getLogger("outlast"), logging.NullHandler()
    logger.addHandler(silent)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(silent)


@pytest.mark.parametrize("storage_class", BROKEN_BACKENDS, ids=lambda one: one.__name__)
def test_a_broken_backend_fails_a_test_of_what_it_breaks(storage_class: type[BrokenBackend]) -> None:
    assert first_failure(storage_class, storage_class.breaks, PATIENCE_SECONDS) is not None


def test_a_backend_without_a_mistake_passes_as_it_is_run_here() -> None:
    assert first_failure(InStore, "d", 30.0) is None


def test_every_promise_is_tested_and_broken() -> None:
    promises = re.findall(r"^(D\d+) ", durability.__doc__ or "", flags=re.MULTILINE)
    assert len(promises) == len(set(promises)) >= 24
    for promise in promises:
        assert names_of_tests(f"{promise.lower()}_")
        assert [broken for broken in BROKEN_BACKENDS if broken.breaks.startswith(f"{promise.lower()}_")]


@pytest.mark.parametrize("name", ["pc", "eo", "fd", "cv", "co", "rd"])
def test_every_property_of_the_resume_contract_is_tested_and_broken(name: str) -> None:
    beginning = f"resume_contract_{name}_"
    assert names_of_tests(beginning)
    assert first_failure(InStore, beginning, 30.0) is None
    assert [broken for broken in BROKEN_BACKENDS if f"{broken.breaks}_".startswith(beginning)]
