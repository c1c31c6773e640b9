"""The event stream of an execution. A worker mostly gives its records; the history says when to ask for more.

The stream has only records of workflow tasks that were completed in the history before they were asked for.
Records of later events can still change with the next task.

An execution that continues as new has several histories (Temporal calls each of them a run). The stream goes
through all of them that Temporal still has, and its positions are the same whichever these are.

Failed attempts are not records here, because Temporal keeps only the last one of each step; their events have
the position of the event before them, like text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.ended_runs import EndedRuns, Waiter
from outlast.adapters.temporal.followed_run import FollowedRun
from outlast.adapters.temporal.open_work import OpenWork
from outlast.adapters.temporal.record_source import RecordSource
from outlast.adapters.temporal.refusals import translated
from outlast.core.errors import StorageUnavailable
from outlast.core.event_stream import Delta, Event, EventReader
from outlast.core.records import AnyRecord, AttemptFailed, StepCompleted, StepFailed, decode_record
from outlast.ports.toolkit import Toolkit


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
        last = found.run_id or ""
        run = await self._followed(last)
        source = self._source(run)
        if (await source.page(0, follow=follow)).before > after:
            first = await self._first_run(found.raw_description.workflow_execution_info.first_run_id, last)
            run = await self._followed(first)
            source = self._source(run)
        async for event in self._from(run, after, follow, source):
            yield event

    async def events_now(self) -> Sequence[Event]:
        """Return the events that the last run has now.

        Raises:
            StorageUnavailable: no worker answers, nobody else knows all events, and the run goes on.
        """
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
        run = await self._followed(found.run_id or "")
        source = self._source(run)
        events = [event async for event in self._from(run, 0, False, source)]
        if source.is_partial and not run.is_closed:
            raise self._unknown(found.workflow_type)
        return events

    def _unknown(self, workflow: str) -> StorageUnavailable:
        return StorageUnavailable(
            f"no worker answers for execution {self._id!r}, and this process does not have the code of "
            f"workflow {workflow!r}: start a worker that runs it, or import it here"
        )

    async def records(self, *, whole: bool = False) -> AsyncIterator[AnyRecord]:
        """Yield the records that all runs have now that Temporal still keeps.

        Raises:
            StorageUnavailable: with `whole`, if only the history is there, which does not have all of them.
        """
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
        first = found.raw_description.workflow_execution_info.first_run_id
        run_id: str | None = await self._first_run(first, found.run_id or "")
        while run_id is not None:
            run = await self._followed(run_id)
            async for record in self._records_of(run, whole=whole):
                yield record
            run_id, stopped = run.next_run, run.stopped
            if stopped is not None:
                yield stopped

    async def _records_of(self, run: FollowedRun, *, whole: bool) -> AsyncIterator[AnyRecord]:
        """Yield the records that a run has now."""
        ended, found = None if self._waiter is None else self._waiter.ended, run.description
        if ended is not None and found is not None and ended.is_all_of(found.run_id, found.history_length):
            for written in ended.records:
                yield decode_record(written)
            return
        source, position = self._source(run), 0
        while page := (await source.page(position, follow=False)).records:
            if whole and source.is_partial:
                raise self._unknown("" if found is None else found.workflow_type)
            for record in page:
                yield record
            position += len(page)

    async def _from(
        self, run: FollowedRun, after: int, follow: bool, source: RecordSource
    ) -> AsyncIterator[Event]:
        reader = EventReader()
        shift: int | None = None
        while True:
            position, opened = 0, OpenWork(self._client.data_converter)
            while True:
                page = await source.page(position, follow=follow)
                shift = page.before if shift is None else shift
                for record in page.records:
                    note = await self._note_before(record, run)
                    for event in opened.news(reader, [] if note is None else [note], shift):
                        if event.position > after:
                            yield event
                    for event in reader.read(record):
                        opened.see(event)
                        if event.position + shift > after:
                            yield replace(event, position=event.position + shift)
                position += len(page.records)
                if reader.ended:
                    return
                if page.records:
                    continue
                if not follow:
                    assert run.description is not None
                    failed = [
                        one async for one in opened.shown(run.description) if not isinstance(one, Delta)
                    ]
                    for event in opened.news(reader, failed, shift):
                        if event.position > after:
                            yield event
                    break
                with translated(self._id):
                    coming = asyncio.ensure_future(run.wait())
                    async with aclosing(opened.until(coming, run.handle)) as found:
                        async for one in found:
                            for event in opened.news(reader, [one], shift):
                                yield event
                    if not await coming:
                        break
            if run.next_run is None:
                for event in () if run.stopped is None else reader.read(run.stopped):
                    if event.position + (shift or 0) > after:
                        yield replace(event, position=event.position + (shift or 0))
                return
            run = await self._followed(run.next_run)
            source = self._source(run)

    async def _note_before(self, record: AnyRecord, run: FollowedRun) -> AttemptFailed | None:
        """Return the failed attempt that the history shows with the end of a step."""
        if isinstance(record, StepCompleted | StepFailed):
            return await run.failed_attempt(record.key, self._client.data_converter)
        return None

    def _source(self, run: FollowedRun) -> RecordSource:
        return RecordSource(self._client, self._id, self._toolkit, run)

    async def _followed(self, run_id: str) -> FollowedRun:
        """Return a run with its history, read up to its present end."""
        run = FollowedRun(self._run(run_id))
        with translated(self._id):
            await run.read()
        return run

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
