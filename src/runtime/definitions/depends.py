"""Dependencies of activities: clients, pools and caches that live in a worker, not in a journal.

    async def database() -> AsyncIterator[Pool]:
        async with create_pool(...) as pool:
            yield pool

    @outlast.activity
    async def book(seat: str, pool: Pool = outlast.Depends(database)) -> str: ...

A model and a journal see `seat` alone. The pool is opened when an attempt first needs it, and closed when the
worker stops.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from outlast.core.errors import DefinitionError
from outlast.ports.resources import Resources
from outlast.runtime.attempts.attempt import current_resources
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.attempts.threads import called, in_thread
from outlast.runtime.definitions.callables import is_async, name_of

T = TypeVar("T")

Scope = Literal["worker", "attempt"]


@dataclass(frozen=True, eq=False)
class Dependency:
    """The default of a parameter that is given what a factory makes."""

    factory: Callable[..., Any]
    scope: Scope


def Depends(factory: Callable[..., Any], *, scope: Scope = "worker") -> Any:  # reads as a type
    """Return the default for a parameter of an activity that is given what `factory` makes.

    It is made when an attempt first needs it: once a worker, or with `scope="attempt"` once an attempt. The
    factory returns it, or yields it once, as a generator or an async generator; what stands behind the
    `yield` runs when the worker stops, or the attempt ends. A factory that is not async runs in a thread. It
    may have dependencies of its own, as such defaults.

    What fails an attempt is raised at the `yield` of the factories with `scope="attempt"`, so that they can
    undo what they began. Whatever they do with it, the attempt has failed. It fails also if one of them fails
    behind its `yield`, where a transaction would be committed; a failure in closing what a worker shares is
    logged.

    If the factory fails, the attempt fails, and the next one calls the factory again. A plain call of the
    activity, outside workflows, may give the argument; else it is made for that call alone.

    Raises:
        DefinitionError: the factory cannot be called without arguments, or lives longer than what it needs.
    """
    if not callable(factory):
        raise DefinitionError(f"Depends needs a function that makes the thing, not {type(factory).__name__}")
    if scope not in ("worker", "attempt"):
        raise DefinitionError(f'the scope of a dependency is {scope!r}; use "worker" or "attempt"')
    needed = dependencies_of(factory)
    for parameter in _parameters(factory):
        if parameter.default is inspect.Parameter.empty and parameter.kind not in _REST:
            raise DefinitionError(
                f"{name_of(factory)!r} cannot make a dependency: nothing is given for its parameter "
                f"{parameter.name!r}; give that a default, which may be another Depends(...)"
            )
    if scope == "worker" and any(one.scope == "attempt" for one in needed.values()):
        raise DefinitionError(
            f"{name_of(factory)!r} lives as long as a worker, but needs what ends with an attempt; "
            'give it scope="attempt" as well'
        )
    return Dependency(factory, scope)


_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def dependencies_of(fn: Callable[..., Any]) -> Mapping[str, Dependency]:
    """Return the dependencies of a function, by parameter."""
    return {one.name: one.default for one in _parameters(fn) if isinstance(one.default, Dependency)}


def refuse_dependencies(fn: Callable[..., Any], what: str) -> None:
    """Raise DefinitionError if a function that runs in workflow code has dependencies."""
    if dependencies_of(fn):
        raise DefinitionError(
            f"{what} has a parameter with Depends(...), but it runs in workflow code, which is replayed; "
            "use it in an activity"
        )


def without_dependencies(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as its callers see it: without the parameters that are given to it."""
    needed = dependencies_of(fn)
    return functools.partial(fn, **dict.fromkeys(needed)) if needed else fn


def with_dependencies(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, made async, with its dependencies given; a function that has none as it is."""
    needed = dependencies_of(fn)
    if not needed:
        return fn

    @functools.wraps(fn)
    async def given(*args: Any, **kwargs: Any) -> Any:
        async with AsyncExitStack() as stack:
            resources = current_resources.get()
            if resources is None:
                resources = await stack.enter_async_context(SharedResources())
            attempt = _OfAttempt(resources, stack)
            for name, dependency in needed.items():
                if name not in kwargs:
                    kwargs[name] = await attempt.get(dependency)
            return await called(functools.partial(fn, *args, **kwargs), is_async=is_async(fn))

    return given


class _OfAttempt:
    """The things that one attempt is given: its own, and those that it shares with its worker."""

    def __init__(self, resources: Resources, stack: AsyncExitStack) -> None:
        self._resources = resources
        self._stack = stack
        self._own: dict[Callable[..., Any], Any] = {}

    async def get(self, dependency: Dependency) -> Any:
        """Return what the factory makes or made; what it needs is made before, and so closed after."""
        factory = (overrides.get() or {}).get(dependency.factory, dependency.factory)
        if factory in self._own and dependency.scope == "attempt":
            return self._own[factory]
        needs = {name: await self.get(one) for name, one in dependencies_of(factory).items()}
        if dependency.scope == "worker":
            return await self._resources.get(("depends", factory), lambda: _opened(factory, needs))
        manager = _opened(factory, needs)
        self._own[factory] = await manager.__aenter__()

        async def leave(*failure: Any) -> None:
            await manager.__aexit__(*failure)  # Not returned: a factory cannot make good what failed.

        self._stack.push_async_exit(leave)
        return self._own[factory]


def _opened(factory: Callable[..., Any], needs: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
    make = functools.partial(factory, **needs)
    if inspect.isasyncgenfunction(factory):
        return asynccontextmanager(make)()
    if inspect.isgeneratorfunction(factory):
        return _in_threads(contextmanager(make))
    return _returned(make)


@asynccontextmanager
async def _in_threads(make: Callable[[], Any]) -> AsyncIterator[Any]:
    manager = make()
    thing = await in_thread(manager.__enter__, name="dependency")
    try:
        yield thing
    except BaseException as error:
        failure = (type(error), error, error.__traceback__)
        await in_thread(lambda: manager.__exit__(*failure), name="dependency")
        raise
    await in_thread(lambda: manager.__exit__(None, None, None), name="dependency")


@asynccontextmanager
async def _returned(make: Callable[[], Any]) -> AsyncIterator[Any]:
    yield await called(make, is_async=is_async(make), name="dependency")


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return [*inspect.signature(fn).parameters.values()]
    except (TypeError, ValueError):
        return []  # Written in C: its parameters cannot be read.


overrides: ContextVar[Mapping[Callable[..., Any], Callable[..., Any]] | None] = ContextVar(
    "overrides", default=None
)
"""The factories that tests have put in the place of others; see `outlast.testing.override`."""
