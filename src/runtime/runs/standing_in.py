"""Sessions that stand in for those of a program, in tests of this process."""

from __future__ import annotations

from collections.abc import Callable

from outlast.ports.llm import Session

stand_ins: list[Session] = []
"""The sessions that take the place of every other; the last one does."""

checks: list[Callable[[Session], None]] = []
"""Called with each session that is about to be used; one that must not be used raises."""


def session_to_use(session: Session) -> Session:
    """Return the session that a run uses instead of the one that it was given."""
    used = stand_ins[-1] if stand_ins else session
    for check in checks:
        check(used)
    return used
