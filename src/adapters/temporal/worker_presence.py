"""Which workers are alive: each announces itself, with its workflows, in Temporal's list of workers.

Temporal's own SDK puts an entry there for each worker too, but only once a minute, and without the names of
its workflows. Ours stands beside it: it is there before the worker works, is renewed three times in a lease,
and is removed when the worker has stopped. The entry of a worker that was killed stays, and shows its age.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Self, TypeVar

from temporalio.api.enums.v1 import PendingActivityState, WorkerStatus
from temporalio.api.worker.v1 import PluginInfo, WorkerHeartbeat
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeWorkerRequest,
    ListWorkersRequest,
    RecordWorkerHeartbeatRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.visibility import begins_like, quoted
from outlast.core.errors import NotSupported
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.journal import WorkerCard

EXECUTIONS_MAX = 1000
"""The number of running executions, the newest ones, whose worker is looked up."""

AT_ONCE = 20
"""The number of them that are looked up at the same time."""

_PACKAGE = "outlast"
_WORKFLOW = "outlast.workflow"
_LEASE = "outlast.lease_seconds"

_UNDER_WAY = (
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)

K = TypeVar("K")
T = TypeVar("T")

logger = logging.getLogger("outlast.worker")


class WorkerPresence:
    """Announces a worker while its `async with` block lasts, and logs announcements that do not arrive.

    Args:
        lease: The time after its last announcement for which the worker counts as alive.
    """

    def __init__(self, client: Client, card: WorkerCard, lease: timedelta) -> None:
        self._client = client
        self._card = card
        self._lease = lease
        self._key = uuid.uuid4().hex
        self._saying: asyncio.Task[None] | None = None
        self._trouble = ""

    async def __aenter__(self) -> Self:
        await self._say(WorkerStatus.WORKER_STATUS_RUNNING)
        self._saying = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._saying is not None
        self._saying.cancel()
        await asyncio.wait([self._saying])
        await self._say(WorkerStatus.WORKER_STATUS_SHUTDOWN)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            await self._say(WorkerStatus.WORKER_STATUS_RUNNING)

    async def _say(self, status: WorkerStatus.ValueType) -> None:
        heartbeat = WorkerHeartbeat(
            worker_instance_key=self._key,
            worker_identity=self._card.identity,
            task_queue=self._card.task_queue,
            sdk_name=_PACKAGE,
            sdk_version=version(_PACKAGE),
            status=status,
            plugins=[
                PluginInfo(name=_LEASE, version=str(self._lease.total_seconds())),
                *(PluginInfo(name=_WORKFLOW, version=workflow) for workflow in self._card.workflows),
            ],
        )
        heartbeat.start_time.FromDatetime(datetime.fromtimestamp(self._card.started_at, UTC))
        heartbeat.heartbeat_time.FromDatetime(datetime.now(UTC))
        request = RecordWorkerHeartbeatRequest(
            namespace=self._client.namespace, identity=self._card.identity, worker_heartbeat=[heartbeat]
        )
        try:
            await self._client.workflow_service.record_worker_heartbeat(request, timeout=self._lease)
        except RPCError as error:
            if error.status is RPCStatusCode.UNIMPLEMENTED:
                return
            trouble = error.message
            if trouble != self._trouble:
                logger.warning("worker %s cannot say that it is alive: %s", self._card.identity, trouble)
            self._trouble = trouble
        else:
            self._trouble = ""


async def workers_of(client: Client) -> Sequence[WorkerDescription]:
    """Return the workers of this library in the client's namespace, the first to have started first.

    A worker is alive if it has announced itself within its lease, by the clocks of its computer and this one.
    A worker carries on the executions that have an attempt under way with its identity.

    Raises:
        NotSupported: the service does not keep a list of workers.
        RPCError: it does not answer, or refuses.
    """
    await _check_listing(client)
    heartbeats = [one for one in await _heartbeats(client) if _is_alive(one)]
    heartbeats.sort(key=lambda one: one.start_time.ToNanoseconds())
    carried = await _carried(client, {one.task_queue for one in heartbeats})
    return [
        WorkerDescription(
            identity=one.worker_identity,
            task_queue=one.task_queue,
            workflows=_workflows_of(one),
            started_at=one.start_time.ToDatetime(UTC),
            executions=sorted(carried.get((one.task_queue, one.worker_identity), ())),
        )
        for one in heartbeats
    ]


async def is_worked_on(client: Client, task_queue: str, workflow: str) -> bool:
    """Return whether a worker of this library is alive that runs a workflow.

    Raises:
        NotSupported: the service does not keep a list of workers.
        RPCError: it does not answer, or refuses.
    """
    return (task_queue, workflow) in await live_workflows(client)


async def live_workflows(client: Client) -> frozenset[tuple[str, str]]:
    """Return the task queues and workflows for which a worker of this library is alive.

    Raises:
        NotSupported: the service does not keep a list of workers.
        RPCError: it does not answer, or refuses.
    """
    await _check_listing(client)
    return frozenset(
        (one.task_queue, workflow)
        for one in await _heartbeats(client)
        if _is_alive(one)
        for workflow in _workflows_of(one)
    )


async def _check_listing(client: Client) -> None:
    namespace = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), retry=True
    )
    if not namespace.namespace_info.capabilities.worker_heartbeats:
        raise NotSupported(
            "this Temporal service keeps no list of workers (its namespace lacks worker_heartbeats); "
            "ask it for one task queue: temporal task-queue describe --task-queue NAME"
        )


def _workflows_of(heartbeat: WorkerHeartbeat) -> Sequence[str]:
    return [plugin.version for plugin in heartbeat.plugins if plugin.name == _WORKFLOW]


async def _heartbeats(client: Client) -> Sequence[WorkerHeartbeat]:
    """Return the last announcement of every worker of this library, except those that stopped gracefully."""
    keys: list[str] = []
    request = ListWorkersRequest(namespace=client.namespace, query=f"SdkName = {quoted(_PACKAGE)}")
    while True:
        page = await client.workflow_service.list_workers(request, retry=True)
        keys += [worker.worker_instance_key for worker in page.workers]
        if not page.next_page_token:
            break
        request.next_page_token = page.next_page_token

    async def heartbeat(key: str) -> WorkerHeartbeat:
        answer = await client.workflow_service.describe_worker(
            DescribeWorkerRequest(namespace=client.namespace, worker_instance_key=key), retry=True
        )
        return answer.worker_info.worker_heartbeat

    return await _found(heartbeat, keys)


def _is_alive(heartbeat: WorkerHeartbeat) -> bool:
    [lease] = [float(plugin.version) for plugin in heartbeat.plugins if plugin.name == _LEASE]
    silence = datetime.now(UTC) - heartbeat.heartbeat_time.ToDatetime(UTC)
    return silence < timedelta(seconds=lease)


async def _carried(client: Client, task_queues: set[str]) -> dict[tuple[str, str], set[str]]:
    """Return the executions that are carried on, by task queue and identity of the worker."""
    if not task_queues:
        return {}
    queues = [begins_like("TaskQueue", queue) for queue in sorted(task_queues)]
    query = "ExecutionStatus = 'Running'"
    if all(queues):
        query += f" AND ({' OR '.join(condition for [condition] in queues)})"
    running = [one async for one in client.list_workflows(query, limit=EXECUTIONS_MAX)]
    carried: dict[tuple[str, str], set[str]] = {}
    for one in await _found(lambda one: client.get_workflow_handle(one.id).describe(), running):
        for attempt in one.raw_description.pending_activities:
            if attempt.state in _UNDER_WAY:
                worker = one.task_queue, attempt.last_worker_identity
                carried.setdefault(worker, set()).add(one.id)
    return carried


async def _found(ask: Callable[[K], Awaitable[T]], keys: Iterable[K]) -> Sequence[T]:
    """Return the answers, asking a few questions at a time; things that are gone meanwhile are left out."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def answer(key: K) -> T | None:
        async with gate:
            try:
                return await ask(key)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return None

    answers = await asyncio.gather(*map(answer, keys))
    return [one for one in answers if one is not None]
