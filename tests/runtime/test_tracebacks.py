"""The places of errors: the frames that a failure keeps, and those that it leaves out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from outlast.core.errors import ForeignError, ModelUnreachable
from outlast.core.failure import Failure
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import CAUSES_MAX, FRAMES_MAX, failure_of, line_shown


def caught(raising: Callable[[], object]) -> BaseException:
    """Return the error that a function raises."""
    with pytest.raises(BaseException) as info:  # noqa: PT011
        raising()
    return info.value


def deep(levels: int) -> None:
    if not levels:
        raise ValueError("at the bottom")
    deep(levels - 1)


def chained(causes: int) -> None:
    try:
        if causes:
            chained(causes - 1)
    except ValueError as error:
        raise ValueError(f"cause {causes}") from error
    raise ValueError("the first")


def causes_of(failure: Failure) -> list[str]:
    one, messages = failure.cause, []
    while one is not None:
        messages.append(one.message)
        one = one.cause
    return messages


def test_the_innermost_frames_are_kept() -> None:
    frames = failure_of(caught(lambda: deep(100))).frames
    assert len(frames) == FRAMES_MAX
    assert {frame.function for frame in frames} == {"deep"}
    assert frames[-1].text == 'raise ValueError("…")'


def test_frames_of_libraries_are_left_out_unless_there_is_no_other() -> None:
    error = caught(lambda: json.loads("{"))
    assert [frame.function.split(".")[-1] for frame in failure_of(error).frames] == ["caught", "<lambda>"]
    try:
        json.loads("{")
    except ValueError as raised:
        inside = raised.__traceback__
        assert inside is not None
        error = raised.with_traceback(inside.tb_next)
    (frame,) = failure_of(error).frames
    assert frame.function == "JSONDecoder.raw_decode"


def test_a_chain_of_causes_is_cut() -> None:
    messages = causes_of(failure_of(caught(lambda: chained(20))))
    assert messages == [f"cause {number}" for number in range(19, 19 - CAUSES_MAX, -1)]


def test_a_chain_does_not_grow_from_execution_to_execution() -> None:
    failure = failure_of(caught(lambda: chained(20)))
    for number in range(20):

        def again(failure: Failure = failure, number: int = number) -> None:
            raise ValueError(f"execution {number}") from failure.error()

        failure = failure_of(caught(again))
        assert len(causes_of(failure)) == CAUSES_MAX


def test_an_error_that_was_journaled_keeps_its_frames_when_it_is_raised_again() -> None:
    first = failure_of(caught(lambda: deep(1)))

    def again() -> None:
        raise first.error()

    functions = [frame.function.split(".")[-1] for frame in failure_of(caught(again)).frames]
    assert functions == ["caught", "again", "caught", "<lambda>", "deep", "deep"]


def test_the_error_of_a_server_behind_that_of_an_adapter_is_not_kept() -> None:
    def unreachable() -> None:
        try:
            raise OSError("https://user:sk-secret@host")
        except OSError as error:
            raise ModelUnreachable("the server does not answer") from error

    def tool() -> None:
        try:
            unreachable()
        except ModelUnreachable as error:
            raise ValueError("no answer") from error

    assert "sk-secret" not in failure_of(caught(unreachable)).to_json().decode()
    failure = failure_of(caught(tool))
    (cause,) = causes_of(failure)
    assert "the server does not answer" in cause
    assert "sk-secret" not in failure.to_json().decode()


async def waits() -> None:
    await asyncio.wait_for(asyncio.sleep(10), 0.001)


async def sleeps() -> None:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(10)


@pytest.mark.anyio
async def test_the_wait_that_a_timeout_has_ended_is_a_cause_only_if_it_is_in_user_code() -> None:
    with pytest.raises(TimeoutError) as raised:
        await waits()
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert failure_of(raised.value).cause is None
    with pytest.raises(TimeoutError) as raised:
        await sleeps()
    cause = failure_of(raised.value).cause
    assert cause is not None
    assert (cause.in_words, cause.frames[-1].text) == ("CancelledError", "await asyncio.sleep(10)")


def test_an_exit_says_where_as_well() -> None:
    def leaves() -> None:
        with contained():
            raise SystemExit(3)

    error = caught(leaves)
    assert isinstance(error, ForeignError)
    failure = failure_of(error)
    assert (failure.kind, failure.frames[-1].text) == ("SystemExit", "raise SystemExit(3)")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("    return prices[item]\n", "return prices[item]"),
        ('run(LocalSession(api_key="sk-1"))', 'run(LocalSession(api_key="…"))'),
        ("run(agent, 'go', LocalSession(api_key=\"sk-1\"))", "run(agent, '…'))"),
        (
            'raise Unpriced(f"no {prices["sk-1"]} \\" for {item}") from error',
            'raise Unpriced(f"…") from error',
        ),
        ('key = """sk-1', 'key = "…"'),
        ("text = x  # don't", "text = x  # don'…'"),
    ],
)
def test_nothing_in_quotes_is_shown_of_a_line(line: str, shown: str) -> None:
    assert line_shown(line) == shown


def test_a_small_limit_leaves_the_places_out_before_the_message() -> None:
    error = caught(lambda: deep(100))
    failure = failure_of(error, 1_000)
    assert (failure.message, failure.frames) == ("at the bottom", ())
