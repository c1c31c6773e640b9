"""Fate: it counts the calls of the store, says which fault strikes now, and keeps the trace."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import count

from outlast.testing.simulation.faults import FaultKind, SimulatedFault
from outlast.testing.simulation.host import SimulatedHost, SimulatedMachine

QUICK_SECONDS = (0.0001, 0.003)
"""The time that half of a call takes: the way to the store, or the way back."""


class Fate:
    """The faults of one simulation, the time that its calls take, and the trace of what happened."""

    def __init__(
        self, machine: SimulatedMachine, faults: Sequence[SimulatedFault], drawn: random.Random
    ) -> None:
        self.trace: list[str] = []
        self.struck: list[SimulatedFault] = []
        """The faults that have struck, in order."""
        self._machine = machine
        self._drawn = drawn
        self._calls, self._waits, self._sends = count(), count(), count()
        self._at: dict[str, dict[int, list[SimulatedFault]]] = defaultdict(lambda: defaultdict(list))
        for fault in faults:
            self._at[_counted_as(fault.kind)][fault.call].append(fault)

    def note(self, host: SimulatedHost | str, text: str) -> None:
        """Add a line to the trace."""
        name = host if isinstance(host, str) else host.name
        self.trace.append(f"{self._machine.loop.time():12.6f}  {name:<10}  {text}")

    def way_seconds(self) -> float:
        """Return the time that one half of the next call takes."""
        return self._drawn.uniform(*QUICK_SECONDS)

    def of_call(self, host: SimulatedHost, name: str) -> Sequence[SimulatedFault]:
        """Return the faults that strike a worker's call."""
        return self._strike(host, name, "call", next(self._calls))

    def of_wait(self, host: SimulatedHost, name: str) -> Sequence[SimulatedFault]:
        """Return the faults that strike a wait."""
        return self._strike(host, name, "wait", next(self._waits))

    def of_send(self, host: SimulatedHost, name: str) -> Sequence[SimulatedFault]:
        """Return the faults that strike a message."""
        return self._strike(host, name, "send", next(self._sends))

    def _strike(
        self, host: SimulatedHost, name: str, counted_as: str, number: int
    ) -> Sequence[SimulatedFault]:
        faults = self._at[counted_as].get(number, ())
        for fault in faults:
            self.struck.append(fault)
            self.note(host, f"FAULT {fault} ({name})")
        return faults


def _counted_as(kind: FaultKind) -> str:
    return {FaultKind.LOST_WAKE_UP: "wait", FaultKind.DUPLICATE: "send"}.get(kind, "call")
