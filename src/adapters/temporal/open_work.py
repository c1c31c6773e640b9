"""The open steps of one run, as Temporal's description shows them: the text of replies, failed attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from temporalio.client import WorkflowExecutionDescription, WorkflowHandle
from temporalio.converter import DataConverter

from outlast.adapters.temporal.heartbeat import TEXT_SECONDS, text_published
from outlast.adapters.temporal.history import attempt_note
from outlast.adapters.temporal.steps import key_of
from outlast.core.event_stream import Delta, Event, EventReader
from outlast.core.events import EventKind
from outlast.core.records import AttemptFailed

PACE_SECONDS_MAX = 2.0
"""The longest time between two looks of a reader for failed attempts, or for text that does not come."""

_BEGUN = frozenset(
    {
        EventKind.TURN_STARTED,
        EventKind.TOOL_CALLED,
        EventKind.ACTIVITY_STARTED,
        EventKind.SUMMARY_STARTED,
    }
)
_ENDED = frozenset(
    {
        *(EventKind.MODEL_REPLIED, EventKind.MODEL_FAILED, EventKind.TOOL_RETURNED, EventKind.TOOL_FAILED),
        *(EventKind.ACTIVITY_COMPLETED, EventKind.ACTIVITY_FAILED),
        *(EventKind.SUMMARY_MADE, EventKind.SUMMARY_FAILED),
    }
)


class OpenWork:
    """The open steps of one run, and what a reader has already been shown of them."""

    def __init__(self, converter: DataConverter) -> None:
        self._converter = converter
        self._open: dict[str, EventKind] = {}
        """The kind of the event with which each open step began."""
        self._pieces: dict[tuple[str, int], int] = {}
        self._failed: dict[str, int] = {}
        """The last failed attempt of each step that was shown."""

    def see(self, event: Event) -> None:
        """Note whether a step is open."""
        if event.kind in _BEGUN and (key := getattr(event.data, "key", None)):
            self._open[key] = event.kind
        elif event.kind in _ENDED:
            self._open.pop(getattr(event.data, "key", ""), None)

    def news(
        self, reader: EventReader, found: Sequence[Delta | AttemptFailed], shift: int
    ) -> Iterator[Event]:
        """Yield the events of text and failed attempts; they have the position of the event before them."""
        for one in found:
            if isinstance(one, Delta):
                reader.take_text([one])
                events = reader.text()
            elif one.attempt > self._failed.get(one.key, 0):
                self._failed[one.key] = one.attempt
                events = reader.read_beside(one)
            else:
                continue
            for event in events:
                yield replace(event, position=event.position + shift)

    async def until(
        self, coming: asyncio.Future[Any], run: WorkflowHandle[Any, Any]
    ) -> AsyncGenerator[Delta | AttemptFailed, None]:
        """Yield news until `coming` is done; `coming` is cancelled if this ends before."""
        pace = TEXT_SECONDS
        try:
            while True:
                models = EventKind.TURN_STARTED in self._open.values()
                wait = None if not self._open else pace if models else PACE_SECONDS_MAX
                await asyncio.wait([coming], timeout=wait)
                if coming.done():
                    return
                found = [one async for one in self.shown(await run.describe())]
                # For a model that does not stream, a look now and then is enough.
                has_text = any(isinstance(one, Delta) for one in found)
                pace = TEXT_SECONDS if has_text else min(2 * pace, PACE_SECONDS_MAX)
                for one in found:
                    yield one
        finally:
            if not coming.done():
                coming.cancel()

    async def shown(self, found: WorkflowExecutionDescription) -> AsyncIterator[Delta | AttemptFailed]:
        """Yield what a description shows of open steps: new text, and the last failed attempt of each."""
        for pending in found.raw_description.pending_activities:
            key = key_of(pending.activity_id)
            if key not in self._open:
                continue
            if pending.HasField("last_failure"):
                at = pending.last_attempt_complete_time.ToDatetime(UTC).timestamp()
                if (note := await attempt_note(key, at, pending.last_failure, self._converter)) is not None:
                    yield note
            if self._open[key] is not EventKind.TURN_STARTED or not pending.HasField("heartbeat_details"):
                continue
            heartbeat = await found.data_converter.decode(pending.heartbeat_details.payloads)
            attempt, pieces = text_published(heartbeat)
            at = pending.last_heartbeat_time.ToDatetime(UTC).timestamp()
            for number in range(self._pieces.get((key, attempt), 0), len(pieces)):
                yield Delta(key, attempt, number + 1, pieces[number], at)
            self._pieces[key, attempt] = len(pieces)
