"""The parts of the runtime that an adapter with an engine of its own gets.

It is a module of its own, because the backends on stores, and so most commands, do without these parts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from outlast.core.json import JSON
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import Attempt, Call
from outlast.ports.resources import Resources
from outlast.ports.toolkit import Toolkit
from outlast.runtime.attempts.attempt import Heartbeat, perform_in_time
from outlast.runtime.attempts.observing import calling_span
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.definitions.activity import defined_activity
from outlast.runtime.definitions.edits import check_edits
from outlast.runtime.definitions.known_workflows import definition_of, known_definition
from outlast.runtime.definitions.module_copies import ignore_definitions_where
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tasks import HOLDING_SECONDS, isolated_attempts
from outlast.runtime.isolation.tracebacks import failure_of


def toolkit() -> Toolkit:
    """Return the parts of the runtime that an adapter with an engine of its own uses."""
    clock = SystemClock()

    async def perform(call: Call, attempt: Attempt, options: ActivityOptions, resources: Resources) -> JSON:
        pulse = Heartbeat()

        def beat(details: tuple[JSON, ...]) -> None:
            pulse.beat(details)
            attempt.heartbeat(pulse.details)

        following = replace(attempt, heartbeat=beat)
        return await perform_in_time(call, following, options, resources, clock, pulse)

    return Toolkit(
        definition_of=definition_of,
        known_definition=known_definition,
        defined_activity=defined_activity,
        check_edits=check_edits,
        live_code=LiveExecution,
        perform=perform,
        open_resources=_isolated_resources,
        contained=contained,
        failure_of=failure_of,
        calling_span=calling_span,
        ignore_definitions_where=ignore_definitions_where,
    )


@asynccontextmanager
async def _isolated_resources() -> AsyncIterator[Resources]:
    """Yield the resources of one worker; attempts on its loop do not harm each other meanwhile."""
    with isolated_attempts(HOLDING_SECONDS):
        async with SharedResources() as resources:
            yield resources
