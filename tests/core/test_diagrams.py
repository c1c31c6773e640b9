"""The pictures and tables in the docs agree with the code."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import get_args

import pytest

from outlast.core.agent_events import AgentEvent
from outlast.core.agent_run import Phase
from outlast.core.agent_transitions import TRANSITIONS
from outlast.core.events import DATA, EventKind
from outlast.core.workflow_machine import OPERATIONS, MachinePhase

DOCS = Path(__file__).parents[2] / "docs"
draw = runpy.run_path(str(DOCS / "diagrams.py"))


@pytest.mark.parametrize("name", draw["drawings"]())
def test_the_page_is_drawn_from_the_code(name: str) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert draw["redrawn"](page, draw["drawings"]()[name]) == page, "run `python docs/diagrams.py`"


def test_every_kind_of_event_and_every_field_is_in_the_tables() -> None:
    rows = draw["event_table"]().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [*EventKind]
    fields = {row.split("`")[1] for row in draw["field_table"]().splitlines()[2:]}
    assert fields == {name for cls in DATA.values() for name in cls.model_fields}


def test_every_move_is_drawn_once_and_nothing_else() -> None:
    rows = draw["move_tables"]()["agent-machine"].splitlines()[2:]
    drawn = []
    for row in rows:
        phase, labels, after = row.strip("| ").split(" | ")
        for label in labels.split("<br>"):
            name, _, outcomes = label.partition(" (")
            drawn += [(phase, after, name, one) for one in outcomes.rstrip(")").split(", ")]
    moves = [
        (phase, after, event.__name__, outcome if len(outcomes) > 1 else "")
        for phase, events in TRANSITIONS.items()
        for event, outcomes in events.items()
        for outcome, after in outcomes.items()
    ]
    assert sorted(drawn) == sorted(moves)


def test_the_pictures_are_drawn_from_the_code() -> None:
    for name, drawing in runpy.run_path(str(DOCS / "drawings.py"))["drawings"]().items():
        picture = (DOCS / "images" / name).read_text(encoding="utf-8")
        assert drawing == picture, "run `python docs/drawings.py`"


def test_the_tables_name_every_phase_and_every_event() -> None:
    assert list(TRANSITIONS) == list(Phase)
    assert list(OPERATIONS) == list(MachinePhase)
    events = {kind for accepted in TRANSITIONS.values() for kind in accepted}
    assert events == {*get_args(get_args(AgentEvent)[0])}
