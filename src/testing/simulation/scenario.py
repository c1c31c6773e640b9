"""Scenarios: what one simulation does, drawn from Hypothesis strategies, and written as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from hypothesis import strategies as st

from outlast.core.json import JSON
from outlast.testing.contracts.durability.agent_programs import agent_programs
from outlast.testing.contracts.durability.programs import programs
from outlast.testing.simulation.faults import COSTLY, FaultKind, SimulatedFault

COSTLY_MAX = 2
"""The most faults that may cost a step an attempt: the programs' activities have three."""

LEASE_SECONDS = 10.0

CALLS = 30
"""Faults strike within so many calls of the workers; short programs end before most of these."""

Program = list[list[Any]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A program, the hosts that run it, and the faults that strike them."""

    kind: str
    """`workflow` or `agents`."""
    program: Program
    workers: int
    cached: int
    """The executions that a worker keeps in memory while they wait."""
    faults: tuple[SimulatedFault, ...]
    seed: int
    """For all that is random and not a fault: how long each call takes, and ids."""

    def to_json(self) -> str:
        """Return it as one line."""
        faults = [[str(fault.kind), fault.call, fault.after, fault.seconds] for fault in self.faults]
        return json.dumps(
            {
                "kind": self.kind,
                "program": self.program,
                "workers": self.workers,
                "cached": self.cached,
                "faults": faults,
                "seed": self.seed,
            }
        )

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return the scenario that `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        faults = tuple(
            SimulatedFault(FaultKind(kind), call, after, seconds)
            for kind, call, after, seconds in data["faults"]
        )
        return cls(**{**data, "faults": faults})


def scenarios() -> st.SearchStrategy[Scenario]:
    """Return scenarios; the simplest are a short program without a fault."""
    workflow = _of_kind("workflow", programs(operations_max=3).map(_without_threads))
    # A program of agents takes as long as several of the others.
    return st.one_of(workflow, workflow, workflow, workflow, _of_kind("agents", agent_programs()))


def _of_kind(kind: str, drawn: st.SearchStrategy[Program]) -> st.SearchStrategy[Scenario]:
    return st.builds(
        Scenario,
        kind=st.just(kind),
        program=drawn,
        workers=st.integers(1, 3),
        cached=st.sampled_from([1000, 0]),
        faults=st.lists(_faults(), max_size=6).map(_bearable),
        seed=st.integers(0, 2**32 - 1),
    )


def _faults() -> st.SearchStrategy[SimulatedFault]:
    def fault(
        kind: FaultKind, seconds: list[float], *, calls: int = CALLS
    ) -> st.SearchStrategy[SimulatedFault]:
        return st.builds(
            SimulatedFault, st.just(kind), st.integers(0, calls), st.booleans(), st.sampled_from(seconds)
        )

    past_the_lease = [1.5 * LEASE_SECONDS, 0.9 * LEASE_SECONDS, 2.5 * LEASE_SECONDS]
    return st.one_of(
        fault(FaultKind.CUT, [0.0]),
        fault(FaultKind.CRASH, [0.0, 5.0, 2 * LEASE_SECONDS]),
        fault(FaultKind.PAUSE, past_the_lease),
        fault(FaultKind.SLOW, [1.0, *past_the_lease]),
        fault(FaultKind.CLOCK_STEP, [1.0, -1.0, 2 * LEASE_SECONDS, -2 * LEASE_SECONDS]),
        fault(FaultKind.LOST_WAKE_UP, [0.0]),
        fault(FaultKind.DUPLICATE, [0.0], calls=10),
    )


def _bearable(faults: list[SimulatedFault]) -> tuple[SimulatedFault, ...]:
    """Leave out the costly faults that are too many."""
    costly = [fault for fault in faults if fault.kind in COSTLY][COSTLY_MAX:]
    return tuple(fault for fault in faults if fault not in costly)


def _without_threads(program: Program) -> Program:
    """Return the program without threads, which no loop can simulate."""

    def changed(part: JSON) -> Any:
        if isinstance(part, list):
            return [changed(one) for one in part]
        return "do" if part == "do in a thread" else part

    return [changed(operation) for operation in program]
