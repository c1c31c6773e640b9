"""A name in `only_nightly` that matches nothing fails, however the tests are chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.nightly import without_a_test

REPOSITORY = Path(__file__).parents[2]

SUITE = """
class TestSlow:
    only_nightly = ("one", "won")

    def test_one(self):
        pass
"""


class Suite:
    only_nightly: ClassVar[tuple[str, ...]] = ()

    def test_one(self) -> None: ...

    @pytest.mark.parametrize("seconds", [0.5, 5.0])
    def test_timer(self, seconds: float) -> None: ...


def items(*names: str) -> Any:
    return [SimpleNamespace(name=name, originalname=name.partition("[")[0]) for name in names]


ALL = items("test_one", "test_timer[0.5]", "test_timer[5.0]")


@pytest.mark.parametrize(
    ("names", "collected", "missing"),
    [
        (("one", "timer", "ti"), ALL, []),
        (("timer[5.0]", "timer[0.5]", "timer[5"), ALL, []),
        (("won",), ALL, ["test_won"]),
        (("one", "timer[6.0]"), ALL, ["test_timer[6.0]"]),
        (("another[5.0]", "ti[5.0]"), ALL, ["test_another[5.0]", "test_ti[5.0]"]),
        # One test was chosen on the command line.
        (("won", "timer[5.0]"), items("test_timer[0.5]"), ["test_won"]),
    ],
)
def test_names_that_match_nothing_are_found(
    names: tuple[str, ...], collected: Any, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Suite, "only_nightly", names)
    assert without_a_test(Suite, collected) == missing


def test_a_name_that_matches_nothing_ends_the_collection(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "adapters" / "conftest.py").read_text())
    (tmp_path / "test_slow.py").write_text(SUITE)
    configuration = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path)]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *configuration, "-p", "no:cacheprovider", "test_slow.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "only_nightly of TestSlow has names that no test begins with: test_won" in finished.stderr
