"""An execution as lines of JSON: a header, then its journal, which means the same on every backend.

Any store can hold these records, and any process that has the workflow can replay them. They hold no secret,
because a journal holds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationError

from outlast.core.errors import CannotRerun, StorageCorrupt, StorageTooNew
from outlast.core.json import decode
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionRecovered,
    ExecutionStarted,
    Status,
    decode_record,
)
from outlast.core.values import Value, faults

EXPORT_FORMAT = 1
"""The format of the exports that this code writes; it reads the records of any journal in them.

It is not the format of journals: an export is for people, too, so its records have the names of their fields,
whatever is shorter in a store.
"""


class ExportHeader(Value):
    """The first line of an export. `records` is the number of lines that follow."""

    type: Literal["outlast_export"] = "outlast_export"
    format: int = EXPORT_FORMAT
    id: str
    workflow: str
    task_queue: str
    exported_at: float
    records: int
    tags: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    """An export that was read."""

    header: ExportHeader
    records: tuple[AnyRecord, ...]

    @property
    def end(self) -> ExecutionEnded | None:
        """The end of the execution, if it had ended when it was exported."""
        last = self.records[-1]
        return last if isinstance(last, ExecutionEnded) else None

    @property
    def status(self) -> Status:
        """The status of the execution when it was exported; what is paused or held counts as running."""
        return Status.RUNNING if self.end is None else self.end.status


def imported(export: Export, id: str, at: float) -> tuple[AnyRecord, ...]:
    """Return the journal with which an export is kept, under that id."""
    started, *records = export.records
    if isinstance(started, ExecutionStarted) and id != export.header.id:
        started = started.with_(seed=started.seed or export.header.id)
    if export.end is None:
        # Its steps may be under way where it comes from.
        records.append(ExecutionRecovered(at=at))
    return (started, *records)


def exported(header: ExportHeader, records: Iterable[AnyRecord]) -> Iterator[str]:
    """Yield the lines of an export, without line ends."""
    yield header.to_json().decode()
    for record in records:
        yield record.to_json().decode()


def split_exports(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lines of each export, where several follow each other; at least one, which may be empty.

    If a line that should be a header is not one, all that follows belongs to it, for `read_export` to refuse.
    """
    texts = [line for line in lines if line.strip()]
    begin = 0
    while True:
        try:
            end = begin + 1 + max(0, _header(texts[begin]).records)
        except (CannotRerun, StorageTooNew, IndexError):
            end = len(texts)
        yield texts[begin:end]
        begin = end
        if begin >= len(texts):
            return


def read_export(lines: Iterable[str]) -> Export:
    """Return the export in these lines.

    Raises:
        CannotRerun: they are not an export, or not a whole one.
        StorageTooNew: a newer version wrote it.
    """
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise CannotRerun("an export has at least two lines of JSON, and this is empty")
    header = _header(texts[0])
    if len(texts) - 1 != header.records:
        raise CannotRerun(
            f"the export of {header.id!r} is not whole: its header counts {header.records} records, and it "
            f"has {len(texts) - 1}; export it again"
        )
    records: list[AnyRecord] = []
    for number, text in enumerate(texts[1:], 1):
        try:
            records.append(decode_record(text.encode("utf-8", "surrogatepass")))
        except StorageTooNew:
            raise
        except StorageCorrupt as error:
            raise CannotRerun(
                f"record {number} of the export of {header.id!r} is damaged: {error}"
            ) from error
    if not records or not isinstance(records[0], ExecutionStarted) or records[0].workflow != header.workflow:
        raise CannotRerun(f"the export of {header.id!r} does not begin with the start of {header.workflow!r}")
    return Export(header, tuple(records))


def _header(text: str) -> ExportHeader:
    try:
        value = decode(text)
        if (
            isinstance(value, dict)
            and isinstance(value.get("format"), int)
            and value["format"] > EXPORT_FORMAT
        ):
            raise StorageTooNew(
                f"the export is in format {value['format']}, this code reads up to {EXPORT_FORMAT}; "
                "upgrade outlast"
            )
        if not isinstance(value, dict) or value.get("type") != "outlast_export":
            raise ValueError
        return ExportHeader.model_validate(value)
    except ValidationError as error:
        why = "; ".join(faults(error))
    except ValueError:
        why = "it is something else"
    raise CannotRerun(f"the first line is not the header of an export ({why}); make it with `outlast export`")
