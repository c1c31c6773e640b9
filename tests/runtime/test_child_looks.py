"""A parent looks at its children when it gets a hint, and else seldom, and less and less often."""

from __future__ import annotations

from outlast.runtime.executions.child_looks import FIRST_SECONDS, LAST_SECONDS, Looks
from outlast.testing import VirtualClock

CHILDREN = {"a": 1, "b": 2}


async def test_all_children_are_looked_at_first() -> None:
    clock, looks = VirtualClock(), Looks()
    assert looks.seconds_left(clock) == 0
    assert looks.take(CHILDREN, clock, more_start=False) == ["a", "b"]
    assert looks.seconds_left(clock) == FIRST_SECONDS


async def test_a_hint_is_for_one_child_at_once() -> None:
    clock, looks = VirtualClock(), Looks()
    looks.take(CHILDREN, clock, more_start=False)
    looks.hint("b")
    looks.hint("an older one")
    assert looks.seconds_left(clock) == 0
    assert looks.take(CHILDREN, clock, more_start=False) == ["b"]
    assert looks.seconds_left(clock) == FIRST_SECONDS
    assert looks.take(CHILDREN, clock, more_start=False) == []


async def test_a_hint_for_a_child_that_just_starts_is_kept() -> None:
    clock, looks = VirtualClock(), Looks()
    looks.take(CHILDREN, clock, more_start=False)
    looks.hint("c")
    assert looks.take(CHILDREN, clock, more_start=True) == []
    assert looks.seconds_left(clock) == 0
    assert looks.take({**CHILDREN, "c": 3}, clock, more_start=False) == ["c"]


async def test_looks_become_rare_until_a_child_has_ended() -> None:
    clock, looks = VirtualClock(), Looks()
    waits = []
    for _ in range(9):
        looks.take(CHILDREN, clock, more_start=False)
        waits.append(looks.seconds_left(clock))
        await clock.advance(waits[-1])
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_SECONDS, LAST_SECONDS)
    looks.found()
    looks.take(CHILDREN, clock, more_start=False)
    assert looks.seconds_left(clock) == FIRST_SECONDS
