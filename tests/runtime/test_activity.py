"""Defining activities, and calling them where there is no workflow."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call
from outlast.composition.running import Runner, execute_workflow
from outlast.core.entries import FunctionResult
from outlast.core.errors import DefinitionError, NotInWorkflow, UnknownDefinition
from outlast.ports.definitions import ActivityDefinition
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity, defined_activity
from outlast.runtime.definitions.agent import Agent


@activity(name="activity-tests.add", retry_policy_max_attempts=7, effect="read")
async def add(one: int, other: int = 1) -> int:
    """Add two numbers."""
    return one + other


@activity
def thread_name() -> str:
    """Return the name of the thread."""
    return threading.current_thread().name


async def test_an_activity_called_outside_a_workflow_runs_at_once() -> None:
    assert await add(1, other=2) == 3
    assert await thread_name() != threading.current_thread().name


def test_a_plain_function_runs_at_once_where_nothing_can_be_awaited() -> None:
    @activity()
    def twice(number: int) -> int:
        return 2 * number

    value: Any = twice(4)
    assert value == 8


async def test_an_exception_of_a_plain_call_is_the_functions_own() -> None:
    @activity()
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_outside_an_attempt_a_heartbeat_does_nothing_and_info_raises() -> None:
    activity.heartbeat("ignored")
    with pytest.raises(NotInWorkflow, match=r"activity\.info"):
        activity.info()


def test_a_definition_has_the_options_of_its_decorator() -> None:
    options = add.definition.options
    assert (add.definition.name, options.retry.max_attempts, options.effect) == (
        "activity-tests.add",
        7,
        "read",
    )
    assert defined_activity("activity-tests.add") is add.definition
    assert getattr(add, "__name__", None) == "add"
    assert "Add two numbers" in (add.__doc__ or "")
    assert repr(add) == "<activity activity-tests.add>"


def test_an_activity_that_must_not_be_repeated_has_one_attempt_unless_more_are_asked_for() -> None:
    async def pay() -> None:
        """Pay."""

    assert activity(effect="once")(pay).definition.options.retry.max_attempts == 1
    assert (
        activity(effect="once", retry_policy_max_attempts=3)(pay).definition.options.retry.max_attempts == 3
    )
    assert activity()(pay).definition.options.retry.max_attempts == 5


def test_exceptions_that_end_an_activity_are_known_by_name() -> None:
    async def fail() -> None:
        """Fail."""

    defined = activity(retry_policy_non_retryable=[ValueError, "HTTPError"])(fail)
    assert defined.definition.options.retry.non_retryable == ("builtins.ValueError", "HTTPError")


@pytest.mark.parametrize(
    "options",
    [
        {"retry_policy_max_attempts": 0},
        {"retry_policy_max_attempts": "3"},
        {"retry_policy_initial_interval": 5},
        {"start_to_close_timeout": 5},
        {"heartbeat_timeout": 0.5},
        {"retry_policy_backoff_coefficient": "2"},
        {"retry_policy_backoff_coefficient": 0.5},
        {"start_to_close_timeout": timedelta(0)},
        {"heartbeat_timeout": timedelta(seconds=-1)},
        {"effect": "sometimes"},
        {"retry_policy_non_retryable": ValueError},
        {"retry_policy_non_retryable": "ValueError"},
        {"retry_policy_non_retryable": [ValueError()]},
        {"retry_policy_non_retryable": [int]},
        {"retry_policy_non_retryable": [""]},
        {"retry_policy_non_retryable": 7},
    ],
)
def test_options_that_make_no_sense_are_refused_when_they_are_given(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        activity(**options)


# Callables that can be an activity

in_decorator: ContextVar[str] = ContextVar("in_decorator", default="nothing")


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as most decorators do: by a plain function, whatever is wrapped."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        in_decorator.set("something")
        return fn(*args, **kwargs)

    return wrapper


def blocking(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async function by one that is not."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(fn(*args, **kwargs))

    return wrapper


async def repeat(word: str, times: int = 2) -> str:
    """Repeat a word.

    Args:
        word: The word
    """
    await asyncio.sleep(0)
    assert activity.info().activity
    return word * times


def repeat_in_thread(word: str, times: int = 2) -> str:
    """Repeat a word."""
    assert activity.info().activity
    return word * times


class Repeater:
    """Something with methods, and attributes that are called as those of activities are."""

    definition = "its own"

    def __init__(self, times: int) -> None:
        self.times = times
        self.__wrapped = self
        self.options = self

    async def repeat(self, word: str) -> str:
        """Repeat a word."""
        return word * self.times

    @decorated
    async def repeat_decorated(self, word: str) -> str:
        """Repeat a word."""
        return word * self.times

    async def __call__(self, word: str) -> str:
        """Repeat a word."""
        return word * self.times


class RepeaterInThread(Repeater):
    """The same, with a plain call."""

    def __call__(self, word: str) -> str:  # type: ignore[override]  # another one
        """Repeat a word."""
        return word * self.times


async def in_context(word: str) -> str:
    """Repeat a word that the decorator has left."""
    return word + in_decorator.get()


async def marked(word: str) -> str:
    """Repeat a word."""
    return word * 2


CALLABLES: dict[str, Callable[..., Any]] = {
    "async_function": repeat,
    "function": repeat_in_thread,
    "partial": functools.partial(repeat, times=2),
    "partial_of_thread": functools.partial(repeat_in_thread, times=2),
    "partial_of_partial": functools.partial(functools.partial(repeat, times=5), times=2),
    "partial_of_object": functools.partial(Repeater(2)),
    "method": Repeater(2).repeat,
    "decorated_method": Repeater(2).repeat_decorated,
    "object": Repeater(2),
    "object_in_thread": RepeaterInThread(2),
    "decorated": decorated(repeat),
    "decorated_twice": decorated(decorated(repeat)),
    "partial_of_decorated": functools.partial(decorated(functools.partial(repeat)), times=2),
    "decorated_thread": decorated(repeat_in_thread),
    "blocking": blocking(repeat),
    "lambda_of_async": functools.wraps(marked)(lambda word: marked(word)),
}
if sys.version_info >= (3, 12):
    CALLABLES["marked"] = inspect.markcoroutinefunction(functools.wraps(marked)(lambda word: marked(word)))

ACTIVITIES = {name: activity(name=f"call_{name}")(fn) for name, fn in CALLABLES.items()}
left_in_context = activity(name="activity-tests.context")(decorated(in_context))


@workflow.define(name="activity-tests.calls")
class Calls:
    """Calls an activity as workflow code and as a tool does."""

    @workflow.entrypoint
    async def run(self, name: str) -> list[str]:
        called = ACTIVITIES[name]
        agent = Agent(model="m", name="a", tools=[called])
        tool = call(f"call_{name}", {"word": "ha"})
        result = await Runner.run(agent, "go", ScriptedSession({"a": [tool, "done"]}))
        [answer] = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        return [await called("ha"), answer]


@pytest.mark.parametrize("name", ACTIVITIES)
async def test_every_callable_that_can_be_a_plain_tool_can_be_an_activity(name: str) -> None:
    assert await execute_workflow(Calls, name, backend="memory:") == ["haha", "haha"]
    defined: Any = ACTIVITIES[name]
    assert defined.definition.signature.description == "Repeat a word."
    assert "Repeat a word." in defined.__doc__
    assert isinstance(defined.__name__, str)


async def test_a_decorated_activity_runs_in_the_context_that_its_decorator_has_left() -> None:
    assert await left_in_context("the decorator set ") == "the decorator set something"
    assert in_decorator.get() == "nothing"


async def test_an_activity_that_is_wrapped_is_cancelled_with_its_caller() -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    @activity(name="activity-tests.cancelled")
    @decorated
    async def wait() -> None:
        """Wait."""
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.ensure_future(wait())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


def test_a_generator_function_is_refused() -> None:
    def numbers() -> Iterator[int]:
        """Count."""
        yield 1

    async def more() -> AsyncIterator[int]:
        """Count."""
        yield 1

    for fn in (numbers, more, decorated(numbers), functools.partial(more)):
        with pytest.raises(DefinitionError, match="return one value"):
            activity()(fn)


def test_an_approval_that_must_be_awaited_is_refused() -> None:
    for fn in (Repeater(1), functools.partial(repeat), Repeater(1).repeat):
        with pytest.raises(DefinitionError, match="plain `def`"):
            activity(requires_approval=fn)  # type: ignore[arg-type]  # that is wrong with it


def test_a_function_whose_arguments_cannot_be_named_is_refused() -> None:
    async def variable(*values: int) -> None:
        """Take any number."""

    with pytest.raises(DefinitionError):
        activity()(variable)


def test_an_activity_that_this_process_does_not_define_is_named_in_the_error() -> None:
    with pytest.raises(UnknownDefinition, match="never-defined"):
        defined_activity("never-defined")


def test_of_several_activities_of_one_name_the_one_that_is_called_is_found() -> None:
    def defined() -> list[ActivityDefinition]:
        @activity(name="activity-tests.namesake")
        async def one() -> None: ...

        @activity(name="activity-tests.namesake")
        async def other() -> None: ...

        return [one.definition, other.definition]

    copies, originals = defined(), defined()  # The newest of each function counts.
    for called in (copies, originals):
        assert [defined_activity("activity-tests.namesake", one) for one in called] == originals
    for unknown in (None, add.definition):
        with pytest.raises(DefinitionError, match=r"other are all called 'activity-tests\.namesake'"):
            defined_activity("activity-tests.namesake", unknown)


def test_many_plain_calls_run_at_once() -> None:
    async def main() -> list[int]:
        return list(await asyncio.gather(*(add(n) for n in range(10))))

    assert asyncio.run(main()) == list(range(1, 11))


def test_an_activity_that_must_not_be_repeated_cannot_be_local() -> None:
    with pytest.raises(DefinitionError, match="local"):
        activity(effect="once", local=True)
