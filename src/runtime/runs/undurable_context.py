"""Running an agent in a plain script: the same steps, performed at once, with retries but no journal."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Self

from outlast.core.approvals import Decision
from outlast.core.errors import NotSupported
from outlast.core.event_stream import Delta
from outlast.core.failure import step_error
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
)
from outlast.core.spans import attempt_context, trace_of
from outlast.core.trace_context import TraceContext
from outlast.ports.clock import Clock
from outlast.ports.deltas import Publish
from outlast.ports.durability.steps import Attempt, E, HeldBack, Step, StepContext
from outlast.ports.resources import Resources
from outlast.runtime.attempts.attempt import Heartbeat, perform_in_time
from outlast.runtime.attempts.observing import Watches, calling_span, is_observed
from outlast.runtime.isolation.tracebacks import failure_of

NO_APPROVALS = (
    "a tool of this run requires approval, for which a run in a plain script cannot wait: "
    "run it in a workflow, or give it an id and a backend"
)

logger = logging.getLogger("outlast.runner")


class PlainSpans:
    """The observers of one run in a plain script.

    They get its records together whenever it asks for a step, as those of an execution, whose batches end
    with what the code asks for next: so they can see whether the run goes on.
    """

    def __init__(self, watches: Watches, trace: TraceContext) -> None:
        self._watches = watches
        self._trace = trace
        self._records: list[AnyRecord] = []

    @classmethod
    def begun(cls, run_id: str, at: float) -> Self:
        """Return those of a run that begins now, in the trace of its caller if there is one."""
        return cls(Watches.of_run(run_id, at), calling_span() or trace_of(run_id))

    def attempt(self, idempotency_key: str, number: int) -> TraceContext:
        """Return the span of an attempt."""
        return attempt_context(self._trace, idempotency_key, number)

    def take(self, record: AnyRecord) -> None:
        """Take what has happened."""
        self._records.append(record)
        if isinstance(record, StepScheduled):
            self.end()

    def end(self) -> None:
        """Hand on what was taken."""
        records, self._records = self._records, []
        self._watches.wrote(records)


class PlainContext(StepContext):
    """The context of a run outside any workflow: nothing is kept, and a crash loses everything.

    `on_record` gets the records that a journal would hold, `on_text` the text that a model is writing.
    """

    def __init__(
        self,
        resources: Resources,
        clock: Clock,
        on_record: Callable[[AnyRecord], None] = lambda record: None,
        on_text: Callable[[Delta], None] | None = None,
    ) -> None:
        self._id = uuid.uuid4().hex
        self._resources = resources
        self._clock = clock
        self._take_record = on_record
        self._on_text = on_text
        self._keys = 0
        self._spans = PlainSpans.begun(self._id, clock.now()) if is_observed() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spans is not None:
            self._spans.end()

    def _on_record(self, record: AnyRecord) -> None:
        self._take_record(record)
        if self._spans is not None:
            self._spans.take(record)

    async def run_step(self, step: Step) -> JSON:
        key, now = step.key, self._clock.now
        scheduled = StepScheduled(
            key=key,
            kind=step.kind,
            name=step.name,
            arguments=step.arguments,
            about=step.about,
            model=step.model,
        )
        self._on_record(scheduled)
        attempt_number = 1
        while True:
            pulse = Heartbeat()
            attempt = Attempt(
                self._id,
                step.name,
                attempt_number,
                f"{self._id}/{key}",
                pulse.beat,
                trace=None
                if self._spans is None
                else self._spans.attempt(f"{self._id}/{key}", attempt_number),
                publish=self._publisher_of(key, attempt_number) if step.kind is StepKind.MODEL else None,
            )
            try:
                result = await perform_in_time(
                    step.call, attempt, step.options, self._resources, self._clock, pulse
                )
            except HeldBack as held:
                await self._clock.sleep(held.seconds)
                continue
            except Exception as error:
                failure = failure_of(error, final=step.options.retry.non_retryable)
                delay = step.options.retry.delay_after(attempt_number, failure)
                if delay is None:
                    self._on_record(StepFailed(at=now(), key=key, attempts=attempt_number, failure=failure))
                    raise step_error(failure, step.name, attempt_number) from error
                failed = AttemptFailed(
                    at=now(), key=key, attempt=attempt_number, failure=failure, retry_at=now() + delay
                )
                self._on_record(failed)
                logger.warning("%s: %s; trying again in %.1f s", step.name, failure.message, delay)
            else:
                self._on_record(StepCompleted(at=now(), key=key, result=result))
                return result
            await self._clock.sleep(delay)
            attempt_number += 1

    def _publisher_of(self, key: str, attempt: int) -> Publish | None:
        on_text, numbers = self._on_text, count(1)
        if on_text is None:
            return None

        def publish(text: str) -> None:
            if text:
                on_text(Delta(key, attempt, next(numbers), text, self._clock.now()))

        return publish

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def next_key(self) -> str:
        self._keys += 1
        return f":{self._keys}"

    async def decision(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision:
        """Refuse: nobody can find the call, so nobody can decide about it.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(NO_APPROVALS)

    def emit(self, data: E) -> E:
        event = EventEmitted.of("", data)
        logger.debug("%s %s", event.kind, event.data)
        self._on_record(event)
        return data
