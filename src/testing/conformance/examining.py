"""Examining a target: its suites by pytest, mutants around its store, and times on its URL."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from outlast.core.errors import ConfigurationError, OutlastError
from outlast.testing.conformance import PLACE_URL
from outlast.testing.conformance.biting import missed_mutants
from outlast.testing.conformance.mutants import MUTANTS
from outlast.testing.conformance.recorder import Recorder
from outlast.testing.conformance.scoreboard import MutantScore, Scoreboard
from outlast.testing.conformance.target import tests_of, without_password
from outlast.testing.conformance.timing import timing_of
from outlast.testing.contracts.crash.contract import CrashContract
from outlast.testing.contracts.journal.contract import JournalContract


def examine(target: str, options: Sequence[str] = (), *, is_quick: bool = False) -> Scoreboard:
    """Run every suite of the target, and return what was found out.

    Args:
        target: A URL, or a file of tests (`tests/test_store.py::TestStore` for a part of it).
        options: Further options of pytest, such as `-k`.
        is_quick: Leave out mutants and times.

    Raises:
        OutlastError: the target cannot be examined. Call `target.check` first: it says whether its server
            answers.
    """
    chosen = tests_of(target)
    is_url = chosen != [target]
    scoreboard = Scoreboard(
        target=without_password(target),
        outlast=version("outlast"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    )
    recorder = Recorder()
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        settings: list[str] = []
        if is_url:
            os.environ[PLACE_URL] = target
            # No settings of the project at hand: a URL is examined in the same way everywhere.
            empty = Path(folder, "pytest.ini")
            empty.write_text("[pytest]\nanyio_mode = auto\n")
            settings = ["-c", str(empty), "--rootdir", str(Path(chosen[0]).parent), "--import-mode=importlib"]
        arguments = [*chosen, *settings, "-q", "-p", "no:cacheprovider", *options]
        code = pytest.main(arguments, plugins=[recorder])
    scoreboard.suites = list(recorder.classes.values())
    if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR) or recorder.errors:
        why = f": {recorder.errors[0]}" if recorder.errors else "; its message stands above"
        raise ConfigurationError(f"pytest could not run the tests of {scoreboard.target}{why}")
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if not recorder.classes:
        raise ConfigurationError(
            f"{scoreboard.target} has no test of a suite; inherit JournalContract, DurabilityContract or "
            "another class of outlast.testing there"
        )
    if recorder.left_out:
        scoreboard.notes.append(f"{recorder.left_out} tests belong to no suite, and were not run")
    if not is_quick:
        _add_mutants(scoreboard, recorder)
        _add_times(scoreboard, recorder)
    return scoreboard


def _add_mutants(scoreboard: Scoreboard, recorder: Recorder) -> None:
    suites = [tests for tests in recorder.inherited(JournalContract) if issubclass(tests, JournalContract)]
    if not suites:
        scoreboard.notes.append("no mutants: no class inherits JournalContract")
    for tests in suites:
        if recorder.classes[tests].failed:
            scoreboard.notes.append(f"no mutants around {tests.__name__}: its tests fail without them")
            continue
        missed = [mutant.__name__ for mutant in missed_mutants(tests)]
        scoreboard.mutants.append(MutantScore(tests.__name__, len(MUTANTS), missed))


def _add_times(scoreboard: Scoreboard, recorder: Recorder) -> None:
    suites = [tests for tests in recorder.inherited(CrashContract) if issubclass(tests, CrashContract)]
    if not suites or sys.platform == "win32":
        scoreboard.notes.append("no times: no class inherits CrashContract")
        return
    for tests in suites:
        try:
            scoreboard.timings.append(asyncio.run(timing_of(tests)))
        except (OutlastError, TimeoutError) as error:
            scoreboard.notes.append(f"no times of {tests.__name__}: {error!r}")
