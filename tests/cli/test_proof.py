"""The demonstration's proof bites: it finds every effect that was lost, done twice or invented."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.cli.demo.effects import DemoEffect
from outlast.cli.demo.proof import Proof
from outlast.core.event_stream import Event
from outlast.core.events import (
    AnyEventData,
    EventKind,
    ExecutionCompletedData,
    ExecutionRecoveredData,
    ExecutionStartedData,
    ModelRepliedData,
    ToolCalledData,
    ToolReturnedData,
    TurnStartedData,
)

TOOLS = 6
PROCESSES = {11: "worker 1", 12: "worker 2"}
TURN: dict[str, Any] = {"run": "run:0", "agent": "front", "turn": 1}
QUESTIONS: Counter[tuple[str | None, int]] = Counter({("front", 1): 1, ("front", 3): 1})


def story(killed_at: int) -> list[Event]:
    """The events of an execution of tools and a model's turn; the first worker dies in the turn."""
    events: list[AnyEventData] = [ExecutionStartedData(workflow="deal")]
    for number in range(TOOLS):
        if number == killed_at:
            events += [
                TurnStartedData(**TURN, key="turn"),
                ExecutionRecoveredData(),
                ModelRepliedData(**TURN, key="turn", result={}),
            ]
        call = {**TURN, "call_id": f"c{number}", "key": f"tool{number}", "tool": f"tool{number}"}
        events += [ToolCalledData(**call), ToolReturnedData(**call, result=None)]
    events.append(ExecutionCompletedData(result=None))
    return [Event(position, datetime.now(UTC), data) for position, data in enumerate(events, 1)]


def effects(killed_at: int) -> list[DemoEffect]:
    return [
        DemoEffect(f"deal-1/tool{number}", f"tool{number}", 1, 11 if number < killed_at else 12)
        for number in range(TOOLS)
    ]


def prove(
    events: list[Event], left: list[DemoEffect], questions: Counter[tuple[str | None, int]] = QUESTIONS
) -> Proof:
    return Proof.of("deal-1", events, left, PROCESSES, questions)


kills = st.integers(0, TOOLS - 1)
steps = st.integers(0, TOOLS - 1)


@given(kills)
def test_a_story_in_which_nothing_went_wrong_is_proven(killed_at: int) -> None:
    proof = prove(story(killed_at), effects(killed_at))
    assert not proof.problems
    [turn] = [step for step in proof.steps if step.effects is None]
    assert (turn.attempts, list(turn.processes)) == (2, ["worker 1", "worker 2"])
    tools = [step for step in proof.steps if step.effects is not None]
    assert [list(step.processes) for step in tools] == [
        ["worker 1" if number < killed_at else "worker 2"] for number in range(TOOLS)
    ]


@given(kills, steps)
def test_an_effect_that_is_missing_is_found(killed_at: int, step: int) -> None:
    left = effects(killed_at)
    assert prove(story(killed_at), left[:step] + left[step + 1 :]).problems == [
        f"tool{step} did not happen exactly once"
    ]


@given(kills, steps, st.integers(1, 3))
def test_an_effect_that_happened_twice_is_found(killed_at: int, step: int, attempt: int) -> None:
    left = effects(killed_at)
    again = replace(left[step], attempt=attempt, process=12)
    assert prove(story(killed_at), [*left, again]).problems == [f"tool{step} did not happen exactly once"]


@given(kills)
def test_an_effect_that_the_journal_does_not_know_is_found(killed_at: int) -> None:
    stray = DemoEffect("deal-1/elsewhere", "tool0", 1, 11)
    assert prove(story(killed_at), [*effects(killed_at), stray]).problems == [
        "an effect of deal-1/elsewhere is not in the journal"
    ]


NEEDED = (
    EventKind.EXECUTION_RECOVERED,
    EventKind.EXECUTION_COMPLETED,
    EventKind.MODEL_REPLIED,
    EventKind.TOOL_RETURNED,
)


@given(kills, st.sampled_from(NEEDED))
def test_an_event_that_never_came_is_found(killed_at: int, kind: EventKind) -> None:
    events = story(killed_at)
    first = next(number for number, event in enumerate(events) if event.kind == kind)
    assert prove(events[:first] + events[first + 1 :], effects(killed_at)).problems


@given(kills)
def test_a_question_that_was_asked_twice_is_found(killed_at: int) -> None:
    asked = QUESTIONS + Counter({("front", 3): 1})
    assert prove(story(killed_at), effects(killed_at), asked).problems == ["front was asked the same 2 times"]
