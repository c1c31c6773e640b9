"""Putting something else in the place of what a program uses, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, overload

from outlast.adapters.scripted.session import ScriptedSession
from outlast.adapters.scripted.trying_out import TestSession
from outlast.ports.llm import Session
from outlast.runtime.definitions.depends import overrides
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
    session instead of its own. With `factory` and `fake`, `fake` makes what `factory` makes elsewhere; this
    holds for workers that are started in the block, and for plain calls of activities.

        with outlast.testing.override(session=TestSession()):
            ...
        with outlast.testing.override(database, lambda: FakePool()):
            ...
    """
    if session is not None:
        check_session(session)
        stand_ins.append(session)
        try:
            yield
        finally:
            stand_ins.remove(session)
        return
    assert factory is not None
    assert fake is not None
    token = overrides.set({**(overrides.get() or {}), factory: fake})
    try:
        yield
    finally:
        overrides.reset(token)


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
