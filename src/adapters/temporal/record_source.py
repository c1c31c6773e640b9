"""The records of one run of an execution, from whoever can give them.

A worker that runs the workflow answers a query; its code is that with which the execution goes on. If no
worker answers, code of the same workflow in this process makes them again from the history. If this process
does not have the code, or if that departs, there is still all that the history alone says; a warning says
what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription

from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.followed_run import FollowedRun
from outlast.adapters.temporal.history import TemporalHistory, read_history
from outlast.adapters.temporal.importing import is_import_of_an_end
from outlast.adapters.temporal.kept_records import RECORDS_QUERY
from outlast.adapters.temporal.payloads import limit_of
from outlast.adapters.temporal.refusals import translated
from outlast.adapters.temporal.worker_presence import is_worked_on
from outlast.core.errors import NotSupported, OutlastError, StorageError, StorageUnavailable
from outlast.core.records import AnyRecord, read_record
from outlast.ports.toolkit import Toolkit

logger = logging.getLogger("outlast.temporal")

ASK_AGAIN_SECONDS = 0.5
"""The time after which a reader asks again if no worker has answered its query."""

ANSWER = timedelta(seconds=10)
"""The longest time for an answer. A worker without a cache may drop one of several queries at once."""

PROMPT_SECONDS = 1.0
"""The time after which a reader looks whether there is a worker at all that could answer."""

TRIES = 3
"""The number of times that a reader asks workers, unless it waits for the execution to go on."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of one run."""

    records: Sequence[AnyRecord]
    before: int
    """The number of records in the runs before."""


class RecordSource:
    """Gives the records of one run, page by page, without the failed attempts."""

    def __init__(self, client: Client, execution_id: str, toolkit: Toolkit, run: FollowedRun) -> None:
        self.is_partial = False
        """True if only the history speaks: the events that code emits are missing."""
        self._client = client
        self._id = execution_id
        self._toolkit = toolkit
        self._run = run
        self._alone: Page | None = None

    async def page(self, position: int, *, follow: bool) -> Page:
        """Return records from `position` on; with `follow`, wait for a worker while the run goes on."""
        tries = 0
        if self._alone is None and is_import_of_an_end(self._found):
            self._alone = await self._made_here()
        while self._alone is None:
            try:
                with translated(self._id):
                    return await self._asked(position)
            except StorageError:
                tries += 1
                if (not follow or self._run.is_closed) and (
                    tries == TRIES or not await _is_worked_on(self._client, self._found)
                ):
                    self._alone = await self._made_here()
                    break
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        return Page(self._alone.records[position:], self._alone.before)

    async def _asked(self, position: int) -> Page:
        query = self._run.handle.query(
            RECORDS_QUERY, args=[position, self._run.completed], rpc_timeout=ANSWER
        )
        answer = await answered(self._client, self._found, query)
        return Page([read_record(record) for record in answer["records"]], answer["before"])

    @property
    def _found(self) -> WorkflowExecutionDescription:
        assert self._run.description is not None
        return self._run.description

    async def _made_here(self) -> Page:
        with translated(self._id):
            events = (await self._run.handle.fetch_history()).events
        history = await read_history(events, self._client.data_converter)
        before = 0 if history.carried is None else history.carried.beginning.records
        records = await self._by_code(history)
        records = list(history.records()) if records is None else records
        return Page(records, before)

    async def _by_code(self, history: TemporalHistory) -> Sequence[AnyRecord] | None:
        """Return the records that the code in this process makes; None if it cannot, with a warning."""
        if is_import_of_an_end(self._found):
            return list(history.records())
        definition = self._toolkit.known_definition(history.workflow)
        problem: object = "this process does not have its code"
        if definition is not None:
            replayed = CodeReplay(self._id, history, limit_of(self._client.data_converter))
            try:
                await replayed.run(self._toolkit.live_code, definition)
                return replayed.records
            except OutlastError as error:
                problem = f"the code in this process cannot take its place: {error}"
        self.is_partial = True
        logger.warning(
            "no worker answers for execution %s of workflow %r, and %s. What follows comes from the history "
            "alone: agents, handoffs, approvals and all else that only code knows is left out, and positions "
            "are others",
            *(self._id, history.workflow, problem),
        )
        return None


async def answered(
    client: Client, found: WorkflowExecutionDescription, query: Coroutine[Any, Any, Any]
) -> Any:
    """Return the answer of a worker to a query; give up as soon as it is clear that there is no worker.

    Raises:
        StorageUnavailable: no worker is there.
    """
    asking = asyncio.create_task(query)
    try:
        await asyncio.wait([asking], timeout=PROMPT_SECONDS)
        if not asking.done() and not await _is_worked_on(client, found):
            raise StorageUnavailable(
                f"no worker answers for execution {found.id!r}; start one that runs its workflow"
            )
        return await asking
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await asking


async def _is_worked_on(client: Client, found: WorkflowExecutionDescription) -> bool:
    """Return whether a worker may be there that runs the workflow."""
    try:
        with translated(found.id):
            return await is_worked_on(client, found.task_queue, found.workflow_type)
    except NotSupported:
        return True  # Nobody knows.
