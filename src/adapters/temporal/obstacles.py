"""The reason why an execution cannot go on: a workflow task that fails, code that departs from its history.

Temporal notices that code departs, and compares names and ids. The code at hand, run over the history again,
shows the difference field by field, as on every other backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as TemporalFailure
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.converter import DataConverter

from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.history import read_history
from outlast.adapters.temporal.payloads import limit_of
from outlast.adapters.temporal.search_attributes import TAGS
from outlast.adapters.temporal.steps import name_in
from outlast.core.errors import NonDeterminismError
from outlast.core.json import encode
from outlast.core.waiting import CODE_DEPARTS, WaitingFor, WaitingKind
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.live_code import MakeLiveCode

_NONDETERMINISM = "TMPRL1100"
"""Temporal's number for code that departs."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The reason why the last workflow task of an execution failed."""

    text: str
    waits: tuple[WaitingFor, ...] = ()
    """The wait for code that fits, if the worker's departs."""


async def departure_of(
    execution_id: str,
    events: Sequence[HistoryEvent],
    converter: DataConverter,
    make: MakeLiveCode,
    definition: WorkflowDefinition,
) -> NonDeterminismError | None:
    """Return the error with the difference between code and a history, if there is one."""
    replayed = CodeReplay(execution_id, await read_history(events, converter), limit_of(converter))
    try:
        await replayed.run(make, definition)
    except NonDeterminismError as error:
        return error
    return None


async def obstacle_in(
    execution_id: str,
    events: Sequence[HistoryEvent],
    converter: DataConverter,
    make: MakeLiveCode,
    definition: WorkflowDefinition | None,
) -> Obstacle | None:
    """Return why the last workflow task failed; Temporal tries it again until the code is right.

    None means that it did not fail: its worker was lost. `definition` is that of the workflow here.
    """
    message: str | None = None
    scheduled: dict[int, ActivityTaskScheduledEventAttributes] = {}
    for event in events:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled[event.event_id] = event.activity_task_scheduled_event_attributes
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                message = _messages(event.workflow_task_failed_event_attributes.failure)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                message = None
    if message is not None and TAGS.name in message:
        return Obstacle(f"{message}; register it with `outlast temporal setup`")
    if message is None:
        return None
    if _NONDETERMINISM not in message:
        return Obstacle(message)
    waits = (WaitingFor(WaitingKind.CODE, CODE_DEPARTS),)
    if definition is not None:
        departure = await departure_of(execution_id, events, converter, make, definition)
        # The code here may be another one than that of the worker whose task failed.
        if departure is not None and repr(_attempted(message)) in str(departure):
            return Obstacle(str(departure), waits)
    return Obstacle(message + await _recorded(message, scheduled, converter), waits)


async def _recorded(
    message: str, scheduled: Mapping[int, ActivityTaskScheduledEventAttributes], converter: DataConverter
) -> str:
    """Return the part of the history where code departed; Temporal's error has only a number or an id."""
    found = ""
    number = re.search(r"HistoryEvent\(id: (\d+)", message)
    activity_id = re.search(r"scheduled event '(.*?)' does not match", message)
    for event_id, recorded in scheduled.items():
        by_number = number is not None and event_id == int(number[1])
        if by_number or (activity_id is not None and recorded.activity_id == activity_id[1]):
            found += f"; recorded there: activity {recorded.activity_type.name!r}"
            if recorded.HasField("input"):
                [arguments] = await converter.decode(recorded.input.payloads)
                found += f" with arguments {encode(arguments).decode()}"
    if (attempted := _attempted(message)) is not None:
        found += f"; attempted: activity {attempted!r}"
    return found


def _attempted(message: str) -> str | None:
    """Return the name of the activity that the code asked for, if Temporal's message has it."""
    command = re.search(r"activity command '(.*?)'", message)
    return None if command is None else name_in(command[1])


def _messages(failure: TemporalFailure) -> str:
    """Return the messages of a failure and of its causes."""
    messages = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        messages.append(failure.message)
    return ": ".join(filter(None, messages))
