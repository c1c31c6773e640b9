"""The examples run on Temporal as they run elsewhere: only a variable is another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.adapters.temporal_server import shared_server
from tests.examples.test_examples import EXAMPLES, OUTCOMES, check_outcome, run

pytestmark = pytest.mark.server

ELSEWHERE = re.compile(r"sqlite:|memory:")
"""In an example that says itself where its executions live."""

NAMES = sorted(name for name in OUTCOMES if not ELSEWHERE.search((EXAMPLES / f"{name}.py").read_text()))


@pytest.mark.parametrize(
    "name",
    [name if name == "orchestration" else pytest.param(name, marks=pytest.mark.nightly) for name in NAMES],
)
def test_an_example_prints_the_same_on_temporal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLAST_BACKEND", f"temporal://{shared_server()}/default")
    check_outcome(name, run(name, tmp_path))
