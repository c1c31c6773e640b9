"""The Temporal backend: the durability port, from outside."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.execution import TemporalExecution
from outlast.adapters.temporal.finding import find
from outlast.adapters.temporal.importing import import_execution
from outlast.adapters.temporal.memo import FINGERPRINT
from outlast.adapters.temporal.overviews import OverviewReader
from outlast.adapters.temporal.payloads import ExplainingCodec, check_payload, data_converter, limit_of
from outlast.adapters.temporal.refusals import namespace_refused, translated, unreachable
from outlast.adapters.temporal.requests import TRACE
from outlast.adapters.temporal.search_attributes import attributes_of, is_missing, not_registered
from outlast.adapters.temporal.worker import TemporalWorker, TemporalWorkerOptions
from outlast.adapters.temporal.worker_presence import workers_of
from outlast.core.argument_checks import check_list
from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    ExecutionAlreadyExists,
    ExecutionNotFound,
    NotSupported,
    StorageUnavailable,
)
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.tags import checked_tags
from outlast.ports.definitions import check_options
from outlast.ports.durability.backend import Backend, ExecutionPage, WorkerDescription, check_page
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.finding import EVERYTHING, Where
from outlast.ports.journal import DEFAULT_TASK_QUEUE, check_id, is_id
from outlast.ports.method_references import Handler
from outlast.ports.toolkit import Toolkit

CONNECT_SECONDS = 30.0
"""The longest time that connecting may take in all."""

_CONNECTION = frozenset(inspect.signature(Client.connect).parameters) - {
    *("target_host", "namespace", "data_converter", "lazy")
}


class TemporalBackend(Backend):
    """Executions on a Temporal service; an execution's id is its workflow id.

    Args:
        address: Host and port of the service.
        namespace: It must exist.
        toolkit: The runtime's part; see `ports.toolkit`.
        data_converter: Replaces ours. A variant of `adapters.temporal.data_converter` keeps the order of
            keys, which models read; with `external_storage` in it, values may have any size.
        payload_codec: Encrypts or compresses the arguments and results that Temporal stores.
        options: All other options of `temporalio.client.Client.connect`: `tls`, `api_key`, `interceptors`,
            `runtime` (metrics), `plugins`, `rpc_metadata` and so on. Workers use them as well.
    """

    def __init__(
        self,
        address: str,
        namespace: str,
        toolkit: Toolkit,
        *,
        data_converter: DataConverter = data_converter,
        payload_codec: PayloadCodec | None = None,
        **options: Any,
    ) -> None:
        if payload_codec is not None:
            data_converter = replace(data_converter, payload_codec=ExplainingCodec(payload_codec))
        unknown = sorted(options.keys() - _CONNECTION)
        if unknown:
            known = ", ".join(sorted(_CONNECTION))
            raise ConfigurationError(f"Temporal's client has no option {', '.join(unknown)}; it has {known}")
        key = options.get("api_key")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigurationError(
                "the API key has characters that no header can hold; was it copied whole?"
            )
        self._address = address
        self._namespace = namespace
        self._toolkit = toolkit
        self._converter = data_converter
        self._limit_bytes = limit_of(data_converter)
        self._options = options
        self._connected: Client | None = None
        self._ended = EndedRuns()
        self._overviews = OverviewReader(toolkit.live_code)

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await Client.connect(
                    self._address, namespace=self._namespace, data_converter=self._converter, **self._options
                )
                await client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=self._namespace), retry=True
                )
        except (RuntimeError, TimeoutError) as error:
            # The errors of Temporal's client may quote headers.
            cause = error if "api_key" not in self._options else None
            raise unreachable(self._address, error, tls=self._has_tls()) from cause
        except ValueError as error:
            raise ConfigurationError(
                f"Temporal's client refuses the connection's options: {error}"
            ) from error
        except RPCError as error:
            raise namespace_refused(self._namespace, self._address, error) from error
        self._connected = client
        return self

    def _has_tls(self) -> bool:
        tls = self._options.get("tls")
        return "api_key" in self._options if tls is None else bool(tls)

    async def __aexit__(self, *_: object) -> None:
        self._connected = None

    @property
    def client(self) -> Client:
        """Temporal's own client, for everything that this port does not offer."""
        if self._connected is None:
            raise StorageUnavailable("the backend is not connected; use it in an `async with` block")
        return self._connected

    async def start(  # type: ignore[override]
        self,
        workflow: type[Any] | Handler,
        /,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Execution:
        definition = self._toolkit.definition_of(workflow)
        options = {"id": id, "task_queue": None if task_queue == DEFAULT_TASK_QUEUE else task_queue}
        check_options(f"workflow {definition.name}", definition.signature, args, **options, tags=tags)
        checked = checked_tags(tags or {})
        arguments = definition.signature.dump_arguments(*args, **kwargs)
        check_payload(f"the input of workflow {definition.name!r}", arguments, self._limit_bytes)
        fingerprint = execution_fingerprint(definition.name, arguments)
        execution_id = uuid.uuid4().hex if id is None else id
        try:
            if isinstance(id, str) and not id.strip():
                raise ValueError("an execution's id must not be empty; leave it out to get one made")
            check_id(execution_id)
            check_id(task_queue)
        except ValueError as error:
            raise DefinitionError(str(error)) from error
        memo = {FINGERPRINT: fingerprint}
        if (caller := self._toolkit.calling_span()) is not None:
            memo[TRACE] = caller.traceparent
        execution = self._execution(execution_id)
        with translated(execution_id):
            try:
                await self.client.start_workflow(
                    definition.name,
                    arguments,
                    id=execution_id,
                    task_queue=task_queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    memo=memo,
                    search_attributes=attributes_of(checked),
                )
            except RPCError as error:
                if checked and is_missing(error):
                    raise not_registered(self._namespace, "tags") from error
                raise
            except WorkflowAlreadyStartedError:
                existing = await execution.handle.describe()
                if existing.workflow_type != definition.name:
                    raise ExecutionAlreadyExists(execution_id, "workflow") from None
                if await existing.memo_value(FINGERPRINT, None) != fingerprint:
                    raise ExecutionAlreadyExists(execution_id, "input") from None
        return execution

    async def get(self, execution_id: str) -> Execution:
        if not is_id(execution_id):
            raise ExecutionNotFound(execution_id)
        execution = self._execution(execution_id)
        with translated(execution_id):
            await execution.handle.describe()
        return execution

    async def import_(self, lines: Iterable[str], *, id: str | None = None) -> Execution:
        return self._execution(await import_execution(self.client, lines, id, time.time()))

    async def list(
        self, where: Where | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> ExecutionPage:
        check_page(where, limit)
        with translated(""):
            found, following = await find(self.client, where or EVERYTHING, limit, cursor)
        found.sort(key=lambda one: one.start_time, reverse=True)
        return ExecutionPage(
            tuple([await self._execution(one.id).described(one) for one in found]), following
        )

    async def with_overviews(
        self, executions: Sequence[ExecutionDescription]
    ) -> Sequence[ExecutionDescription]:
        return await self._overviews.read(self.client, executions)

    def _execution(self, execution_id: str) -> TemporalExecution:
        return TemporalExecution(self.client, execution_id, self._toolkit, self._ended)

    async def prune(self, older_than: timedelta) -> int:
        raise NotSupported(
            "Temporal forgets ended executions by itself: set the namespace's retention period instead"
        )

    async def workers(self) -> Sequence[WorkerDescription]:
        with translated(""):
            return await workers_of(self.client)

    def worker(
        self,
        workflows: Sequence[type[Any]],
        *,
        lease: timedelta = timedelta(seconds=10),
        max_concurrent_executions: int = 100,
        max_concurrent_activities: int = 100,
        max_cached_executions: int = 1000,
        task_queue: str = DEFAULT_TASK_QUEUE,
        graceful_shutdown_timeout: timedelta = timedelta(seconds=30),
        identity: str | None = None,
    ) -> TemporalWorker:
        check_list("the workflows of a worker", workflows)
        definitions = [self._toolkit.definition_of(workflow) for workflow in workflows]
        for definition in definitions:
            if definition.on_failure == "hold":
                raise NotSupported(
                    f"Temporal cannot hold what failed, and workflow {definition.name!r} wants that: "
                    'leave on_failure="hold" out, and let what failed go on by retry()'
                )
        options = TemporalWorkerOptions(
            lease,
            max_concurrent_executions,
            max_concurrent_activities,
            max_cached_executions,
            task_queue,
            graceful_shutdown_timeout,
            identity,
        )
        by_name = {definition.name: definition for definition in definitions}
        if len(by_name) < len(set(map(id, definitions))):
            raise DefinitionError("two workflows of one worker have the same name; give each its own")
        return TemporalWorker(self.client, self._toolkit, by_name, options, self._ended)
