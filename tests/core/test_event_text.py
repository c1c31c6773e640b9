"""Text among records: whatever is read when, each piece is one event, in its place."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.event_stream import Delta, Event, EventReader
from outlast.core.events import EventKind, ModelRepliedData, TextDeltaData
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import AnyRecord, AttemptFailed, StepCompleted, StepKind, StepScheduled
from outlast.core.step_keys import model_key

FAILURE = Failure(kind="ModelUnreachable", message="cut")


@dataclass(frozen=True)
class Story:
    """Records and pieces of text between them, in the order in which they came."""

    timeline: tuple[AnyRecord | Delta, ...]

    @property
    def records(self) -> list[AnyRecord]:
        return [item for item in self.timeline if not isinstance(item, Delta)]

    @property
    def deltas(self) -> list[Delta]:
        return [item for item in self.timeline if isinstance(item, Delta)]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Turns one after another, each of some attempts that published some text."""
    timeline: list[AnyRecord | Delta] = []
    for turn in range(draw(st.integers(1, 3))):
        key = model_key("run", turn)
        about: dict[str, JSON] = {"agent": "poet"}
        timeline.append(StepScheduled(key=key, kind=StepKind.MODEL, name="call_model", about=about))
        attempts = draw(st.integers(1, 3))
        for attempt in range(1, attempts + 1):
            pieces = draw(st.integers(0, 3))
            timeline += [Delta(key, attempt, number, f"{number} ", 1.0) for number in range(1, pieces + 1)]
            if attempt < attempts:
                failed = AttemptFailed(at=1.0, key=key, attempt=attempt, failure=FAILURE, retry_at=2.0)
                timeline.append(failed)
        timeline.append(StepCompleted(at=1.0, key=key, result={"entries": []}))
    return Story(tuple(timeline))


def read(story: Story, looks: list[int]) -> list[Event]:
    """Return the events of a reader that looks at these moments: at the records, then at the text."""
    reader = EventReader()
    events: list[Event] = []
    records, deltas = 0, 0
    for moment in [*sorted(looks), len(story.timeline) + 1]:
        known = [item for item in story.timeline[:moment] if not isinstance(item, Delta)]
        # The text is looked at when one more thing may have happened.
        known_text = [item for item in story.timeline[: moment + 1] if isinstance(item, Delta)]
        reader.take_text(known_text[deltas:])
        for record in known[records:]:
            events += reader.read(record)
        events += reader.text()
        records, deltas = len(known), max(deltas, len(known_text))
    return events


@given(story=stories(), looks=st.lists(st.integers(0, 25), max_size=8))
def test_each_piece_is_an_event_once_in_its_place_whatever_is_read_when(
    story: Story, looks: list[int]
) -> None:
    events = read(story, looks)
    silent = EventReader()
    assert [event for event in events if event.kind is not EventKind.TEXT_DELTA] == [
        event for record in story.records for event in silent.read(record)
    ]
    assert [event.position for event in events] == sorted(event.position for event in events)
    pieces: list[tuple[str, int, int, str]] = []
    replied: set[str] = set()
    for event in events:
        match event.data:
            case ModelRepliedData(key=key):
                replied.add(key)
            case TextDeltaData(key=key) as piece:
                assert key not in replied
                pieces.append((key, piece.attempt, piece.sequence, piece.text))
            case _:
                pass
    published = [(delta.key, delta.attempt, delta.sequence, delta.text) for delta in story.deltas]
    # In order, none twice: all pieces of the last attempt, and those of earlier ones that came in time.
    assert pieces == [piece for piece in published if piece in set(pieces)]
    assert len(pieces) == len(set(pieces))
    last = {delta.key: delta.attempt for delta in story.deltas}
    assert {piece for piece in published if piece[1] == last[piece[0]]} <= set(pieces)


@given(story=stories())
def test_a_late_reader_gets_only_the_last_attempt(story: Story) -> None:
    last = {delta.key: delta.attempt for delta in story.deltas}
    for event in read(story, []):
        if isinstance(event.data, TextDeltaData):
            assert event.data.attempt == last[event.data.key]
