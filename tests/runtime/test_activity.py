"""Defining activities, and calling them where there is no workflow."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from outlast.core.errors import DefinitionError, NotInWorkflow, UnknownDefinition
from outlast.runtime.definitions.activity import activity, defined_activity


@activity(name="activity-tests.add", retry_policy_max_attempts=7, effect="read")
async def add(one: int, other: int = 1) -> int:
    """Add two numbers."""
    return one + other


@activity
def thread_name() -> str:
    """Tell the thread."""
    return threading.current_thread().name


async def test_called_outside_a_workflow_it_just_runs() -> None:
    assert await add(1, other=2) == 3
    assert await thread_name() != threading.current_thread().name


def test_called_where_nothing_can_be_awaited_a_plain_function_just_runs() -> None:
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


async def test_a_heartbeat_outside_an_attempt_says_nothing_and_info_is_refused() -> None:
    activity.heartbeat("ignored")
    with pytest.raises(NotInWorkflow, match=r"activity\.info"):
        activity.info()


def test_a_definition_holds_what_was_said() -> None:
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
    assert defined.definition.options.retry.non_retryable == ("ValueError", "HTTPError")


@pytest.mark.parametrize(
    "options",
    [
        {"retry_policy_max_attempts": 0},
        {"retry_policy_backoff_coefficient": 0.5},
        {"start_to_close_timeout": timedelta(0)},
        {"heartbeat_timeout": timedelta(seconds=-1)},
        {"effect": "sometimes"},
    ],
)
def test_options_that_make_no_sense_are_refused_when_they_are_given(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        activity(**options)


def test_a_function_whose_arguments_cannot_be_named_is_refused() -> None:
    async def variable(*values: int) -> None:
        """Take any number."""

    with pytest.raises(DefinitionError):
        activity()(variable)


def test_an_activity_that_this_process_does_not_define_is_told_by_name() -> None:
    with pytest.raises(UnknownDefinition, match="never-defined"):
        defined_activity("never-defined")


def test_many_plain_calls_run_at_once() -> None:
    async def main() -> list[int]:
        return list(await asyncio.gather(*(add(n) for n in range(10))))

    assert asyncio.run(main()) == list(range(1, 11))


def test_an_activity_that_must_not_be_repeated_cannot_be_local() -> None:
    with pytest.raises(DefinitionError, match="local"):
        activity(effect="once", local=True)
