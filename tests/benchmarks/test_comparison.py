"""The comparison of the benchmarks: what cannot run says so, and what was measured is kept and drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.chart import chart, markdown
from benchmarks.comparison import PEERS, Subject, compare
from benchmarks.figures import Figure, machine, ratio_of, read_json, write_json

pytestmark = pytest.mark.anyio

SAMPLES = [
    Figure("One turn, in runs of 20", "two commits", "ms", (1.0, 0.5, 0.7), "floor"),
    Figure("One turn, in runs of 20", "Outlast, SQLite", "ms", (1.4, 1.2, 1.6), floor="two commits"),
    Figure("One turn, in runs of 20", "a peer", "ms", (), "peer", "could not be installed"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_subject_that_does_not_start_says_so_and_the_others_are_measured(tmp_path: Path) -> None:
    ours = Subject("ours", "ours", "outlast", ("memory:",))
    broken = Subject("broken", "peer", "outlast", ("nowhere://",), floor="ours")
    figures = await compare([broken, ours], tmp_path, turns=(2,), rounds=2)
    assert [len(figure.samples) for figure in figures] == [0, 2]
    assert "nowhere" in figures[0].note
    assert figures[1].note.startswith("outlast ")


def test_a_ratio_is_of_medians_and_needs_both() -> None:
    assert ratio_of(SAMPLES[1], SAMPLES) == pytest.approx(2.0)
    assert ratio_of(SAMPLES[0], SAMPLES) is None
    assert ratio_of(SAMPLES[2], SAMPLES) is None


def test_figures_are_kept_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_json(file, SAMPLES, machine())
    figures, facts = read_json(file)
    assert figures == SAMPLES
    assert facts == json.loads(file.read_text())["machine"]


def test_the_chart_shows_what_was_measured() -> None:
    drawn = chart(SAMPLES, machine())
    texts = {element.text for element in ElementTree.fromstring(drawn).iter() if element.text}
    assert {"Outlast, SQLite", "1.40", "two commits"} <= texts
    assert "a peer" not in texts


def test_the_table_names_what_could_not_be_measured() -> None:
    assert "| a peer | peer | - | - | ms | - | could not be installed |" in markdown(SAMPLES, machine())


def test_a_column_that_says_nothing_of_a_group_is_left_out() -> None:
    alone = Figure("Another group", "ours", "ms", (3.0,))
    assert "| ours | ours | 3.00 | 3.00 to 3.00 | ms |\n" in f"{markdown([*SAMPLES, alone], machine())}\n"


def test_the_chart_leaves_out_what_no_peer_was_measured_for() -> None:
    alone = Figure("Another group", "something else", "ms", (3.0,))
    assert chart([*SAMPLES, alone], facts := machine()) == chart(SAMPLES, facts)


def test_every_peer_has_a_lock_file() -> None:
    peers = {file.parent.name for file in PEERS.glob("*/requirements.in")}
    assert peers == {
        "langgraph-redis",
        "langgraph-sqlite",
        "openai-temporal",
        "pydantic-dbos",
        "pydantic-temporal",
    }
    for peer in peers:
        wanted = (PEERS / peer / "requirements.in").read_text().split()
        locked = (PEERS / peer / "requirements.txt").read_text()
        assert all(f"{one.partition('[')[0]}==" in locked for one in wanted)
