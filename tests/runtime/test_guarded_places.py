"""Wherever workflow code calls code of a user, the guard refuses it the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.errors import DeterminismError

pytestmark = pytest.mark.anyio

PLACES = (
    "the entrypoint",
    "the entrypoint after an await",
    "the entrypoint after a run",
    "a condition",
    "a signal handler",
    "an update handler after an await",
    "the instructions",
    "an approval",
    "a tool",
    "a tool after an await",
    "an input guardrail",
    "an output guardrail",
    "a guardrail of calls",
    "a guardrail of results",
    "the validator of a signal",
    "the validator of an update",
    "the validator of an argument",
)

probed: list[str] = []
"""The place that reads the clock: after one refusal that is caught, the guard may miss the next."""
refused: list[str] = []


def read_clock(place: str) -> None:
    if place in probed:
        try:
            time.time()
        except DeterminismError:
            refused.append(place)


def reading(place: str, answer: Any = None) -> Callable[..., Any]:
    def read(*_arguments: Any) -> Any:
        read_clock(place)
        return answer

    return read


class Parcel(BaseModel):
    what: str

    @field_validator("what")
    @classmethod
    def _check(cls, what: str) -> str:
        read_clock(f"the validator of {what}")
        return what


def instructions(run: outlast.RunContext[None]) -> str:
    read_clock("the instructions")
    return "Pack."


def weigh(what: str) -> str:
    """Weigh something."""
    read_clock("a tool")
    return what


async def wrap(what: str) -> str:
    """Wrap something."""
    await asyncio.sleep(0)
    read_clock("a tool after an await")
    return what


@outlast.activity(name="guarded_send")
async def send(parcel: Parcel) -> str:
    """Send a parcel."""
    return parcel.what


@workflow.define(name="guarded_places")
class Places:
    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.entrypoint
    async def run(self) -> str:
        read_clock("the entrypoint")
        await asyncio.sleep(0.001)
        read_clock("the entrypoint after an await")
        await workflow.wait_condition(self.has_words)
        agent = outlast.Agent(
            model="m",
            name="packer",
            instructions=instructions,
            tools=[weigh, wrap, send],
            requires_approval={"weigh": reading("an approval", False)},
            input_guardrails=[reading("an input guardrail")],
            output_guardrails=[reading("an output guardrail")],
            tool_input_guardrails={"wrap": reading("a guardrail of calls")},
            tool_output_guardrails={"guarded_send": reading("a guardrail of results")},
        )
        calls = [call("weigh", {"what": "w"}), call("wrap", {"what": "w"})]
        script: dict[str, list[Any]] = {}
        script["packer"] = [calls, call("guarded_send", {"what": "an argument"}), say("sent")]
        result = await outlast.Runner.run(agent, "go", outlast.ScriptedSession(script))
        read_clock("the entrypoint after a run")
        return result.text

    def has_words(self) -> bool:
        read_clock("a condition")
        return len(self.words) == 2

    @workflow.signal
    def hear(self, parcel: Parcel) -> None:
        read_clock("a signal handler")
        self.words.append(parcel.what)

    @workflow.update
    async def take(self, parcel: Parcel) -> str:
        await asyncio.sleep(0)
        read_clock("an update handler after an await")
        self.words.append(parcel.what)
        return parcel.what


@pytest.mark.parametrize("place", PLACES)
async def test_the_clock_is_refused_to_code_of_a_user_wherever_it_runs(place: str) -> None:
    probed[:], refused[:] = [place], []
    async with outlast.connect("memory:") as backend, backend.worker([Places]):
        execution = await backend.start(Places)
        await execution.signal("hear", {"what": "a signal"})
        await execution.update("take", {"what": "an update"})
        assert await execution.result() == "sent"
    assert set(refused) == {place}
