"""Executions on a Temporal server keep the durability port's promises."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self

import pytest
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.search_attributes import register
from outlast.adapters.temporal.worker import TemporalWorker
from outlast.composition.durable_run import DurableRun
from outlast.composition.toolkit import toolkit
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.testing import RealClock
from outlast.testing.contracts.durability.contract import ALL, BackendCapability, DurabilityContract
from outlast.testing.contracts.durability.storage import DurabilityStorage
from tests.adapters.tcp_proxy import TcpProxy
from tests.adapters.temporal_histories import replay
from tests.adapters.temporal_server import SuccessiveServers, new_namespace


@functools.cache
def quiet_runtime() -> Runtime:
    """Return a runtime in which Temporal's SDK does not try for ever to say that killed workers are alive."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None)


SERVERS = SuccessiveServers()


async def namespace_with_tags(address: str) -> str:
    """Return a new namespace that is set up for tags."""
    namespace = await new_namespace(address)
    await register(await Client.connect(address, namespace=namespace))
    return namespace


class MortalBackend(TemporalBackend):
    """The backend of one process, whose connection goes through this one."""

    def __init__(self, storage: InNamespace) -> None:
        super().__init__("", "", toolkit(), runtime=quiet_runtime())
        self._storage = storage
        self.line = TcpProxy(int(storage.server.address.partition(":")[2]))

    async def __aenter__(self) -> Self:
        self._namespace = await self._storage.namespace()
        await self.line.__aenter__()
        self._address = f"127.0.0.1:{self.line.port}"
        try:
            return await super().__aenter__()
        except BaseException:
            await self.line.__aexit__()
            raise

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        await self.line.__aexit__()

    async def start(self, workflow: Any, /, *args: Any, **options: Any) -> Execution:  # type: ignore[override]
        execution = await super().start(workflow, *args, **options)
        self._storage.started.add(execution.id)
        return execution

    def worker(self, workflows: Sequence[type[Any]], **options: Any) -> TemporalWorker:
        worker = super().worker(workflows, **{**self._storage.worker_options, **options})
        for definition in map(definition_of, workflows):
            self._storage.codes.setdefault(definition.name, []).append(definition)
        return worker


class InNamespace(DurabilityStorage):
    """A namespace of its own, on a server that tests share."""

    worker_options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self._clock = RealClock()
        self.server = SERVERS.take()
        self._namespace: asyncio.Task[str] | None = None
        self.started: set[str] = set()
        self.codes: dict[str, list[WorkflowDefinition]] = {}

    @property
    def clock(self) -> Any:
        return self._clock

    async def namespace(self) -> str:
        if self._namespace is None:
            self._namespace = asyncio.create_task(namespace_with_tags(self.server.address))
        return await self._namespace

    def open(self) -> MortalBackend:
        return MortalBackend(self)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    async def kill(self, backend: Backend) -> None:
        assert isinstance(backend, MortalBackend)
        backend.line.refuse()

    async def pause(self, backend: Backend) -> None:
        assert isinstance(backend, MortalBackend)
        backend.line.freeze()

    async def resume(self, backend: Backend) -> None:
        assert isinstance(backend, MortalBackend)
        backend.line.heal()

    async def attempt_failed(self, execution: Execution) -> None:
        client = await Client.connect(self.server.address, namespace=await self.namespace())
        handle = client.get_workflow_handle(execution.id)
        # Only Temporal's description of the execution shows it, and nothing announces it.
        while True:
            described = (await handle.describe()).raw_description
            if any(pending.HasField("last_failure") for pending in described.pending_activities):
                return
            await asyncio.sleep(0.005)

    async def stored_bytes(self) -> bytes:
        return self.server.stored_bytes()

    async def dispose(self) -> None:
        """Replay every history that the test has made, except by code that it has edited.

        Nor can durable runs be replayed: their agents and sessions are those of whoever waited for them.

        The namespace stays, and nobody looks into it again.
        """
        try:
            await self._replay_all()
        finally:
            SERVERS.give_back(self.server)

    async def _replay_all(self) -> None:
        codes = {name: codes[0] for name, codes in self.codes.items() if len(set(map(id, codes))) == 1}
        codes.pop(definition_of(DurableRun).name, None)
        if not self.started or not codes:
            return
        client = await Client.connect(self.server.address, namespace=await self.namespace())
        for execution_id in self.started:
            history = await client.get_workflow_handle(execution_id).fetch_history()
            if history.events[0].workflow_execution_started_event_attributes.workflow_type.name in codes:
                await replay(codes, history)


class Uncached(InNamespace):
    """The same, with workers that forget an execution as soon as it waits: every task is a replay."""

    worker_options: ClassVar[dict[str, Any]] = {"max_cached_executions": 0}


LACKS = frozenset(
    {
        BackendCapability.MOVABLE_CLOCK,
        BackendCapability.STEADY_LEASES,
        BackendCapability.HOLDS,
        BackendCapability.HOLDS_FAILURES,
        BackendCapability.INTERRUPTS_CODE,
        BackendCapability.TAGS_WHAT_HAS_ENDED,
        BackendCapability.FINDS_WAITS,
        BackendCapability.LISTS_IN_ORDER,
        BackendCapability.PAUSES_BEFORE_THE_START,
    }
)


@pytest.mark.server
class TestTemporalDurability(DurabilityContract):
    new_storage = InNamespace
    capabilities = ALL - LACKS
    # Heartbeats come four times in a lease; a machine that is busy holds them up for most of a second.
    lease = timedelta(seconds=1.5)
    patience_seconds = 90.0
    worker_life_seconds = 0.3
    only_nightly = (
        *("a_crash_after_any_action", "an_execution_that_leaves_memory", "random_numbers_are_equal"),
        *("checks_and_limits", "d11_code_that_departs", "d15_nothing_is_lost", "d17_a_call_waits"),
        *("d17_calls_are_decided", "d3_a_journaled_step", "d4_a_step_in_doubt_runs"),
        *(
            "d5_an_attempt_that_takes_too_long",
            "d5_back_off",
            "d6_a_worker_that_comes_back",
            "d6_a_worker_that_lost",
            "d8_a_timer_never_fires_early[5.0]",
        ),
        *("d8_a_timer_survives", "d8_timers_fire", "d9_signals_are_applied"),
        *("d18_answers_are_the_same", "d18_an_answer_outlasts"),
        *("a_program_has_its_result_however_often", "a_fork_of_a_program"),
        *("resume_contract_pc", "resume_contract_eo_effects_happen"),
        # Runs of agents are the same code on every backend; some of them are tried here every time.
        *("a_crash_changes_nothing_for_agents", "the_events_of_runs_within", "a_deadline_ends"),
        *(
            "the_results_of_a_run_have_no_limit",
            "the_result_of_a_run_is_in",
            "the_error_of_a_run_at_its_limit",
        ),
        *("a_summary_in_the_middle", "d3_runs_within_a_run", "a_run_waits_at_a_limit"),
        *("d17_only_a_call_that_waits", "d17_the_calls_of_all", "d17_a_denied_call"),
        "map_runs_a_thousand",
    )


@pytest.mark.nightly
@pytest.mark.server
class TestTemporalDurabilityWithoutCache(DurabilityContract):
    new_storage = Uncached
    # Each poll that a paused worker leaves open may cost a workflow task, so 10 s, and each step needs one.
    patience_seconds = 240.0
    capabilities = ALL - LACKS
    # Heartbeats come four times in a lease; a machine that is busy holds them up for most of a second.
    lease = timedelta(seconds=1.5)
    worker_life_seconds = 0.3
