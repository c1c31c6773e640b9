"""Simulate seeds: `python -m outlast.testing.simulation 0:1000`.

Prints every seed whose scenario fails, with the commands that replay and shrink it. The exit status is 1 if
there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from outlast.testing.simulation.scenario import Scenario
from outlast.testing.simulation.seeds import failed_seeds, scenario_of, shrunk
from outlast.testing.simulation.simulation import SimulationFailed, simulate

SHARD = 250
"""The seeds that a process simulates before it takes the next ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m outlast.testing.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("seeds", nargs="?", help="a seed, such as 4711, or a range, such as 0:1000")
    what.add_argument("--nightly", type=int, metavar="COUNT", help="so many seeds that no other day has")
    what.add_argument("--scenario", type=Path, metavar="FILE", help="a scenario that --shrink has printed")
    parser.add_argument("--shrink", action="store_true", help="print the smallest scenario that fails so too")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share a range (1)")
    chosen = parser.parse_args(arguments)
    if chosen.scenario is not None:
        return _replay(Scenario.of_json(chosen.scenario.read_text()))
    if chosen.nightly is not None:
        # The date is in the numbers, so that every night has programs of its own.
        first = int(datetime.now(UTC).strftime("%Y%m%d")) * 1_000_000
        return _range(range(first, first + chosen.nightly), chosen.processes)
    first_text, colon, end_text = chosen.seeds.partition(":")
    if not (first_text.isdigit() and (end_text.isdigit() or not colon)):
        parser.error(f"{chosen.seeds!r} is neither a seed nor a range; write 4711, or 0:1000")
    if colon:
        return _range(range(int(first_text), int(end_text)), chosen.processes)
    return _shrink(int(first_text)) if chosen.shrink else _replay(scenario_of(int(first_text)))


def _replay(scenario: Scenario) -> int:
    """Print the trace, and what is wrong with it."""
    try:
        print(*simulate(scenario).trace, sep="\n")
    except SimulationFailed as failure:
        print(*failure.trace, failure.problem, sep="\n")
        return 1
    return 0


def _shrink(seed: int) -> int:
    failure = shrunk(seed)
    if failure is None:
        print(f"seed {seed} passes: there is nothing to shrink")
        return 0
    print(*failure.trace, failure.problem, failure.scenario.to_json(), sep="\n")
    return 1


def _range(seeds: range, processes: int) -> int:
    began = time.perf_counter()
    shards = [seeds[first : first + SHARD] for first in range(0, len(seeds), SHARD)]
    failed = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), max_tasks_per_child=8) as pool:
        for done in as_completed([pool.submit(_failures, shard) for shard in shards]):
            for failure in done.result():
                failed += 1
                print(failure, flush=True)
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} scenarios from seed {seeds.start} in {seconds:.0f} s: {failed} failed")
    return 1 if failed else 0


def _failures(seeds: range) -> list[str]:
    return [str(failed) for failed in failed_seeds(seeds)]


if __name__ == "__main__":
    sys.exit(main())
