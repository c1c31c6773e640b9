"""Metrics: durations and tokens of what has ended, and the load of workers.

Names and bucket boundaries are those of OpenTelemetry's semantic conventions for generative AI, where these
have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from outlast.core.records import AnyRecord, ExecutionHeld, ExecutionRecovered
from outlast.core.spans import Operation, Span
from outlast.ports.observers import WorkerLoad

_CALL_SECONDS = [0.01 * 2**power for power in range(14)]
_AGENT_SECONDS = [0.1 * 2**power for power in range(13)]
_WORKFLOW_SECONDS = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0]
_LAG_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0]
_TOKENS = [4.0**power for power in range(14)]


def _histogram(
    meter: Meter, name: str, unit: str, description: str, boundaries: Sequence[float]
) -> Histogram:
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)


class Metrics:
    """The instruments."""

    def __init__(self, meter: Meter) -> None:
        self._models = _histogram(
            meter, "gen_ai.client.operation.duration", "s", "GenAI operation duration", _CALL_SECONDS
        )
        self._tools = _histogram(
            meter, "gen_ai.execute_tool.duration", "s", "Duration of tool executions", _CALL_SECONDS
        )
        self._agents = _histogram(
            meter,
            "gen_ai.invoke_agent.duration",
            "s",
            "Time for which one agent is active in a run",
            _AGENT_SECONDS,
        )
        self._workflows = _histogram(
            meter,
            "gen_ai.workflow.duration",
            "s",
            "Time from the start of an execution to its end",
            _WORKFLOW_SECONDS,
        )
        self._tokens = _histogram(
            meter, "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used", _TOKENS
        )
        self._lag = _histogram(
            meter, "outlast.timer.lag", "s", "Time from when a timer is due until it fires", _LAG_SECONDS
        )
        self._recoveries = meter.create_counter(
            "outlast.recoveries", "{execution}", "Executions that were taken over from lost workers"
        )
        self._holds = meter.create_counter("outlast.holds", "{execution}", "Executions that were held")
        self._workers: list[Callable[[], WorkerLoad]] = []
        meter.create_observable_gauge(
            "outlast.workers", [self._counted], "{worker}", "Workers of this process"
        )
        meter.create_observable_counter(
            "outlast.worker.claims", [self._claimed], "{claim}", "Claims of executions by a worker"
        )
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
        about: dict[str, str] = {} if span.error is None else {"error.type": span.error}
        match span.operation:
            case Operation.INVOKE_WORKFLOW:
                self._workflows.record(span.seconds, {**about, "gen_ai.workflow.name": span.subject})
            case Operation.INVOKE_AGENT:
                self._agents.record(span.seconds, {**about, "gen_ai.agent.name": span.subject})
            case Operation.EXECUTE_TOOL:
                self._tools.record(span.seconds, {**about, "gen_ai.tool.name": span.subject})
            case Operation.CHAT:
                call = {"gen_ai.operation.name": span.operation.value, "gen_ai.request.model": span.subject}
                self._models.record(span.seconds, about | call)
                for kind in ("input", "output"):
                    tokens = span.attributes.get(f"gen_ai.usage.{kind}_tokens")
                    if isinstance(tokens, int):
                        self._tokens.record(tokens, call | {"gen_ai.token.type": kind})
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

    def fired(self, late_by: float) -> None:
        """Count a timer that fired so many seconds after it was due."""
        self._lag.record(late_by)

    def _counted(self, _: CallbackOptions) -> Iterable[Observation]:
        queues = Counter(load.task_queue for load in self._loads())
        return [Observation(count, {"outlast.task_queue": queue}) for queue, count in queues.items()]

    def _claimed(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(load.claims, _about(load)) for load in self._loads()]

    def _carried(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(load.executions, _about(load)) for load in self._loads()]

    def _cached(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(load.cached, _about(load)) for load in self._loads()]

    def _loads(self) -> list[WorkerLoad]:
        return [load() for load in list(self._workers)]


def _about(load: WorkerLoad) -> dict[str, str]:
    return {"outlast.worker": load.identity, "outlast.task_queue": load.task_queue}
