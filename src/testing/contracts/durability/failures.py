"""Failures that say where they come from: D21."""

from __future__ import annotations

import linecache
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.errors import ActivityFailed, DeterminismError, ExecutionFailed, ModelRefused
from outlast.core.failure import Failure, Frame
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.run_context import RunContext
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events

SECRET = "sk-in-a-variable"


class Unpriced(Exception):
    """An exception of a user's."""


def price_of(item: str) -> int:
    """Fail as code does: some calls deep, with values around it."""
    prices = {"key": SECRET}
    return len(prices[item])


def keep_secret(price: int, key: str) -> int:
    """Return the price; the line of the call has a secret in it, as that of a session with an API key may."""
    return price if key else 0


def quote(item: str) -> int:
    """Fail with a cause."""
    try:
        return price_of(item)
    except KeyError as error:
        raise Unpriced(f"no price for {item}") from error


def quote_all(*items: str) -> int:
    """Fail with several errors at once."""
    errors: list[Exception] = []
    for item in items:
        try:
            price_of(item)
        except KeyError as error:
            errors.append(error)
    raise ExceptionGroup("no prices", errors)


@activity(name="contract_price", retry_policy_max_attempts=1)
async def look_up(item: str) -> int:
    """Look up a price."""
    return price_of(item)


@activity(name="contract_price_in_a_thread", retry_policy_max_attempts=1)
def look_up_in_a_thread(item: str) -> int:
    """Look up a price."""
    return price_of(item)


def look_up_inline(item: str) -> int:
    """Look up a price.

    Args:
        item: The item
    """
    return price_of(item)


def price_of_today(item: str) -> float:
    """Return the price of today.

    Args:
        item: The item
    """
    return time.time() + len(item)


def is_dear(arguments: dict[str, Any]) -> bool:
    """Decide by the clock whether a call needs approval."""
    return price_of_today(arguments["item"]) > 1


def refuse_today(arguments: dict[str, Any]) -> None:
    """Decide by the clock whether a call may be made."""
    price_of_today(arguments["item"])


def say_today(run: RunContext[Any]) -> str:
    """Put the time into the instructions."""
    return f"It is {price_of_today(run.agent)}."


@workflow.define(name="contract.pricing")
class Pricing:
    """Fails at a place."""

    @workflow.entrypoint
    async def run(self, place: str) -> Any:
        match place:
            case "activity":
                return await look_up("tea")
            case "thread":
                return await look_up_in_a_thread("tea")
            case "code":
                return price_of("tea")
            case "cause":
                return quote("tea")
            case "group":
                return quote_all("tea", "milk")
            case "guardrail":
                agent = Agent(model="m", name="clerk", input_guardrails=[price_of])
                return await Runner.run(agent, "tea", ScriptedSession({"clerk": [say("so")]}))
            case "tool":
                script = {"clerk": [call("look_up_inline", {"item": "tea"})]}
                session = ScriptedSession(script, raise_on_tool_fail=True)
                return await Runner.run(Agent(model="m", name="clerk", tools=[look_up_inline]), "go", session)
            case "clock" | "clock in a check" | "clock in a guardrail" | "clock in instructions":
                return (await Runner.run(_clerk(place), "go", ScriptedSession(_call_today))).text
            case "script":
                return await Runner.run(Agent(model="m", name="careless"), "go", ScriptedSession(refuse))
            case "condition":
                return await workflow.wait_condition(lambda: False, timeout=0.01)
            case "question":
                return await workflow.ask("Which price?", timeout=timedelta(seconds=0.01))
            case "literal":
                return keep_secret(price_of("tea"), "sk-in-the-code")
            case "model":
                return await Runner.run(Agent(model="m", name="clerk"), "go", ScriptedSession(refuse))
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    async def price(self, item: str) -> None:
        price_of(item)

    @workflow.update
    async def ask_price(self, item: str) -> int:
        return price_of(item)


def refuse(request: ModelRequest) -> Any:
    """Refuse to answer."""
    if request.agent == "careless":
        return price_of("tea")
    raise ModelRefused(404, f"the model of turn {request.turn} is gone")


def _clerk(place: str) -> Agent[Any]:
    """Return an agent whose code reads a clock at a place."""
    return Agent(
        model="m",
        name="clerk",
        tools=[price_of_today if place == "clock" else look_up_inline],
        instructions=say_today if place == "clock in instructions" else "",
        requires_approval={"look_up_inline": is_dear} if place == "clock in a check" else {},
        tool_input_guardrails={"*": refuse_today} if place == "clock in a guardrail" else {},
    )


def _call_today(request: ModelRequest) -> Any:
    """Call the only tool, then answer."""
    [tool] = request.graph[request.agent].tools
    return say("so") if request.turn > 1 else call(tool.name, {"item": "tea"})


class FailureContract(DurabilityContractBase):
    """D21."""

    @pytest.mark.parametrize("place", ["activity", "thread", "code", "guardrail", "tool", "script", "signal"])
    async def test_d21_a_failure_says_where(self, stage: Stage, place: str) -> None:
        execution, _ = await stage.start(Pricing, place)
        await stage.worker(Pricing)
        if place == "signal":
            await execution.signal("price", "tea")
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        failure = (await (await stage.again(execution)).describe()).failure
        assert failure is not None
        *_, root = _chain(failure)
        assert (root.kind, root.message) == ("KeyError", "'tea'")
        assert root.frames[-1].function == "price_of"
        for one in _chain(failure):
            for frame in one.frames:
                assert frame.text.split('"')[0] == _code_at(frame).split('"')[0]
                assert frame.text
        functions = [frame.function for one in _chain(failure) for frame in one.frames]
        assert place in ("guardrail", "signal") or "Pricing.run" in functions
        ended = (await all_events(execution))[-1]
        assert ended.data.to_data()["failure"] == failure.model_dump()

    @pytest.mark.parametrize(
        "place", ["clock", "clock in a check", "clock in a guardrail", "clock in instructions"]
    )
    async def test_d21_code_of_a_run_that_cannot_be_repeated_fails_the_execution_and_says_where(
        self, stage: Stage, place: str
    ) -> None:
        with _errors_logged() as logged:
            execution, _ = await stage.start(Pricing, place)
            process = await stage.worker(Pricing)
            with pytest.raises(ExecutionFailed, match="or do it in an activity") as caught:
                await stage.soon(execution.result())
            await process.stop()
        assert type(caught.value.__cause__) is DeterminismError
        failure = (await execution.describe()).failure
        assert failure is not None
        assert "price_of_today" in {frame.function for frame in failure.frames}
        (line,) = [text for text in logged if execution.id in text]
        assert "in price_of_today\n    return time.time() + len(item)\nDeterminismError: time.time()" in line

    async def test_d21_causes_and_groups_are_kept(self, stage: Stage) -> None:
        caused, _ = await stage.start(Pricing, "cause")
        grouped, _ = await stage.start(Pricing, "group")
        await stage.worker(Pricing)
        for execution in (caused, grouped):
            with pytest.raises(ExecutionFailed):
                await stage.soon(execution.result())
        failure = (await caused.describe()).failure
        assert failure is not None
        assert [one.kind for one in _chain(failure)] == ["Unpriced", "KeyError"]
        failure = (await grouped.describe()).failure
        assert failure is not None
        assert [(one.message, one.frames[-1].function) for one in failure.group] == [
            ("'tea'", "price_of"),
            ("'milk'", "price_of"),
        ]

    @pytest.mark.parametrize(
        ("place", "said"),
        [
            ("condition", "the condition did not hold within 0:00:00.010000"),
            ("question", "nobody has answered the question within 0:00:00.010000"),
        ],
    )
    async def test_d21_a_timeout_says_once_what_did_not_come(
        self, stage: Stage, place: str, said: str
    ) -> None:
        execution, _ = await stage.start(Pricing, place)
        await stage.worker(Pricing)
        with pytest.raises(ExecutionFailed, match=f"failed with TimeoutError: {said}") as caught:
            await stage.later(execution.result(), 1)
        assert type(caught.value.__cause__) is TimeoutError
        assert caught.value.__cause__.__cause__ is None
        failure = (await execution.describe()).failure
        assert failure is not None
        assert [frame.function for frame in failure.frames] == ["Pricing.run"]

    @pytest.mark.parametrize("place", ["activity", "literal"])
    async def test_d21_no_value_of_a_variable_and_no_literal_is_kept(self, stage: Stage, place: str) -> None:
        execution, _ = await stage.start(Pricing, place)
        await stage.worker(Pricing)
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        async for record in execution.records():
            written = record.to_json().decode()
            assert SECRET not in written
            assert "sk-in-the-code" not in written

    async def test_d21_the_callers_error_has_the_class_and_the_traceback_of_then(self, stage: Stage) -> None:
        execution, _ = await stage.start(Pricing, "activity")
        code, _ = await stage.start(Pricing, "cause")
        await stage.worker(Pricing)
        with pytest.raises(ExecutionFailed) as caught:
            await stage.soon(execution.result())
        assert type(caught.value.__cause__) is ActivityFailed
        original = caught.value.__cause__.__cause__
        assert type(original) is KeyError
        assert str(original) == "'tea'"
        assert "in price_of\n    return len(prices[item])\nKeyError: 'tea'" in original.__notes__[0]
        with pytest.raises(ExecutionFailed) as caught:
            await stage.soon(code.result())
        assert type(caught.value.__cause__) is Unpriced
        assert type(caught.value.__cause__.__cause__) is KeyError

    async def test_d21_an_update_that_fails_says_where(self, stage: Stage) -> None:
        execution, _ = await stage.start(Pricing, "nowhere")
        await stage.worker(Pricing)
        with pytest.raises(Exception, match="tea") as caught:
            await stage.soon(execution.update("ask_price", "tea"))
        assert type(caught.value.__cause__) is KeyError
        assert "in price_of" in caught.value.__cause__.__notes__[0]

    async def test_d21_an_error_of_a_run_reaches_the_caller_as_itself(self, stage: Stage) -> None:
        execution, _ = await stage.start(Pricing, "model")
        await stage.worker(Pricing)
        with pytest.raises(ExecutionFailed) as caught:
            await stage.soon(execution.result())
        assert type(caught.value.__cause__) is ModelRefused
        failure = (await execution.describe()).failure
        assert failure is not None
        assert {"refuse", "Pricing.run"} <= {frame.function for frame in failure.frames}

    async def test_d21_the_log_has_it_once(self, stage: Stage) -> None:
        with _errors_logged() as logged:
            execution, _ = await stage.start(Pricing, "code")
            process = await stage.worker(Pricing)
            with pytest.raises(ExecutionFailed):
                await stage.soon(execution.result())
            await process.stop()
        (line,) = [text for text in logged if execution.id in text]
        assert "in price_of\n    return len(prices[item])\nKeyError: 'tea'" in line
        assert SECRET not in line


def _code_at(frame: Frame) -> str:
    return linecache.getline(frame.file, frame.line).strip()


def _chain(failure: Failure) -> Iterator[Failure]:
    """Yield a failure and its causes, the root last."""
    one: Failure | None = failure
    while one is not None:
        yield one
        one = one.cause


@contextmanager
def _errors_logged() -> Iterator[list[str]]:
    """Collect the errors that the library logs during the block."""
    logged: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(self.format(record))

    handler = Collecting(logging.ERROR)
    logger = logging.getLogger("outlast")
    logger.addHandler(handler)
    try:
        yield logged
    finally:
        logger.removeHandler(handler)
