"""Histories that every later version must be able to replay. Run as a module, it adds those of this version.

    python -m tests.adapters.temporal_histories

A history that is there is never written again: it stands for executions that are still running somewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, Worker, _replayer
from temporalio.worker._workflow import _WorkflowWorker

import outlast
from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.ended_runs import EndedRun, EndedRuns
from outlast.adapters.temporal.history import read_history
from outlast.adapters.temporal.payloads import LIMIT_BYTES, data_converter
from outlast.adapters.temporal.steps import OpenSteps
from outlast.adapters.temporal.workflows import ClosingRunner, DurableWorkflow, Host
from outlast.composition.toolkit import toolkit
from outlast.core.records import AnyRecord, AttemptFailed, ExecutionEnded, decode_record
from outlast.ports.definitions import WorkflowDefinition
from outlast.runtime.definitions.known_workflows import definition_of
from tests.adapters.temporal_native import WORKFLOWS as NATIVE
from tests.adapters.temporal_native import Poem
from tests.adapters.temporal_programs import (
    LEASE,
    WORKFLOWS,
    Approval,
    Conversation,
    DealAnalysis,
    Halt,
    Laps,
    Large,
    Month,
    Parrot,
    Steps,
    Tally,
)
from tests.adapters.temporal_server import shared_server

FOLDER = Path(__file__).parents[1] / "data" / "temporal_histories"
PROGRAMS = [*WORKFLOWS, Halt, Large, Month, Parrot]
STEPS = ["a", "sleep", "fail", "time out", "together", "draw", "broken condition"]


class _Patient(_WorkflowWorker):
    """The part of a replayer that runs code: however slow the machine is, it takes nothing for a deadlock."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._deadlock_timeout_seconds = 60


vars(_replayer)["_WorkflowWorker"] = _Patient


def pinned() -> dict[str, WorkflowHistory]:
    """Return the histories that are kept, by name."""
    return {
        path.stem: WorkflowHistory.from_json(path.stem, path.read_text())
        for path in sorted(FOLDER.glob("*.json"))
    }


class _Kept(EndedRuns):
    """Keeps the records of executions that end in a replay."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[AnyRecord] | None = None

    def end(self, execution_id: str, run: EndedRun) -> None:
        self.records = [decode_record(record) for record in run.records]


async def replay(definitions: Mapping[str, WorkflowDefinition], history: WorkflowHistory) -> None:
    """Replay a history by Temporal's own replayer, and by the code alone: both must give the same records."""
    by_temporal = await replayed_by_temporal(definitions, history)
    by_code = await replayed_by_code(definitions, history)
    # Temporal's replayer also runs the task that is still to come.
    if by_temporal is not None and by_code and isinstance(by_code[-1], ExecutionEnded):
        assert_same(by_code, by_temporal)


async def replayed_by_temporal(
    definitions: Mapping[str, WorkflowDefinition], history: WorkflowHistory
) -> Sequence[AnyRecord] | None:
    """Return the records that Temporal's replayer gives of an execution that has ended."""
    kept = _Kept()
    host = Host(toolkit(), definitions, OpenSteps(), LEASE, ended=kept)
    replayer = Replayer(
        workflows=[DurableWorkflow],
        interceptors=[host],
        unsandboxed_workflow_runner=ClosingRunner(),
        data_converter=data_converter,
    )
    await replayer.replay_workflow(history)
    return kept.records


async def replayed_by_code(
    definitions: Mapping[str, WorkflowDefinition], history: WorkflowHistory
) -> Sequence[AnyRecord]:
    """Return the records that the code alone gives."""
    read = await read_history(history.events, data_converter)
    alone = CodeReplay(history.workflow_id, read, LIMIT_BYTES)
    await alone.run(toolkit().live_code, definitions[read.workflow])
    return alone.records


def assert_same(one: Iterable[AnyRecord], other: Iterable[AnyRecord]) -> None:
    """Compare two journals record for record."""
    pairs = zip_longest(comparable(one), comparable(other))
    for number, (first, second) in enumerate(pairs, 1):
        assert first == second, f"record {number} differs:\n{first}\n{second}"


def comparable(records: Iterable[AnyRecord]) -> list[dict[str, Any]]:
    """Return records as JSON, without what a history does not say exactly, and without attempts."""
    fields = [record.model_dump(mode="json") for record in records if not isinstance(record, AttemptFailed)]
    return [{k: v for k, v in one.items() if k not in ("at", "due_at")} for one in fields]


async def replay_all(address: str) -> int:
    """Replay every history that a server holds of the programs of these tests; return how many these are."""
    definitions = {one.name: one for one in map(definition_of, PROGRAMS)}
    native = Replayer(workflows=NATIVE, plugins=[outlast.OutlastPlugin()])
    client, replayed = await Client.connect(address), 0
    async for found in client.list_workflows():
        history = await client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history()
        if found.workflow_type in definitions:
            await replay(definitions, history)
        elif found.workflow_type.startswith("native"):
            await native.replay_workflow(history)
        else:
            continue
        replayed += 1
    return replayed


async def record() -> Mapping[str, WorkflowHistory]:
    """Make one history of every sort."""
    address, queue = shared_server(), uuid.uuid4().hex
    async with outlast.connect(f"temporal://{address}") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker(WORKFLOWS, task_queue=queue):
            deal = await backend.start(DealAnalysis, "Analyse the merger.", task_queue=queue)
            steps = await backend.start(Steps, STEPS, task_queue=queue)
            approval = await backend.start(Approval, 2, task_queue=queue)
            await approval.signal("decide", "yes")
            await approval.signal("decide", "no", by="Ada")
            cancelled = await backend.start(Approval, 1, task_queue=queue)
            conversation = await backend.start(Conversation, task_queue=queue)
            await conversation.signal("say", "Hello.")
            await conversation.signal("end")
            tally = await backend.start(Tally, task_queue=queue)
            await tally.update("add", 1, id="one")
            with contextlib.suppress(outlast.UpdateRejected):
                await tally.update("add", -1)
            with contextlib.suppress(outlast.UpdateFailed):
                await tally.update("begin_anew", id="two")
            await tally.update("end", id="three")
            for execution in (deal, steps, approval, conversation, tally):
                await execution.result()
            await cancelled.cancel()
            with contextlib.suppress(outlast.ExecutionCancelled):
                await cancelled.result()
            forked = await steps.fork(at=8)
            await forked.result()
            reopened = await _reopened(await backend.start(Approval, 2, task_queue=queue))
            imported = await backend.import_(await reopened.export(), id=uuid.uuid4().hex)
            held = await _resumed(backend, await backend.start(Approval, 1, task_queue=queue))
            paused = await _paused(await backend.start(Approval, 1, task_queue=queue))
            laps = await backend.start(Laps, task_queue=queue)
            newest = backend.client.get_workflow_handle(laps.id)
            first_lap = (await newest.describe()).run_id
            await laps.signal("go")
            while (await newest.describe()).run_id == first_lap:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
            await laps.signal("go")
            await laps.result()
        client = await Client.connect(address, plugins=[outlast.OutlastPlugin(lease=timedelta(seconds=10))])
        async with Worker(client, task_queue=f"{queue}-native", workflows=NATIVE):
            native = await client.start_workflow(
                Poem.run, False, id=uuid.uuid4().hex, task_queue=f"{queue}-native"
            )
            await native.result()
        ids = {
            "agents": deal.id,
            "asyncio": steps.id,
            "signals": approval.id,
            "cancelled": cancelled.id,
            "conversation": conversation.id,
            "native": native.id,
            "updates": tally.id,
            "forked": forked.id,
            "reopened": reopened.id,
            "imported": imported.id,
            "held": held.id,
            "paused": paused.id,
            "continuation": laps.id,
        }
        handles = {name: backend.client.get_workflow_handle(one) for name, one in ids.items()}
        handles["continued"] = backend.client.get_workflow_handle(laps.id, run_id=first_lap)
        return {name: await handle.fetch_history() for name, handle in handles.items()}


async def _reopened(execution: outlast.Execution) -> outlast.Execution:
    """Return an execution that was cancelled and then retried."""
    await execution.signal("decide", "no")
    await _noted(execution, 2)
    await execution.cancel()
    with contextlib.suppress(outlast.ExecutionCancelled):
        await execution.result()
    await execution.retry()
    await execution.signal("decide", "yes")
    await execution.result()
    return execution


async def _resumed(backend: outlast.Backend, execution: outlast.Execution) -> outlast.Execution:
    """Return a copy of an open execution that was imported, and resumed after a signal."""
    await _noted(execution, 1)
    copy = await backend.import_(await execution.export(), id=uuid.uuid4().hex)
    await copy.signal("decide", "yes")
    await copy.resume()
    await copy.result()
    await execution.terminate("its copy has ended")
    return copy


async def _paused(execution: outlast.Execution) -> outlast.Execution:
    """Return an execution that got a signal and a result while it was paused."""
    await execution.pause("the bank is closed")
    await execution.signal("decide", "yes")
    async for event in execution.events():
        if event.kind == "execution_paused":
            break
    await execution.resume()
    await execution.result()
    return execution


async def _noted(execution: outlast.Execution, times: int) -> None:
    """Return when so many activities have ended."""
    async for event in execution.events():
        times -= event.kind == "activity_completed"
        if not times:
            return


def impersonal(value: Any) -> Any:
    """Return a history's JSON without the fields that depend on the machine."""
    if isinstance(value, list):
        return [impersonal(item) for item in value]
    if isinstance(value, dict):
        return {
            name: "" if name == "stackTrace" else "worker" if name == "identity" else impersonal(item)
            for name, item in value.items()
        }
    return value


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    version = "v0_1"
    for name, history in (await record()).items():
        path = FOLDER / f"{name}-{version}.json"
        if not path.exists():
            path.write_text(json.dumps(impersonal(json.loads(history.to_json())), indent=1) + "\n")
            print(path.name)


if __name__ == "__main__":
    asyncio.run(main())
