"""Putting something else in the place of what a program uses, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, overload

from outlast.adapters.scripted.session import ScriptedSession
from outlast.adapters.scripted.trying_out import TestSession
from outlast.core.errors import DefinitionError
from outlast.ports.llm import Session
from outlast.runtime.definitions.depends import standing_in
from outlast.runtime.runs.standing_in import check_session, checks, stand_ins


class ModelCallForbidden(AssertionError):
    """A run was about to ask a real model, in a block where that is forbidden."""


@overload
def override(factory: Callable[..., Any], fake: Callable[..., Any]) -> AbstractContextManager[None]: ...
@overload
def override(*, session: Session) -> AbstractContextManager[None]: ...
@contextmanager
def override(
    factory: Callable[..., Any] | None = None,
    fake: Callable[..., Any] | None = None,
    *,
    session: Session | None = None,
) -> Iterator[None]:
    """Let something else stand in, during the block, for what a program uses.

    With `session`, every run of this process that begins in the block, or is replayed in it, uses that
    session instead of its own. With `factory` and `fake`, `fake` makes what `factory` makes elsewhere, for
    all attempts of this process that begin in the block, whenever their worker was started.

        with outlast.testing.override(session=TestSession()):
            ...
        with outlast.testing.override(database, lambda: FakePool()):
            ...

    Raises:
        DefinitionError: it is given something else, or no dependency has that factory.
    """
    if (session is None) == (factory is None and fake is None) or (factory is None) != (fake is None):
        raise DefinitionError(
            "override takes session=..., or the factory of a dependency and the one to use instead"
        )
    if factory is not None and fake is not None:
        with standing_in(factory, fake):
            yield
    elif session is not None:
        check_session(session)
        stand_ins.append(session)
        try:
            yield
        finally:
            stand_ins.remove(session)


@contextmanager
def forbid_model_calls() -> Iterator[None]:
    """Let every run that would ask a real model in the block fail with `ModelCallForbidden`.

    Sessions that play, `ScriptedSession` and `TestSession`, may be used.
    """
    checks.append(_check)
    try:
        yield
    finally:
        checks.remove(_check)


@contextmanager
def without_checks() -> Iterator[None]:
    """Let runs use any session in the block, which must ask none."""
    kept = [*checks]
    checks.clear()
    try:
        yield
    finally:
        checks[:] = kept


def _check(session: Session) -> None:
    if not isinstance(session, (ScriptedSession, TestSession)):
        raise ModelCallForbidden(
            f"a run would ask a model by {type(session).__name__}, and this test forbids that; use "
            "`override(session=ScriptedSession(...))`"
        )
