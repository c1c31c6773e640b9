"""An observer that hands spans and metrics to OpenTelemetry's SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from opentelemetry import context as current
from opentelemetry.metrics import MeterProvider, get_meter_provider
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

from outlast.adapters.otel.metrics import Metrics
from outlast.adapters.otel.span_ids import SpanIds
from outlast.core.errors import ConfigurationError
from outlast.core.json import encode
from outlast.core.records import AnyRecord, TimerFired, TimerStarted
from outlast.core.spans import Operation, Span, SpanReader
from outlast.core.trace_context import TraceContext
from outlast.ports.observers import Observer, Watch, WorkerLoad

logger = logging.getLogger("outlast.otel")

SCOPE = "outlast"
CONTENT_BYTES_MAX = 32_000
"""The most bytes of one attribute with contents; what is longer is left out."""


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
        return _Watch(self, SpanReader(execution_id))

    def run(self, run_id: str, caller: TraceContext | None, began_at: float) -> Watch:
        return _Watch(self, SpanReader.of_run(run_id, caller, began_at))

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
                _under(self._remote(parent)) if parent else _UNDER_NOBODY,
                SpanKind.CLIENT if span.operation is Operation.CHAT else SpanKind.INTERNAL,
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
        decision = self._provider.sampler.should_sample(_UNDER_NOBODY, trace_id, name).decision
        return decision is Decision.RECORD_AND_SAMPLE


def _under(parent: SpanContext) -> current.Context:
    """Return a context with that parent and nothing else, whatever span is the current one here."""
    return set_span_in_context(NonRecordingSpan(parent), current.Context())


_UNDER_NOBODY = _under(SpanContext(0, 0, is_remote=False))


class _Watch(Watch):
    def __init__(self, instrumentation: Instrumentation, reader: SpanReader) -> None:
        self._instrumentation = instrumentation
        self._reader = reader
        self._timers: dict[str, float] = {}
        """The times at which timers are due, by key."""

    def read(self, records: Sequence[AnyRecord]) -> None:
        for _ in self._spans(records):
            pass
        for _ in self._lags(records):
            pass

    def wrote(self, records: Sequence[AnyRecord]) -> None:
        try:
            for span in self._spans(records):
                self._instrumentation.emit(span)
                self._instrumentation.metrics.ended(span)
            self._instrumentation.metrics.wrote(records)
            for seconds in self._lags(records):
                self._instrumentation.metrics.fired(seconds)
        except Exception:  # An exporter of the user's, say; the execution must go on.
            logger.exception("a span could not be handed to OpenTelemetry")

    def _lags(self, records: Sequence[AnyRecord]) -> Iterator[float]:
        """Yield by how many seconds each timer fired late."""
        for record in records:
            match record:
                case TimerStarted(key=key, due_at=due_at):
                    self._timers[key] = due_at
                case TimerFired(key=key, at=at) if key in self._timers:
                    yield max(0.0, at - self._timers.pop(key))
                case _:
                    pass

    def _spans(self, records: Sequence[AnyRecord]) -> Iterator[Span]:
        for record in records:
            yield from self._reader.read(record)
        yield from self._reader.come_to_rest()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
