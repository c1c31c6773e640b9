"""The Temporal backend, on a real server, against the backend in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio import activity
from temporalio.client import WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.workflow import NondeterminismError

import outlast
from outlast.adapters.temporal import TemporalBackend
from outlast.core.events import EventKind
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.testing.contracts.examples import few_examples
from outlast.testing.mistral_server import Call, HandOff, MistralServer, Say, ScriptedModel
from tests.adapters import temporal_programs as programs
from tests.adapters.temporal_histories import replay, replay_all, replayed_by_code, replayed_by_temporal
from tests.adapters.temporal_programs import (
    LEASE,
    WORKFLOWS,
    Approval,
    ClockReader,
    Crash,
    DealAnalysis,
    Group,
    Local,
    RemoteAnalysis,
    Steps,
    Unsteady,
)
from tests.adapters.temporal_server import new_namespace, shared_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def every_history_replays() -> Iterator[None]:
    yield
    asyncio.run(replay_all(shared_server()))


SECRET = "sk-7f3a9c51e2d84b06"


@pytest.fixture(scope="module")
def url() -> str:
    return f"temporal://{shared_server()}/default"


@dataclass
class Run:
    """The result of one execution, and its events."""

    id: str
    result: Any
    events: list[tuple[str, dict[str, Any]]]


def comparable(event: outlast.Event) -> tuple[str, dict[str, Any]]:
    """Return the event without what is different in every run."""
    data = event.data.to_data()
    return event.kind, {name: value for name, value in data.items() if name not in ("due_at", "handle")}


@asynccontextmanager
async def working(url: str, **options: Any) -> AsyncIterator[tuple[outlast.Backend, str]]:
    """Connect, and run a worker on a task queue of its own."""
    queue = f"queue-{uuid.uuid4().hex}"
    async with outlast.connect(url) as backend, backend.worker(WORKFLOWS, task_queue=queue, **options):
        yield backend, queue


async def run(url: str, workflow: type[Any], *args: Any, **options: Any) -> Run:
    async with working(url, **options) as (backend, queue):
        execution = await backend.start(workflow, *args, task_queue=queue)
        result = await execution.result()
        return Run(execution.id, result, [comparable(event) async for event in execution.events()])


async def history_of(url: str, execution_id: str) -> WorkflowHistory:
    async with outlast.connect(url) as backend:
        assert isinstance(backend, TemporalBackend)
        return await backend.client.get_workflow_handle(execution_id).fetch_history()


async def replayed(workflow: type[Any], history: WorkflowHistory) -> None:
    definition = definition_of(workflow)
    await replay({definition.name: definition}, history)


# Names ---------------------------------------------------------------------------------------------------


@outlast.activity(name="temporal_namesake")
async def greet(name: str) -> str:
    """Have the name of another activity of this process, as one of another module may."""
    return f"Hello {name}"


@outlast.activity(name="temporal_namesake")
async def part(name: str, hour: int) -> str:
    """Have that name too."""
    return f"Good night {name}" if hour > 20 else f"Bye {name}"


@outlast.workflow.define(name="temporal_namesakes")
class Namesakes:
    """Calls two activities of the same name."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        return [await greet("Ada"), await part("Ada", 21), await greet("Bo")]


# Without a cache the code is run over the history again to find out which activity it calls.
@pytest.mark.parametrize("cached", [1000, 0])
async def test_activities_of_the_same_name_are_told_apart_by_the_code_that_calls_them(cached: int) -> None:
    address = shared_server()
    async with (
        outlast.connect(f"temporal://{address}/{await new_namespace(address)}") as backend,
        backend.worker([Namesakes], max_cached_executions=cached),
        asyncio.timeout(30),
    ):
        execution = await backend.start(Namesakes)
        assert await execution.result() == ["Hello Ada", "Good night Ada", "Hello Bo"]


# Local steps ---------------------------------------------------------------------------------------------


@outlast.activity(name="temporal_limits", local=True, retry_policy_initial_interval=timedelta(0))
async def limits() -> list[float | None]:
    """Fail once; then return the limits that Temporal puts to an attempt, and to all of them."""
    info = activity.info()
    if info.attempt == 1:
        raise LookupError("not yet")
    times = (info.start_to_close_timeout, info.schedule_to_close_timeout)
    return [None if time is None else time.total_seconds() for time in times]


@outlast.workflow.define(name="temporal_limited")
class Limited:
    @outlast.workflow.entrypoint
    async def run(self) -> list[float | None]:
        return await limits()


async def test_temporal_watches_no_attempt_at_a_local_step() -> None:
    """Its SDK would keep a timer for the attempt that failed, also when the worker has stopped."""
    address, year = shared_server(), timedelta(days=365).total_seconds()
    async with (
        outlast.connect(f"temporal://{address}/{await new_namespace(address)}") as backend,
        backend.worker([Limited]),
        asyncio.timeout(30),
    ):
        # Where an attempt has no limit of its own, the SDK shows that of all attempts.
        assert await (await backend.start(Limited)).result() == [year, year]


# Agents --------------------------------------------------------------------------------------------------


# Without a cache every step that holds a session is found by replaying the history, as after a crash.
@pytest.mark.parametrize("cached", [1000, 0])
async def test_agents_run_as_they_do_in_memory(url: str, cached: int) -> None:
    here = await run("memory:", DealAnalysis, "Analyse the merger.")
    there = await run(url, DealAnalysis, "Analyse the merger.", max_cached_executions=cached)
    assert there.result == here.result == {"analysis": "It is risky.", "results": there.result["results"]}
    assert there.events == here.events
    assert [kind for kind, _ in there.events].count("turn_started") == 3


async def test_a_remote_session_works_as_in_memory_and_its_key_is_in_no_stored_byte(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    for where in ("memory:", url):
        risk = {"deal_type": "merger", "amount": 5e5}
        model = ScriptedModel(
            {
                "deal-coordinator": [[HandOff("risk-agent")]],
                "risk-agent": [[Call("temporal_risk", risk)], [Say("It is risky.")]],
            }
        )
        with MistralServer(model, api_key=SECRET) as server:
            session = outlast.RemoteSession(api_key=SECRET, server_url=server.url)
            monkeypatch.setattr(RemoteAnalysis, "session", session)
            runs.append(await run(where, RemoteAnalysis, "Analyse the merger."))
            assert any(SECRET in str(request.headers) for request in server.requests)
            server.raise_errors()
    here, there = runs
    assert there.result == here.result
    assert there.result["analysis"] == "It is risky."
    assert [kind for kind, _ in there.events] == [kind for kind, _ in here.events]
    history = await history_of(url, there.id)
    assert "call_model" in history.to_json()
    assert SECRET not in history.to_json()
    assert SECRET.encode() not in b"".join(event.SerializeToString() for event in history.events)


STEPS = ["a", "sleep", "fail", "time out", "together", "draw", "broken condition"]


@given(steps=st.lists(st.sampled_from(STEPS), max_size=6))
@few_examples(6)
async def test_any_program_does_the_same_as_in_memory(url: str, steps: list[str]) -> None:
    here, there = await run("memory:", Steps, steps), await run(url, Steps, steps)
    assert there.result == here.result
    kinds = [[kind for kind, _ in run.events if kind != "attempt_failed"] for run in (here, there)]
    assert kinds[1] == kinds[0]
    await replayed(Steps, await history_of(url, there.id))


async def test_activities_cancelled_together_are_cancelled_in_the_same_order_in_every_replay(
    url: str,
) -> None:
    there = await run(url, Group, 8, lease=LEASE)
    assert there.result == 3
    history = await history_of(url, there.id)
    for _ in range(5):
        await replayed(Group, history)


# Activities ----------------------------------------------------------------------------------------------


async def test_a_failing_activity_is_tried_again_with_the_same_key(url: str) -> None:
    there = await run(url, Unsteady, 2)
    assert there.result == 3
    assert programs.attempts[f"{there.id}/:0"] == [1, 2, 3]


async def test_an_activity_that_fails_for_good_fails_the_execution_with_its_cause(url: str) -> None:
    async with working(url) as (backend, queue):
        execution = await backend.start(Unsteady, 3, task_queue=queue)
        for _ in range(2):
            with pytest.raises(outlast.ExecutionFailed) as failed:
                await execution.result()
            cause = failed.value.__cause__
            assert isinstance(cause, outlast.ActivityFailed)
            assert (cause.attempts, cause.kind, cause.message) == (3, "LookupError", "not yet")
            description = await execution.describe()
            assert (description.status, description.error) == (Status.FAILED, f"ActivityFailed: {cause}")


async def test_code_that_no_workflow_may_contain_is_refused_as_elsewhere(url: str) -> None:
    async with working(url) as (backend, queue):
        execution = await backend.start(ClockReader, task_queue=queue)
        with pytest.raises(outlast.ExecutionFailed, match="time") as failed:
            await execution.result()
        assert isinstance(failed.value.__cause__, outlast.DeterminismError)


async def test_a_worker_refuses_a_workflow_whose_failures_are_to_be_held(url: str) -> None:
    @outlast.workflow.define(name="temporal-tests.held", on_failure="hold")
    class Held:
        @outlast.workflow.entrypoint
        async def run(self) -> None:
            """Do nothing."""

    async with outlast.connect(url) as backend:
        with pytest.raises(outlast.NotSupported, match="cannot hold what failed"):
            backend.worker([Held])


async def test_a_local_activity_does_the_same_with_fewer_events(url: str) -> None:
    here, there = await run("memory:", Local), await run(url, Local)
    assert there.result == here.result
    assert there.result[:3] == ["Seen.", "seen after 0", "seen after 2"]
    kinds = [sorted(kind for kind, _ in run.events if kind != "attempt_failed") for run in (here, there)]
    assert kinds[1] == kinds[0]
    assert sorted(made for key, made in programs.attempts.items() if key.startswith(there.id)) == [
        [1],
        [1, 2, 3],
        [1, 2, 3],
    ]
    history = await history_of(url, there.id)
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events
    ]
    assert [name for name in scheduled if name] == ["call_model", "call_model"]
    await replayed(Local, history)


# Messages ------------------------------------------------------------------------------------------------


async def converse(url: str) -> Run:
    """Decide twice, once before the worker is there."""
    queue = f"queue-{uuid.uuid4().hex}"
    async with outlast.connect(url) as backend:
        execution = await backend.start(Approval, 2, task_queue=queue)
        await execution.signal("decide", "yes")
        async with backend.worker(WORKFLOWS, task_queue=queue):
            async for event in execution.events():
                if event.kind == "timer_fired":
                    break
            assert await execution.query("decided") == ["yes by nobody noted"]
            assert "timer_fired" in [event.kind async for event in execution.events(follow=False)]
            await execution.signal("decide", "no", "Ada")
            result = await execution.result()
            assert await execution.query("decided", 1) == ["no by Ada noted"]
            with pytest.raises(outlast.ExecutionAlreadyEnded):
                await execution.signal("decide", "late")
            with pytest.raises(outlast.InvalidArguments):
                await execution.query("undefined")
            return Run(execution.id, result, [comparable(event) async for event in execution.events()])


async def test_signals_timers_and_queries_work_as_in_memory(url: str) -> None:
    there = await converse(url)
    assert there.result == ["yes by nobody noted", "no by Ada noted"]
    kinds = [kind for kind, _ in there.events]
    assert sorted(kinds) == sorted(kind for kind, _ in (await converse("memory:")).events)
    await replayed(Approval, await history_of(url, there.id))


async def cancel(url: str) -> list[str]:
    async with working(url) as (backend, queue):
        execution = await backend.start(Approval, 1, task_queue=queue)
        async for event in execution.events():
            if event.kind == "timer_fired":
                break
        await execution.cancel()
        with pytest.raises(outlast.ExecutionCancelled):
            await execution.result()
        assert (await execution.describe()).status is Status.CANCELLED
        with pytest.raises(outlast.ExecutionAlreadyEnded):
            await execution.cancel()
        return [event.kind async for event in execution.events()]


async def test_a_cancelled_execution_cleans_up_as_in_memory(url: str) -> None:
    kinds = await cancel(url)
    assert kinds == await cancel("memory:")
    at = kinds.index("cancel_requested")
    assert kinds[at:] == ["cancel_requested", "activity_started", "activity_completed", "execution_cancelled"]


# Identity ------------------------------------------------------------------------------------------------


async def test_an_id_belongs_to_one_workflow_and_one_input_for_good(url: str) -> None:
    async with working(url) as (backend, queue):
        first = await backend.start(Steps, ["a"], id=f"one-{queue}", task_queue=queue)
        started = await asyncio.gather(
            *(backend.start(Steps, steps=["a"], id=first.id, task_queue=queue) for _ in range(5))
        )
        for _ in ("running", "completed"):
            for workflow, arguments, differs in ((Steps, (["b"],), "input"), (ClockReader, (), "workflow")):
                with pytest.raises(outlast.ExecutionAlreadyExists) as refused:
                    await backend.start(workflow, *arguments, id=first.id, task_queue=queue)
                assert refused.value.differs == differs
            again = await backend.start(Steps, ["a"], id=first.id, task_queue=queue)
            results = [await one.result() for one in (first, again, *started)]
            assert results == [["a noted"]] * 7
        assert programs.attempts[f"{first.id}/:0"] == [1]


async def test_executions_that_exist_are_listed_and_others_not_found(url: str) -> None:
    async with working(url) as (backend, queue):
        with pytest.raises(outlast.ExecutionNotFound):
            await backend.get("never started")
        execution = await backend.start(Steps, [], id=f"it's {queue}", task_queue=queue)
        assert await (await backend.get(execution.id)).result() == []
        async with asyncio.timeout(30):
            # Temporal's list lags behind, and nothing says when it has caught up.
            while not (found := [one for one in await completed(backend) if one.id == execution.id]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        # A list does not read histories, so it knows nothing of turns and tokens.
        described = replace(await execution.describe(), turns=found[0].turns, usage=found[0].usage)
        assert found == [described]


async def completed(backend: outlast.Backend) -> list[outlast.ExecutionDescription]:
    return list(await backend.list(Where(workflow="temporal_steps", status="completed")))


@pytest.mark.parametrize("value", [object(), "x" * 3_000_000])
async def test_a_value_that_cannot_be_stored_is_refused_at_the_call(url: str, value: Any) -> None:
    error = outlast.PayloadTooLarge if isinstance(value, str) else outlast.Unserialisable
    async with working(url) as (backend, queue):
        with pytest.raises(error):
            await backend.start(Steps, [value], id=f"too much {queue}", task_queue=queue)
        with pytest.raises(outlast.ExecutionNotFound):
            await backend.get(f"too much {queue}")


# Crashes and changes -------------------------------------------------------------------------------------


@pytest.mark.crash
async def test_another_process_finishes_what_a_killed_one_began(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "witness"
    witness.touch()
    monkeypatch.setenv("TEMPORAL_WITNESS", str(witness))
    queue = f"queue-{uuid.uuid4().hex}"
    async with outlast.connect(url) as backend:
        execution = await backend.start(Crash, task_queue=queue)
        for hanging in ("hang 1", "once 1"):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.adapters.temporal_programs", url, queue),
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            async with asyncio.timeout(60):
                while not (await process.stdout.readline()).startswith(hanging.encode()):
                    assert process.returncode is None
            process.kill()
            await process.wait()
        async with backend.worker([Crash], task_queue=queue, lease=LEASE), asyncio.timeout(60):
            assert await execution.result() == ["All done.", "OutcomeUnknown"]
            kinds = [event.kind async for event in execution.events()]
    done = [line.split() for line in witness.read_text().splitlines()]
    assert [(what, attempt) for what, attempt, _ in done] == [
        *(("model", "1"), ("first", "1"), ("model", "1"), ("hang", "1"), ("hang", "2")),
        *(("model", "1"), ("once", "1")),
    ]
    assert [key for what, _, key in done if what == "hang"] == [done[3][2]] * 2
    assert kinds.count(EventKind.TURN_STARTED) == 3


async def test_a_history_replays_with_the_code_that_made_it_and_no_other(url: str) -> None:
    there = await run(url, DealAnalysis, "Analyse the merger.")
    history = await history_of(url, there.id)
    await replayed(DealAnalysis, history)
    definition = definition_of(DealAnalysis)
    edited = {definition.name: replace(definition, cls=Edited)}
    with pytest.raises(NondeterminismError):
        await replayed_by_temporal(edited, history)
    with pytest.raises(outlast.NonDeterminismError, match=r"'call_model'.*\n.*activity 'temporal_note'"):
        await replayed_by_code(edited, history)


class Edited:
    """The deal analysis, edited while it ran."""

    async def run(self, deal_request: str) -> dict[str, Any]:
        await programs.note("something new")
        return {}


# Configuration -------------------------------------------------------------------------------------------


def test_the_error_for_a_missing_sdk_names_its_extra() -> None:
    program = (
        "import sys; sys.modules['temporalio'] = None\n"
        "import outlast\n"
        "try: outlast.connect('temporal://localhost:7233')\n"
        "except outlast.MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "outlast[temporal]" in done.stdout


def test_a_failure_of_another_author_keeps_its_kind_and_message() -> None:
    from outlast.adapters.temporal.failures import failure_in

    failure = failure_in(ApplicationError("no luck", type="Theirs"))
    assert (failure.kind, failure.message) == ("Theirs", "no luck")
    assert isinstance(failure.error(), outlast.ForeignError)
