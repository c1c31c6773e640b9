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
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
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
    if scope not in ("worker", "attempt"):
        raise DefinitionError(f'the scope of a dependency is {scope!r}; use "worker" or "attempt"')
    _check_factory(factory)
    needed = dependencies_of(factory)
    if scope == "worker" and any(one.scope == "attempt" for one in needed.values()):
        raise DefinitionError(
            f"{name_of(factory)!r} lives as long as a worker, but needs what ends with an attempt; "
            'give it scope="attempt" as well'
        )
    _known.add(factory)
    return Dependency(factory, scope)


def _check_factory(factory: Any) -> None:
    if not callable(factory):
        raise DefinitionError(f"Depends needs a function that makes the thing, not {type(factory).__name__}")
    for parameter in _parameters(factory):
        if parameter.default is inspect.Parameter.empty and parameter.kind not in _REST:
            raise DefinitionError(
                f"{name_of(factory)!r} cannot make a dependency: nothing is given for its parameter "
                f"{parameter.name!r}; give that a default, which may be another Depends(...)"
            )


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
        self._own: dict[Hashable, Any] = {}

    async def get(self, dependency: Dependency) -> Any:
        """Return what the factory makes or made; what it needs is made before, and so closed after."""
        return (await self._get(dependency))[1]

    async def _get(self, dependency: Dependency) -> tuple[Hashable, Any]:
        """Return the thing, with its key: the factories that it came from, its own and those of its needs."""
        factory = _in_use(dependency.factory)
        found = {name: await self._get(one) for name, one in dependencies_of(factory).items()}
        key = (factory, *(key for key, _ in found.values()))
        needs = {name: thing for name, (_, thing) in found.items()}
        if dependency.scope == "worker":
            return key, await self._resources.get(("depends", key), lambda: _opened(factory, needs))
        if key not in self._own:
            manager = _opened(factory, needs)
            self._own[key] = await manager.__aenter__()

            async def leave(*failure: Any) -> None:
                await manager.__aexit__(*failure)  # Not returned: a factory cannot make good what failed.

            self._stack.push_async_exit(leave)
        return key, self._own[key]


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


_known: set[Callable[..., Any]] = set()
"""The factories of all dependencies of this process."""

_stand_ins: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
"""Factories, each with the one that makes what it would make; the last one does."""


def _in_use(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return the factory that is called instead of `factory`, or itself."""
    return next((one for other, one in reversed(_stand_ins) if other == factory), factory)


@contextmanager
def standing_in(factory: Any, fake: Callable[..., Any]) -> Iterator[None]:
    """Let `fake` make, for the attempts that begin in the block, what `factory` makes.

    It makes it anew even where a worker has opened the other one, and so do the factories that depend on it.

    Raises:
        DefinitionError: no dependency has this factory, or `fake` cannot be called without arguments.
    """
    if not callable(factory) or factory not in _known:
        known = ", ".join(sorted({name_of(one) for one in _known})) or "none"
        what = name_of(factory) if callable(factory) else factory
        raise DefinitionError(f"no Depends(...) has the factory {what!r}; the factories: {known}")
    _check_factory(fake)
    pair = (factory, fake)
    _stand_ins.append(pair)
    try:
        yield
    finally:
        _stand_ins.remove(pair)
