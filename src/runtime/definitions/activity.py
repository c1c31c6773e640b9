"""Activities: functions with side effects, whose results are journaled."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from outlast.core.errors import DefinitionError, NotInWorkflow, UnknownDefinition
from outlast.core.failure import class_name
from outlast.core.given_values import check_duration, check_number
from outlast.core.json import JSON
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.ports.definitions import ActivityDefinition, ActivityOptions, Approval
from outlast.ports.durability.steps import Attempt, RunActivity, Step
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.tools import Effect
from outlast.runtime.attempts.attempt import current_attempt
from outlast.runtime.attempts.threads import called
from outlast.runtime.definitions.callables import innermost, is_async
from outlast.runtime.definitions.depends import refuse_dependencies, with_dependencies, without_dependencies
from outlast.runtime.definitions.module_copies import in_copy
from outlast.runtime.definitions.run_context import takes_context
from outlast.runtime.definitions.signature import CallableSignature

P = ParamSpec("P")
R = TypeVar("R")

_defined: dict[str, dict[tuple[str, str], ActivityDefinition]] = {}
"""The activities that this process defines, by name and then by the place of the function."""


class Activity(Generic[P, R]):
    """A defined activity. An awaited call is a journaled step in a workflow, and a plain call elsewhere."""

    def __init__(self, definition: ActivityDefinition) -> None:
        fn = definition.fn
        # An object's own attributes are not copied: one might have the name of an attribute of ours.
        updated = ("__dict__",) if inspect.isfunction(fn) else ()
        functools.update_wrapper(self, fn if inspect.isfunction(fn) else innermost(fn), updated=updated)
        self.__wrapped__ = fn
        self.definition = definition

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return a coroutine that gives the activity's result.

        Outside any event loop, nothing can be awaited: there a plain `def` runs and returns its value.

        Raises (when awaited in a workflow):
            Unserialisable: an argument or the result is not JSON; nothing was written.
            ActivityFailed, ActivityTimedOut, OutcomeUnknown: the activity did not succeed within its retry
                policy.
        """
        if current_context.get() is None:
            if not self.definition.is_async and asyncio._get_running_loop() is None:
                value: Coroutine[Any, Any, R] = self.definition.fn(*args, **kwargs)
                return value
            return self._call_plainly(args, kwargs)
        return self._call_durably(args, kwargs)

    async def _call_plainly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        run = functools.partial(self.definition.fn, *args, **kwargs)
        return cast(R, await called(run, is_async=self.definition.is_async))

    async def _call_durably(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        context = current_context.get()
        assert context is not None
        definition = self.definition
        arguments = definition.signature.dump_call(*args, **kwargs)
        step = Step(
            key=context.next_key(),
            kind=StepKind.ACTIVITY,
            name=definition.name,
            call=RunActivity.of(definition, arguments),
            options=definition.options,
            arguments=cast(JSON, arguments.written),
        )
        return cast(R, definition.signature.load_result(await context.run_step(step)))

    def __repr__(self) -> str:
        return f"<activity {self.definition.name}>"


class _ActivityDecorator:
    """`activity(...)` defines one; `activity.info()` and `.heartbeat()` serve the code of a running one."""

    @overload
    def __call__(self, name: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...

    @overload
    def __call__(self, name: Callable[P, R], /) -> Activity[P, R]: ...

    @overload
    def __call__(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        start_to_close_timeout: timedelta = ...,
        heartbeat_timeout: timedelta | None = None,
        retry_policy_max_attempts: int | None = None,
        retry_policy_initial_interval: timedelta = ...,
        retry_policy_backoff_coefficient: float = 2.0,
        retry_policy_max_interval: timedelta = ...,
        retry_policy_non_retryable: Sequence[type[BaseException] | str] = (),
        effect: Effect = "idempotent",
        requires_approval: Approval = False,
        local: bool = False,
    ) -> _Decorate: ...

    def __call__(
        self,
        name: Any = None,
        *,
        description: str | None = None,
        start_to_close_timeout: timedelta = timedelta(minutes=5),
        heartbeat_timeout: timedelta | None = None,
        retry_policy_max_attempts: int | None = None,
        retry_policy_initial_interval: timedelta = timedelta(seconds=1),
        retry_policy_backoff_coefficient: float = 2.0,
        retry_policy_max_interval: timedelta = timedelta(seconds=60),
        retry_policy_non_retryable: Sequence[type[BaseException] | str] = (),
        effect: Effect = "idempotent",
        requires_approval: Approval = False,
        local: bool = False,
    ) -> Any:
        """Define an activity from an `async def`, or from a `def`, which then runs in a thread.

        A bound method, a `functools.partial` and a callable object are possible too. If two of them share a
        function, give each activity a `name` of its own.

        Args:
            name: The name in journals and for models; the function's own by default.
            description: The description that a model sees; the docstring's text by default.
            start_to_close_timeout: How long one attempt may take.
            heartbeat_timeout: How long an attempt may go without calling `activity.heartbeat()`.
            retry_policy_max_attempts: Attempts in all, crashes included; 5 by default, 1 for `effect="once"`.
                Attempts that waited while the code of another execution ended their worker do not count.
            retry_policy_initial_interval: The wait before the second attempt.
            retry_policy_backoff_coefficient: The factor by which each further wait grows.
            retry_policy_max_interval: The longest wait.
            retry_policy_non_retryable: Exceptions (classes, or their names) that end the activity at once,
                with all classes derived from them. An exception group that contains one ends it too.
            effect: The side effect of running it: "read" has none, "idempotent" has the same however often
                it runs with one idempotency key, "once" has a new one each time. A "once" activity whose
                outcome is unknown after a crash or a timeout is not repeated: `OutcomeUnknown` is raised.
            requires_approval: True if a person must allow each call that a model makes of it; or a function
                of the arguments (a dict) that decides for one call; it runs in the workflow and must be pure.
                Workflow code that awaits the activity itself needs no approval.
            local: For an activity that takes milliseconds: Temporal runs it in the worker that runs the
                workflow, as a local activity, without a round trip to the server. After a crash
                it may be run again, with attempts counted from 1, and it has no heartbeats. On other backends
                `local` changes nothing.

        Raises:
            DefinitionError: a parameter lacks a type hint, an option has an impossible value, or two
                functions share a name.
        """
        if callable(name):
            return self()(name)
        if effect not in ("read", "idempotent", "once"):
            raise DefinitionError(f'effect is {effect!r}; use "read", "idempotent" or "once"')
        attempts = retry_policy_max_attempts
        if attempts is None:
            attempts = 1 if effect == "once" else 5
        check_approval(requires_approval, "requires_approval")
        if local and effect == "once":
            raise DefinitionError('an activity with effect="once" must not be local: a crash would repeat it')
        check_number("retry_policy_max_attempts", attempts)
        check_duration("retry_policy_initial_interval", retry_policy_initial_interval)
        check_duration("retry_policy_max_interval", retry_policy_max_interval)
        _check_options(retry_policy_backoff_coefficient, start_to_close_timeout, heartbeat_timeout)
        options = ActivityOptions(
            start_to_close_timeout=start_to_close_timeout.total_seconds(),
            heartbeat_timeout=None if heartbeat_timeout is None else heartbeat_timeout.total_seconds(),
            retry=RetryPolicy(
                max_attempts=attempts,
                initial_interval=retry_policy_initial_interval.total_seconds(),
                backoff_coefficient=retry_policy_backoff_coefficient,
                max_interval=retry_policy_max_interval.total_seconds(),
                non_retryable=_error_names(retry_policy_non_retryable),
            ),
            effect=effect,
            requires_approval=requires_approval,
            local=local,
        )

        def decorate(fn: Callable[..., Any]) -> Activity[Any, Any]:
            signature = CallableSignature.of(without_dependencies(fn), name=name, description=description)
            if takes_context(fn):
                raise DefinitionError(
                    f"activity {signature.name!r} takes a RunContext, but a worker may have none; "
                    "give it the parts that it needs as arguments"
                )
            run = with_dependencies(fn)
            definition = ActivityDefinition(signature.name, run, is_async(run), signature, options)
            _register(definition)
            return Activity(definition)

        return decorate

    @staticmethod
    def info() -> Attempt:
        """Return the facts about the running attempt: ids, attempt number, idempotency key."""
        attempt = current_attempt.get()
        if attempt is None:
            raise NotInWorkflow("activity.info()")
        return attempt

    @staticmethod
    def heartbeat(*details: JSON) -> None:
        """Announce that the attempt is alive; the next attempt finds the last `details` in its `info()`.

        Outside an attempt, in a plain call of the activity, it does nothing.
        """
        attempt = current_attempt.get()
        if attempt is not None:
            attempt.heartbeat(details)


class _Decorate:
    """The type of the result of `activity(...)`, for type checkers."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...

    def __call__(self, fn: Any, /) -> Any:
        raise TypeError("for type checkers only")


activity = _ActivityDecorator()


def _check_options(coefficient: Any, timeout: timedelta, heartbeat_timeout: timedelta | None) -> None:
    if not isinstance(coefficient, (int, float)) or coefficient < 1:
        raise DefinitionError(f"retry_policy_backoff_coefficient is {coefficient}; it must be at least 1")
    check_duration("start_to_close_timeout", timeout)
    if timeout <= timedelta(0):
        raise DefinitionError("start_to_close_timeout must be longer than nothing")
    if heartbeat_timeout is None:
        return
    check_duration("heartbeat_timeout", heartbeat_timeout)
    if heartbeat_timeout <= timedelta(0):
        raise DefinitionError("heartbeat_timeout must be longer than nothing; leave it out for none")


def _error_names(errors: Any) -> tuple[str, ...]:
    if isinstance(errors, (str, type)) or not isinstance(errors, Iterable):
        raise DefinitionError("retry_policy_non_retryable must be a sequence: put what you gave into a list")
    names = []
    for error in errors:
        if isinstance(error, type) and issubclass(error, BaseException):
            names.append(class_name(error))
        elif isinstance(error, str) and error.strip():
            names.append(error)
        else:
            raise DefinitionError(
                f"retry_policy_non_retryable has {error!r} in it; give exception classes, or their names"
            )
    return tuple(names)


def check_approval(approval: Any, what: str) -> None:
    """Refuse a value that cannot decide whether a call needs approval.

    Raises:
        DefinitionError: it is neither a bool nor a plain function, or is a function with dependencies.
    """
    if isinstance(approval, bool):
        return
    if callable(approval) and not is_async(approval):
        refuse_dependencies(approval, what)
        return
    raise DefinitionError(
        f"{what} must be True, False or a plain `def` that takes the arguments and returns one of them"
    )


def _register(definition: ActivityDefinition) -> None:
    # A reloaded module or a factory that is called twice defines the same function again: the newest counts.
    namesakes = _defined.setdefault(definition.name, {})
    place = _place_of(definition)
    if not (place in namesakes and in_copy()):
        namesakes[place] = definition


def _place_of(definition: ActivityDefinition) -> tuple[str, str]:
    function = innermost(definition.fn)
    return function.__module__, function.__qualname__


def activities_named(name: str) -> Sequence[ActivityDefinition]:
    """Return the activities that this process defines under `name`: one, unless functions share it."""
    return tuple(_defined.get(name, {}).values())


def defined_activity(name: str, called: ActivityDefinition | None = None) -> ActivityDefinition:
    """Return the activity that this process defines under `name`.

    If several functions have that name, it is the one that `called` is, or is a copy of.

    Raises:
        UnknownDefinition: the module that defines it has not been imported.
        DefinitionError: several functions are activities of that name, and none of them is `called`.
    """
    namesakes = _defined.get(name)
    if not namesakes:
        raise UnknownDefinition("activity", name)
    if called is not None and (place := _place_of(called)) in namesakes:
        return namesakes[place]
    if len(namesakes) > 1:
        places = " and ".join(".".join(place) for place in namesakes)
        raise DefinitionError(f"{places} are all called {name!r}: give all but one another name=")
    [definition] = namesakes.values()
    return definition
