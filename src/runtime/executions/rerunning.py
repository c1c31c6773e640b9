"""Ending, retrying and copying executions in a store, from outside (D22, D23, D25)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from outlast.core.children import OnParentEnd, left_behind
from outlast.core.errors import (
    CannotRerun,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionNotFound,
)
from outlast.core.exports import ExportHeader, exported, imported, read_export
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionStarted,
    Status,
    encode_record,
)
from outlast.core.reruns import counted, forked, retried
from outlast.core.waiting import overview_in
from outlast.core.workflow_machine import skimmed
from outlast.ports.clock import Clock
from outlast.ports.journal import PAUSED, NewExecution, Store, as_reason
from outlast.runtime.definitions.known_workflows import known_definition
from outlast.runtime.executions.child_messages import cancel_child, message_parent
from outlast.runtime.executions.journal_reading import decoded, existing_head, read_existing
from outlast.runtime.executions.store_retry import patiently


class Rerunner:
    """The verbs that write to the journal of an execution without being its worker.

    Each is one atomic write. If the journal grows between reading and writing, the verb begins again.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def terminate(self, execution_id: str, reason: str) -> None:
        end = ExecutionEnded(status=Status.TERMINATED, reason=as_reason(reason))
        while True:
            head = await existing_head(self._store, execution_id)
            try:
                if await self._store.amend(execution_id, head.length, encode_record(end), Status.TERMINATED):
                    break
            except ExecutionAlreadyEnded:
                if head.status is Status.TERMINATED:
                    # Who terminated it may have been lost before its children were ended.
                    await self._part(execution_id)
                raise
        await self._part(execution_id)

    async def end_child(self, child: str, fate: OnParentEnd, *, parent: str) -> None:
        """End a child whose parent has ended, unless it has ended itself."""
        if fate == "cancel":
            sent = partial(cancel_child, self._store, child, parent)
            await patiently(sent, self._clock, doing=f"the end of execution {parent}")
            return
        with suppress(ExecutionNotFound, ExecutionAlreadyEnded):
            await self.terminate(child, f"its parent {parent} has ended")

    async def _part(self, execution_id: str) -> None:
        """End the children of an execution that was terminated, and send word to its parent."""
        records = await self.records(execution_id)
        machine = skimmed(counted(records).records)
        is_fork = machine.tally.forked_from is not None
        for child, fate in list(left_behind(machine.children.values(), execution_id, is_fork=is_fork)):
            await self.end_child(child, fate, parent=execution_id)
        await message_parent(self._store, execution_id, records[0])

    async def retry(self, execution_id: str, *, again: bool) -> None:
        while True:
            records = await self.records(execution_id)
            head = await existing_head(self._store, execution_id)
            if head.status is Status.RUNNING and isinstance(records[-1], ExecutionEnded):
                raise CannotRerun(f"execution {execution_id!r} is just ending; retry it in a moment")
            # What has ended gets no more messages, so these are all.
            inbox = await self._store.messages(execution_id, 0)
            mail = inbox[-1].number if inbox else 0
            reopened = retried(execution_id, records, self._clock.now(), again=again, mail=mail)
            if await self._store.amend(execution_id, len(records), encode_record(reopened), Status.RUNNING):
                return

    async def fork(
        self,
        execution_id: str,
        *,
        at: int | None,
        id: str | None,
        edits: Mapping[str, Any] | None,
        again: bool,
    ) -> str:
        """Start a fork, and return its id."""
        from outlast.runtime.definitions.edits import check_edits

        head, records = await existing_head(self._store, execution_id), await self.records(execution_id)
        check_edits(records, edits or {})
        copy = forked(
            execution_id, records, self._clock.now(), position=at, edits=edits and dict(edits), again=again
        )
        return await self._create(copy, id or uuid.uuid4().hex, head.task_queue, head.tags)

    async def export(self, execution_id: str) -> Sequence[str]:
        head, records = await existing_head(self._store, execution_id), await self.records(execution_id)
        header = ExportHeader(
            id=execution_id,
            workflow=head.workflow,
            task_queue=head.task_queue,
            exported_at=self._clock.now(),
            records=len(records),
            tags=dict(head.tags),
        )
        return list(exported(header, records))

    async def import_(self, lines: Iterable[str], *, id: str | None) -> str:
        """Keep an execution that was exported, and return its id; nothing of it runs."""
        export = read_export(lines)
        header = export.header
        new_id, queue, tags = id or header.id, header.task_queue, header.tags
        records = imported(export, new_id, self._clock.now())
        reason = (
            "imported: it does not run by itself. Look at it, fork it, or resume it to let it go on here, "
            "where its steps may happen a second time"
        )
        if export.end is not None:
            return await self._create(records, new_id, queue, tags, ended=export.status)
        return await self._create(records, new_id, queue, tags, reason=reason)

    async def records(self, execution_id: str) -> Sequence[AnyRecord]:
        written = await read_existing(self._store, self._clock, execution_id)
        return [record async for record in decoded(written)]

    async def _create(
        self,
        records: Sequence[AnyRecord],
        id: str,
        task_queue: str,
        tags: Mapping[str, str],
        *,
        reason: str | None = None,
        ended: Status | None = None,
    ) -> str:
        started = records[0]
        assert isinstance(started, ExecutionStarted)
        definition = known_definition(started.workflow)
        try:
            new = NewExecution(
                id=id,
                workflow=started.workflow,
                fingerprint=execution_fingerprint(started.workflow, started.arguments),
                task_queue=task_queue,
                keep_seconds=None if definition is None else definition.keep_seconds,
                reason=reason,
                tags=tags,
                waiting=None if reason is None else PAUSED,
                overview=overview_in(records).to_text(),
                ended=ended,
            )
        except ValueError as error:
            raise DefinitionError(str(error)) from error
        first, *more = map(encode_record, records)
        _, created = await self._store.create(new, first, more)
        if not created:
            raise ExecutionAlreadyExists(id, "journal")
        return id
