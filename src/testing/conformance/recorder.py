"""The pytest plugin of the scoreboard: it counts the outcomes of tests by their suite."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from outlast.testing.conformance.scoreboard import SuiteScore
from outlast.testing.contracts.crash.contract import CrashContract
from outlast.testing.contracts.deltas.contract import DeltasContract
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.journal.breaking import BreakingContract
from outlast.testing.contracts.journal.contract import JournalContract
from outlast.testing.contracts.session.contract import SessionContract
from outlast.testing.contracts.tools.contract import ToolsContract

SUITES = (
    JournalContract,
    BreakingContract,
    DurabilityContract,
    CrashContract,
    DeltasContract,
    SessionContract,
    ToolsContract,
)


def suite_of(tests: type | None) -> type | None:
    """Return the suite that a class of tests inherits; None if it inherits none."""
    return next((suite for suite in SUITES if tests is not None and issubclass(tests, suite)), None)


class Recorder:
    """Keeps the tests that belong to a suite, and counts what becomes of them."""

    def __init__(self) -> None:
        self.classes: dict[type, SuiteScore] = {}
        self.left_out = 0
        """The number of tests that belong to no suite; they were not run."""
        self.errors: list[str] = []
        """Why files could not be collected."""
        self._scores: dict[str, SuiteScore] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what belongs to no suite."""
        chosen, others = [], []
        for item in items:
            tests = getattr(item, "cls", None)
            suite = suite_of(tests)
            if tests is None or suite is None:
                others.append(item)
                continue
            score = self.classes.setdefault(tests, SuiteScore(suite.__name__, tests.__name__))
            self._scores[item.nodeid] = score
            chosen.append(item)
        self.left_out += len(others)
        config.hook.pytest_deselected(items=others)
        items[:] = chosen

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file could not be collected."""
        if report.failed:
            self.errors.append(str(report.longreprtext).strip().splitlines()[-1])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase of a test: a test fails once, in whichever phase."""
        score = self._scores[report.nodeid]
        score.seconds += report.duration
        if report.failed:
            if report.nodeid not in score.failures:
                score.failed += 1
                score.passed -= report.when == "teardown"
                score.failures.append(report.nodeid)
        elif report.skipped:
            score.skipped += 1
            reason = _reason(report)
            score.reasons[reason] = score.reasons.get(reason, 0) + 1
        elif report.when == "call":
            score.passed += 1

    def inherited(self, suite: type) -> Iterable[type]:
        """Return the classes that inherit the suite."""
        return [tests for tests in self.classes if issubclass(tests, suite)]


def _reason(report: pytest.TestReport) -> str:
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext
    return text.removeprefix("Skipped: ")
