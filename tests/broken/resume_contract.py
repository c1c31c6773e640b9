"""Backends with the faults that the Resume Contract is about: each breaks one of its six properties.

They are the fault switches of the model, `FaultReplay` and others, as somebody might build them by mistake.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from outlast.core.approvals import Decision
from outlast.core.errors import (
    ActivityInterrupted,
    ExecutionAlreadyEnded,
    NotPending,
    Unserialisable,
)
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import Input, StepFailed
from outlast.ports.clock import Clock
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import Attempt, Call, RunActivity
from outlast.ports.resources import Resources
from outlast.runtime.attempts.attempt import Begin, Heartbeat, at_any_time, perform_in_time
from outlast.runtime.executions import step_attempts
from outlast.runtime.executions.journaled_execution import JournaledExecution
from outlast.runtime.executions.live_context import LiveContext
from outlast.runtime.executions.live_execution import LiveExecution
from tests.broken.broken_backend import BrokenBackend
from tests.broken.engines import MakesAKeyForEachAttempt, RepeatsWhatMustNotBeRepeated

_decision_of = LiveContext.decision
_decide = JournaledExecution.decide
_given_up = LiveExecution._given_up

_made: defaultdict[str, list[Callable[[], Awaitable[JSON]]]] = defaultdict(list)
"""The attempts at activities that have succeeded, in order, by execution: each can be made again."""


async def _remembered(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin,
) -> JSON:
    result = await perform_in_time(call, attempt, options, resources, clock, pulse, begin)

    async def make_again() -> JSON:
        # The permission to begin was for one time.
        return await perform_in_time(call, attempt, options, resources, clock, pulse, at_any_time)

    if isinstance(call, RunActivity):
        _made[attempt.execution_id].append(make_again)
    return result


async def _from_the_first_task(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin,
) -> JSON:
    if attempt.attempt > 1:
        for make_again in list(_made[attempt.execution_id]):
            await make_again()
    return await _remembered(call, attempt, options, resources, clock, pulse, begin)


class ReplaysThePrefix(BrokenBackend):
    """A resume makes all completed tasks again, up to the one that was cut short (FaultPrefixReplay)."""

    breaks = "resume_contract_pc"
    replaced = ((step_attempts, "perform_in_time", _from_the_first_task),)


class MakesAnotherKeyForAResume(MakesAKeyForEachAttempt):
    """The outside cannot see that an effect is the same one, so it admits it twice."""

    breaks = "resume_contract_eo_effects"


class RepeatsWhatIsInDoubt(RepeatsWhatMustNotBeRepeated):
    """An effect whose outcome is unknown is made again, though the outside knows no keys."""

    breaks = "resume_contract_eo_an_effect_in_doubt"


_first: dict[str, Decision] = {}
"""The first decision about each call, in whichever execution."""


async def _as_the_first_time(
    self: LiveContext, key: str, fingerprint: str, fits: Callable[[Decision], bool]
) -> Decision:
    decision = await _decision_of(self, key, fingerprint, fits)
    return _first.setdefault(f"{key} {fingerprint}", decision)


class ServesTheFirstResume(BrokenBackend):
    """A second resume from the same interrupt gets the value of the first (FaultForkIgnore)."""

    breaks = "resume_contract_fd"
    replaced = ((LiveContext, "decision", _as_the_first_time),)


async def _whatever_comes(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin,
) -> JSON:
    try:
        return await perform_in_time(call, attempt, options, resources, clock, pulse, begin)
    except Unserialisable:
        return None


class PersistsWhatIsNotValid(BrokenBackend):
    """A result that is not valid becomes durable as nothing, and no error is raised (FaultInvalidPersist)."""

    breaks = "resume_contract_cv"
    replaced = ((step_attempts, "perform_in_time", _whatever_comes),)


async def _fires_again(self: JournaledExecution, *args: Any, **options: Any) -> None:
    try:
        await _decide(self, *args, **options)
    except (NotPending, ExecutionAlreadyEnded):
        for make_again in _made[self.id][1:2]:
            await make_again()
        raise


class FiresAgainOnAStrayResume(BrokenBackend):
    """A resume that comes too late makes the gated effect once more (FaultDoubleConsume)."""

    breaks = "resume_contract_co"
    replaced = (
        (step_attempts, "perform_in_time", _remembered),
        (JournaledExecution, "decide", _fires_again),
    )


_recoveries = itertools.count()


def _by_chance(self: LiveExecution, now: float) -> Iterator[Input]:
    yield from _given_up(self, now)
    for key, opened in list(self.machine.steps.items()):
        if opened.in_doubt and next(_recoveries) % 2:
            failure = Failure.of(ActivityInterrupted(self.requested[key].name))
            yield StepFailed(at=now, key=key, attempts=opened.attempt - 1, failure=failure)


class DecidesByChance(BrokenBackend):
    """A step that was cut short is made again after one recovery, and given up after the next
    (FaultNondetRecovery)."""

    breaks = "resume_contract_rd"
    replaced = ((LiveExecution, "_given_up", _by_chance),)
