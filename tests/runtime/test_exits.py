"""Exits of user code become errors; exceptions that unwind it, or of signal handlers, pass unchanged."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import ForeignError
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.isolation.exits import contained, only_cancellation, raised_by_signal


class Own(BaseException):
    """An exception of a user's."""


class Unwinding(BaseException):
    """An exception of a backend's."""


def unwinds(error: BaseException) -> bool:
    return isinstance(error, Unwinding) or only_cancellation(error)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (SystemExit(2), "SystemExit", "the code called sys.exit(2)"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (Own("no"), "Own", "no"),
        (
            BaseExceptionGroup("two", [Own(), ValueError()]),
            "BaseExceptionGroup",
            "two (2 sub-exceptions): Own; ValueError",
        ),
        (asyncio.CancelledError(), "CancelledError", "the code let a CancelledError of its own escape"),
    ],
)
def test_a_base_exception_of_user_code_becomes_an_exception(
    error: BaseException, kind: str, message: str
) -> None:
    with pytest.raises(ForeignError) as raised, contained(unwinds):
        raise error
    assert (raised.value.kind, raised.value.message) == (kind, message)
    assert raised.value.__cause__ is error


def test_an_exception_is_raised_unchanged() -> None:
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as raised, contained():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "error", [Unwinding(), GeneratorExit(), BaseExceptionGroup("", [Own(), Unwinding()])]
)
def test_an_exception_that_unwinds_the_code_is_raised_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, contained(unwinds):
        raise error
    assert raised.value is error


async def test_a_requested_cancellation_is_raised_unchanged() -> None:
    async def code() -> None:
        with contained():
            await asyncio.sleep(3600)

    task = asyncio.create_task(code())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Handler:
    """A handler of a signal that is an object."""

    def __call__(self, *_: Any) -> None:
        sys.exit(1)

    def method(self, _reason: str, *_: Any) -> None:
        self()


HANDLERS: list[tuple[type[BaseException], Callable[..., Any]]] = [
    (KeyboardInterrupt, signal.default_int_handler),
    (SystemExit, lambda *_: sys.exit(0)),
    (SystemExit, Handler()),
    (SystemExit, Handler().method),
    (SystemExit, functools.partial(Handler().method, "stopped")),
]


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize(("kind", "handler"), HANDLERS)
def test_an_exception_of_a_signal_handler_ends_the_process(
    kind: type[BaseException], handler: Callable[..., Any]
) -> None:
    signal.signal(signal.SIGINT, handler)
    with pytest.raises(kind) as raised, contained():
        signal.raise_signal(signal.SIGINT)
    assert raised_by_signal(raised.value)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exception_of_user_code_is_its_own_with_any_signal_handler(kind: type[BaseException]) -> None:
    for handler in (signal.default_int_handler, Handler(), signal.SIG_DFL):
        signal.signal(signal.SIGINT, handler)
        with pytest.raises(ForeignError, match=kind.__name__), contained():
            raise kind
    assert not raised_by_signal(kind())


@pytest.mark.usefixtures("sigint")
def test_the_second_ctrl_c_of_asyncio_ends_the_process() -> None:
    async def main() -> None:
        with contained():
            signal.raise_signal(signal.SIGINT)  # which cancels the task
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


# Runs in a plain script

EXITS: dict[str, BaseException] = {
    "SystemExit": SystemExit(2),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "CancelledError": asyncio.CancelledError(),
    "Own": Own("no"),
}


def leave(how: str) -> str:
    """Leave.

    Args:
        how: By what
    """
    raise EXITS[how]


@activity(retry_policy_max_attempts=1)
async def leave_activity(how: str) -> str:
    """Leave.

    Args:
        how: By what
    """
    raise EXITS[how]


@activity(retry_policy_max_attempts=1)
def leave_thread(how: str) -> str:
    """Leave.

    Args:
        how: By what
    """
    raise EXITS[how]


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("tool", [leave, leave_activity, leave_thread])
async def test_a_tool_that_exits_fails_as_any_other_does(tool: Callable[..., Any], how: str) -> None:
    name = getattr(tool, "__name__", "")
    session = ScriptedSession({"a": [call(name, {"how": how}), say("done")]})
    result = await Runner.run(Agent(model="m", name="a", tools=[tool]), "Go.", session)
    (answer,) = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
    assert how in answer
    assert result.text == "done"


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("which", ["input_guardrails", "output_guardrails"])
async def test_a_guardrail_that_exits_lets_nothing_through(which: str, how: str) -> None:
    guardrails: dict[str, Any] = {which: [leave]}
    agent = Agent(model="m", name="a", **guardrails)
    with pytest.raises(ForeignError, match=how):
        await Runner.run(agent, how, ScriptedSession({"a": [say(how)]}))


async def test_a_source_reports_an_exit_that_its_activity_expects() -> None:
    exiting = activity(name="leave", retry_policy_non_retryable=[SystemExit])(leave)
    source = ActivitySource(exiting)
    async with SharedResources() as resources:
        output = await source.call("leave", {"how": "SystemExit"}, resources)
        assert (output.is_error, output.content) == (True, "SystemExit: the code called sys.exit(2)")
        with pytest.raises(ForeignError, match="KeyboardInterrupt"):
            await source.call("leave", {"how": "KeyboardInterrupt"}, resources)
