"""The records of one history, as the worker that runs its code has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import workflow

from outlast.adapters.temporal.ended_runs import EndedRun
from outlast.adapters.temporal.payloads import as_written
from outlast.core.json import decode

RECORDS_QUERY = "outlast.records"
OVERVIEW_QUERY = "outlast.overview"

PAGE_BYTES = 1024 * 1024


class KeptRecords:
    """The records that our own engine would have journaled, for the readers of the event stream.

    Temporal's history is the only truth. The records are derived from it by running the code, like everything
    else in a workflow.
    """

    def __init__(self, writes_json: bool, before: int = 0) -> None:
        self._writes_json = writes_json
        self._before = before
        self._records: list[bytes] = []
        self._lengths: list[int] = []
        """The length of the history at the time of each record."""

    def __len__(self) -> int:
        return len(self._records)

    def keep(self, record: bytes) -> None:
        """Keep the next record."""
        self._records.append(record)
        self._lengths.append(workflow.info().get_current_history_length())

    def page(self, position: int, length: int) -> Any:
        """Return the records from `position` on that a history of `length` events gives, as many as fit.

        Temporal may ask when the history already has events whose workflow task is still to come. The records
        that code makes of these events alone can still change: the task can bring more, such as an update,
        which goes first. So readers say up to which event workflow tasks are completed.

        `before` is the number of records in the execution's earlier histories.
        """
        page: list[bytes] = []
        size = 0
        for record, made_at in zip(self._records[position:], self._lengths[position:], strict=True):
            if made_at > length or (page and size + len(record) > PAGE_BYTES):
                break
            page.append(record)
            size += len(record)
        text = b'{"records":[%s],"before":%d}' % (b",".join(page), self._before)
        return as_written(text) if self._writes_json else decode(text)

    def ended(self) -> EndedRun:
        """Return the records, after the last one is made."""
        records: Sequence[bytes] = tuple(self._records)
        return EndedRun(workflow.info().run_id, records, self._before, self._lengths[-1])
