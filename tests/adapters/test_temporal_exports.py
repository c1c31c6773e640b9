"""Executions that are carried from Temporal to another backend, and go on there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server
done: list[tuple[str, str]] = []
"""The things that activities did, each with its execution."""


@outlast.activity(retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=1)
async def export_fetch(what: str) -> str:
    """Fetch something."""
    done.append((outlast.activity.info().execution_id, what))
    return f"the {what}"


@outlast.activity(retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=1)
async def export_send(what: str) -> str:
    """Send something; it fails on Temporal."""
    done.append((outlast.activity.info().execution_id, f"send {what}"))
    if outlast.activity.info().execution_id.startswith("temporal-"):
        raise LookupError("no address")
    return f"{what} sent"


@workflow.define(name="export_parcel")
class ExportParcel:
    @workflow.entrypoint
    async def run(self, what: str) -> str:
        def reply(request: Any) -> Any:
            return call("export_fetch", {"what": what}) if request.turn == 1 else say("fetched")

        agent = outlast.Agent(model="m", name="clerk", tools=[export_fetch])
        result = await outlast.Runner.run(agent, "go", outlast.ScriptedSession(reply))
        number = workflow.random().randint(0, 10**9)
        return f"{result.text}, {await export_send(f'{what} {number}')}"


async def test_what_failed_on_temporal_is_looked_at_and_run_on_from_anywhere_else(tmp_path: Path) -> None:
    url = f"temporal://{shared_server()}/default"
    async with outlast.connect(url) as production:
        queue = f"exports-{id(done)}"
        async with production.worker([ExportParcel], task_queue=queue):
            execution = await production.start(
                ExportParcel, "tea", id=f"temporal-{id(done)}", task_queue=queue
            )
            with pytest.raises(outlast.ExecutionFailed, match="no address"):
                await execution.result()
        # No worker is there any more.
        lines = await execution.export()
        events = [event async for event in execution.events(follow=False)]
    before = len(done)
    async with outlast.connect(f"sqlite:///{tmp_path}/here.db") as here:
        copy = await here.import_(lines)
        assert (await copy.describe()).status == "failed"
        copied = [event async for event in copy.events(follow=False)]
        assert [event.data for event in copied if event.kind != "attempt_failed"] == [
            event.data for event in events if event.kind != "attempt_failed"
        ]
        length = len([record async for record in copy.records()])
        async with here.worker([ExportParcel], task_queue=queue):
            fork = await copy.fork(id="mended")
            assert (await fork.result()).startswith("fetched, tea ")
            assert [what.split()[0] for id, what in done[before:] if id == "mended"] == ["send"]
            for position in range(1, length):
                again = await copy.fork(at=position, id=f"mended from {position}")
                outcomes: Sequence[Any] = await asyncio.gather(again.result(), return_exceptions=True)
                # A copy that holds the failure of the step fails as the original did.
                assert outcomes[0] == await fork.result() or "no address" in str(outcomes[0])


async def test_an_execution_on_temporal_is_terminated_and_opened_again_without_a_worker() -> None:
    url = f"temporal://{shared_server()}/default"
    async with outlast.connect(url) as backend:
        execution = await backend.start(ExportParcel, "tea", task_queue="nobody polls this")
        await execution.terminate("nobody polls it")
        with pytest.raises(outlast.ExecutionTerminated, match="nobody polls it"):
            await execution.result()
        assert (await execution.describe()).status == "terminated"
        with pytest.raises(outlast.ExecutionAlreadyEnded):
            await execution.terminate("again")
        await execution.retry()
        assert (await execution.describe()).status == "running"
        await execution.terminate("and again")
