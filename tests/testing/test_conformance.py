"""The scoreboard says what is true of a backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from outlast.testing.conformance.biting import missed_mutants
from outlast.testing.conformance.mutants import MUTANTS
from outlast.testing.conformance.scoreboard import MutantScore, Scoreboard, SuiteScore, Timing
from outlast.testing.conformance.suites.memory import TestMemoryJournal as MemorySuite
from outlast.testing.conformance.suites.sqlite import TestSqliteCrashes as CrashSuite
from outlast.testing.conformance.target import without_password
from outlast.testing.conformance.timing import timing_of


def test_every_mutant_is_caught_where_the_store_lacks_nothing() -> None:
    assert len(MUTANTS) >= 30
    assert missed_mutants(MemorySuite) == []


TESTS = """
from outlast.testing import JournalContract, MemoryStorage, StoreCapability
from outlast.adapters.memory.store import MemoryStore


class TestSound(JournalContract):
    capabilities = frozenset(StoreCapability) - {StoreCapability.PARALLEL_OPENING, StoreCapability.BREAKABLE}
    new_storage = MemoryStorage


class Forgetful(MemoryStore):
    async def read(self, execution_id, after=0, limit=None):
        return list(await super().read(execution_id, after, limit))[:1]


class ForgetfulStorage(MemoryStorage):
    def open(self):
        return Forgetful(self.clock, medium=self.medium)


class TestForgetful(TestSound):
    new_storage = ForgetfulStorage


def test_of_its_own():
    raise AssertionError("this belongs to no suite")
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "outlast.cli.conformance", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_of_tests_is_scored_suite_by_suite(tmp_path: Path) -> None:
    (tmp_path / "test_stores.py").write_text(TESTS)
    finished = command(
        tmp_path, "test_stores.py", "--quick", "--json", "-", "-k", "j1_ or j3_ or breakable or its_own"
    )
    assert finished.returncode == 1, finished.stderr
    found = json.loads(finished.stdout)
    sound, forgetful = found["suites"]
    assert (sound["suite"], sound["tests"], sound["failed"]) == ("JournalContract", "TestSound", 0)
    assert sound["passed"] > 3
    assert sum(sound["reasons"].values()) == sound["skipped"] > 0
    assert forgetful["failed"] > 0
    assert all("test_j1_" in name or "test_j3_" in name for name in forgetful["failures"])
    assert found["notes"] == ["1 tests belong to no suite, and were not run"]
    assert not found["is_passed"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("runs", "is neither a URL"),
        ("postgresql://localhost/x", "no package has registered suites for postgresql:"),
        ("redis://127.0.0.1:1/0", "127.0.0.1:1"),
    ],
)
def test_a_target_that_cannot_be_examined_is_one_line_that_says_why(
    target: str, says: str, tmp_path: Path
) -> None:
    finished = command(tmp_path, target)
    assert finished.returncode == 2
    assert says in finished.stderr
    assert finished.stderr.startswith("outlast-conformance: ")
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1


def test_a_file_without_suites_or_with_an_error_is_said(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text("def test_one(): pass\n")
    assert "has no test of a suite" in command(tmp_path, "test_none.py").stderr
    (tmp_path / "test_wrong.py").write_text("import nothing_of_that_name\n")
    finished = command(tmp_path, "test_wrong.py")
    assert finished.returncode == 2
    assert "No module named 'nothing_of_that_name'" in finished.stderr.splitlines()[-1]


def test_a_scoreboard_is_a_table_that_hides_the_password() -> None:
    scoreboard = Scoreboard(without_password("redis://:secret@host:6379/0"), "1.0", "3.11.7", "Linux")
    scoreboard.suites = [SuiteScore("JournalContract", "TestX", passed=3, skipped=1, reasons={"no": 1})]
    scoreboard.mutants = [MutantScore("TestX", 30, ["LosesTheLastRecord"])]
    scoreboard.timings = [Timing("TestY", {20: 1.5}, 1.25, 1.0)]
    text = scoreboard.as_text()
    assert "secret" not in text
    assert "mutants caught     29 of 30 (TestX); missed: LosesTheLastRecord" in text
    assert "kill -> next step  1.25 s, with a lease of 1 s" in text
    assert json.loads(json.dumps(scoreboard.as_json()))["mutants"][0]["caught"] == 29
    assert scoreboard.is_passed


async def test_times_are_measured_on_the_place_of_the_crash_suite() -> None:
    timing = await timing_of(CrashSuite)
    assert sorted(timing.milliseconds_per_turn) == [20, 100]
    assert 0.0 < timing.recovery_seconds < timing.lease_seconds + 10.0
