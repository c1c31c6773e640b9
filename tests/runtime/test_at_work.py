"""Marks of whose code is at work: they outlive the process, and name who was in the middle of something."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.core.records import ExecutionRecovered, Part
from outlast.ports.journal import Claim
from outlast.runtime.attempts.threads import in_thread
from outlast.runtime.executions.lost_workers import (
    ABSENT_COUNTS_ONCE_IN,
    COUNTS,
    INNOCENT,
    Witness,
    judged,
    lost_reason,
    recovery,
)
from outlast.runtime.executions.lost_workers import kept as count_for
from outlast.runtime.executions.suspects import FRUITLESS_MAX, TRIED_ALONE
from outlast.runtime.isolation import at_work
from outlast.runtime.isolation.at_work import (
    MARKS,
    ON_LOOP,
    THREADS_MAX,
    MarkingThreads,
    Marks,
    find_fault,
    mark_of,
    part_in,
    suspicion_of,
)
from outlast.runtime.isolation.tasks import attempt_task, isolated_attempts
from outlast.runtime.isolation.watchdog import Section, watched, watching


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "marks"


@pytest.fixture
def kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the marks of this process in a file, for the time of one test."""
    marks = Marks()
    marks.keep_in(file)
    monkeypatch.setattr(MARKS, "words", marks.words)
    monkeypatch.setattr(MARKS, "_free", marks._free)
    return file


def parts(file: Path, *ids: str) -> list[Part | None]:
    return [part_in(file, id) for id in ids]


END = """
import ctypes, faulthandler, os, signal, sys, threading
from pathlib import Path
from outlast.runtime.isolation.at_work import MARKS, mark_of
from outlast.runtime.isolation.watchdog import Section, watched, watching

def end():
    match sys.argv[2]:
        case "exit":
            os._exit(3)
        case "crash":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)

def run():
    with MARKS.at_work(mark_of("thread")):
        end()

MARKS.keep_in(Path(sys.argv[1]))
with watching(60):
    watched(Section(mark_of("left")), lambda: None)
    thread = threading.Thread(target=run)
    watched(Section(mark_of("loop")), lambda: (thread.start(), thread.join()))
"""


@pytest.mark.parametrize("how", ["exit", "crash", "kill"])
def test_the_marks_of_a_process_outlive_it_in_whatever_way_it_ends(how: str, file: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", END, str(file), how], stderr=subprocess.DEVNULL)
    assert ended.returncode == {"exit": 3, "crash": -11, "kill": -9}[how]
    assert parts(file, "thread", "loop", "left") == [Part.PRESENT, Part.PRESENT, Part.ABSENT]


def test_only_code_that_is_at_work_alone_as_its_process_ends_by_itself_is_alone(kept: Path) -> None:
    with MARKS.at_work(mark_of("a")):
        assert parts(kept, "a", "b") == [Part.PRESENT, Part.ABSENT]
        find_fault(kept, True)
        assert parts(kept, "a", "b") == [Part.ALONE, Part.ABSENT]
        with MARKS.at_work(mark_of("a")):
            assert parts(kept, "a") == [Part.ALONE]
        with MARKS.at_work(mark_of("b")):
            assert parts(kept, "a", "b") == [Part.PRESENT, Part.PRESENT]
        find_fault(kept, False)
        assert parts(kept, "a", "b") == [Part.PRESENT, Part.ABSENT]


def test_marks_of_suspicion_are_read_where_no_code_was_at_work_and_the_process_ended_by_itself(
    kept: Path,
) -> None:
    with MARKS.at_work(suspicion_of("a")):
        assert parts(kept, "a", "b") == [Part.IDLE, Part.IDLE]
        find_fault(kept, True)
        assert parts(kept, "a", "b") == [Part.PRESENT, Part.ABSENT]
        with MARKS.at_work(mark_of("b")):
            assert parts(kept, "a", "b") == [Part.TRIED, Part.ALONE]
            find_fault(kept, False)
            assert parts(kept, "a", "b") == [Part.ABSENT, Part.PRESENT]
    assert parts(kept, "a") == [Part.IDLE]


def test_marks_tell_nothing_if_the_file_is_not_there_or_not_whole(kept: Path, tmp_path: Path) -> None:
    find_fault(tmp_path / "another", True)
    assert parts(tmp_path / "another", "a") == [None]
    (tmp_path / "another").write_bytes(b"cut")
    assert parts(tmp_path / "another", "a") == [None]


def test_marks_of_more_threads_than_there_are_places_tell_nothing(kept: Path) -> None:
    with ExitStack() as stack:
        for number in range(THREADS_MAX):
            stack.enter_context(MARKS.at_work(mark_of(f"e{number}")))
        assert parts(kept, "e0", "a") == [Part.PRESENT, Part.ABSENT]
        with MARKS.at_work(mark_of("a")):
            assert parts(kept, "e0", "a") == [None, None]
    with MARKS.at_work(mark_of("a")):
        assert parts(kept, "a") == [None]


async def test_what_an_attempt_runs_on_the_loop_and_in_threads_is_marked_as_its_own(kept: Path) -> None:
    asyncio.get_running_loop().set_default_executor(MarkingThreads())
    seen: dict[str, Part | None] = {}

    def look(where: str) -> None:
        seen[where] = part_in(kept, "a")

    async def task() -> None:
        look("in a task")

    async def attempt() -> None:
        look("on the loop")
        await asyncio.create_task(task())
        await asyncio.to_thread(look, "in a thread of the loop")
        await in_thread(lambda: look("in a thread of its own"))
        await asyncio.sleep(0)
        look("on the loop again")

    with isolated_attempts(10.0):
        await attempt_task(attempt(), "activity", "a")
        assert set(seen.values()) == {Part.PRESENT}
        assert len(seen) == 5
        await asyncio.to_thread(look, "afterwards")
    assert [*MARKS.words][1:] == [0] * (len(MARKS.words) - 1)
    assert seen["afterwards"] is Part.IDLE


async def test_an_attempt_that_waits_is_not_at_work(kept: Path) -> None:
    go_on = asyncio.Event()
    with isolated_attempts(10.0):
        waiting = attempt_task(asyncio.wait_for(go_on.wait(), 60), "activity", "a")
        await asyncio.sleep(0)
        assert parts(kept, "a") == [Part.IDLE]
        with MARKS.at_work(mark_of("b")):
            assert parts(kept, "a") == [Part.ABSENT]
        go_on.set()
        await waiting


def test_a_section_inside_another_leaves_the_mark_of_the_outer_one(kept: Path) -> None:
    def outer() -> None:
        for fails in (False, True):
            try:
                watched(Section(mark_of("inner")), inner, fails)
            except ValueError:
                assert fails
            assert MARKS.words[ON_LOOP] == mark_of("outer")

    def inner(fails: bool) -> None:
        assert parts(kept, "inner", "outer") == [Part.PRESENT, Part.ABSENT]
        if fails:
            raise ValueError

    with watching(60.0):
        watched(Section(mark_of("outer")), outer)
    assert MARKS.words[ON_LOOP] == 0


async def test_a_thread_that_is_left_behind_stays_marked_until_it_ends(kept: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(60)

    async def attempt() -> None:
        await in_thread(wait)

    task = attempt_task(attempt(), "activity", "a")
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    await asyncio.wait([task])
    assert parts(kept, "a") == [Part.PRESENT]
    go_on.set()
    async with asyncio.timeout(60):
        while parts(kept, "a") != [Part.IDLE]:  # noqa: ASYNC110 - a thread ends
            await asyncio.sleep(0.005)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such permissions")
def test_only_the_owner_can_read_the_marks(kept: Path) -> None:
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_size == at_work._WORDS.size


# What marks count -------------------------------------------------------------------------------------------


def lost(before: int, token: int = 1, claims: int = 1) -> Claim:
    """Return a claim after so many losses that count, and so many claims since that number was written."""
    fruitless = count_for(before) + claims
    return Claim("e", "w", "b", token, length=1, consumed=0, recovered_from="a", fruitless=fruitless)


def witness(part: Part | None) -> Witness:
    return Witness(part=lambda worker, id: part if (worker, id) == ("a", "e") else None)


@pytest.mark.parametrize("before", range(FRUITLESS_MAX))
def test_a_loss_counts_as_much_as_the_code_had_part_in_it(before: int) -> None:
    for part, counts in COUNTS.items():
        most = max(before, TRIED_ALONE) if part in INNOCENT else FRUITLESS_MAX
        assert judged(lost(before), witness(part)).fruitless == min(before + counts, most)
    assert COUNTS[Part.ABSENT] == 0 < COUNTS[Part.PRESENT] == COUNTS[None] < COUNTS[Part.ALONE]


@pytest.mark.parametrize("claims", [2, 3, 100])
def test_a_claim_that_was_lost_before_it_was_begun_does_not_count(claims: int) -> None:
    for part in (None, *Part):
        assert judged(lost(3, claims=claims), witness(part)).fruitless == 3


@pytest.mark.parametrize("before", [*range(FRUITLESS_MAX), 100])
def test_what_losses_count_is_kept_until_the_next_one(before: int) -> None:
    for is_begun, counts in ((True, 1), (False, 0)):
        claim = lost(0)
        again = replace(claim, fruitless=count_for(before, is_begun=is_begun) + 1)
        assert before >= FRUITLESS_MAX or judged(again, witness(None)).fruitless == before + counts
        released = replace(claim, fruitless=count_for(before, is_begun=is_begun), recovered_from=None)
        assert judged(released, witness(None)).fruitless == before


def test_now_and_then_a_loss_counts_also_for_code_that_was_not_at_work() -> None:
    counts = [judged(lost(0, token), witness(Part.ABSENT)).fruitless for token in range(100)]
    assert sum(counts) == 100 // ABSENT_COUNTS_ONCE_IN


def test_a_claim_that_nobody_lost_is_not_judged() -> None:
    released = Claim("e", "w", "b", 1, length=1, consumed=0, fruitless=count_for(3))
    assert judged(released, witness(Part.ALONE)) == replace(released, fruitless=3)


@pytest.mark.parametrize("part", [None, *Part])
def test_a_worker_that_is_lost_while_it_holds_an_execution_always_counts(part: Part | None) -> None:
    """Then reading its journal may be what ends the worker: the next one must know."""
    assert judged(lost(FRUITLESS_MAX), witness(part)).fruitless == FRUITLESS_MAX + 1


def test_the_reason_of_a_hold_names_only_the_workers_that_count() -> None:
    losses = [Part.ALONE, Part.ABSENT, Part.PRESENT, Part.ABSENT, Part.ALONE, Part.ALONE]
    records = [
        ExecutionRecovered(at=float(number), worker=f"w{number}", part=part)
        for number, part in enumerate(losses)
    ]
    reason = lost_reason("e", FRUITLESS_MAX, records)
    assert "held: 3 workers in a row" in reason
    assert [f"w{number} (by" in reason for number in range(6)] == [False, False, True, False, True, True]


def test_the_reason_of_a_hold_counts_workers_that_left_no_record() -> None:
    alone = ExecutionRecovered(at=1.0, worker="w", part=Part.ALONE)
    for records, number in (([], 5), ([alone], 4), ([alone] * 3, 3)):
        assert f"held: {number} workers in a row" in lost_reason("e", FRUITLESS_MAX, records)


def test_the_part_in_a_loss_is_recorded() -> None:
    assert [recovery(lost(0), 1.0, witness(part)).part for part in (None, *Part)] == [None, *Part]
