"""An observer that hands spans and metrics to OpenTelemetry's SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from opentelemetry import context as current
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)

from outlast.adapters.otel.span_ids import SpanIds
from outlast.core.errors import ConfigurationError
from outlast.core.json import encode
from outlast.core.records import AnyRecord, ExecutionHeld, ExecutionRecovered
from outlast.core.spans import Operation, Span, SpanReader
from outlast.core.trace_context import TraceContext
from outlast.ports.observers import Observer, Watch, WorkerLoad

logger = logging.getLogger("outlast.otel")

SCOPE = "outlast"
CONTENT_BYTES_MAX = 32_000
"""The most bytes of one attribute with contents; what is longer is left out."""

_KINDS = {Operation.CHAT: SpanKind.CLIENT, Operation.INVOKE_WORKFLOW: SpanKind.CONSUMER}


class Instrumentation(Observer):
    """Turns what executions do into spans and metrics.

    The spans get the ids of `outlast.core.spans`; whether a trace is sampled is decided by the provider's
    sampler, about the execution's own span, and so alike in every process.
    """

    def __init__(
        self, tracer_provider: TracerProvider, meter_provider: MeterProvider, *, capture_content: bool = False
    ) -> None:
        self._captures = capture_content
        self._provider = tracer_provider
        self._ids = SpanIds.of(tracer_provider)
        self._tracer = tracer_provider.get_tracer(SCOPE)
        self.metrics = Metrics(meter_provider.get_meter(SCOPE))

    @classmethod
    def of(
        cls,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        *,
        capture_content: bool = False,
    ) -> Self:
        """Return one for these providers, or for those that are set for the process.

        Raises:
            ConfigurationError: no provider of the SDK is given or set.
        """
        provider = tracer_provider or get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            raise ConfigurationError(
                "no TracerProvider of OpenTelemetry's SDK is set: give tracer_provider=, or call "
                "opentelemetry.trace.set_tracer_provider() first"
            )
        return cls(provider, meter_provider or get_meter_provider(), capture_content=capture_content)

    def watch(self, execution_id: str) -> Watch:
        return _Watch(self, execution_id)

    @contextmanager
    def attempt(self, context: TraceContext) -> Iterator[None]:
        token = current.attach(set_span_in_context(NonRecordingSpan(self._remote(context))))
        try:
            yield
        finally:
            current.detach(token)

    def caller(self) -> TraceContext | None:
        context = get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled)

    def worker(self, load: Callable[[], WorkerLoad]) -> Callable[[], None]:
        return self.metrics.worker(load)

    def emit(self, span: Span) -> None:
        """Hand a span that has ended to the SDK."""
        attributes = {"gen_ai.operation.name": span.operation.value, **span.attributes}
        if self._captures:
            for name, value in span.content.items():
                if len(data := encode(value)) <= CONTENT_BYTES_MAX:
                    attributes[name] = data.decode()
        if span.error is not None:
            attributes["error.type"] = span.error
        parent = span.parent
        with self._ids.next(span.context):
            started = self._tracer.start_span(
                span.name,
                set_span_in_context(
                    NonRecordingSpan(self._remote(parent)) if parent else NonRecordingSpan(_NOBODY), _EMPTY
                ),
                _KINDS.get(span.operation, SpanKind.INTERNAL),
                attributes,
                [Link(self._remote(link)) for link in span.links],
                start_time=_nanoseconds(span.began_at),
            )
        if span.error is not None:
            started.set_status(Status(StatusCode.ERROR))
        started.end(_nanoseconds(span.ended_at))

    def _remote(self, context: TraceContext) -> SpanContext:
        sampled = context.sampled and self._samples(context.trace_id)
        return SpanContext(
            context.trace_id,
            context.span_id,
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED * sampled),
        )

    def _samples(self, trace_id: int) -> bool:
        name = Operation.INVOKE_WORKFLOW.value
        decision = self._provider.sampler.should_sample(None, trace_id, name).decision
        return decision is Decision.RECORD_AND_SAMPLE


_NOBODY = SpanContext(0, 0, is_remote=False)
_EMPTY = current.Context()


class _Watch(Watch):
    def __init__(self, instrumentation: Instrumentation, execution_id: str) -> None:
        self._instrumentation = instrumentation
        self._reader = SpanReader(execution_id)

    def read(self, records: Sequence[AnyRecord]) -> None:
        for _ in self._spans(records):
            pass

    def wrote(self, records: Sequence[AnyRecord]) -> None:
        try:
            for span in self._spans(records):
                self._instrumentation.emit(span)
                self._instrumentation.metrics.ended(span)
            self._instrumentation.metrics.wrote(records)
        except Exception:  # An exporter of the user's, say; the execution must go on.
            logger.exception("a span could not be handed to OpenTelemetry")

    def _spans(self, records: Sequence[AnyRecord]) -> Iterator[Span]:
        for record in records:
            yield from self._reader.read(record)
        yield from self._reader.come_to_rest()


class Metrics:
    """The instruments; their names are those of the semantic conventions, where these have one."""

    def __init__(self, meter: Meter) -> None:
        self._durations = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Duration of calls of models, agents and tools"
        )
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of model calls")
        self._executions = meter.create_histogram(
            "outlast.execution.duration", "s", "Time from the start of an execution to its end"
        )
        self._recoveries = meter.create_counter(
            "outlast.recoveries", "{execution}", "Executions that were taken over from lost workers"
        )
        self._holds = meter.create_counter("outlast.holds", "{execution}", "Executions that were held")
        self._workers: list[Callable[[], WorkerLoad]] = []
        meter.create_observable_gauge(
            "outlast.worker.executions", [self._carried], "{execution}", "Executions that a worker carries on"
        )
        meter.create_observable_gauge(
            "outlast.worker.cached", [self._cached], "{execution}", "Executions kept in memory that wait"
        )

    def worker(self, load: Callable[[], WorkerLoad]) -> Callable[[], None]:
        """Observe a worker until the returned function is called."""
        self._workers.append(load)
        return lambda: self._workers.remove(load)

    def ended(self, span: Span) -> None:
        """Count a span."""
        about = {"gen_ai.operation.name": span.operation.value}
        if span.error is not None:
            about["error.type"] = span.error
        match span.operation:
            case Operation.INVOKE_WORKFLOW:
                about |= {"gen_ai.workflow.name": span.subject}
                self._executions.record(span.seconds, about)
            case Operation.CHAT:
                about |= {"gen_ai.request.model": span.subject}
                self._durations.record(span.seconds, about)
                for kind in ("input", "output"):
                    tokens = span.attributes.get(f"gen_ai.usage.{kind}_tokens")
                    if isinstance(tokens, int):
                        self._tokens.record(tokens, {**about, "gen_ai.token.type": kind})
            case Operation.EXECUTE_TOOL:
                self._durations.record(span.seconds, {**about, "gen_ai.tool.name": span.subject})
            case Operation.INVOKE_AGENT:
                self._durations.record(span.seconds, {**about, "gen_ai.agent.name": span.subject})
            case _:
                pass

    def wrote(self, records: Sequence[AnyRecord]) -> None:
        """Count records that end no span."""
        for record in records:
            match record:
                case ExecutionRecovered():
                    self._recoveries.add(1)
                case ExecutionHeld():
                    self._holds.add(1)
                case _:
                    pass

    def _carried(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(load.executions, _about(load)) for load in self._loads()]

    def _cached(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(load.cached, _about(load)) for load in self._loads()]

    def _loads(self) -> list[WorkerLoad]:
        return [load() for load in list(self._workers)]


def _about(load: WorkerLoad) -> dict[str, str]:
    return {"outlast.worker": load.identity, "outlast.task_queue": load.task_queue}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
