"""Each broken place for text is caught by the contract, and the sound one is not."""

from __future__ import annotations

import asyncio

import pytest

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.ports.deltas import Deltas
from outlast.testing.contracts.deltas.contract import DeltasContract, DeltasPlace
from outlast.testing.virtual_clock import VirtualClock
from tests.broken.deltas import BROKEN


class Impatient(DeltasContract):
    patience_seconds = 0.25


TESTS = sorted(name for name in dir(DeltasContract) if name.startswith("test_") and "in_parts" not in name)


class PlaceOf(DeltasPlace):
    """A place whose views are one object, as `kind` has them."""

    def __init__(self, kind: type[MemoryDeltas]) -> None:
        self._clock = VirtualClock()
        self._deltas = _lasting(kind)(self._clock)

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> Deltas:
        return self._deltas


def _lasting(kind: type[MemoryDeltas]) -> type[MemoryDeltas]:
    async def leave(self: MemoryDeltas, *_: object) -> None:
        """The text ends with the process, not with one of its views."""

    return type(kind.__name__, (kind,), {"__aexit__": leave})


def failures(kind: type[MemoryDeltas]) -> list[str]:
    failed = []
    for name in TESTS:
        try:
            asyncio.run(getattr(Impatient(), name)(PlaceOf(kind)))
        except (AssertionError, TimeoutError, pytest.fail.Exception):
            failed.append(name)
    return failed


def test_a_sound_place_passes() -> None:
    assert len(TESTS) >= 6
    assert failures(MemoryDeltas) == []


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_place_is_caught(kind: type[MemoryDeltas]) -> None:
    caught = failures(kind)
    assert caught
    promise = (kind.__doc__ or "").partition(":")[0]
    if promise in ("X1", "X2"):
        assert any(name.startswith(f"test_{promise.lower()}") for name in caught)
