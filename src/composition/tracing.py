"""Traces and metrics of the executions of this process, through OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from outlast.runtime.attempts.observing import observe

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool = False,
) -> Callable[[], None]:
    """Hand spans and metrics of all executions that this process carries on to OpenTelemetry's SDK.

    Call it once, before the workers begin. Without arguments, the providers are those that are set for the
    process, for instance by `opentelemetry-instrument`. An execution is one trace, over all its workers and
    crashes: the ids follow from the execution, its steps and their attempts. Inside activities the attempt's
    span is the current one, so that spans of HTTP clients are its children; MCP servers get it, too. An
    execution that is started inside a span is a part of that trace.

    Names and attributes are those of the semantic conventions for generative AI. Contents (replies,
    arguments, results) are handed on only with `capture_content`.

    Returns:
        A function that ends it, for executions that are loaded from then on.

    Raises:
        MissingExtra: the SDK is not installed.
        ConfigurationError: no provider of the SDK is given or set.
    """
    from outlast.adapters.otel import Instrumentation

    return observe(Instrumentation.of(tracer_provider, meter_provider, capture_content=capture_content))
