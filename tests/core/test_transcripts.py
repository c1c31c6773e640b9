"""The agent machine does what its transcripts say: see `transcripts.py` for how to read and to write one."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.agent_transitions import TRANSITIONS
from tests.core.transcripts import play

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "data" / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_run_goes_as_its_transcript_says(path: Path, pytestconfig: pytest.Config) -> None:
    written = path.read_text(encoding="utf-8")
    played = play(written).text
    if pytestconfig.getoption("--rewrite-golden"):
        path.write_text(played, encoding="utf-8")
    else:
        assert played == written, "if the machine is right: pytest tests/core --rewrite-golden"


def test_the_transcripts_walk_every_arrow_of_the_table_and_no_other() -> None:
    walked = [play(path.read_text(encoding="utf-8")).arrows for path in TRANSCRIPTS]
    assert set().union(*walked) == {
        (phase, event, outcome, after)
        for phase, events in TRANSITIONS.items()
        for event, outcomes in events.items()
        for outcome, after in outcomes.items()
    }
