"""The event stream of an execution. A worker answers with its records; the history gives their times.

The stream has only records of workflow tasks that were completed in the history before the worker was asked.
The records that a worker makes of later events can still change with the next task.

An execution that continues as new has several histories (Temporal calls each of them a run). The stream goes
through all of them that Temporal still has, and its positions are the same whichever these are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.ended_runs import EndedRuns, Waiter
from outlast.adapters.temporal.heartbeat import TEXT_SECONDS, text_published
from outlast.adapters.temporal.kept_records import RECORDS_QUERY
from outlast.adapters.temporal.refusals import REFUSALS, refused
from outlast.core.errors import (
    DefinitionError,
    ExecutionNotFound,
    StorageError,
    StorageUnavailable,
)
from outlast.core.event_stream import Delta, Event
from outlast.core.events import ModelFailedData, ModelRepliedData, TurnStartedData
from outlast.core.json import JSON
from outlast.core.records import AnyRecord, decode_record, read_record
from outlast.ports.toolkit import RecordReader, Toolkit

PAUSE_SECONDS = 0.5
"""The time after which a reader asks again if no worker has answered its query."""

ANSWER = timedelta(seconds=10)
"""The longest time for an answer. A worker without a cache may drop one of several queries at once."""

PATIENCE_SECONDS = 30.0
"""The time for which a reader that does not follow the stream goes on asking."""

PACE_SECONDS_MAX = 2.0
"""The longest pause of a reader that looks for the text of a model that does not stream."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Some records of one run: the answer to the query for them."""

    records: Sequence[JSON]
    before: int


class EventStream:
    """Reads the events of one execution."""

    def __init__(self, client: Client, execution_id: str, toolkit: Toolkit, ended: EndedRuns) -> None:
        self._client = client
        self._id = execution_id
        self._toolkit = toolkit
        self._ended = ended
        self._waiter: Waiter | None = None

    def expect_end(self) -> None:
        """Keep the records, if the execution ends in this process from now on."""
        self._waiter = self._ended.waiter(self._id)

    async def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        """Yield the events with a position above `after`."""
        if follow:
            self.expect_end()
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
        run_id = found.run_id or ""
        before = (await self._page(self._run(run_id), 0, 0, follow)).before
        if before > after:
            run_id = await self._first_run(found.raw_description.workflow_execution_info.first_run_id, run_id)
        async for event in self._from(run_id, after, follow):
            yield event

    async def events_now(self) -> Sequence[Event]:
        """Return the events that the last run has now."""
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
        return [event async for event in self._from(found.run_id or "", 0, follow=False)]

    async def records(self) -> AsyncIterator[AnyRecord]:
        """Yield the records that all runs have now that Temporal still keeps."""
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
        ended = None if self._waiter is None else self._waiter.ended
        if ended is not None and ended.is_all_of(found.run_id, found.history_length):
            for written in ended.records:
                yield decode_record(written)
            return
        first = found.raw_description.workflow_execution_info.first_run_id
        run_id: str | None = await self._first_run(first, found.run_id or "")
        while run_id is not None:
            run, position = self._run(run_id), 0
            history = await self._history(run)
            while page := (await self._page(run, position, history.completed, follow=False)).records:
                for record in page:
                    yield read_record(record)
                position += len(page)
            run_id = history.next_run

    async def _from(self, run_id: str | None, after: int, follow: bool) -> AsyncIterator[Event]:
        reader: RecordReader = self._toolkit.record_reader()
        shift: int | None = None
        while run_id is not None:
            run, position, text = self._run(run_id), 0, _Text()
            history = await self._history(run)
            while True:
                page = await self._page(run, position, history.completed, follow)
                shift = page.before if shift is None else shift
                for record in page.records:
                    for event in reader.read(read_record(record)):
                        text.see(event)
                        if event.position + shift > after:
                            yield replace(event, position=event.position + shift)
                position += len(page.records)
                if reader.ended:
                    return
                if page.records:
                    continue
                if not follow:
                    break
                with translated(self._id):
                    coming = asyncio.ensure_future(history.wait())
                    async with aclosing(text.until(coming, run)) as deltas:
                        async for delta in deltas:
                            reader.take_text([delta])
                            for event in reader.text():
                                yield replace(event, position=event.position + shift)
                    if not await coming:
                        break
            run_id = history.next_run

    async def _history(self, run: WorkflowHandle[Any, Any]) -> _History:
        """Return the run's history, read up to its present end."""
        history = _History(run)
        with translated(self._id):
            await history.read((await run.describe()).history_length)
        return history

    def _run(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(self._id, run_id=run_id)

    async def _first_run(self, first: str, last: str) -> str:
        """Return the first run that Temporal still has."""
        try:
            await self._run(first).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise StorageUnavailable(f"Temporal does not answer: {error.message}") from error
            return last
        return first

    async def _page(self, run: WorkflowHandle[Any, Any], position: int, length: int, follow: bool) -> _Page:
        """Return some of the run's records; with `follow`, wait for a worker without a limit."""
        try:
            async with asyncio.timeout(None if follow else PATIENCE_SECONDS):
                while True:
                    try:
                        with translated(self._id):
                            answer = await run.query(
                                RECORDS_QUERY, args=[position, length], rpc_timeout=ANSWER
                            )
                            return _Page(**answer)
                    except StorageError:
                        await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise StorageUnavailable(
                f"no worker answers for execution {self._id!r}; start one that runs its workflow"
            ) from None


class _Text:
    """The text of replies that are being written in one run, read from the heartbeats of model calls."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._told: dict[tuple[str, int], int] = {}

    def see(self, event: Event) -> None:
        """Note whether a model call is open."""
        match event.data:
            case TurnStartedData(key=key):
                self._open.add(key)
            case ModelRepliedData(key=key) | ModelFailedData(key=key):
                self._open.discard(key)
            case _:
                pass

    async def until(
        self, coming: asyncio.Future[Any], run: WorkflowHandle[Any, Any]
    ) -> AsyncGenerator[Delta, None]:
        """Yield the text until `coming` is done; `coming` is cancelled if this ends before."""
        pace = TEXT_SECONDS
        try:
            while True:
                await asyncio.wait([coming], timeout=pace if self._open else None)
                if coming.done():
                    return
                found = [delta async for delta in self._new(await run.describe())]
                # For a model that does not stream, a look now and then is enough.
                pace = TEXT_SECONDS if found else min(2 * pace, PACE_SECONDS_MAX)
                for delta in found:
                    yield delta
        finally:
            if not coming.done():
                coming.cancel()

    async def _new(self, found: WorkflowExecutionDescription) -> AsyncIterator[Delta]:
        for pending in found.raw_description.pending_activities:
            if pending.activity_id not in self._open or not pending.HasField("heartbeat_details"):
                continue
            heartbeat = await found.data_converter.decode(pending.heartbeat_details.payloads)
            attempt, pieces = text_published(heartbeat)
            place = (pending.activity_id, attempt)
            at = pending.last_heartbeat_time.ToDatetime(UTC).timestamp()
            for number in range(self._told.get(place, 0), len(pieces)):
                yield Delta(pending.activity_id, attempt, number + 1, pieces[number], at)
            self._told[place] = len(pieces)


class _History:
    """The history of one run, as far as it has been read."""

    def __init__(self, run: WorkflowHandle[Any, Any]) -> None:
        self._events = run.fetch_history_events(wait_new_event=True)
        self._length = 0
        self.completed = 0
        """The number of events up to the last completion of a workflow task."""
        self.next_run: str | None = None
        """The run that continues this one, if there is one."""

    async def read(self, length: int) -> None:
        """Read the history, which has `length` events now."""
        while self._length < length and await self._event() is not None:
            pass

    async def wait(self) -> bool:
        """Wait until another workflow task is completed; return False if the run ends before."""
        while (event := await self._event()) is not None:
            if event.event_id == self.completed:
                return True
        return False

    async def _event(self) -> HistoryEvent | None:
        event = await anext(self._events, None)
        if event is None:
            return None
        self._length = event.event_id
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            self.completed = event.event_id
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            attributes = event.workflow_execution_continued_as_new_event_attributes
            self.next_run = attributes.new_execution_run_id
        return event


@contextmanager
def translated(execution_id: str) -> Iterator[None]:
    """Turn exceptions of the service or the network inside the block into our errors."""
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ExecutionNotFound(execution_id) from error
        if error.status in REFUSALS:
            raise refused("", error.message) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise DefinitionError(f"Temporal refuses it: {error.message}") from error
        raise StorageUnavailable(f"Temporal does not answer: {error.message}") from error
    except WorkflowQueryFailedError as error:
        raise StorageUnavailable(f"no worker can answer: {error}") from error
