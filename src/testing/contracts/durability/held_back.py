"""A server of models that asks for time (`Retry-After`) gets it from every execution of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outlast.adapters.mistral import LocalSession
from outlast.composition.running import Runner
from outlast.core.errors import ExecutionCancelled
from outlast.core.events import EventKind
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.mistral_server import Fault, MistralServer, ModelPrompt, Say, rate_limited

ASKED_FOR = 2
"""The seconds for which the server wants to be left alone; a first back-off is shorter."""

KEY = "test-key"


@workflow.define(name="contract.polite")
class Polite:
    """Asks one model of a server, once."""

    @workflow.entrypoint
    async def run(self, url: str, model: str) -> str:
        session = LocalSession(server_url=url, api_key=KEY)
        return (await Runner.run(Agent(model=model, name="polite"), "Go.", session)).text


class _Server:
    """A server that refuses its first request, and takes down when a model was asked."""

    def __init__(self, stage: Stage) -> None:
        self._clock = stage.storage.clock
        self.asked: list[tuple[str, float]] = []
        self.heard_at = 0.0
        self.serving = MistralServer(self._reply, api_key=KEY)
        self.serving.faults.add(Fault(rate_limited(ASKED_FOR)))

    def _reply(self, prompt: ModelPrompt) -> list[Say]:
        self.asked.append((prompt.model, self._clock.now()))
        return [Say("Done.")]

    async def refuse(self, stage: Stage) -> asyncio.Task[str]:
        """Return the result of an execution whose model has just been refused."""
        self.heard_at = self._clock.now()
        execution, _ = await stage.start(Polite, self.serving.url, "busy")
        await stage.soon(stage.storage.attempt_failed(execution))
        return asyncio.create_task(execution.result())


class HeldBackContract(DurabilityContractBase):
    """If a server asks one execution to wait, all others of its worker that ask the same model wait."""

    @contextmanager
    def server(self, stage: Stage) -> Iterator[_Server]:
        """Return a stand-in for the server, which wants to be left alone after its first request."""
        pytest.importorskip("mistralai")
        server = _Server(stage)
        with server.serving:
            yield server

    async def test_all_executions_of_a_worker_leave_a_busy_model_alone(self, stage: Stage) -> None:
        with self.server(stage) as server:
            await stage.worker(Polite, max_concurrent_activities=1)
            refused = await server.refuse(stage)
            held, _ = await stage.start(Polite, server.serving.url, "busy")
            # One that asks another model goes on at once, so those that wait take no slot.
            other, _ = await stage.start(Polite, server.serving.url, "idle")
            assert await stage.soon(other.result()) == "Done."
            results = asyncio.gather(refused, held.result())
            assert list(await stage.later(results, ASKED_FOR + 1)) == ["Done.", "Done."]
            assert sorted(model for model, _ in server.asked) == ["busy", "busy", "idle"]
            waited = [at - server.heard_at for model, at in server.asked if model == "busy"]
            assert min(waited) >= ASKED_FOR - 0.01
            assert len(server.serving.requests) == 4
            kinds = {event.kind for event in await stage.soon(all_events(held))}
            assert EventKind.ATTEMPT_FAILED not in kinds  # Waiting is not an attempt.

    async def test_d10_an_execution_that_leaves_a_model_alone_is_cancelled_at_once(
        self, stage: Stage
    ) -> None:
        with self.server(stage) as server:
            await stage.worker(Polite)
            refused = await server.refuse(stage)
            held, _ = await stage.start(Polite, server.serving.url, "busy")
            await stage.event(held, EventKind.TURN_STARTED)
            await held.cancel()
            with pytest.raises(ExecutionCancelled):
                await stage.soon(held.result())
            assert await stage.later(refused, ASKED_FOR + 1) == "Done."
            assert len(server.asked) == 1
