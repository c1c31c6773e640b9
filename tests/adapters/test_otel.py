"""Executions as traces and metrics of OpenTelemetry's SDK, on every backend."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    get_current_span,
    use_span,
)

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.errors import ConfigurationError
from outlast.core.records import ExecutionStarted
from outlast.core.spans import trace_of
from outlast.core.trace_context import TraceContext
from outlast.ports.observers import attempt_span
from outlast.testing.mistral_server import MistralServer, Say, ScriptedModel
from tests.adapters.mcp.calling import OBJECT, raw
from tests.adapters.redis_servers import VALKEY, shared_url
from tests.adapters.temporal_server import shared_server
from tests.adapters.test_temporal_connection import Scrambling
from tests.shipping import SECRET, Scene, Shipping, approved, replies, weigh


@dataclass
class Observed:
    """The SDK as a user sets it up, and what it was given."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    sampler: Sampler = ALWAYS_ON

    def __post_init__(self) -> None:
        self.provider = TracerProvider(sampler=self.sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.provider.get_tracer("a user's program")

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture(autouse=True)
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    observed = Observed()
    monkeypatch.setattr(Scene, "span", observed.tracer.start_as_current_span)
    stop = outlast.instrument(tracer_provider=observed.provider, meter_provider=observed.meters)
    yield observed
    stop()
    observed.meters.shutdown()
    observed.provider.shutdown()


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.server),
        pytest.param("temporal", marks=pytest.mark.server),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory:"
        case "sqlite":
            return f"sqlite:///{tmp_path}/runs.db"
        case "redis":
            return f"{shared_url(VALKEY)}?prefix={uuid.uuid4().hex}"
    return f"temporal://{shared_server()}"


def check_parents(spans: Sequence[ReadableSpan], root: ReadableSpan | None = None) -> None:
    """Each span has an id of its own, and its parent is there, but for the parent of the outermost one."""
    ids = [span.context.span_id for span in spans]
    assert len(ids) == len(set(ids))
    outermost = [span for span in spans if span.parent is None]
    assert root is None or outermost == [root]
    for span in spans:
        assert span.parent is None or span.parent.span_id in ids, span.name
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


async def test_an_execution_is_one_tree_of_spans_named_by_the_conventions(url: str, sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Shipping], task_queue=queue):
        execution = await backend.start(Shipping, SECRET, task_queue=queue)
        await approved(execution)
    trace = trace_of(execution.id)
    [root] = sdk.named("invoke_workflow shipping")
    assert (root.context.trace_id, root.context.span_id) == (trace.trace_id, trace.span_id)
    assert root.parent is None
    [run] = sdk.named("invoke_agent clerk")
    assert {span.name for span in sdk.spans()} == {
        "invoke_workflow shipping",
        "invoke_agent clerk",
        "chat m-1",
        "execute_tool weigh",
        "await_approval ship",
        "execute_tool ship",
        "run_activity pack",
        "ask the scales",
        "fold the box",
    }
    assert len(sdk.named("chat m-1")) == 3
    assert {span.context.trace_id for span in sdk.spans()} == {trace.trace_id}
    check_parents(sdk.spans(), root)
    assert SECRET not in "".join(span.to_json() for span in sdk.spans())
    assert run.attributes is not None
    assert run.attributes["gen_ai.operation.name"] == "invoke_agent"
    failed = [span for span in sdk.spans() if span.status.status_code is StatusCode.ERROR]
    if not url.startswith(
        "temporal"
    ):  # There, an attempt that failed is known only while the next one waits.
        [attempt] = failed
        assert attempt.attributes is not None
        assert attempt.attributes["error.type"] == "LookupError"
        assert [
            span.attributes["outlast.attempt"] for span in sdk.named("execute_tool weigh") if span.attributes
        ] == [1, 2]


@pytest.mark.parametrize("of", ["ask the scales", "fold the box"])
async def test_a_span_of_an_activity_is_a_child_of_its_attempt(of: str, sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
        await approved(await backend.start(Shipping, "q"))
    [child] = sdk.named(of)
    *_, attempt = sdk.named("execute_tool weigh" if of == "ask the scales" else "run_activity pack")
    assert child.parent is not None
    assert child.parent.span_id == attempt.context.span_id


async def test_workers_that_take_turns_add_to_one_trace_and_repeat_nothing(url: str, sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend:
        execution = await backend.start(Shipping, "q", task_queue=queue)
        async with backend.worker([Shipping], task_queue=queue), asyncio.timeout(30):
            async for event in execution.events():
                if event.kind == "approval_requested":
                    break
        before = len(sdk.spans())
        assert before
        async with backend.worker([Shipping], task_queue=queue):
            await approved(execution)
    ids = [span.context.span_id for span in sdk.spans()]
    assert len(ids) == len(set(ids))
    assert len(sdk.named("chat m-1")) == 3
    assert len(sdk.named("invoke_agent clerk")) == 1
    assert len(sdk.named("invoke_workflow shipping")) == 1


async def test_an_execution_started_in_a_span_is_a_part_of_its_trace(url: str, sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Shipping], task_queue=queue):
        with sdk.tracer.start_as_current_span("a request") as caller:
            execution = await backend.start(Shipping, "q", task_queue=queue)
        await approved(execution)
    [root] = sdk.named("invoke_workflow shipping")
    assert root.parent is not None
    assert root.parent.span_id == caller.get_span_context().span_id
    assert len({span.context.trace_id for span in sdk.spans()}) == 1
    check_parents(sdk.spans())
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.server
async def test_the_trace_of_a_caller_is_read_through_a_payload_codec(sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    url = f"temporal://{shared_server()}"
    async with (
        outlast.connect(url, payload_codec=Scrambling(3)) as backend,
        backend.worker([Shipping], task_queue=queue),
    ):
        with sdk.tracer.start_as_current_span("a request") as caller:
            execution = await backend.start(Shipping, "q", task_queue=queue)
        await approved(execution)
    async with outlast.connect(url, payload_codec=Scrambling(3)) as backend:
        first, *_ = [record async for record in (await backend.get(execution.id)).records()]
    assert isinstance(first, ExecutionStarted)
    context = caller.get_span_context()
    assert first.trace == TraceContext(context.trace_id, context.span_id).traceparent
    check_parents(sdk.spans())


async def test_an_execution_of_a_caller_that_is_not_sampled_is_not_either() -> None:
    quiet = Observed(sampler=ParentBased(ALWAYS_OFF))
    stop = outlast.instrument(tracer_provider=quiet.provider, meter_provider=quiet.meters)
    try:
        async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
            await approved(await backend.start(Shipping, "q"))
    finally:
        stop()
        quiet.meters.shutdown()
    assert quiet.spans() == []


@pytest.mark.parametrize("root", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
@pytest.mark.parametrize("flags", [0, 1])
async def test_a_span_around_a_worker_does_not_decide_whether_executions_are_sampled(
    root: Sampler, flags: int
) -> None:
    observed = Observed(sampler=ParentBased(root))
    stop = outlast.instrument(tracer_provider=observed.provider, meter_provider=observed.meters)
    around = NonRecordingSpan(SpanContext(7, 7, is_remote=False, trace_flags=TraceFlags(flags)))
    try:
        async with outlast.connect("memory:") as backend:
            execution = await backend.start(Shipping, "q")
            with use_span(around):
                async with backend.worker([Shipping]):
                    await approved(execution)
    finally:
        stop()
        observed.meters.shutdown()
    assert bool(observed.named("invoke_workflow shipping")) is (root is ALWAYS_ON)
    # Those of the attempts are made while they run, the others from what was journaled.
    assert bool(observed.named("run_activity pack")) is (root is ALWAYS_ON)


async def test_contents_are_captured_only_when_asked_for(sdk: Observed) -> None:
    loud = Observed()
    stop = outlast.instrument(tracer_provider=loud.provider, meter_provider=loud.meters, capture_content=True)
    try:
        async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
            await approved(await backend.start(Shipping, "q"))
    finally:
        stop()
        loud.meters.shutdown()
    *_, answer = loud.named("chat m-1")
    assert answer.attributes is not None
    assert SECRET in str(answer.attributes["gen_ai.output.messages"])
    [shipped] = loud.named("execute_tool ship")
    assert shipped.attributes is not None
    assert shipped.attributes["gen_ai.tool.call.result"] == f'"{SECRET}"'


async def test_metrics_count_calls_tokens_and_workers(sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping], identity="w-1"):
        [carried] = sdk.points("outlast.worker.executions")
        assert (carried.value, carried.attributes["outlast.worker"]) == (0, "w-1")
        await approved(await backend.start(Shipping, "q"))
        calls = Counter[str | None]()
        for point in sdk.points("gen_ai.execute_tool.duration"):
            calls[point.attributes.get("error.type")] += point.count
        assert calls == {"LookupError": 1, None: 2}
        for name, times in (("client.operation", 3), ("invoke_agent", 1), ("workflow", 1)):
            [point] = sdk.points(f"gen_ai.{name}.duration")
            assert (point.count, point.attributes.get("error.type")) == (times, None)
        tokens = sdk.points("gen_ai.client.token.usage")
        assert {point.attributes["gen_ai.token.type"] for point in tokens} == {"input", "output"}
        [claims] = sdk.points("outlast.worker.claims")
        assert claims.value >= 1
        [workers] = sdk.points("outlast.workers")
        assert workers.value == 1
        data = sdk.reader.get_metrics_data()
        assert data is not None
        assert SECRET not in data.to_json()
    assert sdk.points("outlast.worker.executions") == []


async def test_an_exporter_that_raises_does_not_harm_the_execution(
    sdk: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            raise RuntimeError("the collector has gone")

    class Raising(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.instrumentation_scope is not None and span.instrumentation_scope.name == "outlast":
                self.span_exporter.export([span])

    sdk.provider.add_span_processor(Raising(Broken()))
    async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
        assert await approved(await backend.start(Shipping, "q")) == SECRET
    assert any(record.name == "outlast.otel" for record in caplog.records)


def test_without_a_provider_of_the_sdk_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"set_tracer_provider\(\)"):
        outlast.instrument()


@workflow.define(name="otel_waiting")
class Waiting:
    @workflow.entrypoint
    async def run(self) -> None:
        await asyncio.sleep(0.01)


async def test_the_lag_of_timers_is_measured(url: str, sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Waiting], task_queue=queue):
        await (await backend.start(Waiting, task_queue=queue)).result()
    [lag] = sdk.points("outlast.timer.lag")
    assert lag.count == 1
    assert 0 <= lag.sum < 60


# Runs in plain scripts ---------------------------------------------------------------------------------

AGENT: outlast.Agent[Any, str] = outlast.Agent(model="m-1", name="clerk", tools=[weigh])


def without_approval(request: Any) -> Any:
    return replies(request) if request.turn == 1 else say(SECRET)


async def test_a_run_in_a_plain_script_is_a_trace_of_its_own(sdk: Observed) -> None:
    await outlast.Runner.run(AGENT, SECRET, outlast.ScriptedSession(without_approval))
    [run] = sdk.named("invoke_agent clerk")
    check_parents(sdk.spans(), run)
    assert Counter(span.name for span in sdk.spans()) == {
        "invoke_agent clerk": 1,
        "chat m-1": 2,
        "execute_tool weigh": 2,
        "ask the scales": 1,
    }
    assert SECRET not in "".join(span.to_json() for span in sdk.spans())
    assert run.start_time is not None
    assert time.time_ns() - run.start_time < 600e9


@pytest.mark.parametrize("streams", [False, True])
async def test_a_run_in_a_plain_script_is_a_part_of_its_callers_trace(streams: bool, sdk: Observed) -> None:
    with sdk.tracer.start_as_current_span("a request") as caller:
        session = outlast.ScriptedSession(without_approval)
        if streams:
            await outlast.Runner.run_streamed(AGENT, "q", session).result()
        else:
            await outlast.Runner.run(AGENT, "q", session)
    [run] = sdk.named("invoke_agent clerk")
    assert run.parent is not None
    assert run.parent.span_id == caller.get_span_context().span_id
    check_parents(sdk.spans())


# Links, contents, servers ------------------------------------------------------------------------------


@outlast.activity(name="otel_failing", retry_policy_max_attempts=1)
async def failing(what: str) -> str:
    """Fail, with a message that nobody else may read."""
    raise LookupError(f"no {what}: {SECRET}")


@workflow.define(name="otel_failure")
class Failure:
    @workflow.entrypoint
    async def run(self, what: str) -> str:
        return await failing(what)


async def test_retries_and_forks_are_linked_and_no_error_shows_a_content(sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Failure]):
        execution = await backend.start(Failure, SECRET)
        with pytest.raises(outlast.ExecutionFailed):
            await execution.result()
        fork = await execution.fork(at=1)
        with pytest.raises(outlast.ExecutionFailed):
            await fork.result()
        await execution.retry()
        with pytest.raises(outlast.ExecutionFailed):
            await execution.result()
    roots = sdk.named("invoke_workflow otel_failure")
    own, copied = trace_of(execution.id), trace_of(fork.id)
    assert [root.context.trace_id for root in roots] == [own.trace_id, copied.trace_id, own.trace_id]
    links = [[(link.context.trace_id, link.context.span_id) for link in root.links] for root in roots]
    assert links == [[], [own[:2]], [own[:2]]]
    assert {root.status.status_code for root in roots} == {StatusCode.ERROR}
    assert all(span.status.description is None and span.events == () for span in sdk.spans())
    assert SECRET not in "".join(span.to_json() for span in sdk.spans())


@pytest.mark.server
async def test_a_server_of_models_gets_the_span_of_the_attempt_in_a_header(sdk: Observed) -> None:
    agent: outlast.Agent[Any, str] = outlast.Agent(model="m-1", name="clerk")
    with MistralServer(ScriptedModel({"*": [[Say("hello")], [Say("hello")]]}), api_key="k") as server:
        for session in (
            outlast.RemoteSession(api_key="k", server_url=server.url),
            outlast.LocalSession(api_key="k", server_url=server.url),
        ):
            server.requests.clear()
            sdk.exporter.clear()
            await outlast.Runner.run(agent, "q", session)
            [made] = sdk.named("chat m-1")
            given = {request.headers.get("traceparent") for request in server.requests}
            assert given == {TraceContext(made.context.trace_id, made.context.span_id).traceparent}


@pytest.mark.server
async def test_an_mcp_server_gets_the_span_of_the_attempt(sdk: Observed) -> None:
    config = raw("meta", {"name": "look", "inputSchema": OBJECT})
    agent: outlast.Agent[Any, str] = outlast.Agent(model="m-1", name="clerk", mcp_clients=[config])

    def ask(request: Any) -> Any:
        return call("t_look", {}) if request.turn == 1 else say("done")

    result = await outlast.Runner.run(agent, "q", outlast.ScriptedSession(ask))
    [answer] = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    [made] = sdk.named("execute_tool t_look")
    given = json.loads(answer)["traceparent"]
    assert TraceContext.of(given) == TraceContext(made.context.trace_id, made.context.span_id)


async def test_without_observers_no_request_names_a_span() -> None:
    assert attempt_span.get() is None
