"""Durable runs outside any workflow: their results are read from journals of any length."""

from __future__ import annotations

from typing import Any, ClassVar

from outlast.adapters.scripted import Script, ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import MaxTurnsExceeded, ModelRefused
from outlast.core.event_stream import Event
from outlast.core.events import EventKind
from outlast.core.json import encode
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.runs.run_result import RunResult
from outlast.runtime.runs.streamed_run import StreamedRun
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage

RESULT_BYTES = 300_000
RESULTS = 20
"""A number of results that together are larger than any value may be on any backend."""


@activity(name="contract_fill", retry_policy_initial_interval=AT_ONCE)
async def fill(what: str) -> str:
    """Return much text."""
    return what * (RESULT_BYTES // len(what))


AGENT = Agent(model="m", name="runner", tools=[fill])


def filling(request: ModelRequest) -> ModelReply:
    """Call the tool five times a turn, for four turns."""
    usage = Usage(total_tokens=10)
    if request.turn * 5 > RESULTS:
        return ModelReply(entries=(say("Done."),), usage=usage)
    calls = (call("contract_fill", {"what": f"{request.turn}.{n} "}, call_id=f"call {n}") for n in range(5))
    return ModelReply(entries=tuple(calls), usage=usage)


SHORT: Script = {"runner": [call("contract_fill", {"what": "a"}), say("Forty-two.")]}


def unasked(request: ModelRequest) -> ModelReply:
    raise ModelRefused(400, "the run has ended, and its model was asked again")


async def all_events_of(run: StreamedRun[Any]) -> list[Event]:
    """Return the outcome of a run that its journal has, once the run has ended."""
    return [event async for event in run.events() if event.kind is not EventKind.TEXT_DELTA]


def came_to(result: RunResult[Any]) -> list[Any]:
    entries = [entry.to_wire() for entry in result.entries]
    return [result.text, result.turns, result.usage, result.agent.name, entries]


class RunContract(DurabilityContractBase):
    """D2, for runs by an id."""

    reply_bytes: ClassVar[int] = 1_200_000
    """The length of a reply that the backend must take; make it less for a backend with a lower limit."""

    async def run(self, stage: Stage, run_id: str, script: Script, **limits: Any) -> RunResult[Any]:
        backend = await stage.backend()
        return await stage.soon(
            Runner.run(AGENT, "Go.", ScriptedSession(script), id=run_id, backend=backend, **limits)
        )

    async def test_d2_a_run_has_the_same_result_for_every_caller(self, stage: Stage) -> None:
        run_id = stage.new_id()
        first = await self.run(stage, run_id, SHORT)
        assert (first.text, first.turns) == ("Forty-two.", 2)
        assert came_to(await self.run(stage, run_id, unasked)) == came_to(first)
        execution = await (await stage.backend()).get(run_id)
        assert await stage.soon(execution.result()) is None

    async def test_the_result_of_a_run_is_in_its_journal_once(self, stage: Stage) -> None:
        backend, session = await stage.backend(), ScriptedSession(SHORT)
        run = Runner.run_streamed(AGENT, "Go.", session, id=stage.new_id(), backend=backend)
        events = await stage.soon(all_events_of(run))
        turn = [EventKind.TURN_STARTED, EventKind.MODEL_REPLIED]
        assert [event.kind for event in events] == [
            *(EventKind.EXECUTION_STARTED, *turn, EventKind.TOOL_CALLED, EventKind.TOOL_RETURNED),
            *(*turn, EventKind.EXECUTION_COMPLETED),
        ]
        encoded = encode([event.data.to_data() for event in events])
        assert [encoded.count(text) for text in (b"Forty-two.", b"a" * RESULT_BYTES)] == [1, 1]

    async def test_a_reply_may_be_as_large_as_a_value(self, stage: Stage) -> None:
        run_id, text = stage.new_id(), "x" * self.reply_bytes
        first = await self.run(stage, run_id, {"runner": [say(text)]})
        assert first.text == text
        assert came_to(await self.run(stage, run_id, unasked)) == came_to(first)

    async def test_the_results_of_a_run_have_no_limit_together(self, stage: Stage) -> None:
        run_id = stage.new_id()
        first = await self.run(stage, run_id, filling)
        assert (first.text, first.turns, first.usage.total_tokens) == ("Done.", 5, 50)
        results = [entry.result for entry in first.entries if isinstance(entry, FunctionResult)]
        assert [result[:4] for result in results] == [
            f"{turn}.{n} " for turn in range(1, 5) for n in range(5)
        ]
        assert {len(result) for result in results} == {RESULT_BYTES}
        assert came_to(await self.run(stage, run_id, unasked)) == came_to(first)

    async def test_the_error_of_a_run_at_its_limit_has_everything_that_it_produced(
        self, stage: Stage
    ) -> None:
        run_id, errors = stage.new_id(), list[Any]()
        for script in (filling, unasked):
            try:
                await self.run(stage, run_id, script, max_turns=3)
            except MaxTurnsExceeded as error:
                errors.append([str(error), error.usage, [entry.to_wire() for entry in error.entries]])
        assert errors[0] == errors[1]
        assert (errors[0][1].total_tokens, len(errors[0][2])) == (30, 1 + 5 + 2 * 10)
