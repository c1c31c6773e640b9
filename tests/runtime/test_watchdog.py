"""Code that holds its thread is interrupted, and nothing else ever is."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import CodeInterrupted
from outlast.runtime.isolation import watchdog
from outlast.runtime.isolation.watchdog import LOOKS, Section, watched, watching

LIMIT = 0.1


@pytest.fixture
def no_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BLOCKING_SECONDS", 0.0)


def spin() -> None:
    for _ in itertools.count():
        pass


def spin_in_a_library() -> None:
    random.Random(0).choices(range(10), k=10**9)


def block() -> None:
    time.sleep(60)


def backtrack() -> None:
    re.search("(a+)+$", "a" * 40 + "!")


def multiply() -> None:
    pow(7, 10**9)


def in_main_thread(run: Callable[[], Any]) -> Any:
    assert threading.current_thread() is threading.main_thread()
    return run()


def in_another_thread(run: Callable[[], Any]) -> Any:
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((run(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    [(result, error)] = outcome
    if error is not None:
        raise error
    return result


EVERYWHERE = pytest.mark.parametrize("where", [in_main_thread, in_another_thread])
Where = Callable[[Callable[[], Any]], Any]


@EVERYWHERE
@pytest.mark.parametrize("code", [spin, spin_in_a_library])
def test_code_that_spins_is_interrupted_and_the_place_is_known(
    where: Where, code: Callable[[], None]
) -> None:
    def run() -> Section:
        section = Section()
        with watching(LIMIT), pytest.raises(CodeInterrupted):
            watched(section, code)
        return section

    section = where(run)
    assert section.interruptions == 1
    assert section.seconds >= 0.9 * LIMIT
    assert f"in {code.__name__}" in section.place


@pytest.mark.usefixtures("no_time_to_wait")
@pytest.mark.parametrize("code", [block, backtrack, multiply])
def test_in_the_main_thread_code_that_runs_no_python_is_interrupted_too(code: Callable[[], None]) -> None:
    section = Section()
    with watching(LIMIT), pytest.raises(CodeInterrupted):
        watched(section, code)
    assert f"in {code.__name__}" in section.place


@EVERYWHERE
def test_code_that_catches_it_is_interrupted_again_and_may_return(where: Where) -> None:
    def stubborn() -> str:
        for _ in range(3):
            try:
                spin()
            except BaseException:
                continue
        return "at last"

    def run() -> tuple[str, int]:
        section = Section()
        with watching(LIMIT):
            return watched(section, stubborn), section.interruptions

    assert where(run) == ("at last", 3)


@EVERYWHERE
def test_the_code_around_a_section_is_watched_on_when_the_inner_section_ends(where: Where) -> None:
    inner, outer = Section(), Section()

    def around() -> None:
        assert watched(inner, lambda: "short") == "short"
        spin()

    def run() -> None:
        with watching(LIMIT), pytest.raises(CodeInterrupted):
            watched(outer, around)

    where(run)
    assert (inner.interruptions, outer.interruptions) == (0, 1)


@EVERYWHERE
def test_of_several_blocks_the_shortest_limit_counts_and_after_the_last_one_nothing_is_watched(
    where: Where,
) -> None:
    def run() -> None:
        with watching(60.0):
            with watching(LIMIT), pytest.raises(CodeInterrupted):
                watched(Section(), spin)
            assert watched(Section(), time.sleep, 2 * LIMIT) is None
        section = Section()
        watched(section, time.sleep, 3 * LIMIT)
        assert section.looks == -1

    before = threading.active_count()
    where(run)
    assert threading.active_count() == before


@EVERYWHERE
def test_an_interruption_never_hits_anything_outside_of_its_section(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each section that is met is overdue, so that many interruptions come at its end, or too late."""
    monkeypatch.setattr(watchdog._Watchdog, "look", lambda *_: True)
    monkeypatch.setattr(watchdog, "AGAIN_SECONDS", 0.0)

    def work(rounds: int) -> int:
        total = 0
        for number in range(rounds):
            total += number
        return total

    def run() -> tuple[int, int]:
        chance = random.Random(7)
        interrupted = done = 0
        with watching(0.0001):
            while interrupted < 300:
                section = Section()
                # An exception anywhere but inside `watched` ends the test.
                rounds = chance.randrange(2_000)
                try:
                    result = watched(section, work, rounds)
                except CodeInterrupted:
                    assert section.interruptions
                    interrupted += 1
                else:
                    assert result == rounds * (rounds - 1) // 2
                    done += 1
                work(chance.randrange(200))
        return interrupted, done

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        interrupted, done = where(run)
    finally:
        sys.setswitchinterval(before)
    assert interrupted == 300
    assert done


@EVERYWHERE
@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="nobody knows that a thread waits")
def test_a_call_that_waits_has_more_time_than_code_that_computes(where: Where) -> None:
    def run() -> None:
        with watching(LIMIT):
            watched(Section(), time.sleep, 5 * LIMIT)

    where(run)


@EVERYWHERE
def test_profilers_work_after_an_interruption(where: Where) -> None:
    """Python 3.11 hangs here if an asynchronous exception was taken back."""
    seen: list[str] = []

    def run() -> None:
        with watching(LIMIT), pytest.raises(CodeInterrupted):
            watched(Section(), spin)

    where(run)
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: seen.append(frame.f_code.co_name) if event == "call" else None)
    try:
        in_main_thread(lambda: None)
    finally:
        sys.setprofile(before)
    assert "in_main_thread" in seen


def test_a_pause_of_the_whole_process_counts_as_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    dog, section, now = watchdog._Watchdog(), Section(), 0.0
    dog._cpu_clock = None
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for look in range(LOOKS):
        assert not dog.look(section, 1.0)
        assert section.looks == look
        now += 3600.0
    assert dog.look(section, 1.0)


@given(st.lists(st.floats(min_value=0.0, max_value=2.0), max_size=40))
def test_code_is_overdue_after_so_many_looks_that_lie_apart(steps: list[float]) -> None:
    dog, section, now = watchdog._Watchdog(), Section(), 0.0
    dog._cpu_clock = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        dog.look(section, 1.0)
        for step in steps:
            now += step
            if dog.look(section, 1.0):
                assert now >= 0.9 * LOOKS
            else:
                assert section.looks < LOOKS


@pytest.mark.parametrize("file", ["<frozen importlib._bootstrap>", "/usr/lib/python3/bdb.py"])
def test_an_import_and_a_debugged_program_are_left_alone(file: str) -> None:
    section = Section()
    section.tries = 100
    assert watchdog._can_be_interrupted(sys._getframe(), section)
    names: dict[str, Any] = {}
    exec(compile("def call(code): return code()", file, "exec"), names)
    assert not names["call"](lambda: watchdog._can_be_interrupted(sys._getframe(), section))


PROGRAM = """
import itertools, signal, threading
from outlast.core.errors import CodeInterrupted
from outlast.runtime.isolation.watchdog import Section, watched, watching

ticks = []
signal.signal(signal.SIGVTALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_VIRTUAL, 0.01, 0.01)

def spin():
    for _ in itertools.count():
        pass

with watching(0.2):
    try:
        watched(Section(), spin)
    except CodeInterrupted:
        print("interrupted")
assert ticks and signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)[1] > 0
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_program_that_uses_the_signal_keeps_it() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout == "interrupted\n"


def test_other_exceptions_and_results_pass() -> None:
    def fail() -> None:
        raise KeyError("k")

    with watching(LIMIT):
        with pytest.raises(KeyError):
            watched(Section(), fail)
        with contextlib.suppress(SystemExit):
            watched(Section(), sys.exit)
        assert watched(Section(), divmod, 7, 2) == (3, 1)
