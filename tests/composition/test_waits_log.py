"""A script that waits for a person says so, once, on a logger that needs no setup."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.composition import waits_log
from outlast.runtime.executions.journaled_execution import JournaledExecution


@outlast.activity(requires_approval=True)
async def pay(to: str) -> str:
    """Pay somebody, if a person allows it."""
    return f"{to} is paid"


@workflow.define(name="waits_log_asking")
class Asking:
    @workflow.entrypoint
    async def run(self) -> str:
        return await workflow.ask("How much?", str)


async def run_agent(backend: outlast.Backend) -> None:
    session = outlast.ScriptedSession({"clerk": [[call("pay", {"to": "Ann"})], say("Done.")]})
    agent = outlast.Agent(model="m", name="clerk", tools=[pay])
    await outlast.Runner.run(agent, "Pay.", session, id="x", backend=backend)


async def run_workflow(backend: outlast.Backend) -> None:
    await outlast.execute_workflow(Asking, id="x", backend=backend)


async def decide(execution: outlast.Execution) -> None:
    [waiting] = await execution.pending()
    await execution.decide(waiting.call_id, "allow")


async def answer(execution: outlast.Execution) -> None:
    [question] = await execution.questions()
    await execution.answer(question.key, "5")


@pytest.mark.parametrize(
    ("run", "end", "said"),
    [
        (run_agent, decide, "execution 'x' waits for approval of tool pay of agent clerk"),
        (run_workflow, answer, "execution 'x' waits for an answer ("),
    ],
)
async def test_a_wait_for_a_person_is_logged_once(
    run: Callable[[outlast.Backend], Awaitable[None]],
    end: Callable[[outlast.Execution], Awaitable[None]],
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, describe = 0, JournaledExecution.describe

    async def counted(execution: JournaledExecution) -> outlast.ExecutionDescription:
        nonlocal looks
        looks += 1
        return await describe(execution)

    monkeypatch.setattr(waits_log, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(JournaledExecution, "describe", counted)
    async with outlast.connect(f"sqlite:///{tmp_path}/runs.db") as backend, asyncio.timeout(30):
        running = asyncio.ensure_future(run(backend))
        while said not in caplog.text:  # noqa: ASYNC110 - a log announces nothing
            await asyncio.sleep(0.01)
        enough = looks + 3
        while looks < enough:  # noqa: ASYNC110 - nothing is logged of what was logged before
            await asyncio.sleep(0.01)
        await end(await backend.get("x"))
        await running
    [warning] = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert warning.getMessage().startswith(said)
    assert "`outlast pending x`" in warning.getMessage()
    assert "How much?" not in caplog.text
