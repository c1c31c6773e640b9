"""`workflow` of Mistral Workflows: the decorators of a workflow, and the functions for its code."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from outlast.compat.mistral_workflows.children import execute_workflow as execute_workflow
from outlast.compat.mistral_workflows.refusals import PAGE, SCHEDULE, TAGS, refuse_arguments
from outlast.core.errors import DefinitionError, NotSupported
from outlast.ports.method_references import role_of
from outlast.runtime.definitions import workflow as own

C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])

REFUSED = {
    "schedules": SCHEDULE,
    "enforce_determinism": "workflow code is always replayed; let an activity do what depends on the world",
    "on_behalf_of": "give the identity as an argument; `api_key=` of a session may be that of a user",
    "search_keys": TAGS,
}
DEFINE = ("name", "workflow_description", "workflow_display_name", "is_technical", "execution_timeout")


def define(
    name: str,
    workflow_description: str | None = None,
    schedules: Sequence[Any] | None = None,
    workflow_display_name: str | None = None,
    is_technical: bool = False,
    enforce_determinism: bool | None = None,
    execution_timeout: timedelta | None = None,
    on_behalf_of: bool = False,
    search_keys: Sequence[str] | None = None,
    **others: Any,
) -> Callable[[C], C]:
    """Return the decorator that makes a class a workflow; the texts for Mistral's console are not kept.

    Without an `execution_timeout` an execution may take as long as it likes. With one, its code gets
    `TimeoutError` when the time is over, so that it can clean up, and the execution fails.

    Raises:
        NotSupported: an argument has no counterpart.
        DefinitionError: see `outlast.workflow.define`.
    """
    refused = {
        "schedules": schedules,
        "enforce_determinism": enforce_determinism is False,
        "on_behalf_of": on_behalf_of,
        "search_keys": search_keys,
    }
    given = [argument for argument, value in refused.items() if value]
    refuse_arguments("workflow.define()", [*given, *others], REFUSED, DEFINE)

    def decorate(cls: C) -> C:
        if execution_timeout is not None:
            _limit(cls, execution_timeout)
        return own.define(name=name)(cls)

    return decorate


def entrypoint(func: F) -> F:
    """Mark the method with which an execution begins."""
    return own.entrypoint(func)


def signal(name: str | None = None, description: str | None = None) -> Callable[[F], F]:
    """Return the decorator of a method that takes a signal."""
    return own.signal(_with_parentheses("signal", name))


def query(name: str | None = None, description: str | None = None) -> Callable[[F], F]:
    """Return the decorator of a method that answers a query."""
    return own.query(_with_parentheses("query", name))


def update(name: str | None = None, description: str | None = None) -> Callable[[F], F]:
    """Return the decorator of a method that answers an update."""
    decorate: Any = own.update(_with_parentheses("update", name))
    return decorate  # type: ignore[no-any-return]


def now() -> datetime:
    """Return the workflow's time."""
    return own.now()


def uuid4() -> UUID:
    """Return a random UUID that is the same in every replay."""
    return own.uuid4()


def random() -> Random:
    """Return the execution's source of random numbers."""
    return own.random()


async def sleep(duration: timedelta | float, *, summary: str | None = None) -> None:
    """Wait, durably; the summary is not kept."""
    await asyncio.sleep(duration.total_seconds() if isinstance(duration, timedelta) else duration)


async def wait_condition(
    predicate: Callable[[], bool],
    timeout: timedelta | float | None = None,
    timeout_summary: str | None = None,
) -> None:
    """Return once `predicate()` holds; `TimeoutError` after `timeout`. The summary is not kept."""
    await own.wait_condition(predicate, timeout)


def should_continue_as_new() -> bool:
    """Return False: an execution goes on in its journal. Where a history must not grow, on Temporal with its
    limits, use `outlast.workflow.should_continue_as_new` and `await outlast.workflow.continue_as_new(...)`.
    """
    return False


def continue_as_new(params: Any) -> NoReturn:
    """Refuse: going on with a new history has to be awaited here."""
    raise NotSupported(
        "continue_as_new() has to be awaited here: write `await outlast.workflow.continue_as_new(params)` "
        f"where `outlast.workflow.should_continue_as_new()` ({PAGE})"
    )


async def add_search_keys(search_keys: Mapping[str, Any]) -> None:
    """Give the execution tags, as texts."""
    own.tag({key: str(value) for key, value in search_keys.items()})


async def delete_search_keys(keys: Sequence[str]) -> None:
    """Remove tags of the execution."""
    own.tag(dict.fromkeys(keys))


class unsafe:
    """Exceptions from a sandbox, which this library does not have."""

    @staticmethod
    @contextmanager
    def imports_passed_through() -> Iterator[None]:
        """Import as usual: modules are loaded once for all executions."""
        yield

    @staticmethod
    def skip_determinism_enforcement() -> NoReturn:
        """Refuse: code that is replayed must do the same again."""
        raise NotSupported(
            "workflow code is always replayed: put what is in this block into an activity, and await it "
            f"({PAGE})"
        )


def _limit(cls: type[Any], seconds: timedelta) -> None:
    """Let the entrypoint of `cls` end with `TimeoutError` after that time."""
    for attribute in dir(cls):
        method = getattr(cls, attribute)
        if role_of(method) == "entrypoint":
            setattr(cls, attribute, _limited(method, seconds))


def _limited(method: Callable[..., Awaitable[Any]], limit: timedelta) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(limit.total_seconds()):
            return await method(self, *args, **kwargs)

    return run


def _with_parentheses(decorator: str, name: str | None) -> str | None:
    if name is not None and not isinstance(name, str):
        raise DefinitionError(f"write `@workflow.{decorator}()`, with parentheses")
    return name
