"""Models that a server wants to be left alone, in plain scripts and between fallback models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from outlast import Agent, LocalSession
from outlast.core.errors import ModelOverloaded
from outlast.core.records import AttemptFailed
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.runner import run_agent
from outlast.runtime.runs.undurable_context import PlainContext
from outlast.testing.mistral_server import AnswerWith, Fault, MistralServer, ModelPrompt, Say, rate_limited
from outlast.testing.virtual_clock import VirtualClock

KEY = "test-key"


class Busy:
    """A server that takes down which models were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.serving = MistralServer(self._reply, api_key=KEY)

    def _reply(self, prompt: ModelPrompt) -> list[Say]:
        self.asked.append(prompt.model)
        return [Say("Done.")]

    def session(self) -> LocalSession:
        return LocalSession(server_url=self.serving.url, api_key=KEY)


@pytest.fixture
def busy() -> Iterator[Busy]:
    server = Busy()
    with server.serving:
        yield server


class Script:
    """A worker in which several runs can be made, each as in a plain script."""

    def __init__(self, resources: SharedResources, clock: VirtualClock, busy: Busy) -> None:
        self._resources, self._clock, self._busy = resources, clock, busy
        self.records: list[Any] = []

    def run(self, model: str, *fallbacks: str) -> asyncio.Task[str]:
        return asyncio.create_task(self._run(model, fallbacks))

    async def _run(self, model: str, fallbacks: tuple[str, ...]) -> str:
        agent = Agent(model=model, name="a", fallback_models=fallbacks)
        with PlainContext(self._resources, self._clock, self.records.append) as context:
            result = await run_agent(agent, "Go.", self._busy.session(), Bounds(), context)
        return result.text + "".join(result.warnings)

    async def failed_attempts(self, number: int) -> list[AttemptFailed]:
        """Return the failed attempts, once there are so many."""
        while True:
            failed = [record for record in self.records if isinstance(record, AttemptFailed)]
            if len(failed) >= number:
                return failed
            await asyncio.sleep(0)


async def test_a_run_in_a_script_waits_without_counting_that_as_an_attempt(busy: Busy) -> None:
    clock = VirtualClock()
    busy.serving.faults.add(Fault(rate_limited(30)))
    async with SharedResources(clock) as resources:
        script = Script(resources, clock, busy)
        first = script.run("m")
        await script.failed_attempts(1)
        second = script.run("m")
        await clock.advance(29)
        assert busy.asked == []
        await clock.advance(2)
        assert [*await asyncio.gather(first, second)] == ["Done.", "Done."]
        assert len(await script.failed_attempts(1)) == 1


async def test_a_fallback_model_is_asked_while_the_first_one_is_left_alone(busy: Busy) -> None:
    clock = VirtualClock()
    busy.serving.faults.add(Fault(rate_limited(30)))
    async with SharedResources(clock) as resources:
        script = Script(resources, clock, busy)
        assert (await script.run("m", "n")).startswith("Done.")
        assert "left alone for 30.0 s" in await script.run("m", "n")
        assert busy.asked == ["n", "n"]
        assert len(busy.serving.requests) == 3
        await clock.advance(30)
        assert await script.run("m", "n") == "Done."
        assert busy.asked[2:] == ["m"]


async def test_an_attempt_waits_for_the_first_of_several_models_that_may_be_asked(busy: Busy) -> None:
    clock = VirtualClock()
    busy.serving.faults.add(Fault(rate_limited(30)))
    busy.serving.faults.add(Fault(rate_limited(10)))
    async with SharedResources(clock) as resources:
        script = Script(resources, clock, busy)
        first = script.run("m", "n")
        await script.failed_attempts(1)
        second = script.run("m", "n")
        await clock.advance(9)
        assert busy.asked == []
        await clock.advance(2)
        assert (await second).startswith("Done.")
        assert busy.asked == ["n"]
        await clock.advance(30)
        assert (await first).startswith("Done.")


@pytest.mark.parametrize("answer", [AnswerWith(409, "", {"Retry-After": "30"}), AnswerWith(503)])
async def test_a_conflict_and_a_failure_hold_back_nobody(busy: Busy, answer: AnswerWith) -> None:
    clock = VirtualClock()
    busy.serving.faults.add(Fault(answer))
    async with SharedResources(clock) as resources:
        script = Script(resources, clock, busy)
        first = script.run("m")
        [failed] = await script.failed_attempts(1)
        assert failed.failure.kind == ModelOverloaded.__name__
        assert await script.run("m") == "Done."
        await clock.advance(30)
        assert await first == "Done."
