"""The cost of traces: `python -m benchmarks.tracing`.

A turn with one tool call in memory is the floor. The first line is what the hooks of observers cost in such a
turn while nobody observes, the second one a turn with OpenTelemetry's SDK and an exporter that drops spans.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table

import outlast
from benchmarks.turns import median, seconds_per_turn
from outlast.core.records import StepCompleted
from outlast.runtime.attempts.observing import Watches, is_observed, observed_attempt

TURNS = 100
STEPS_PER_TURN = 2
TIMES = 100_000
UNOBSERVED_MAX = 1.01


class Dropping(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def seconds_of(hooks: Callable[[], None]) -> float:
    started = time.perf_counter()
    for _ in range(TIMES):
        hooks()
    return (time.perf_counter() - started) / TIMES


def hooks_of_a_step(watches: Watches, records: list[StepCompleted]) -> None:
    """Call what a step calls for observers: when it begins, around it, and when its records are written."""
    if not is_observed():
        with observed_attempt(None):
            watches.wrote(records)


async def main() -> None:
    watches, records = Watches("e", []), [StepCompleted(at=1.0, key="k", result=None)]
    hooks = STEPS_PER_TURN * seconds_of(lambda: hooks_of_a_step(watches, records))
    floor = await median(lambda number: seconds_per_turn("memory:", TURNS))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Dropping()))
    stop = outlast.instrument(tracer_provider=provider, meter_provider=MeterProvider(shutdown_on_exit=False))
    traced = await median(lambda number: seconds_per_turn("memory:", TURNS))
    stop()
    table = Table(title="Cost of traces in a turn with one tool call, in memory", title_justify="left")
    for column in ("", "µs", "ratio to a turn"):
        table.add_column(column, justify="right")
    ratio = (floor + hooks) / floor
    table.add_row("hooks without an SDK", f"{hooks * 1e6:.1f}", f"{ratio:.4f}")
    table.add_row("a turn with the SDK", f"{traced * 1e6:.1f}", f"{traced / floor:.2f}")
    table.add_row("a turn", f"{floor * 1e6:.1f}", "1")
    Console().print(table)
    assert ratio < UNOBSERVED_MAX, "the hooks cost too much while nobody observes"


if __name__ == "__main__":
    asyncio.run(main())
