"""The findings about a backend, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1
"""The version of the JSON; a field that is added does not change it."""


@dataclass
class SuiteScore:
    """The outcome of one suite on one storage."""

    suite: str
    """The name of the contract."""
    tests: str
    """The name of the class that inherits it."""
    passed: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    """Why tests were skipped: how often by reason."""
    failures: list[str] = field(default_factory=list)
    """The names of the tests that failed."""


@dataclass
class MutantScore:
    """How many deliberate mistakes the suite of a store finds around this store."""

    tests: str
    of: int
    missed: list[str]

    @property
    def caught(self) -> int:
        return self.of - len(self.missed)


@dataclass
class Timing:
    """The cost of a turn, and of the death of a worker, on the URL that the crash suite uses."""

    tests: str
    milliseconds_per_turn: dict[int, float]
    """By the number of turns of the run: the least of several runs, two journaled steps a turn."""
    recovery_seconds: float
    """From the kill of a worker to the next attempt at the step that it was killed in."""
    lease_seconds: float
    """The lease of that worker: nobody may take its execution earlier."""


@dataclass
class Scoreboard:
    """All that was found out about one target."""

    target: str
    outlast: str
    python: str
    platform: str
    suites: list[SuiteScore] = field(default_factory=list)
    mutants: list[MutantScore] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """The things that were left out, each with the reason."""

    @property
    def is_passed(self) -> bool:
        """True if tests were run, and none of them failed."""
        return sum(score.passed for score in self.suites) > 0 and not any(
            score.failed for score in self.suites
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        mutants = [{**asdict(score), "caught": score.caught} for score in self.mutants]
        return {"format": FORMAT, "is_passed": self.is_passed, **asdict(self), "mutants": mutants}

    def as_text(self) -> str:
        """Return it as a table, with what failed and what was left out below."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.target}  (outlast {self.outlast}, Python {self.python}, {self.platform})"
        yield ""
        head = ("suite", "tests of", "passed", "skipped", "failed", "seconds")
        rows = [
            (
                score.suite,
                score.tests,
                str(score.passed),
                str(score.skipped),
                str(score.failed),
                f"{score.seconds:.1f}",
            )
            for score in self.suites
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
            cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
            yield "  ".join(cells).rstrip()
        yield ""
        for caught in self.mutants:
            missed = f"; missed: {', '.join(caught.missed)}" if caught.missed else ""
            yield f"mutants caught     {caught.caught} of {caught.of} ({caught.tests}){missed}"
        for timing in self.timings:
            for turns, milliseconds in timing.milliseconds_per_turn.items():
                yield f"ms per turn        {milliseconds:.2f} in a run of {turns} turns"
            yield (
                f"kill -> next step  {timing.recovery_seconds:.2f} s, "
                f"with a lease of {timing.lease_seconds:g} s"
            )
        for score in self.suites:
            for reason, times in score.reasons.items():
                yield f"skipped            {times} of {score.tests}: {reason}"
        yield from (f"note               {note}" for note in self.notes)
        yield from (f"FAILED             {name}" for score in self.suites for name in score.failures)
