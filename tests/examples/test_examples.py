"""Each example runs as a reader would run it, in a process of its own and without a key."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from tests.examples.interpreter import PYTHON

EXAMPLES = Path(__file__).parents[2] / "examples"

OUTCOMES: dict[str, list[str | set[str]]] = {
    "interest_rates": ["The policy rate in France is 2.15 %."],
    "local_session": [
        "The policy rate in France is 2.15 %.",
        "The policy rate in France is 2.15 %. (2 and 2 turns)",
    ],
    "handoff": ["receptionist hands off to cashier", "cashier: That makes 7.5 euros."],
    "web_search": [
        "With its antennas, the Eiffel Tower is 330 m high.",
        "source: Tour Eiffel, https://www.toureiffel.paris/en",
    ],
    "deal_analysis": ["The loan to Northwind has a risk score of 40, and nothing speaks against it."],
    "approval": [
        'may clerk call transfer with {"to": "Bob", "amount": 5000}?',
        'may clerk call transfer with {"to": "Cid", "amount": 300}?',
        "Ann got 20 euros",
        "the call of 'transfer' was denied: ask him first",
        "Cid got 150 euros",
    ],
    "mcp_servers": [
        "weather_forecast is at work, and the worker is killed",
        "It is warm, and a table on a terrace in Lyon is booked. 40 euros are 43.2 dollars.",
    ],
    "streaming": [
        "It rains on the town,",
        "and the town looks down.",
        "(1 turn)",
        "It rains on the town,",
        "and the town looks down.",
    ],
    "research_team": [
        "to the editor: Which century?",
        "coordinator asks history",
        "coordinator asks technology",
        "coordinator asks economy",
        {"history asks search", "technology asks search", "economy asks search"},
    ],
    "chapters": [
        "This book has 3 chapters.",
        "Few things are as old as tides.",
        "Few things are as old as winds.",
        "Few things are as old as clouds.",
        *["chapter completed"] * 3,
        "foreword completed",
    ],
    "orchestration": [
        "Northwind has a growing market.",
        "Northwind has a pending patent case.",
        "Contoso has a growing market.",
        "Contoso has a pending patent case.",
        "the bid is 40 million",
        "over 50 million the board must be asked",
        "Northwind: buy for 40 million",
        "offer to Contoso withdrawn",
    ],
}
"""Lines that an example prints, in this order. Those of a set come in any order: agents run side by side."""


def run(example: str, folder: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MISTRAL_")}
    finished = subprocess.run(
        [*PYTHON, EXAMPLES / f"{example}.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


def check_outcome(example: str, lines: list[str]) -> None:
    steps = [step if isinstance(step, set) else {step} for step in OUTCOMES[example]]
    found = iter(line for line in lines if any(line in step for step in steps))
    assert [set(islice(found, len(step))) for step in steps] == steps
    assert list(found) == []


@pytest.mark.server
@pytest.mark.parametrize("example", sorted(OUTCOMES))
def test_an_example_says_whom_it_talks_to_and_comes_to_its_outcome(example: str, tmp_path: Path) -> None:
    first, *lines = run(example, tmp_path)
    assert first.startswith("(MISTRAL_API_KEY is not set: talking to a stand-in")
    check_outcome(example, lines)


@pytest.mark.server
def test_the_deal_analysis_run_again_returns_its_result_without_calling_a_tool(tmp_path: Path) -> None:
    first, second = run("deal_analysis", tmp_path), run("deal_analysis", tmp_path)
    called = [line for line in first if "looking Northwind up" in line]
    assert len(called) == 1
    assert [line for line in first if line not in called] == second


def test_every_example_has_an_outcome() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"stand_in"} == set(OUTCOMES)


@pytest.mark.parametrize("example", sorted(OUTCOMES))
def test_an_example_says_how_to_run_it(example: str) -> None:
    text = (EXAMPLES / f"{example}.py").read_text()
    extras = re.search(r"with outlast\[([a-z,]+)\] installed: python examples/(\w+)\.py\n", text)
    assert extras is not None
    assert extras[2] == example
    assert f"Run it: make example NAME={example}\n    or: uv run examples/{example}.py\n" in text
    assert {"mistral", "testing"} <= set(extras[1].split(",")) <= {"mcp", "mistral", "testing"}


def test_make_runs_the_example_that_it_is_given() -> None:
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "example", "NAME=chapters"],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.splitlines()[-1].endswith("bin/python examples/chapters.py")
