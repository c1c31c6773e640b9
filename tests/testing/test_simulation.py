"""Simulations: random programs under faults give what they give without, and a seed is a whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.ports.clock import Clock
from outlast.testing.simulation.__main__ import main
from outlast.testing.simulation.faults import FaultKind, SimulatedFault
from outlast.testing.simulation.scenario import Scenario
from outlast.testing.simulation.seeds import failed_seeds, scenario_of, shrunk, simulated
from outlast.testing.simulation.simulation import SimulationFailed, simulate
from tests.broken import children, stores
from tests.broken.broken_backend import BrokenBackend
from tests.broken.stores import BrokenStore

SEEDS = 40
"""The seeds of an ordinary run; a nightly one simulates 100,000 others, by the command."""
SHARD = 20
BYTEWISE = (9, 11)

FOUND_STORES: dict[type[BrokenStore], int] = {
    stores.StartsAgainWhatHasEnded: 18,
    stores.KeepsTheLastRecordToItself: 1,
    stores.IgnoresTokens: 18,
    stores.ComparesWorkersInsteadOfTokens: 26,
    stores.RefusesALeaseThatRanOut: 0,
}
"""Deliberate mistakes in a store, each with a seed whose scenario finds it."""
FOUND_ENGINES: dict[type[BrokenBackend], int] = {children.MakesChildrenUpIds: 0}
"""Deliberate mistakes in the engine."""


def scenario(
    *faults: SimulatedFault, program: list[list[object]] | None = None, workers: int = 2
) -> Scenario:
    return Scenario("workflow", program or [["do", "0"], ["do", "1"]], workers, 1000, faults, seed=1)


@pytest.mark.parametrize("first", range(0, SEEDS, SHARD))
def test_faults_change_neither_result_nor_transcript(first: int) -> None:
    failed = [str(one) for one in failed_seeds(range(first, first + SHARD))]
    assert failed == []


def trace_in_a_process_of_its_own(hash_seed: int) -> bytes:
    code = (
        "from outlast.testing.simulation.seeds import simulated\n"
        f"for seed in {BYTEWISE!r}: print(*simulated(seed).trace, sep='\\n')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True
    ).stdout


def test_a_seed_gives_the_same_trace_byte_for_byte_in_any_process() -> None:
    here = "".join(f"{line}\n" for seed in BYTEWISE for line in simulated(seed).trace).encode()
    assert len(here) > 10_000
    for hash_seed in (1, 2):
        assert trace_in_a_process_of_its_own(hash_seed) == here


def test_every_kind_of_fault_strikes() -> None:
    struck = Counter(fault.kind for seed in range(20) for fault in simulated(seed).struck)
    assert set(struck) == set(FaultKind)


def test_a_scenario_is_what_its_json_says() -> None:
    drawn = scenario_of(5)
    assert Scenario.of_json(drawn.to_json()) == drawn
    assert simulate(Scenario.of_json(drawn.to_json())).trace == simulate(drawn).trace


# What each fault does ------------------------------------------------------------------------------------


def lines(found: Scenario, text: str) -> list[str]:
    return [line for line in simulate(found).trace if text in line]


def test_a_worker_that_crashes_is_replaced_and_its_execution_taken_over() -> None:
    crash = SimulatedFault(FaultKind.CRASH, call=3, seconds=5.0)
    trace = simulate(scenario(crash, workers=1)).trace
    assert [line for line in trace if line.endswith("is dead")]
    assert [line for line in trace if " claim " in line and " from worker-" in line]


def test_a_paused_worker_loses_its_execution_to_another_one() -> None:
    found = [
        fault
        for call in range(12)
        for fault in [SimulatedFault(FaultKind.PAUSE, call, seconds=25.0)]
        if any("refused: LeaseLost" in line for line in simulate(scenario(fault)).trace)
    ]
    assert found


def test_a_cut_append_was_carried_out_or_not_and_nothing_is_done_twice() -> None:
    cuts = [SimulatedFault(FaultKind.CUT, call, after=after) for call in range(12) for after in (False, True)]
    for cut in cuts:
        assert len(lines(scenario(cut, workers=1), "effect '1'")) == 2  # once without the fault, once with it


def test_a_lost_wake_up_is_made_up_for_by_the_timeout() -> None:
    lost = [SimulatedFault(FaultKind.LOST_WAKE_UP, call) for call in range(8)]
    assert lines(scenario(*lost, program=[["await signals", 3]]), "completed")


def test_a_message_that_comes_twice_counts_once() -> None:
    twice = [SimulatedFault(FaultKind.DUPLICATE, call) for call in range(10)]
    assert lines(scenario(*twice, program=[["await signals", 3]]), "duplicate")


def test_a_timer_goes_by_the_wall_clock_wherever_that_steps() -> None:
    for seconds in (20.0, -20.0):
        step = SimulatedFault(FaultKind.CLOCK_STEP, call=4, seconds=seconds)
        assert lines(scenario(step, program=[["sleep", 3.0]]), "clock step")


# Mistakes are found, replayed and shrunk --------------------------------------------------------------------


@pytest.mark.parametrize("mistake", FOUND_STORES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_a_store_is_found(mistake: type[BrokenStore]) -> None:
    def broken(clock: Clock, medium: Medium) -> MemoryStore:
        return mistake(clock, medium=medium)

    with pytest.raises(SimulationFailed):
        simulated(FOUND_STORES[mistake], broken)


@pytest.mark.parametrize("mistake", FOUND_ENGINES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_the_engine_is_found(mistake: type[BrokenBackend]) -> None:
    with ExitStack() as replaced:
        for owner, name, other in mistake.replaced:
            replaced.enter_context(patch.object(owner, name, other, create=True))
        with pytest.raises(SimulationFailed):
            simulated(FOUND_ENGINES[mistake])


def ignoring_tokens(clock: Clock, medium: Medium) -> MemoryStore:
    return stores.IgnoresTokens(clock, medium=medium)


def test_a_failing_seed_says_how_to_replay_it_and_fails_in_the_same_way_again() -> None:
    seed = FOUND_STORES[stores.IgnoresTokens]
    [first], [second] = (list(failed_seeds([seed], ignoring_tokens)) for _ in range(2))
    assert f"replay it with: python -m outlast.testing.simulation {seed}\n" in str(first)
    assert first.failure.problem == second.failure.problem
    assert first.failure.trace == second.failure.trace


@pytest.mark.nightly
def test_a_failing_seed_shrinks_to_a_smaller_scenario_that_fails() -> None:
    seed = FOUND_STORES[stores.IgnoresTokens]
    smallest = shrunk(seed, ignoring_tokens)
    assert smallest is not None
    assert len(smallest.scenario.to_json()) < len(scenario_of(seed).to_json())
    assert len(smallest.scenario.faults) <= 2
    with pytest.raises(SimulationFailed):
        simulate(smallest.scenario, ignoring_tokens)
    simulate(smallest.scenario)


def test_nothing_is_shrunk_that_passes() -> None:
    assert shrunk(5) is None


# The command -----------------------------------------------------------------------------------------------


def test_the_command_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["3"]) == 0
    assert capsys.readouterr().out.splitlines() == list(simulated(3).trace)


def test_the_command_replays_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scenario.json"
    file.write_text(scenario_of(3).to_json())
    assert main(["--scenario", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == list(simulated(3).trace)


def test_the_command_shares_a_range_between_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["5:8", "--processes", "2"]) == 0
    assert "3 scenarios from seed 5" in capsys.readouterr().out


def test_the_command_says_what_a_seed_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["four"])
    assert "write 4711, or 0:1000" in capsys.readouterr().err
