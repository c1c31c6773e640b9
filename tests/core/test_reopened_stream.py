"""The stream of an execution that was opened again goes on as if what is void had never been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.event_stream import Delta, Event, EventReader, text_key
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionEnded,
    ExecutionReopened,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.reruns import counted
from outlast.core.step_keys import call_key, model_key

FAILURE = Failure(kind="ModelUnreachable", message="cut")
STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={})


@dataclass
class Journal:
    """A journal that grows: an agent of two runs, whose calls need an approval, and updates."""

    records: list[AnyRecord] = field(default_factory=lambda: [STARTED])
    deltas: list[Delta] = field(default_factory=list)
    reopened: int = 0
    made: int = 0
    """The number of records that were ever made, so that no two are alike."""

    def valid(self) -> Sequence[AnyRecord]:
        return counted(self.records).records

    def open(self) -> dict[str, StepScheduled]:
        steps: dict[str, StepScheduled] = {}
        for record in self.valid():
            match record:
                case StepScheduled(key=key):
                    steps[key] = record
                case StepCompleted(key=key) | StepFailed(key=key):
                    del steps[key]
        return steps

    def go_on(self, draw: st.DrawFn) -> None:
        """Add something that may happen now."""
        self.made += 1
        valid, steps = self.valid(), self.open()
        run = draw(st.sampled_from(["run:0", "run:1"]))
        turns = sum(isinstance(one, StepScheduled) and one.key.startswith(f"{run}/") for one in valid)
        accepted = {one.update_id for one in valid if isinstance(one, UpdateAccepted)}
        unanswered = accepted - {one.update_id for one in valid if isinstance(one, UpdateCompleted)}
        asked = {one.key for one in valid if isinstance(one, (StepScheduled, EventEmitted))}
        match draw(st.integers(0, 6)):
            case 0 if not any(key.startswith(run) for key in steps):
                self._add(_step(StepKind.MODEL, model_key(run, turns + 1)))
            case 1 if run_steps := [key for key in steps if key.startswith(run)]:
                self._end(draw, steps[run_steps[0]])
            case 2 if asked >= {model_key(run, turns)} and not steps:
                data = events.ApprovalRequestedData(
                    run=run, agent="a", turn=turns, call_id="c", tool="t", fingerprint="f"
                )
                self._add(EventEmitted.of(f"event:{self.made}", data))
            case 3 if not steps and turns and call_key(run, turns, "c") not in asked:
                edited: dict[str, JSON] | None = {"n": self.made} if draw(st.booleans()) else None
                about: dict[str, Any] = {"run": run, "agent": "a", "turn": turns, "call_id": "c", "tool": "t"}
                given_ = events.ApprovalGivenData(**about, edited_arguments=edited)
                self._add(EventEmitted.of(f"event:{self.made}", given_))
                self._add(_step(StepKind.TOOL, call_key(run, turns, "c")))
            case 4 if free := {"u", "v"} - accepted:
                self._add(UpdateAccepted(at=2.0, update_id=min(free), name=f"set {self.made}"))
            case 5 if unanswered:
                self._add(UpdateCompleted(update_id=min(unanswered), result=self.made))
            case 6:
                for key, step in steps.items():
                    if step.kind is StepKind.MODEL:
                        number = sum(delta.key == text_key(key, self.reopened) for delta in self.deltas) + 1
                        self.deltas.append(
                            Delta(text_key(key, self.reopened), 1, number, f"{self.made} ", 2.0)
                        )

    def _end(self, draw: st.DrawFn, step: StepScheduled) -> None:
        key = step.key
        if step.kind is StepKind.TOOL:
            self._add(StepCompleted(at=2.0, key=key, result=self.made))
        elif draw(st.booleans()):
            arguments = f'{{"n": {self.made}}}'
            call: dict[str, JSON] = {
                "type": "function.call",
                "tool_call_id": "c",
                "name": "t",
                "arguments": arguments,
            }
            usage: dict[str, JSON] = {"prompt_tokens": self.made, "total_tokens": self.made}
            self._add(StepCompleted(at=2.0, key=key, result={"entries": [call], "usage": usage}))
        else:
            self._add(AttemptFailed(at=2.0, key=key, attempt=1, failure=FAILURE, retry_at=2.0))

    def end_and_reopen(self, cut: int) -> None:
        """End the execution, and open it again at a position where a record stands that counts."""
        self._add(ExecutionEnded(status=Status.FAILED, failure=FAILURE))
        counting = [index for index, record in enumerate(self.records) if record in self.valid()]
        position = max(1, counting[cut % len(counting)])
        probe = [*self.records, ExecutionReopened(at=3.0, position=position)]
        still_open = Journal(probe).open()
        self._add(ExecutionReopened(at=3.0, position=position, open=tuple(still_open.values())))
        self.reopened += 1

    def _add(self, record: AnyRecord) -> None:
        self.records.append(record)


def _step(kind: StepKind, key: str) -> StepScheduled:
    return StepScheduled(key=key, kind=kind, name="t", about={"agent": "a"})


@st.composite
def journals(draw: st.DrawFn) -> Journal:
    """Journals of executions that were opened again, once or more often, and are at work."""
    journal = Journal()
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 12))):
            journal.go_on(draw)
        journal.end_and_reopen(draw(st.integers(0, 50)))
    for _ in range(draw(st.integers(0, 12))):
        journal.go_on(draw)
    return journal


def read(records: Sequence[AnyRecord], deltas: Sequence[Delta] = ()) -> list[Event]:
    reader = EventReader()
    reader.take_text(deltas)
    found = [event for record in records for event in reader.read(record)]
    return [*found, *reader.text()]


@given(journals())
def test_what_is_void_changes_nothing_of_the_events_that_follow(journal: Journal) -> None:
    last = max(index for index, record in enumerate(journal.records) if isinstance(record, ExecutionReopened))
    new = len(journal.records) - last - 1
    valid = journal.valid()
    ours = [event.data for event in read(journal.records) if event.position > last + 1]
    alone = [event.data for event in read(valid) if event.position > len(valid) - new]
    assert ours == alone


def test_a_call_after_a_void_turn_has_the_arguments_of_the_turn_that_counts() -> None:
    def replied(turn: int, number: int) -> StepCompleted:
        call: dict[str, JSON] = {
            "type": "function.call",
            "tool_call_id": "c",
            "name": "t",
            "arguments": f'{{"n": {number}}}',
        }
        return StepCompleted(at=2.0, key=model_key("run:0", turn), result={"entries": [call]})

    first, second = (_step(StepKind.MODEL, model_key("run:0", turn)) for turn in (1, 2))
    records: list[AnyRecord] = [STARTED, first, replied(1, 1), second, replied(2, 2)]
    reopened = ExecutionReopened(at=3.0, position=3)
    called = _step(StepKind.TOOL, call_key("run:0", 1, "c"))
    [*_, last] = read([*records, ExecutionEnded(status=Status.FAILED, failure=FAILURE), reopened, called])
    assert isinstance(last.data, events.ToolCalledData)
    assert last.data.arguments == {"n": 1}


@given(journals())
def test_the_text_of_void_attempts_is_not_mixed_with_that_of_new_ones(journal: Journal) -> None:
    texts = [event.data for event in read(journal.records, journal.deltas)]
    pieces = [data for data in texts if isinstance(data, events.TextDeltaData)]
    shown = [data for data in pieces if f"{data.text}" in {one.text for one in journal.deltas}]
    assert shown == pieces
    new = [delta for delta in journal.deltas if delta.key.startswith(f"{journal.reopened}!")]
    last = max(index for index, data in enumerate(texts) if isinstance(data, events.ExecutionReopenedData))
    after = [data.text for data in texts[last:] if isinstance(data, events.TextDeltaData)]
    # Two models write at the same time, and each text stands before what came of its attempt.
    assert sorted(after) == sorted(delta.text for delta in new)
