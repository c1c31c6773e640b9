"""The history of one run, read as it grows: when workflow tasks are completed, and which attempts failed."""

from __future__ import annotations

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskStartedEventAttributes, HistoryEvent
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle
from temporalio.converter import DataConverter

from outlast.adapters.temporal.history import attempt_note, seconds_of, stopped_by
from outlast.adapters.temporal.steps import key_of
from outlast.core.records import AttemptFailed, ExecutionEnded


class FollowedRun:
    """One history of an execution, as far as it has been read."""

    def __init__(self, handle: WorkflowHandle[Any, Any]) -> None:
        self.handle = handle
        self.completed = 0
        """The number of events up to the last completion of a workflow task."""
        self.next_run: str | None = None
        """The run that continues this one, if there is one."""
        self.stopped: ExecutionEnded | None = None
        """The end of the run, if it was not its code that asked for it."""
        self.description: WorkflowExecutionDescription | None = None
        """Temporal's description of the run when its reading began."""
        self._events = handle.fetch_history_events(wait_new_event=True)
        self._length = 0
        self._scheduled: dict[int, str] = {}
        self._tried_again: dict[str, tuple[float, ActivityTaskStartedEventAttributes]] = {}

    @property
    def is_closed(self) -> bool:
        """True if the run had ended when its reading began."""
        return self.description is not None and self.description.status is not WorkflowExecutionStatus.RUNNING

    async def read(self) -> None:
        """Read the history up to its present end."""
        self.description = await self.handle.describe()
        while self._length < self.description.history_length and await self._event() is not None:
            pass

    async def wait(self) -> bool:
        """Wait until another workflow task is completed; return False if the run ends before."""
        while (event := await self._event()) is not None:
            if event.event_id == self.completed:
                return True
        return False

    async def failed_attempt(self, key: str, converter: DataConverter) -> AttemptFailed | None:
        """Return the attempt at an ended step before its last one, if that was tried again."""
        if key not in self._tried_again:
            return None
        at, started = self._tried_again.pop(key)
        return await attempt_note(key, at, started.last_failure, converter)

    async def _event(self) -> HistoryEvent | None:
        event = await anext(self._events, None)
        if event is None:
            return None
        self._length = event.event_id
        self.stopped = self.stopped or stopped_by(event)
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self.completed = event.event_id
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                attributes = event.workflow_execution_continued_as_new_event_attributes
                self.next_run = attributes.new_execution_run_id
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                activity_id = event.activity_task_scheduled_event_attributes.activity_id
                self._scheduled[event.event_id] = key_of(activity_id)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                key = self._scheduled.pop(started.scheduled_event_id)
                if started.HasField("last_failure"):
                    self._tried_again[key] = (seconds_of(event), started)
        return event
