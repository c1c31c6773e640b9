"""Executions that end their workers: which of them are held, and which are not."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast.adapters.memory.store import StoredExecution
from outlast.core.errors import ExecutionCancelled
from outlast.core.records import (
    AnyRecord,
    ExecutionHeld,
    ExecutionRecovered,
    Part,
    StepCompleted,
    StepKind,
    StepScheduled,
)
from outlast.ports.durability.execution import Execution
from outlast.ports.journal import Claim, Store, Work
from outlast.runtime.executions import lost_workers
from outlast.runtime.executions.lost_workers import LAST_WORDS_MAX, Witness, kept, lost_reason, recovery
from outlast.runtime.executions.suspects import FRUITLESS_MAX, TRIED_ALONE
from outlast.runtime.isolation.at_work import MARKS, mark_of, part_by, suspicion_of
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.poison import DEATHS, Long
from outlast.testing.contracts.durability.stage import Process, Stage, Supervisor, current_process
from outlast.testing.contracts.durability.workflows import Steps
from outlast.testing.contracts.durability.world import here, worlds
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline
from tests.runtime.stages import LEASE, in_memory, worker_on

T = TypeVar("T")

LEASE_SECONDS = LEASE.total_seconds()


@outlast.activity(name="doomed", retry_policy_max_attempts=100)
async def end_after(seconds: float) -> None:
    """End the process after a while."""
    world = here()
    world.happen("begun")
    assert world.clock is not None
    await world.clock.sleep(seconds)
    process = current_process.get()
    if (scene := current_scene.get()) is not None:
        scene.ends(process, outlast.activity.info().execution_id)
    await process.end_from_within()


@outlast.activity(name="harmless")
async def pass_by(what: int) -> int:
    """Do nothing."""
    return what


@outlast.workflow.define(name="doomed")
class Doomed:
    """Takes some steps, and then one that ends its process after a while."""

    @outlast.workflow.entrypoint
    async def run(self, steps: int, seconds: float) -> None:
        for step in range(steps):
            await pass_by(step)
        await end_after(seconds)


@dataclass
class Scene:
    """The marks of processes: whose code was at work as they ended, and whether one of them did that."""

    in_threads: set[str] = field(default_factory=set)
    """Executions whose activities run in threads: these are at work from their beginning to their end."""
    hides: bool = False
    """True if culprits end their process by something that has no mark."""
    under_way: list[tuple[Process, str]] = field(default_factory=list)
    """The executions whose activities are under way, each with the process that carries it."""
    left: dict[str, tuple[set[int], bool]] = field(default_factory=dict)
    """The marks of each process that has ended, and whether its own code ended it."""

    def ends(self, process: Process, culprit: str | None) -> None:
        """Note that the process is ended, by the code of one of its executions or from outside."""
        assert isinstance(process._storage, InStore)
        executions = process._storage.storage.medium.executions  # type: ignore[attr-defined]
        carried = [id for id, one in executions.items() if one.owner == process.identity]
        # All processes of a test are in this one, and so are their marks of suspicion.
        marks = {suspicion_of(id) for id in carried} & {*MARKS.words}
        marks |= {mark_of(id) for one, id in self.under_way if one is process and id in self.in_threads}
        if culprit is not None and not self.hides:
            marks.add(mark_of(culprit))
        self.left[str(process.identity)] = marks, culprit is not None

    def part(self, worker: str, id: str) -> Part | None:
        return part_by(*self.left[worker], id) if worker in self.left else None


@outlast.activity(name="lasting", retry_policy_max_attempts=100, retry_policy_initial_interval=AT_ONCE)
async def last_for(seconds: float) -> None:
    """Last for some time, without a sign of life."""
    world, scene = here(), current_scene.get()
    entry = current_process.get(), outlast.activity.info().execution_id
    assert world.clock is not None
    assert scene is not None
    scene.under_way.append(entry)
    try:
        await world.clock.sleep(seconds)
    finally:
        scene.under_way.remove(entry)


@outlast.workflow.define(name="lasting")
class Lasting:
    """Does one thing that takes some time."""

    @outlast.workflow.entrypoint
    async def run(self, seconds: float) -> None:
        await last_for(seconds)


current_scene: ContextVar[Scene | None] = ContextVar("current_scene", default=None)
"""The scene of all processes of a test."""


@dataclass
class Crowd:
    """Executions that end their workers, and executions that are carried beside them."""

    stage: Stage
    supervisor: Supervisor
    doomed: list[Execution]
    innocent: list[Execution]

    async def settle(self, seconds: float) -> None:
        passed = 0.0
        while not await is_settled(self.innocent, self.doomed):
            assert passed < seconds, "not everything has come to an end"
            await self.stage.pass_time(5.0)
            passed += 5.0


async def is_settled(innocent: list[Execution], doomed: list[Execution]) -> bool:
    """Return whether every execution has ended as it must; raise at once if one was harmed."""
    described = [await execution.describe() for execution in innocent]
    harmed = [one.error for one in described if one.held or one.status == "failed"]
    assert not harmed, harmed[0]
    if any(one.status == "running" for one in described):
        return False
    described = [await execution.describe() for execution in doomed]
    return all(one.held or one.status == "failed" for one in described)


async def crowd(
    stage: Stage,
    workers: int,
    doomed: list[tuple[int, float]],
    innocent: list[float],
    seed: int,
    lasting: type = Long,
    **options: Any,
) -> Crowd:
    starts: list[tuple[type, tuple[float, ...]]] = [(Doomed, one) for one in doomed]
    starts += [(lasting, (seconds,)) for seconds in innocent]
    random.Random(seed).shuffle(starts)
    executions = [(workflow, (await stage.start(workflow, *given))[0]) for workflow, given in starts]
    return Crowd(
        stage,
        stage.supervised(workers, Doomed, lasting, **options),
        [execution for workflow, execution in executions if workflow is Doomed],
        [execution for workflow, execution in executions if workflow is lasting],
    )


@few_examples(15)
@given(
    workers=st.integers(1, 3),
    doomed=st.lists(
        st.tuples(st.sampled_from([0, 3]), st.sampled_from([0.0, 0.5, 3.0])), min_size=1, max_size=3
    ),
    innocent=st.lists(st.sampled_from([0.0, 8.0, 40.0, 150.0]), min_size=1, max_size=25),
    lost_at=st.none() | st.integers(0, 60),
    seed=st.integers(0, 1000),
)
async def test_d19_only_executions_that_end_their_workers_are_held(
    workers: int, doomed: list[tuple[int, float]], innocent: list[float], lost_at: int | None, seed: int
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            ours = await crowd(stage, workers, doomed, innocent, seed)
            if lost_at is not None:
                await stage.pass_time(float(lost_at))
                if ours.supervisor.alive:
                    await ours.supervisor.alive[seed % len(ours.supervisor.alive)].lose()
            await ours.settle(2000.0)
            # A lost worker counts for every execution that it carried; the count of one with progress begins
            # at 0 again.
            assert ours.supervisor.deaths <= 2 * DEATHS * len(doomed) + 1
    finally:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Case:
    """A crowd, and the marks that its processes leave."""

    workers: int
    doomed: tuple[tuple[int, float], ...]
    innocent: tuple[float, ...]
    in_threads: int
    """So many of the innocent ones have activities that run in threads."""
    seed: int
    lost_at: int | None = None
    hides: bool = False


@contextmanager
def silenced() -> Iterator[None]:
    """Log nothing."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


async def deaths_in(case: Case, seconds: float = 4000.0) -> int:
    """Return how many processes a crowd has ended until all culprits were held, or had no attempt left.

    Nobody else was held.
    """
    with silenced():
        async with in_memory() as stage:
            scene = Scene(hides=case.hides)
            current_scene.set(scene)
            doomed, innocent = list(case.doomed), list(case.innocent)
            ours = await crowd(stage, case.workers, doomed, innocent, case.seed, Lasting, part=scene.part)
            scene.in_threads |= {execution.id for execution in ours.innocent[: case.in_threads]}
            if case.lost_at is not None:
                await stage.pass_time(float(case.lost_at))
                if alive := ours.supervisor.alive:
                    process = alive[case.seed % len(alive)]
                    scene.ends(process, None)
                    await process.lose()
            await ours.settle(seconds)
            return ours.supervisor.deaths


# Processes that are lost at any point -----------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """The loss of a process at one of its calls: just before the call has its effect, or just after."""

    call: str
    number: int
    """How many calls of that name there were; of claims, those that gave an execution."""
    after: bool = True


class Mortal(Lifeline):
    """Is cut at the call at which its process is to be lost."""

    def __init__(self, store: Store, loss: Loss | None) -> None:
        super().__init__(store)
        self.loss = loss
        self.seen: Counter[str] = Counter()

    async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if self.loss is None or name != self.loss.call:
            return await super()._pass_on(name, call)
        if name != "claim":
            self._cut_if_due(name, after=False)
        result = await super()._pass_on(name, call)
        if not isinstance(result, Work) or result.claims:
            self.seen[name] += 1
            self._cut_if_due(name, after=True)
        return result

    def _cut_if_due(self, name: str, *, after: bool) -> None:
        assert self.loss is not None
        if self.loss.after is after and self.seen[name] + (not after) == self.loss.number:
            self.cut()
            self._check_alive()


@dataclass(frozen=True)
class Fleet:
    """Executions beside each other, and the processes that are lost one after the other."""

    losses: tuple[tuple[Loss, ...], ...]
    """Of each place for a process, the losses of the first processes there; the last process stays."""
    innocent: tuple[float, ...]
    doomed: tuple[tuple[int, float], ...] = ()


async def carries_on(fleet: Fleet, seconds: float = 4000.0) -> None:
    """Let processes work and be lost until all has come to its end; raise if an innocent one is held."""

    async def keep_one_alive(stage: Stage, losses: Iterator[Loss]) -> None:
        assert isinstance(stage.storage, InStore)
        while True:
            store = Mortal(stage.storage.storage.open(), next(losses, None))
            backend = await stage.enter(stage.storage.open_on(store))
            process = await stage.worker(Doomed, Lasting, backend=backend, part=scene.part)
            await store.died.wait()
            if str(process.identity) not in scene.left:
                scene.ends(process, None)
            await process.kill()

    scene = Scene()
    current_scene.set(scene)
    with silenced():
        async with in_memory() as stage:
            doomed = [(await stage.start(Doomed, *given))[0] for given in fleet.doomed]
            innocent = [(await stage.start(Lasting, lasts))[0] for lasts in fleet.innocent]
            keeping = [asyncio.create_task(keep_one_alive(stage, iter(losses))) for losses in fleet.losses]
            try:
                passed = 0.0
                while not await is_settled(innocent, doomed):
                    assert passed < seconds, "not everything has come to an end"
                    await stage.pass_time(5.0)
                    passed += 5.0
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.wait(keeping)


LOSSES = st.builds(
    Loss,
    call=st.sampled_from(["claim", "append", "append", "read"]),
    number=st.integers(1, 4),
    after=st.booleans(),
)


@few_examples(15)
@given(
    st.builds(
        Fleet,
        losses=st.lists(st.lists(LOSSES, max_size=12).map(tuple), min_size=1, max_size=3).map(tuple),
        innocent=st.lists(st.sampled_from([0.0, 8.0, 40.0]), min_size=1, max_size=8).map(tuple),
        doomed=st.lists(st.tuples(st.sampled_from([0, 3]), st.just(0.0)), max_size=2).map(tuple),
    )
)
async def test_d19_nobody_is_held_whose_code_was_not_at_work_wherever_workers_are_lost(fleet: Fleet) -> None:
    await carries_on(fleet)


UNBEGUN = Fleet(((Loss("append", 1), *[Loss("claim", 1)] * 8),), (40.0,))
"""One process is lost that has begun the execution, and then eight that have only claimed it."""
BEGUN = Fleet(((*[Loss("append", 1)] * 3, *[Loss("append", 2)] * 5),), (40.0,))
"""Three processes are lost as soon as they may begin the execution, and five as soon as they may try it."""


@pytest.mark.parametrize("fleet", [UNBEGUN, BEGUN], ids=["unbegun", "begun"])
async def test_d19_processes_that_are_lost_one_after_the_other_get_nobody_held(fleet: Fleet) -> None:
    await carries_on(fleet)


@pytest.mark.parametrize(
    ("fleet", "name", "broken"),
    [
        pytest.param(UNBEGUN, "_UNIT", 1, id="counts a claim that was not begun"),
        pytest.param(BEGUN, "INNOCENT", frozenset(), id="holds whoever was not at work"),
    ],
)
async def test_d19_the_property_sees_losses_that_count_too_much(
    fleet: Fleet, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_workers, name, broken)
    with pytest.raises(AssertionError, match="workers in a row"):
        await carries_on(fleet)


# Marks ------------------------------------------------------------------------------------------------------

CULPRITS = st.lists(st.tuples(st.sampled_from([0, 3]), st.just(0.0)), min_size=1, max_size=4).map(tuple)
INNOCENT = st.lists(st.sampled_from([0.0, 8.0, 40.0, 150.0]), min_size=1, max_size=20).map(tuple)


@few_examples(10)
@given(
    st.builds(
        Case,
        workers=st.integers(1, 3),
        doomed=CULPRITS,
        innocent=INNOCENT,
        in_threads=st.just(0),
        seed=st.integers(0, 1000),
    )
)
async def test_d19_who_is_alone_at_work_as_its_processes_end_is_held_after_three(case: Case) -> None:
    """Or after two, if a loss beside another culprit has counted as well.

    One further process may end before the last hold is written.
    """
    assert 2 * len(case.doomed) <= await deaths_in(case) <= 3 * len(case.doomed) + 1


@few_examples(15)
@given(
    st.builds(
        Case,
        workers=st.integers(1, 3),
        doomed=CULPRITS,
        innocent=INNOCENT,
        in_threads=st.integers(0, 5),
        seed=st.integers(0, 1000),
        lost_at=st.none() | st.integers(0, 60),
        hides=st.booleans(),
    )
)
async def test_d19_marks_get_nobody_held_that_did_nothing_and_spare_no_culprit(case: Case) -> None:
    deaths = await deaths_in(case)
    # A culprit without a mark, beside others that have one, counts once in a few times only.
    assert deaths <= (8 if case.hides and case.in_threads else 2) * DEATHS * len(case.doomed) + 1


HIDDEN = Case(workers=1, doomed=((0, 0.0),), innocent=(150.0,), in_threads=1, seed=0, hides=True)


async def test_d19_a_culprit_without_a_mark_is_held_since_a_loss_counts_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await deaths_in(HIDDEN, 1500.0) > DEATHS
    monkeypatch.setattr(lost_workers, "ABSENT_COUNTS_ONCE_IN", 10**9)
    with pytest.raises(AssertionError, match="not everything has come to an end"):
        await deaths_in(HIDDEN, 600.0)


async def test_d19_marks_must_not_blame_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The properties above see marks that are read wrongly."""
    swapped: dict[Part | None, Part] = {Part.ALONE: Part.ABSENT, Part.ABSENT: Part.ALONE}
    read = Scene.part

    def misread(scene: Scene, worker: str, id: str) -> Part | None:
        part = read(scene, worker, id)
        return swapped.get(part, part)

    monkeypatch.setattr(Scene, "part", misread)
    case = Case(workers=1, doomed=((0, 0.0), (3, 0.0)), innocent=(40.0, 150.0), in_threads=0, seed=0)
    try:
        deaths = await deaths_in(case, 1500.0)
    except AssertionError:
        return
    assert deaths > 3 * len(case.doomed)


# Code that ends its process, without any step -------------------------------------------------------------


@outlast.workflow.define(name="doomed_code")
class DoomedCode:
    """Ends its process by its own code, when it gets a signal."""

    def __init__(self) -> None:
        self.is_over = False

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        await outlast.workflow.wait_condition(lambda: self.is_over)
        return "over"

    @outlast.workflow.signal
    def end(self, is_mended: bool) -> None:
        if not worlds[outlast.workflow.info().execution_id].gate("mended").is_set():
            process = current_process.get()
            storage = process._storage
            assert isinstance(storage, InStore)
            storage.lifelines[process.backend].cut()
            process.died.set()
        self.is_over = True


async def is_held(execution: Execution) -> str | None:
    described = await execution.describe()
    return described.error if described.held else None


async def test_d19_code_that_ends_its_process_is_held_though_no_step_was_under_way() -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            execution, world = await stage.start(DoomedCode)
            supervisor = stage.supervised(1, DoomedCode)
            await stage.pass_time(1)
            await execution.signal("end", True)
            reason = await stage.later(stage.until(lambda: is_held(execution)), 1000)
            assert supervisor.deaths == DEATHS
            assert "no step" in reason
            world.gate("mended").set()
            assert await execution.resume()
            assert await stage.soon(execution.result()) == "over"
    finally:
        logging.disable(logging.NOTSET)


# Executions that the engine cannot carry on -----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["junk", "gone"])
async def test_d19_an_execution_that_no_worker_can_carry_on_is_held_until_its_cause_is_mended(
    damage: str,
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            assert isinstance(stage.storage, InStore)
            execution, _ = await stage.start(Steps, ["a"])
            other, _ = await stage.start(Steps, ["b"])
            medium = stage.storage.storage.medium  # type: ignore[attr-defined]
            stored = medium.executions[execution.id]
            whole = list(stored.records)
            stored.records[:] = [] if damage == "gone" else [b"junk"]
            await stage.worker(Steps)
            assert await stage.soon(other.result()) == ["b done"]
            reason = await stage.later(stage.until(lambda: is_held(execution)), 100)
            assert f"tried {FRUITLESS_MAX} times" in reason
            assert f"outlast resume {execution.id}" in reason
            assert len(stored.records) == (damage == "junk")
            stored.records[:] = whole
            assert await execution.resume()
            assert await stage.soon(execution.result()) == ["a done"]
    finally:
        logging.disable(logging.NOTSET)


# The records of lost workers --------------------------------------------------------------------------------

LOST = Claim("e", "w", "b", token=2, length=1, consumed=0, recovered_from="a", fruitless=1)


def test_the_last_words_of_a_lost_worker_are_kept_in_part_and_can_be_stored() -> None:
    assert recovery(LOST, 1.0).last_words is None
    words = recovery(LOST, 1.0, Witness(lambda worker: f"{worker}\0\ud800" + "x" * 10_000)).last_words
    assert words is not None
    assert len(words) == LAST_WORDS_MAX
    assert "\0" not in words
    words.encode()


def test_the_reason_of_a_hold_says_what_was_seen_since_the_last_one_and_what_to_do() -> None:
    scheduled = [
        StepScheduled(key=f"0:{number}", kind=StepKind.ACTIVITY, name=name, arguments={})
        for number, name in enumerate(["done", "boom"])
    ]
    records: list[AnyRecord] = [
        *scheduled,
        StepCompleted(at=1.0, key="0:0", result=None),
        ExecutionRecovered(at=2.0, worker="earlier"),
        ExecutionHeld(at=3.0, reason="why"),
        ExecutionRecovered(at=4.0, worker="a"),
        ExecutionRecovered(at=5.0, worker="b", last_words="Segmentation fault"),
    ]
    reason = lost_reason("e", 2, records)
    for said in ("2 workers", "a (by", "b (by", "activity 'boom'", "attempt 3", "Segmentation fault"):
        assert said in reason
    assert "outlast resume e" in reason
    assert "earlier" not in reason
    assert "done" not in reason


# Executions that are given back -----------------------------------------------------------------------------


async def test_d19_a_suspect_with_mail_is_given_back_without_being_claimed_again_and_again() -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            assert isinstance(stage.storage, InStore)
            suspects = [(await stage.start(Long, 20.0))[0] for _ in range(4)]
            medium = stage.storage.storage.medium  # type: ignore[attr-defined]
            for execution in suspects:
                medium.executions[execution.id].fruitless = kept(TRIED_ALONE)
                await execution.cancel()
            _, store = await worker_on(stage, Lifeline, Long)
            await stage.pass_time(1.0)
            assert store.calls["claim"] < 30
            assert store.calls["append"] < 30
            results = asyncio.gather(*(execution.result() for execution in suspects), return_exceptions=True)
            ended = await stage.later(results, 10 * LEASE_SECONDS)
            assert [type(one) for one in ended] == [ExecutionCancelled] * 4
    finally:
        logging.disable(logging.NOTSET)


async def test_d15_a_worker_that_stops_before_a_trial_begins_leaves_the_count_as_it_was() -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            assert isinstance(stage.storage, InStore)
            medium = stage.storage.storage.medium  # type: ignore[attr-defined]
            fresh, _ = await stage.start(Long, 0.0)
            process = await stage.worker(Long)
            await stage.soon(fresh.result())
            suspect, world = await stage.start(Long, 0.0)
            medium.executions[suspect.id].fruitless = kept(FRUITLESS_MAX - 1)
            await stage.until(lambda: owned(medium.executions[suspect.id]))
            await stage.soon(process.stop())
            assert medium.executions[suspect.id].fruitless == kept(FRUITLESS_MAX - 1)
            assert not world.effects
            await stage.worker(Long)
            assert await stage.later(suspect.result(), LEASE_SECONDS) == "long done"
    finally:
        logging.disable(logging.NOTSET)


async def owned(stored: StoredExecution) -> bool | None:
    return stored.owner is not None or None
