"""Sessions that stand in for those of a program, in tests of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outlast.core.errors import DefinitionError
from outlast.ports.llm import Session

stand_ins: list[Session] = []
"""The sessions that take the place of every other; the last one does."""

checks: list[Callable[[Session], None]] = []
"""Called with each session that is about to be used; one that must not be used raises."""


def check_session(session: Any) -> None:
    """Refuse a value that is not a session.

    Raises:
        DefinitionError: it is something else; the message says what to write.
    """
    if isinstance(session, type):
        raise DefinitionError(
            f"the session is the class {session.__name__}; make one: {session.__name__}(...)"
        )
    if not callable(getattr(session, "reply", None)):
        raise DefinitionError(
            f"the session must be one, such as outlast.LocalSession(...), not {type(session).__name__}"
        )


def session_to_use(session: Session) -> Session:
    """Return the session that a run uses instead of the one that it was given."""
    used = stand_ins[-1] if stand_ins else session
    for check in checks:
        check(used)
    return used
