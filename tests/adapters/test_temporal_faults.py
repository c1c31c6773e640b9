"""The Temporal server and workers that die, several workers, and time that is skipped."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

import outlast
from outlast.adapters.temporal import TemporalBackend
from outlast.core.events import ActivityFailedData
from outlast.testing.contracts.durability.stage import data_of
from tests.adapters import temporal_programs as programs
from tests.adapters.temporal_histories import replay_all
from tests.adapters.temporal_programs import LEASE, Approval, DealAnalysis, Halt, Month, Steps
from tests.adapters.temporal_server import (
    EXECUTABLE,
    FAST,
    obstacle_of,
    shared_server,
    start_server,
    temporal_server,
)
from tests.ports import free_port

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def every_history_replays() -> Iterator[None]:
    yield
    asyncio.run(replay_all(shared_server()))


@pytest.mark.crash
async def test_executions_go_on_where_they_were_when_the_server_is_killed_and_comes_back(
    tmp_path: Path,
) -> None:
    port, file = free_port(), ("--db-filename", str(tmp_path / "temporal.db"))
    server = start_server(port, *file)
    try:
        async with (
            outlast.connect(f"temporal://127.0.0.1:{port}") as backend,
            backend.worker([Approval, DealAnalysis], lease=LEASE),
        ):
            waiting = await backend.start(Approval, 2)
            await waiting.signal("decide", "before", "Ada")
            async for event in waiting.events():
                if event.kind == "timer_fired":
                    break
            done = await backend.start(DealAnalysis, "Analyse the merger.")
            expected = await done.result()
            server.kill()
            server.wait()
            server = start_server(port, *file)
            async with asyncio.timeout(60):
                await until_answering(backend)
                await waiting.signal("decide", "after", "Bob")
                assert await waiting.result() == ["before by Ada noted", "after by Bob noted"]
                assert await done.result() == expected
                again = await backend.start(DealAnalysis, "Analyse the merger.")
                assert await again.result() == expected
            kept = [key for key in programs.attempts if key.startswith(waiting.id)]
            assert [programs.attempts[key] for key in kept] == [[1]] * len(kept)
    finally:
        server.kill()
        server.wait()


@pytest.mark.crash
@pytest.mark.nightly
async def test_a_process_that_was_stopped_repeats_nothing_that_was_done_elsewhere_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal hands it tasks all the while, as its connection is open: each costs a lease, or 10 s."""
    witness = tmp_path / "witness"
    witness.touch()
    monkeypatch.setenv("TEMPORAL_WITNESS", str(witness))
    url, queue = f"temporal://{shared_server()}/default", uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adapters.temporal_programs", url, queue), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(150), connected() as backend:
            execution = await backend.start(Halt, task_queue=queue)
            assert (await process.stdout.readline()).startswith(b"halt 1")
            process.send_signal(signal.SIGSTOP)
            async with backend.worker([Halt], task_queue=queue, lease=LEASE):
                assert await execution.result() == "gone on"
                process.send_signal(signal.SIGCONT)
            # It works again; so it has had the time to do what it was handed before.
            other = await backend.start(Halt, task_queue=queue)
            while other.id.encode() not in await process.stdout.readline():
                pass
    finally:
        process.kill()
        await process.wait()
    done = [line.split() for line in witness.read_text().splitlines()]
    first, second = (int(attempt) for _, attempt, key in done if key.startswith(execution.id))
    assert first == 1 < second


async def until_answering(backend: outlast.Backend) -> None:
    """Return once the service answers again, which it announces to nobody."""
    while True:
        try:
            await backend.list(limit=1)
            return
        except outlast.StorageError:
            await asyncio.sleep(0.1)


async def test_a_worker_performs_the_steps_of_executions_that_another_one_runs() -> None:
    """Without the eager hand-over, half of all model calls come to the worker that lacks the session."""
    queue = uuid.uuid4().hex
    async with connected() as first, connected() as second:
        workers = (
            first.worker([DealAnalysis], task_queue=queue, max_cached_executions=0),
            second.worker([DealAnalysis], task_queue=queue, max_cached_executions=0),
        )
        async with workers[0], workers[1]:
            started = [await first.start(DealAnalysis, "Analyse it.", task_queue=queue) for _ in range(6)]
            results = await asyncio.gather(*(execution.result() for execution in started))
    assert all(result["analysis"] == "It is risky." for result in results)
    mine = {one.id for one in started}
    made = [made for key, made in programs.attempts.items() if key.partition("/")[0] in mine]
    assert made == [[1]] * 6


async def test_a_month_of_sleep_can_be_skipped_in_tests() -> None:
    settings = [*FAST, "frontend.WorkflowTimeSkippingEnabled=true"]
    options = [option for setting in settings for option in ("--dynamic-config-value", setting)]
    environment = await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=EXECUTABLE, dev_server_extra_args=options, dev_server_log_level="error"
    )
    async with environment:
        client = environment.client
        url = f"temporal://{client.service_client.config.target_host}"
        interceptors = client.config()["interceptors"]
        async with outlast.connect(url, interceptors=interceptors) as backend, backend.worker([Month]):
            execution = await backend.start(Month)
            async with asyncio.timeout(30):
                slept = await execution.result()
    assert slept >= timedelta(days=30).total_seconds()


async def test_a_worker_that_has_never_seen_an_activity_says_which_and_stops_trying() -> None:
    """A step whose activity no process defines ends, after more attempts than a deployment may take."""
    queue = uuid.uuid4().hex
    async with (
        connected() as backend,
        backend.worker([Steps], task_queue=queue, lease=timedelta(milliseconds=200)),
    ):
        execution = await backend.start(Steps, ["undefined"], task_queue=queue)
        assert await execution.result() == ["ActivityFailed"]
        [failed] = data_of([event async for event in execution.events()], ActivityFailedData)
    assert failed.failure.kind == "UnknownDefinition"
    assert "'temporal_forgotten'" in failed.failure.message


async def test_a_worker_without_the_workflow_says_which_and_another_one_carries_it_on() -> None:
    queue = uuid.uuid4().hex
    async with connected() as backend:
        execution = await backend.start(Approval, 1, task_queue=queue)
        await execution.signal("decide", "after", "Ada")
        history = (await Client.connect(shared_server())).get_workflow_handle(execution.id)
        async with backend.worker([Steps], task_queue=queue, lease=LEASE):
            async for event in history.fetch_history_events(wait_new_event=True):
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    break
        failure = event.workflow_task_failed_event_attributes.failure
        assert failure.application_failure_info.type == "UnknownDefinition"
        assert "'temporal_approval'" in failure.message
        async with backend.worker([Approval], task_queue=queue, lease=LEASE):
            assert await execution.result() == ["after by Ada noted"]
    # A coroutine that was never awaited would be found now, and pytest makes an error of it.
    gc.collect()


async def test_a_service_that_keeps_no_list_of_workers_says_so_and_workers_work_on() -> None:
    with temporal_server(["--dynamic-config-value", "frontend.WorkerHeartbeatsEnabled=false"]) as address:
        async with outlast.connect(f"temporal://{address}") as backend, backend.worker([Steps], lease=LEASE):
            assert await (await backend.start(Steps, ["a"])).result() == ["a noted"]
            with pytest.raises(outlast.NotSupported, match="task-queue describe"):
                await backend.workers()


@asynccontextmanager
async def connected() -> AsyncIterator[outlast.Backend]:
    async with outlast.connect(f"temporal://{shared_server()}/default") as backend:
        yield backend


async def test_code_that_leaves_memory_is_closed_and_leaves_no_task_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[str] = []

    @outlast.workflow.define(name="temporal_leaver")
    class Leaver:
        @outlast.workflow.entrypoint
        async def run(self) -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(3600))
                    await asyncio.Event().wait()
            finally:
                closed.append(outlast.workflow.info().execution_id)

    queue = uuid.uuid4().hex
    async with connected() as backend:
        async with backend.worker([Leaver], task_queue=queue, max_cached_executions=2):
            executions = [await backend.start(Leaver, task_queue=queue) for _ in range(4)]
            for execution in executions:
                async for event in execution.events():
                    if event.kind == "timer_started":
                        break
        assert {execution.id for execution in executions} <= set(closed)
        for execution in executions:
            await execution.cancel()
    gc.collect()
    assert "was destroyed" not in caplog.text


async def test_an_error_of_the_library_under_workflow_code_fails_its_task_and_is_described() -> None:
    @outlast.workflow.define(name="temporal_busy")
    class Busy:
        @outlast.workflow.entrypoint
        async def run(self) -> None:
            while True:  # noqa: ASYNC110  # it never comes to rest
                await asyncio.sleep(0)

    queue = uuid.uuid4().hex
    async with connected() as backend, backend.worker([Busy], task_queue=queue):
        assert isinstance(backend, TemporalBackend)
        execution = await backend.start(Busy, task_queue=queue)
        assert "Busy.run" in await obstacle_of(execution)
        handle = backend.client.get_workflow_handle(execution.id)
        failed = [
            event
            async for event in handle.fetch_history_events()
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        ]
        assert len(failed) == 1
        assert failed[0].workflow_task_failed_event_attributes.failure.application_failure_info.type == (
            "BusyWorkflow"
        )
        await handle.terminate()
