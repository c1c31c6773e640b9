"""Activities with the arguments and the defaults of Mistral Workflows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar, overload

from typing_extensions import ParamSpec

from outlast.compat.mistral_workflows.exceptions import WorkflowError
from outlast.compat.mistral_workflows.refusals import QUEUE, STICKY, refuse_arguments
from outlast.core.errors import DefinitionError, ForeignError
from outlast.core.json import JSON
from outlast.runtime.definitions import activity as own
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.callables import is_async

P = ParamSpec("P")
R = TypeVar("R")

REFUSED = {
    "sticky_to_worker": STICKY,
    "rate_limit": f"limit a worker with `max_concurrent_activities`; {QUEUE}",
}


class _ActivityDecorate(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...
    def __call__(self, fn: Any, /) -> Any: ...


def activity(
    start_to_close_timeout: timedelta = timedelta(minutes=5),
    retry_policy_max_attempts: int | None = None,
    retry_policy_backoff_coefficient: float | None = None,
    name: str | None = None,
    sticky_to_worker: bool = False,
    rate_limit: None = None,
    heartbeat_timeout: timedelta | None = None,
    **others: Any,
) -> _ActivityDecorate:
    """Return the decorator that defines an activity: three attempts by default, with waits that double.

    `outlast.activity` has more options, such as `effect=` and `requires_approval=`; it may stand beside this
    one in a program.

    Raises:
        NotSupported: an argument has no counterpart.
        DefinitionError: see `outlast.activity`.
    """
    if callable(start_to_close_timeout):
        raise DefinitionError("write `@workflows.activity()`, with parentheses")
    refused = {"sticky_to_worker": sticky_to_worker, "rate_limit": rate_limit}
    given = [name for name, value in refused.items() if value]
    refuse_arguments("activity()", [*given, *others], REFUSED, ARGUMENTS)
    decorate = own.activity(
        name,
        start_to_close_timeout=start_to_close_timeout,
        heartbeat_timeout=heartbeat_timeout,
        retry_policy_max_attempts=3 if retry_policy_max_attempts is None else retry_policy_max_attempts,
        retry_policy_backoff_coefficient=(
            2.0 if retry_policy_backoff_coefficient is None else retry_policy_backoff_coefficient
        ),
    )

    def define(fn: Callable[..., Any]) -> Any:
        return decorate(_ending_at_final_errors(fn))

    return define


ARGUMENTS = (
    "start_to_close_timeout",
    "retry_policy_max_attempts",
    "retry_policy_backoff_coefficient",
    "name",
    "heartbeat_timeout",
)


def activity_heartbeat(*details: JSON) -> None:
    """Announce that the running attempt is alive."""
    own.activity.heartbeat(*details)


@contextmanager
def run_activities_locally() -> Iterator[None]:
    """Run the activities of the block as any others: each is journaled, and none runs twice for its result.

    On Temporal, `@outlast.activity(local=True)` saves the round trip to its server.
    """
    yield


def _ending_at_final_errors(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, whose `WorkflowError`s with `non_retryable` let no attempt follow."""
    if is_async(fn):

        @functools.wraps(fn)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                return await fn(*args, **kwargs)
            except WorkflowError as error:
                raise _kept(error) from error

        return awaited

    @functools.wraps(fn)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except WorkflowError as error:
            raise _kept(error) from error

    return called


def _kept(error: WorkflowError) -> Exception:
    if not error.non_retryable:
        return error
    return ForeignError(type(error).__name__, str(error), final=True)
