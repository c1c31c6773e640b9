"""The tool calls and the questions of all executions that wait for a person.

A worker writes down what its execution waits for. So the executions with such waits are found by an index,
and only their journals are read. Two sorts are found in another way. What is paused or held waits for that
before all, but its description has the call as well. And where a backend cannot find by what is waited for,
every open execution is asked.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from outlast.core.approvals import PendingApproval
from outlast.core.errors import ExecutionNotFound, NotSupported
from outlast.core.questions import PendingQuestion
from outlast.core.records import Status
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.backend import Executions, every_execution
from outlast.ports.durability.execution import ExecutionDescription
from outlast.ports.finding import Where


@dataclass(frozen=True, slots=True)
class PeopleInbox:
    """The calls and questions that wait for people, each with the id of its execution; the oldest first."""

    calls: tuple[tuple[str, PendingApproval], ...]
    """Tool calls that wait for a decision."""
    questions: tuple[tuple[str, PendingQuestion], ...]
    """Questions that wait for an answer."""
    is_all: bool
    """False if there are more executions than the limit allowed to look at."""


ASKING = frozenset({WaitingKind.APPROVAL, WaitingKind.ANSWER})
"""The kinds of waits for a person."""


async def inbox_of(backend: Executions, *, limit: int | None = None) -> PeopleInbox:
    """Return the calls and the questions of all executions that wait for a person.

    With a `limit`, only so many executions are looked at for each sort: the newest that run, and the newest
    that are paused. An execution that was resumed or retried comes back when a worker has taken it.
    """
    found: dict[str, ExecutionDescription] = {}  # One may be paused or resumed meanwhile.
    is_all = True
    try:
        for kind in sorted(ASKING):
            asking, is_whole = await _newest(backend, Where(waiting_for=kind), limit)
            found |= {one.id: one for one in asking}
            is_all = is_all and is_whole
        paused, is_whole = await _newest(backend, Where(status=Status.PAUSED), limit)
        paused = [one for one in paused if any(wait.kind in ASKING for wait in one.waiting_for)]
    except NotSupported:
        asking, is_all = await _newest(backend, Where(status=Status.RUNNING), limit)
        found = {one.id: one for one in asking}
        paused, is_whole = await _newest(backend, Where(status=Status.PAUSED), limit)
    found |= {one.id: one for one in paused}
    calls: list[tuple[str, PendingApproval]] = []
    questions: list[tuple[str, PendingQuestion]] = []
    for one in sorted(found.values(), key=lambda one: (one.created_at, one.id)):
        with suppress(ExecutionNotFound):  # It was forgotten meanwhile.
            execution = await backend.get(one.id)
            calls += [(one.id, call) for call in await execution.pending()]
            questions += [(one.id, question) for question in await execution.questions()]
    return PeopleInbox(tuple(calls), tuple(questions), is_all and is_whole)


async def _newest(
    backend: Executions, where: Where, limit: int | None
) -> tuple[list[ExecutionDescription], bool]:
    """Return the newest executions that the filter finds, and whether these are all."""
    if limit is None:
        return [one async for one in every_execution(backend, where)], True
    page = await backend.list(where, limit=limit)
    return list(page), page.cursor is None
