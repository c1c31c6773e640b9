"""Executions as traces and metrics of OpenTelemetry's SDK, on every backend."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import StatusCode, get_current_span

import outlast
from outlast import workflow
from outlast.adapters.scripted.session import call, say
from outlast.core.errors import ConfigurationError
from outlast.core.spans import trace_of
from tests.adapters.redis_servers import VALKEY, shared_url
from tests.adapters.temporal_server import shared_server

SECRET = "a prompt that no trace may show"


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


observed: Observed
"""The SDK of the test that runs now, for activities to make spans of their own."""


@pytest.fixture(autouse=True)
def sdk() -> Iterator[Observed]:
    global observed
    observed = Observed()
    stop = outlast.instrument(tracer_provider=observed.provider, meter_provider=observed.meters)
    yield observed
    stop()
    observed.meters.shutdown()
    observed.provider.shutdown()


@outlast.activity(name="otel_weigh", retry_policy_initial_interval=timedelta(0))
async def weigh(what: str) -> str:
    """Weigh something."""
    if outlast.activity.info().attempt == 1:
        raise LookupError("the scales are in use")
    with observed.tracer.start_as_current_span("ask the scales"):
        return SECRET


@outlast.activity(name="otel_pack")
def pack(what: str) -> str:
    """Pack something, in a thread."""
    with observed.tracer.start_as_current_span("fold the box"):
        return SECRET


@outlast.activity(name="otel_ship", requires_approval=True)
async def ship(what: str) -> str:
    """Ship something."""
    return SECRET


@workflow.define(name="otel_shipping")
class Shipping:
    @workflow.entrypoint
    async def run(self, question: str) -> str:
        def reply(request: Any) -> Any:
            match request.turn:
                case 1:
                    return call("otel_weigh", {"what": SECRET})
                case 2:
                    return call("otel_ship", {"what": SECRET})
            return say(SECRET)

        agent = outlast.Agent(model="m-1", name="clerk", tools=[weigh, ship])
        text = (await outlast.Runner.run(agent, question, outlast.ScriptedSession(reply))).text
        return await pack(text)


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


async def approved(execution: outlast.Execution) -> Any:
    """Allow the call that waits, and return the result."""
    async with asyncio.timeout(30):
        async for event in execution.events():
            if event.kind == "approval_requested":
                [waiting] = await execution.pending()
                await execution.decide(waiting.call_id, "allow")
                break
        return await execution.result()


async def test_an_execution_is_one_tree_of_spans_named_by_the_conventions(url: str, sdk: Observed) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Shipping], task_queue=queue):
        execution = await backend.start(Shipping, SECRET, task_queue=queue)
        await approved(execution)
    trace = trace_of(execution.id)
    [root] = sdk.named("invoke_workflow otel_shipping")
    assert (root.context.trace_id, root.context.span_id) == (trace.trace_id, trace.span_id)
    assert root.parent is None
    [run] = sdk.named("invoke_agent clerk")
    assert {span.name for span in sdk.spans()} == {
        "invoke_workflow otel_shipping",
        "invoke_agent clerk",
        "chat m-1",
        "execute_tool otel_weigh",
        "await_approval otel_ship",
        "execute_tool otel_ship",
        "run_activity otel_pack",
        "ask the scales",
        "fold the box",
    }
    assert len(sdk.named("chat m-1")) == 3
    assert {span.context.trace_id for span in sdk.spans()} == {trace.trace_id}
    ids = [span.context.span_id for span in sdk.spans()]
    assert len(ids) == len(set(ids))
    for span in sdk.spans():
        assert span is root or (span.parent is not None and span.parent.span_id in ids), span.name
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
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
            span.attributes["outlast.attempt"]
            for span in sdk.named("execute_tool otel_weigh")
            if span.attributes
        ] == [1, 2]


@pytest.mark.parametrize("of", ["ask the scales", "fold the box"])
async def test_a_span_of_an_activity_is_a_child_of_its_attempt(of: str, sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
        await approved(await backend.start(Shipping, "q"))
    [child] = sdk.named(of)
    *_, attempt = sdk.named("execute_tool otel_weigh" if of == "ask the scales" else "run_activity otel_pack")
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
    assert len(sdk.named("invoke_workflow otel_shipping")) == 1


async def test_an_execution_started_in_a_span_is_a_part_of_its_trace(sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping]):
        with sdk.tracer.start_as_current_span("a request") as caller:
            execution = await backend.start(Shipping, "q")
        await approved(execution)
    [root] = sdk.named("invoke_workflow otel_shipping")
    assert root.parent is not None
    assert root.parent.span_id == caller.get_span_context().span_id
    assert len({span.context.trace_id for span in sdk.spans()}) == 1
    assert not get_current_span().get_span_context().is_valid


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
    [shipped] = loud.named("execute_tool otel_ship")
    assert shipped.attributes is not None
    assert shipped.attributes["gen_ai.tool.call.result"] == f'"{SECRET}"'


async def test_metrics_count_calls_tokens_and_workers(sdk: Observed) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Shipping], identity="w-1"):
        [carried] = sdk.points("outlast.worker.executions")
        assert (carried.value, carried.attributes["outlast.worker"]) == (0, "w-1")
        await approved(await backend.start(Shipping, "q"))
        durations = Counter[tuple[str, str | None]]()
        for point in sdk.points("gen_ai.client.operation.duration"):
            about = point.attributes
            durations[about["gen_ai.operation.name"], about.get("error.type")] += point.count
        assert durations == {
            ("chat", None): 3,
            ("execute_tool", "LookupError"): 1,
            ("execute_tool", None): 2,
            ("invoke_agent", None): 1,
        }
        tokens = sdk.points("gen_ai.client.token.usage")
        assert {point.attributes["gen_ai.token.type"] for point in tokens} == {"input", "output"}
        [whole] = sdk.points("outlast.execution.duration")
        assert whole.count == 1
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
