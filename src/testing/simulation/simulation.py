"""Running one scenario, without its faults and with them, and the verdict."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from outlast.core.records import decode_record
from outlast.testing.contracts.durability.agent_programs import AgentProgramRun
from outlast.testing.contracts.durability.compared_runs import ComparedRun
from outlast.testing.contracts.durability.programs import ProgramRun
from outlast.testing.simulation.chance import nothing_by_chance
from outlast.testing.simulation.fate import Fate
from outlast.testing.simulation.faults import FaultKind, SimulatedFault
from outlast.testing.simulation.host import SimulatedMachine
from outlast.testing.simulation.loop import SimulatedLoop
from outlast.testing.simulation.referee import Referee
from outlast.testing.simulation.scenario import Scenario
from outlast.testing.simulation.stage import (
    NewStore,
    SimulatedStage,
    SimulatedStorage,
    memory_store,
    watched_worlds,
)

RUNS: dict[str, type[ComparedRun]] = {"workflow": ProgramRun, "agents": AgentProgramRun}


class SimulationFailed(AssertionError):
    """A scenario did not give what the same program gives without faults, or a rule was broken."""

    def __init__(self, problem: str, scenario: Scenario, trace: Sequence[str]) -> None:
        super().__init__(problem)
        self.problem = problem
        self.scenario = scenario
        self.trace = tuple(trace)


@dataclass(frozen=True, slots=True)
class Simulated:
    """The outcome of a simulation that went well."""

    trace: tuple[str, ...]
    """All that happened, in order: calls, faults, effects, and the journals in the end."""
    struck: tuple[SimulatedFault, ...]
    """The faults that struck before the program was over."""


def simulate(scenario: Scenario, new_store: NewStore = memory_store) -> Simulated:
    """Run the scenario without its faults and with them, and compare the two.

    Raises:
        SimulationFailed: they differ, a rule was broken, or one of them did not come to an end.
    """
    with _quiet_logs():
        quiet = _Simulation(scenario, (), new_store)
        expected = quiet.run()
        troubled = _Simulation(scenario, scenario.faults, new_store)
        found = troubled.run()
    for what, one, other in zip(("result", "transcript"), expected, found, strict=True):
        if one != other:
            problem = f"another {what} than without faults:\n  {other}\nnot\n  {one}"
            raise SimulationFailed(problem, scenario, troubled.trace)
    return Simulated((*quiet.trace, *troubled.trace), tuple(troubled.struck))


class _Simulation:
    """One run of a scenario, in a loop of its own."""

    def __init__(self, scenario: Scenario, faults: Sequence[SimulatedFault], new_store: NewStore) -> None:
        self.trace: list[str] = []
        self.struck: list[SimulatedFault] = []
        self._scenario = scenario
        self._faults = faults
        self._new_store = new_store

    def run(self) -> tuple[str, list[str]]:
        """Return the result and the transcript.

        Raises:
            SimulationFailed: it did not end, or it broke a rule.
        """
        loops = asyncio.Runner(loop_factory=SimulatedLoop)
        loop = loops.get_loop()
        with nothing_by_chance(self._scenario.seed, loop.time) as drawn:
            try:
                with loops:
                    return loops.run(self._run(loop, drawn))
            except SimulationFailed:
                raise
            except Exception as error:
                raise SimulationFailed(
                    f"{type(error).__name__}: {error}", self._scenario, self.trace
                ) from error

    async def _run(self, loop: asyncio.AbstractEventLoop, drawn: random.Random) -> tuple[str, list[str]]:
        scenario, machine = self._scenario, SimulatedMachine(loop)
        fate = Fate(machine, self._faults, drawn)
        self.trace, self.struck = fate.trace, fate.struck
        referee = Referee(loop.time)
        storage = SimulatedStorage(machine, fate, referee, self._new_store)
        stage = SimulatedStage(storage)
        fate.note("simulation", f"{len(self._faults)} faults: {scenario.to_json()}")
        run = RUNS[scenario.kind](stage, scenario.program)
        with watched_worlds(referee, fate):
            try:
                await run.begin()
                for _ in range(scenario.workers):
                    await stage.worker(type(run).workflow, max_cached_executions=scenario.cached)
                outcome = await run.end()
                # Whoever stands still or is late still believes that the execution is his, and may do harm.
                late = (one.seconds for one in fate.struck if one.kind in (FaultKind.PAUSE, FaultKind.SLOW))
                await asyncio.sleep(max(late, default=0.0) + 1.0)
            finally:
                await run.close()
                await stage.close()
        for execution_id, records in referee.journals().items():
            for position, record in enumerate(records):
                digest = blake2b(record, digest_size=8).hexdigest()
                fate.note(execution_id, f"record {position}: {decode_record(record).type} {digest}")
        if referee.broken:
            raise SimulationFailed("\n".join(referee.broken), scenario, fate.trace)
        return outcome


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep the warnings of workers that lose their store out of the output."""
    loggers = [logging.getLogger("outlast"), logging.getLogger("asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
