"""Seeds: from a number to a scenario, and from a scenario that fails to the smallest one that still does.

Hypothesis makes the choices. A seed gives the bytes that it draws them from, so a seed is one scenario; when
that fails, Hypothesis knows the choices, and shrinks them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import InMemoryExampleDatabase

from outlast.testing.simulation.scenario import Scenario, scenarios
from outlast.testing.simulation.simulation import Simulated, SimulationFailed, simulate
from outlast.testing.simulation.stage import NewStore, memory_store

CHOICES_BYTES = 4096
"""The bytes from which a scenario is drawn; a program takes some hundreds."""


@dataclass(frozen=True, slots=True)
class FailedSeed:
    """A seed whose scenario fails."""

    seed: int
    failure: SimulationFailed

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.failure.problem}\n"
            f"replay it with: python -m outlast.testing.simulation {self.seed}\n"
            f"shrink it with: python -m outlast.testing.simulation {self.seed} --shrink"
        )


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed. Another version of Hypothesis may draw another one."""
    drawn: list[Scenario] = []

    @settings(database=None)
    @given(scenarios())
    def draw(scenario: Scenario) -> None:
        drawn.append(scenario)

    _feed(draw, seed, drawn)
    return drawn[0]


def _feed(test: Any, seed: int, drawn: Sequence[Scenario]) -> None:
    """Run `test` with the scenario of a seed; it puts that into `drawn`."""
    number = 0
    while not drawn:  # Some bytes say too little for a scenario.
        test.hypothesis.fuzz_one_input(random.Random(f"{seed}/{number}").randbytes(CHOICES_BYTES))
        number += 1


def simulated(seed: int, new_store: NewStore = memory_store) -> Simulated:
    """Simulate the scenario of a seed; raises what `simulate` raises."""
    return simulate(scenario_of(seed), new_store)


def failed_seeds(seeds: Iterable[int], new_store: NewStore = memory_store) -> Iterator[FailedSeed]:
    """Yield those of the seeds whose scenario fails."""
    for seed in seeds:
        try:
            simulated(seed, new_store)
        except SimulationFailed as failure:
            yield FailedSeed(seed, failure)


def shrunk(seed: int, new_store: NewStore = memory_store) -> SimulationFailed | None:
    """Return the failure of the smallest scenario to which that of the seed shrinks; None if it passes."""
    drawn: list[Scenario] = []

    @settings(
        database=InMemoryExampleDatabase(),
        phases=[Phase.reuse, Phase.shrink],
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(scenarios())
    def run(scenario: Scenario) -> None:
        drawn.append(scenario)
        simulate(scenario, new_store)

    try:
        _feed(run, seed, drawn)
    except SimulationFailed:
        try:
            run()  # It begins with the failure that its database holds, and shrinks that.
        except SimulationFailed as smallest:
            return smallest
    return None
