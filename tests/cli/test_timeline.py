"""The timeline in a terminal: golden texts, and what holds for any execution at any width."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from outlast.cli.rendering.time_axis import Axis
from outlast.cli.rendering.timeline import ASCII, BOXES, TimelineText
from outlast.core import events
from outlast.core.event_stream import Event, EventReader
from outlast.core.events import AnyEventData
from outlast.core.failure import Failure
from outlast.core.timeline import Timeline
from tests.core.strategies import any_event_data, any_text
from tests.core.test_reopened_stream import Journal, journals

AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
FAILURE = Failure(kind="LookupError", message="no")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the reader's time zone be UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def timeline_of(*timed: tuple[float, AnyEventData]) -> Timeline:
    """Return the timeline of events that came so many seconds after the first."""
    timeline = Timeline()
    for position, (seconds, data) in enumerate(timed, 1):
        timeline.take(Event(position, AT + timedelta(seconds=seconds), data))
    return timeline


def drawn(timeline: Timeline, width: int, encoding: str = "utf-8", **options: Any) -> str:
    lines = TimelineText(width, encoding).lines(timeline, AT + timedelta(days=2), **options)
    return "\n".join(line.plain for line in lines)


def turn(number: int, agent: str) -> dict[str, Any]:
    return {"run": "run0", "agent": agent, "turn": number, "key": f"run0/t{number}/model"}


def call(call_id: str, tool: str, number: int = 2) -> dict[str, Any]:
    return {"run": "run0", "agent": "risk-agent", "turn": number, "call_id": call_id, "tool": tool}


def reply(prompt: int, completion: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"entries": [], "usage": usage}


STORY: list[tuple[float, AnyEventData]] = [
    (0, events.ExecutionStartedData(workflow="deal")),
    (0, events.TurnStartedData(**turn(1, "deal-coordinator"))),
    (2.1, events.ModelRepliedData(**turn(1, "deal-coordinator"), result=reply(900, 40))),
    (2.1, events.HandedOffData(run="run0", turn=1, from_agent="deal-coordinator", to_agent="risk-agent")),
    (2.1, events.TurnStartedData(**turn(2, "risk-agent"))),
    (3.4, events.ModelRepliedData(**turn(2, "risk-agent"), result=reply(1900, 60))),
    (3.4, events.ToolCalledData(**call("c1", "screen_sanctions"))),
    (3.4, events.ToolCalledData(**call("c2", "calculate_risk_score"))),
    (3.5, events.ToolReturnedData(**call("c2", "calculate_risk_score"), result=1)),
    (3.9, events.AttemptFailedData(key="run0/t2/c1", name="screen_sanctions", attempt=1, failure=FAILURE)),
    (9.9, events.ExecutionRecoveredData(worker="host:1", successor="host:2")),
    (11.9, events.ToolReturnedData(**call("c1", "screen_sanctions"), result=1)),
    (11.9, events.TurnStartedData(**turn(3, "risk-agent"))),
    (14.9, events.ModelRepliedData(**turn(3, "risk-agent"), result=reply(2900, 260))),
    (14.9, events.ApprovalRequestedData(**call("c3", "send_report", 3), fingerprint="f")),
    (86400, events.ApprovalGivenData(**call("c3", "send_report", 3))),
    (86400, events.ToolCalledData(**call("c3", "send_report", 3))),
    (86401, events.ToolReturnedData(**call("c3", "send_report", 3), result=1)),
    (86401, events.ActivityStartedData(key="0.1", name="pack")),
    (86402.5, events.ActivityFailedData(key="0.1", name="pack", failure=FAILURE)),
    (86402.5, events.TimerStartedData(key="t", due_at=AT.timestamp() + 86403.5)),
    (86403.5, events.TimerFiredData(key="t")),
    (86403.6, events.ExecutionCompletedData(result=1)),
]

AT_100 = """\
                  2026-11-29 10:00:00       9.9 s       14.9 s           1 d 0:00
deal-coordinator  ┝1━━━━            ▒▒▒▒▒▒▒▒
risk-agent              ┝2━━━╞scree…╎▒▒▒▒▒▒▒══════┝3━━━━├approval of sen…╞sen…
                             ╞══    ▒▒▒▒▒▒▒▒
workflow code                       ▒▒▒▒▒▒▒▒                                  ╞pa…✗├tim…
                                                                                           ▴
━━ model  ══ tool  ╍╍ approval  ┄┄ timer  ╎ attempt failed  ✗ failed  ▒ worker lost  ▴ other events
▒ worker host:1 was lost; nothing was written for 6.0 s; host:2 took over; 3 steps not repeated;
  under way: screen_sanctions
                  turns  tokens  models   tools  waits
deal-coordinator      1     940   2.1 s
risk-agent            2   5,120   4.3 s   9.6 s   24 h
workflow code                             1.5 s  1.0 s
all                   3   6,060   6.4 s  11.1 s   24 h
"""

AT_60 = """\
                  2026-11-29 10:00:00      9.9 s
deal-coordinator  ┝1━━━━            ▒▒▒▒▒▒▒
risk-agent              ┝2━━━╞scree…╎▒▒▒▒▒▒══════┝3━━━━├app…
                             ╞══    ▒▒▒▒▒▒▒
                            1 d 0:00
risk-agent        ╍approval…╞sen…
workflow code                    ╞pa…✗├tim…
                                              ▴
━━ model  ══ tool  ╍╍ approval  ┄┄ timer  ╎ attempt failed
  ✗ failed  ▒ worker lost  ▴ other events
▒ worker host:1 was lost; nothing was written for 6.0 s;
  host:2 took over; 3 steps not repeated;
  under way: screen_sanctions
                  turns  tokens  models   tools  waits
deal-coordinator      1     940   2.1 s
risk-agent            2   5,120   4.3 s   9.6 s   24 h
workflow code                             1.5 s  1.0 s
all                   3   6,060   6.4 s  11.1 s   24 h
"""

IN_ASCII = """\
                  2026-11-29 10:00:00       9.9 s       14.9 s           1 d 0:00
deal-coordinator  |1====            XXXXXXXX
risk-agent              |2===|scree~'XXXXXXX######|3====|approval of sen~|sen~
                             |##    XXXXXXXX
workflow code                       XXXXXXXX                                  |pa~!|tim~
                                                                                           ^
== model  ## tool  ?? approval  .. timer  ' attempt failed  ! failed  X worker lost  ^ other events
X worker host:1 was lost; nothing was written for 6.0 s; host:2 took over; 3 steps not repeated;
  under way: screen_sanctions
                  turns  tokens  models   tools  waits
deal-coordinator      1     940   2.1 s
risk-agent            2   5,120   4.3 s   9.6 s   24 h
workflow code                             1.5 s  1.0 s
all                   3   6,060   6.4 s  11.1 s   24 h
"""

UNDER_WAY = """\
                  2026-11-29 10:00:00  2.1 s            3.4 s
deal-coordinator  ┝turn 1━━━━━━━━━━━━━━
risk-agent                             ┝turn 2━━━━━━━━━━╞screen_sanctions════▸
                                                        ╞calculate_risk_score▸
━━ model  ══ tool  ▸ open
                  turns  tokens  models  tools  waits
deal-coordinator      1     940   2.1 s
risk-agent            1   1,960   1.3 s  9.2 s
all                   2   2,900   3.4 s  9.2 s
"""


@pytest.mark.parametrize(
    ("width", "encoding", "golden"),
    [(100, "utf-8", AT_100), (60, "utf-8", AT_60), (100, "ascii", IN_ASCII), (100, "latin-1", IN_ASCII)],
)
def test_a_crash_a_handoff_an_approval_and_a_failure_are_drawn(
    width: int, encoding: str, golden: str
) -> None:
    assert drawn(timeline_of(*STORY), width, encoding) == golden.rstrip("\n")


def test_what_is_under_way_reaches_to_the_present() -> None:
    timeline = timeline_of(*STORY[:8])
    lines = TimelineText(80).lines(timeline, AT + timedelta(seconds=8))
    assert "\n".join(line.plain for line in lines) == UNDER_WAY.rstrip("\n")


def test_what_a_retry_made_void_is_drawn_as_void_and_does_not_count() -> None:
    timeline = timeline_of(
        *STORY[:6],
        (4, events.ExecutionFailedData(failure=FAILURE)),
        (9, events.ExecutionReopenedData(valid=3)),
        (9, events.TurnStartedData(**turn(2, "risk-agent"))),
        (10, events.ModelRepliedData(**turn(2, "risk-agent"), result=reply(1, 1))),
    )
    shown = drawn(timeline, 100)
    assert "├turn 2··" in shown
    assert "·· void" in shown
    figures = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[-4:]}
    assert figures["all"][:2] == ["2", "942"]
    assert figures["void"] == ["1,960"]


def test_costs_have_a_column_where_they_are_known() -> None:
    priced, unpriced = reply(1, 1), reply(1, 1)
    priced["usage"]["cost"], unpriced["usage"]["unpriced"] = "0.0025", {"ours": 1}
    timeline = timeline_of(
        (0, events.TurnStartedData(**turn(1, "deal-coordinator"))),
        (1, events.ModelRepliedData(**turn(1, "deal-coordinator"), result=priced)),
        (1, events.TurnStartedData(**turn(2, "risk-agent"))),
        (2, events.ModelRepliedData(**turn(2, "risk-agent"), result=unpriced)),
    )
    table = [line.split() for line in drawn(timeline, 100).splitlines()[-4:]]
    assert table[0][:3] == ["turns", "tokens", "cost"]
    assert [row[3] for row in table[1:]] == ["$0.0025", "?", "$0.0025+"]


def test_an_execution_without_steps_has_no_timeline() -> None:
    assert drawn(timeline_of(*STORY[:1], STORY[-1]), 100) == ""


def test_a_long_execution_goes_on_in_further_bands_and_the_last_ones_are_kept() -> None:
    timeline = timeline_of(
        *(
            step
            for number in range(1, 40)
            for step in (
                (number * 5.0, events.TurnStartedData(**turn(number, "clerk"))),
                (number * 5 + 2.0, events.ModelRepliedData(**turn(number, "clerk"), result=reply(1, 1))),
            )
        )
    )
    whole = drawn(timeline, 80)
    assert sum(line.startswith("clerk") for line in whole.splitlines()) > 4
    shown = " ".join(whole.split())
    assert all(f"{number}" in shown for number in range(1, 40))
    part = drawn(timeline, 80, height=9)
    assert len(part.splitlines()) <= 9
    assert whole.endswith(part[part.index("clerk") :])
    assert len(drawn(timeline, 80, height=1).splitlines()) == 5


# Any execution, any width ------------------------------------------------------------------------------


def check_lines(timeline: Timeline, width: int, encoding: str) -> None:
    for line in TimelineText(width, encoding).lines(timeline, AT + timedelta(days=1)):
        assert line.plain.isprintable()
        line.plain.encode(encoding)
        assert cell_len(line.plain) <= width
        assert line.plain == line.plain.rstrip()


@given(journals(), st.integers(60, 200), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_no_line_is_wider_than_the_terminal(journal: Journal, width: int, encoding: str) -> None:
    reader, timeline = EventReader(), Timeline()
    for record in journal.records:
        for event in reader.read(record):
            timeline.take(event)
    check_lines(timeline, width, encoding)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), any_event_data), max_size=30),
    any_text,
    st.integers(60, 200),
    st.sampled_from(["utf-8", "ascii"]),
)
def test_hostile_text_at_any_time_stays_in_its_cells(
    stream: list[tuple[float, AnyEventData]], text: str, width: int, encoding: str
) -> None:
    hostile: list[tuple[float, AnyEventData]] = [
        (0.0, events.ToolCalledData(run=text, agent=text, turn=1, call_id=text, tool=text)),
        (1.0, events.ExecutionRecoveredData(worker=text, successor=text)),
        (1.0, events.TurnStartedData(run=text, agent=text, turn=1, key=text)),
    ]
    check_lines(timeline_of(*stream, *hostile), width, encoding)


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b[31m", "\u202eevil\u202c", "\ud83d", "a\nb\tc", "漢字" * 20, "👩‍👩‍👧"]
)
def test_steering_characters_of_names_never_reach_the_terminal(text: str) -> None:
    timeline = timeline_of(
        (0.0, events.TurnStartedData(run="r", agent=text, turn=1, key="k")),
        (1.0, events.ActivityStartedData(key="a", name=text)),
        (9.0, events.ExecutionRecoveredData(worker=text, successor=text)),
    )
    check_lines(timeline, 60, "utf-8")
    check_lines(timeline, 60, "ascii")


@given(journals(), st.integers(40, 200))
def test_bars_of_a_row_have_cells_of_their_own_in_the_order_of_time(journal: Journal, width: int) -> None:
    reader, timeline = EventReader(), Timeline()
    for record in journal.records:
        for event in reader.read(record):
            timeline.take(event)
    if not timeline.bars:
        return
    axis = Axis.of(timeline, width, AT)
    for lane in timeline.lanes():
        for row in lane.rows:
            for bar, following in pairwise(row):
                assert axis.cells_of(bar)[1] <= axis.cells_of(following)[0]
            assert all(0 <= axis.cells_of(bar)[0] < axis.cells_of(bar)[1] <= axis.length for bar in row)


def test_without_colour_the_same_characters_are_written() -> None:
    def written(**options: Any) -> str:
        console = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False, **options)
        for line in TimelineText(100).lines(timeline_of(*STORY)):
            console.print(line)
        file = console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()

    coloured, plain = written(color_system="standard"), written(no_color=True)
    assert "\x1b[36m" in coloured
    assert not any(f"\x1b[{number}m" in plain for number in range(30, 48))


def test_each_character_takes_one_cell() -> None:
    for glyphs in (BOXES, ASCII):
        assert cell_len(glyphs.all) == len(glyphs.all)
    ASCII.all.encode("ascii")
