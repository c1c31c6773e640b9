"""OpenTelemetry: the executions of this process as traces and metrics."""

from outlast.core.errors import MissingExtra

try:
    import opentelemetry.sdk as _sdk  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("otel") from error

from outlast.adapters.otel.instrumentation import Instrumentation

__all__ = ["Instrumentation"]
