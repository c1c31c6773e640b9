"""Journals of every released format replay for ever, whole and cut off anywhere."""

from __future__ import annotations

import pytest

from outlast.core.event_stream import EventReader
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    UpdateAccepted,
    UpdateCompleted,
    decode_record,
    encode_record,
)
from outlast.core.workflow_machine import MachinePhase
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.live_execution import LiveExecution
from tests.pinned.journals import FORMAT, Journal, pinned, recorded
from tests.pinned.programs import PROGRAMS

JOURNALS = pinned()


def replayed(journal: Journal, records: list[AnyRecord]) -> LiveExecution:
    """Return an execution that has caught up with these records; raises where the code departs from them."""
    info = WorkflowInfo(journal.id, journal.workflow)
    live = LiveExecution(definition_of(journal.workflow), info, records, limit_bytes=2_000_000)
    while not live.go_on():
        pass
    return live


def test_there_is_a_journal_of_every_program() -> None:
    names = {definition_of(workflow).name.removeprefix("pinned.") for workflow in PROGRAMS}
    assert {name.removesuffix(f"-{FORMAT}") for name in JOURNALS if name.endswith(FORMAT)} == names
    assert {journal.workflow.removeprefix("pinned.") for journal in JOURNALS.values()} == names


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_that_was_written_once_replays_to_its_end(name: str) -> None:
    records = [decode_record(record) for record in JOURNALS[name].records]
    live = replayed(JOURNALS[name], records)
    try:
        assert live.machine.phase is MachinePhase.ENDED
        assert live.machine.end == records[-1]
    finally:
        live.close()


@pytest.mark.parametrize("name", JOURNALS)
def test_every_prefix_of_a_journal_replays(name: str) -> None:
    records = [decode_record(record) for record in JOURNALS[name].records]
    for length in range(1, len(records)):
        live = replayed(JOURNALS[name], records[:length])
        end = (MachinePhase.ENDED,) if isinstance(records[length - 1], ExecutionEnded) else ()
        assert live.machine.phase in (MachinePhase.LIVE, MachinePhase.ENDING, *end)
        live.close()


@pytest.mark.parametrize("name", [name for name in JOURNALS if name.endswith(FORMAT)])
def test_the_records_of_a_journal_are_written_again_byte_for_byte(name: str) -> None:
    for record in JOURNALS[name].records:
        assert encode_record(decode_record(record)) == record


@pytest.mark.parametrize("name", JOURNALS)
def test_records_of_any_format_are_the_same_in_the_newest_one_and_in_an_export(name: str) -> None:
    for written in JOURNALS[name].records:
        record = decode_record(written)
        assert decode_record(encode_record(record)) == record
        assert decode_record(record.to_json()) == record


@pytest.mark.parametrize("name", JOURNALS)
def test_the_events_of_a_journal_can_be_read(name: str) -> None:
    reader = EventReader()
    events = [event for record in JOURNALS[name].records for event in reader.read(decode_record(record))]
    assert reader.ended
    assert [event.position for event in events] == sorted({event.position for event in events})


@pytest.mark.parametrize("workflow", PROGRAMS)
async def test_todays_journal_of_a_program_has_the_records_of_the_pinned_one(workflow: type) -> None:
    """Not the same bytes, for times and ids differ; but the same things happen, in the same order."""
    journal = await recorded(workflow)
    newest = [one for one in JOURNALS.values() if one.workflow == journal.workflow][-1]
    assert shape(journal) == shape(newest)


def shape(journal: Journal) -> list[tuple[str, object]]:
    records = [decode_record(record) for record in journal.records]
    assert isinstance(records[-1], ExecutionEnded)
    # Answers and messages to runs are updates with an id that is made up.
    numbers: dict[str, int] = {}
    for record in records:
        if isinstance(record, UpdateAccepted):
            numbers.setdefault(record.update_id, len(numbers))
    return [
        (record.type, numbers[record.update_id])
        if isinstance(record, UpdateCompleted)
        else (record.type, getattr(record, "key", None))
        for record in records
    ]
