"""Running executions again on Temporal (D22, D23, D25): each time a run that begins with a journal.

Temporal can reset a workflow to one of its tasks. That does not keep our promises: whatever completed after
that task would run again, and nothing is known of what was void. So a retry starts another run of the same
workflow id, a fork a run of another id, and the input of both is a journal, which `core.reruns` has made of
the one before. The code is run over that journal first, as on every other backend, and then the history of
the run goes on from there.

A history has neither events nor all arguments. So the journal of an execution is known to code only: to this
process, or to a worker. Code that was mended departs from the history where it failed. A retry allows that,
as long as the code agrees with all that still counts.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import WorkflowIdReusePolicy
from temporalio.client import Client, WorkflowExecutionDescription

from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.history import TemporalHistory, read_history
from outlast.adapters.temporal.holding import PAUSE_SIGNAL, RESUME_SIGNAL
from outlast.adapters.temporal.journal_start import start, start_request
from outlast.adapters.temporal.memo import OF_ONE_RUN, queue_of
from outlast.adapters.temporal.payloads import limit_of
from outlast.adapters.temporal.refusals import translated
from outlast.adapters.temporal.stream import EventStream
from outlast.core.errors import (
    BusyWorkflow,
    CannotRerun,
    ExecutionAlreadyExists,
    NonDeterminismError,
    OutlastError,
)
from outlast.core.records import (
    INPUTS,
    REQUESTS,
    AnyRecord,
    Input,
    SignalReceived,
    StepCompleted,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.reruns import forked, retried
from outlast.ports.toolkit import Toolkit

_SERVERS_OWN = ("BuildIds", "Temporal")
"""The beginnings of the names of search attributes that the server sets."""


@dataclass(frozen=True, slots=True)
class _KnownJournal:
    """The journal of an execution, as far as it is known."""

    found: WorkflowExecutionDescription
    records: Sequence[AnyRecord]
    agreed: int
    """The number of records that the code at hand made; what follows is from the history alone."""
    departure: OutlastError | None = None
    untaken: Sequence[Input] = ()
    """The inputs that the code had not got when the execution ended."""


class TemporalRerunner:
    """Retries and forks executions; each verb is one start of a run."""

    def __init__(self, client: Client, toolkit: Toolkit, execution_id: str, stream: EventStream) -> None:
        self._client = client
        self._toolkit = toolkit
        self._id = execution_id
        self._stream = stream
        self._converter = client.data_converter

    async def retry(self, *, again: bool) -> None:
        known = await self._known()
        reopened = retried(self._id, known.records, time.time(), again=again)
        self._check_agreed(known, reopened.position)
        *before, end = known.records
        untaken = [record.with_(at=reopened.at) for record in known.untaken if _still_counts(record)]
        journal = [*before, *untaken, end, reopened]
        info = known.found.raw_description.workflow_execution_info
        # The server takes only one start with one request id: of several retries at once, one happens.
        request_id = hashlib.sha256(f"retry {known.found.run_id}".encode()).hexdigest()
        queue = await queue_of(known.found)
        request = await start_request(self._client, self._id, journal, queue, request_id)
        request.workflow_id_reuse_policy = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
        for name, value in info.memo.fields.items():
            if name not in OF_ONE_RUN:
                request.memo.fields[name].CopyFrom(value)
        request.search_attributes.CopyFrom(_set_by_users(info.search_attributes))
        try:
            with translated(self._id):
                now = await self._client.get_workflow_handle(self._id).describe()
                if now.run_id != known.found.run_id:
                    raise CannotRerun(f"execution {self._id!r} was retried by somebody else just now")
                await start(self._client, request)
        except ExecutionAlreadyExists:
            raise CannotRerun(
                f"execution {self._id!r} has not ended; only what has ended can be retried"
            ) from None

    async def fork(
        self, *, at: int | None, id: str | None, edits: Mapping[str, Any] | None, again: bool
    ) -> str:
        """Start a fork, and return its id."""
        known = await self._known()
        self._toolkit.check_edits(known.records, edits or {})
        copy = forked(
            self._id,
            known.records,
            time.time(),
            position=at,
            edits=None if edits is None else dict(edits),
            again=again,
        )
        self._check_agreed(known, len(copy) - 1)
        new_id = uuid.uuid4().hex if id is None else id
        queue = await queue_of(known.found)
        request = await start_request(self._client, new_id, copy, queue, uuid.uuid4().hex)
        info = known.found.raw_description.workflow_execution_info
        request.search_attributes.CopyFrom(_set_by_users(info.search_attributes))
        with translated(new_id):
            await start(self._client, request)
        return new_id

    async def journal(self) -> Sequence[AnyRecord]:
        """Return all records; a worker or this process must have the code.

        Raises:
            StorageUnavailable: neither has.
            CannotRerun: the execution has continued as new, so that its records are those of several
                histories.
        """
        known = await self._known()
        if known.departure is not None:
            return await self._from_worker(known.found)
        return known.records

    async def answer_to(self, update_id: str) -> UpdateCompleted | None:
        """Return the first answer to an update that came before the run which is there now."""
        with translated(self._id):
            history = await self._client.get_workflow_handle(self._id).fetch_history()
        carried = (await read_history(history.events, self._converter)).carried
        accepted = [] if carried is None else [one for one in carried.journal if _is_of(one, update_id)]
        if not accepted:
            return None
        answers = (one for one in await self.journal() if isinstance(one, UpdateCompleted))
        return next((one for one in answers if one.update_id == update_id), None)

    # The journal of an execution

    async def _known(self) -> _KnownJournal:
        with translated(self._id):
            found = await self._client.get_workflow_handle(self._id).describe()
            _refuse_several_histories(found)
            run = self._client.get_workflow_handle(self._id, run_id=found.run_id)
            history = await read_history((await run.fetch_history()).events, self._converter)
        definition = self._toolkit.known_definition(history.workflow)
        if definition is None:
            records = await self._from_worker(found)
            return _KnownJournal(found, records, len(records), None, history.untaken)
        replay = CodeReplay(self._id, history, limit_of(self._converter))
        departure: OutlastError | None = None
        try:
            await replay.run(self._toolkit.live_code, definition)
        except (NonDeterminismError, BusyWorkflow) as error:
            departure = error
        agreed, rest = len(replay.records), list[AnyRecord]()
        if departure is not None:
            agreed = _end_of_inputs(replay.records)
            rest = list(_history_alone(history, replay))
        if history.stopped is not None:
            rest.append(history.stopped)
        return _KnownJournal(found, [*replay.records[:agreed], *rest], agreed, departure, history.untaken)

    async def _from_worker(self, found: WorkflowExecutionDescription) -> Sequence[AnyRecord]:
        return [record async for record in self._stream.records(whole=True)]

    def _check_agreed(self, known: _KnownJournal, length: int) -> None:
        """Raise unless the code at hand made the first records, which count."""
        if length > known.agreed and known.departure is not None:
            raise CannotRerun(
                f"the code in this process departs from what execution {self._id!r} did, before the position "
                f"from which it would go on: {known.departure}"
            ) from known.departure


def _refuse_several_histories(found: WorkflowExecutionDescription) -> None:
    if found.raw_description.workflow_execution_info.first_run_id not in ("", found.run_id):
        raise CannotRerun(
            f"execution {found.id!r} has continued as new, and what its code was given then is in no "
            "journal: it cannot be retried, forked or exported; start another execution"
        )


def _end_of_inputs(records: Sequence[AnyRecord]) -> int:
    """Return the number of records up to the last input: what follows is what other code asked for."""
    return 1 + max(position for position, record in enumerate(records) if isinstance(record, INPUTS))


def _history_alone(history: TemporalHistory, replay: CodeReplay) -> Iterator[AnyRecord]:
    """Yield what the history says of the workflow task in which the code departed, and of the later ones."""
    agreed = replay.records[: _end_of_inputs(replay.records)]
    known = {record.key for record in agreed if isinstance(record, REQUESTS)}
    for number, task in enumerate(history.tasks, 1):
        if number == replay.reached:
            yield from (request for key, request in task.requests.items() if key not in known)
        elif number > replay.reached:
            yield from task.inputs
            yield from task.requests.values()


def _is_of(record: AnyRecord, update_id: str) -> bool:
    return isinstance(record, UpdateAccepted) and record.update_id == update_id


def _still_counts(record: Input) -> bool:
    """Return whether an input still counts that came before the end: see `Counted.undelivered`."""
    match record:
        case SignalReceived(name=name):
            return name not in (PAUSE_SIGNAL, RESUME_SIGNAL)
        case _:
            return isinstance(record, StepCompleted)


def _set_by_users(attributes: SearchAttributes) -> SearchAttributes:
    return SearchAttributes(
        indexed_fields={
            name: value
            for name, value in attributes.indexed_fields.items()
            if not name.startswith(_SERVERS_OWN)
        }
    )
