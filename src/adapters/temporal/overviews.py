"""The things that executions in a list wait for, and their figures, read for those rows alone.

Temporal's list has only what the server knows. To keep more there, a workflow would have to write it: one
more event in its history for each change. So it is read when somebody looks at rows, at a price that does not
depend on how many executions there are, and has a bound however long they have run:

1. Temporal's description of a row shows its open activities, and how long its history is.
2. If a worker of the workflow is alive, it answers a query with at most `OVERVIEW_BYTES_MAX` bytes. It alone
   knows all: a call that waits for approval leaves no trace in the history.
3. Else the history of the last run says which steps, children and timers are open, and counts the turns. A
   history that is longer than `EVENTS_MAX` or `BYTES_MAX` is not read.

As long as the history has not grown, what was read is used again. So a page that is looked at every few
seconds costs one description a row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.history import UNKNOWN, read_history
from outlast.adapters.temporal.kept_records import OVERVIEW_QUERY
from outlast.adapters.temporal.memo import held_because, queue_of
from outlast.adapters.temporal.obstacles import Obstacle, obstacle_in
from outlast.adapters.temporal.waits import shown_with
from outlast.adapters.temporal.worker_presence import live_workflows
from outlast.core.errors import NotSupported
from outlast.core.records import Status
from outlast.core.waiting import Overview, WaitingFor, WaitingKind, overview_in
from outlast.ports.durability.execution import ExecutionDescription
from outlast.ports.live_code import MakeLiveCode

AT_ONCE = 8
"""The number of rows that are read at the same time."""
ROW_SECONDS = 5.0
"""The longest time for one row; it then stays as the list had it."""
ANSWER = timedelta(seconds=2)
"""The longest time for the answer of a worker."""
EVENTS_MAX = 5_000
"""The longest history that is read; Temporal suggests to begin a new one after 4,096 events."""
BYTES_MAX = 4 * 1024 * 1024
"""The largest history that is read; Temporal suggests to begin a new one at this size."""
KEPT_MAX = 1_000
"""The number of rows whose facts are kept for the next look."""

_OF_CODE = (WaitingKind.SIGNAL, WaitingKind.CONDITION)
"""Waits that show only in that nothing else is open; without its code, it may be an approval as well."""

logger = logging.getLogger("outlast.temporal")


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts about one run, as long as its history has this length."""

    length: int
    is_of_worker: bool
    overview: Overview = field(default_factory=Overview)
    has_figures: bool = False
    """False if the turns and tokens are not known, or only those since the run continued as new."""
    obstacle: Obstacle | None = None


class OverviewReader:
    """Reads the rows of lists."""

    def __init__(self, make: MakeLiveCode) -> None:
        self._make = make
        self._kept: OrderedDict[str, _Facts] = OrderedDict()
        """By run, the last used at the end."""

    async def read(
        self, client: Client, rows: Sequence[ExecutionDescription]
    ) -> Sequence[ExecutionDescription]:
        """Return the rows, in order, with what the open ones wait for; one that cannot be read stays."""
        if not any(row.status is Status.RUNNING for row in rows):
            return [_paused(row, row.error) if row.status is Status.PAUSED else row for row in rows]
        page = _Page(client, self._make, self._kept, await _live(client))
        read = await asyncio.gather(*map(page.row, rows))
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        if page.failures:
            id, error = page.failures[0]
            logger.warning(
                "what executions wait for is not shown for %d of %d; for %s: %s",
                *(len(page.failures), len(rows), id, str(error) or type(error).__name__),
            )
        return read


class _Page:
    """The rows that are read together."""

    def __init__(
        self,
        client: Client,
        make: MakeLiveCode,
        kept: OrderedDict[str, _Facts],
        live: frozenset[tuple[str, str]] | None,
    ) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self._client = client
        self._make = make
        self._kept = kept
        self._live = live
        self._silent: set[tuple[str, str]] = set()
        """The task queues and workflows for which no worker has answered."""
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def row(self, row: ExecutionDescription) -> ExecutionDescription:
        if row.status is Status.PAUSED:
            return _paused(row, row.error)
        if row.status is not Status.RUNNING:
            return row
        async with self._gate:
            try:
                async with asyncio.timeout(ROW_SECONDS):
                    return await self._read(row)
            except Exception as error:  # A codec may raise anything, and the other rows are fine.
                if not (isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND):
                    self.failures.append((row.id, error))
                return row

    async def _read(self, row: ExecutionDescription) -> ExecutionDescription:
        found = await self._client.get_workflow_handle(row.id).describe()
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return row
        if (reason := await held_because(found)) is not None:
            return _paused(row, reason)
        place = await queue_of(found), found.workflow_type
        is_ours = any(name.startswith("outlast") for name in found.raw_info.memo.fields)
        is_served = is_ours if self._live is None else place in self._live
        facts = await self._facts(found, place, is_served=is_served)
        # Nobody here knows the workers of code that this library has not started.
        overview = shown_with(facts.overview, found, is_served=is_served or not is_ours)
        stuck = facts.obstacle
        obstacle = None if stuck is None else f"execution {row.id} cannot go on: {stuck.text}"
        return replace(
            row,
            error=row.error or obstacle,
            waiting_for=(*(() if stuck is None else stuck.waits), *overview.waiting_for),
            turns=overview.turns if facts.has_figures else None,
            usage=overview.usage if facts.has_figures else None,
            agent=overview.agent,
            forked_from=row.forked_from or overview.forked_from,
            parent=row.parent or overview.parent,
        )

    async def _facts(
        self, found: WorkflowExecutionDescription, place: tuple[str, str], *, is_served: bool
    ) -> _Facts:
        run_id, length = found.run_id or "", found.history_length
        is_stuck = found.raw_description.pending_workflow_task.attempt > 1
        asks = is_served and not is_stuck and place not in self._silent
        facts = self._kept.get(run_id)
        if facts is not None and facts.length != length:
            facts = None
        if asks and (facts is None or not facts.is_of_worker):
            facts = await self._asked(found, place) or facts
        if facts is None:
            facts = await self._of_history(found, is_stuck=is_stuck)
        self._kept[run_id] = facts
        self._kept.move_to_end(run_id)
        return facts

    async def _asked(self, found: WorkflowExecutionDescription, place: tuple[str, str]) -> _Facts | None:
        """Return what a worker answers; None if none does, or if it is of an older release."""
        run = self._client.get_workflow_handle(found.id, run_id=found.run_id)
        try:
            answer: Any = await run.query(OVERVIEW_QUERY, rpc_timeout=ANSWER)
        except (WorkflowQueryFailedError, WorkflowQueryRejectedError):
            return None
        except RPCError:
            self._silent.add(place)
            return None
        match answer:
            case {"overview": str(text), "before": int(before)}:
                return _Facts(found.history_length, True, Overview.of(text), has_figures=not before)
        return None

    async def _of_history(self, found: WorkflowExecutionDescription, *, is_stuck: bool) -> _Facts:
        size = found.raw_description.workflow_execution_info.history_size_bytes
        if found.history_length > EVENTS_MAX or size > BYTES_MAX:
            return _Facts(found.history_length, False)
        converter = self._client.data_converter
        run = self._client.get_workflow_handle(found.id, run_id=found.run_id)
        events = (await run.fetch_history()).events
        history = await read_history(events, converter)
        overview = overview_in(list(history.records()))
        known = tuple(wait for wait in overview.waiting_for if wait.kind not in _OF_CODE)
        agent = None if overview.agent == UNKNOWN else overview.agent
        return _Facts(
            found.history_length,
            False,
            replace(overview, waiting_for=known, agent=agent),
            has_figures=history.carried is None or not history.carried.beginning.histories,
            obstacle=await obstacle_in(found.id, events, converter, self._make, None) if is_stuck else None,
        )


def _paused(row: ExecutionDescription, reason: str | None) -> ExecutionDescription:
    return replace(row, waiting_for=(WaitingFor(WaitingKind.PAUSED, reason or ""),))


async def _live(client: Client) -> frozenset[tuple[str, str]] | None:
    """Return the task queues and workflows that have a worker; None if the service does not say."""
    try:
        return await live_workflows(client)
    except NotSupported:
        return None
    except RPCError as error:
        logger.warning("Temporal does not say which workers are alive: %s", error.message)
        return None
