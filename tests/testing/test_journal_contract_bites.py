"""Each broken store is caught by a test that has the name of the promise that it breaks."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import Phase, settings

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.core.errors import OutlastError
from outlast.ports.journal import Catalogue, Inbox, Journal, Leases, Presence
from outlast.testing.conformance.biting import names_of_tests, run_test
from outlast.testing.contracts.journal.breaking import BreakingContract
from outlast.testing.contracts.journal.contract import JournalContract
from outlast.testing.contracts.journal.stage import JournalContractBase
from outlast.testing.contracts.journal.storage import ALL, StoreCapability
from outlast.testing.virtual_clock import VirtualClock
from tests.broken.crowded_stores import CROWDED_STORES
from tests.broken.far_stores import FAR_STORAGES, FarStorage
from tests.broken.finding_stores import FINDING_STORES
from tests.broken.sized_stores import SIZED_STORES
from tests.broken.stores import BROKEN_STORES, BrokenStore
from tests.broken.unseen_stores import UNSEEN_STORES

MISTAKES = (*BROKEN_STORES, *SIZED_STORES, *CROWDED_STORES, *FINDING_STORES)


def contract_for(store_class: type[MemoryStore]) -> type[JournalContract]:
    class StorageOfIt:
        def __init__(self) -> None:
            self.clock = VirtualClock()
            self.medium = Medium()

        def open(self) -> MemoryStore:
            return store_class(self.clock, medium=self.medium, limit_bytes=2048)

        async def dispose(self) -> None:
            self.medium.executions.clear()

    class ContractOfIt(JournalContract):
        new_storage = StorageOfIt
        capabilities = ALL - {StoreCapability.PARALLEL_OPENING, StoreCapability.BREAKABLE}
        patience_seconds = 0.25

    return ContractOfIt


def failures(store_class: type[MemoryStore], names: list[str]) -> list[str]:
    return failures_of(contract_for(store_class), names)


def failures_of(contract: type[JournalContractBase], names: list[str]) -> list[str]:
    failed = []
    for name in names:
        try:
            run_test(contract, name)
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception):
            failed.append(name)
    return failed


def explore(store_class: type[MemoryStore]) -> None:
    contract_for(store_class).explore(
        settings(
            max_examples=3000,
            stateful_step_count=30,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        )
    )


def test_a_store_without_a_mistake_passes_as_it_is_run_here() -> None:
    assert failures(MemoryStore, names_of_tests(JournalContract)) == []


@pytest.mark.parametrize("store_class", MISTAKES, ids=lambda store_class: store_class.__name__)
def test_a_broken_store_fails_a_test_of_what_it_breaks(store_class: type[BrokenStore]) -> None:
    names = names_of_tests(JournalContract, store_class.breaks)
    assert names
    assert failures(store_class, names) != []


@pytest.mark.parametrize(
    "store_class",
    [
        pytest.param(
            store_class, marks=[pytest.mark.nightly] * store_class.is_found_late, id=store_class.__name__
        )
        for store_class in MISTAKES
        if store_class.found_by_random_programs
    ],
)
def test_random_programs_find_a_broken_store(store_class: type[BrokenStore]) -> None:
    with pytest.raises((AssertionError, OutlastError, LookupError)):
        explore(store_class)


@pytest.mark.parametrize("store_class", UNSEEN_STORES, ids=lambda store_class: store_class.__name__)
def test_a_mistake_that_is_said_to_be_out_of_sight_passes(store_class: type[BrokenStore]) -> None:
    assert failures(store_class, names_of_tests(JournalContract)) == []


def failures_when_broken(new_storage: type[FarStorage], patience_seconds: float = 0.25) -> list[str]:
    class ContractOfIt(BreakingContract):
        pass

    ContractOfIt.new_storage, ContractOfIt.patience_seconds = new_storage, patience_seconds
    return failures_of(ContractOfIt, names_of_tests(JournalContract, "breakable_"))


def test_storage_that_can_be_cut_off_passes() -> None:
    assert len(names_of_tests(JournalContract, "breakable_")) >= 5
    assert failures_when_broken(FarStorage, patience_seconds=10.0) == []


@pytest.mark.parametrize("new_storage", FAR_STORAGES, ids=lambda new_storage: new_storage.__name__)
def test_a_store_that_does_not_bear_being_cut_off_is_caught(new_storage: type[FarStorage]) -> None:
    assert failures_when_broken(new_storage) != []


def test_every_promise_is_tested_and_broken() -> None:
    ports = " ".join(
        inspect.getdoc(method) or ""
        for port in (Journal, Inbox, Leases, Presence, Catalogue)
        for _, method in inspect.getmembers(port)
    )
    promises = {
        f"{kind}{number}" for kind in "JILPK" for number in range(1, 20) if f"{kind}{number}  " in ports
    }
    assert promises >= {"J1", "J12", "I1", "I3", "L1", "L5", "P1", "P4", "K1", "K4"}
    for promise in promises:
        assert names_of_tests(JournalContract, f"{promise.lower()}_")
        assert [s for s in MISTAKES if s.breaks == f"{promise.lower()}_"]
