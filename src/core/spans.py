"""Spans: an execution as one trace, made from its records alone.

A trace is a tree of spans, each with a beginning, an end and attributes. Tracers give them random ids, when
they begin. An execution outlives its processes, and its code runs again in each of them; so the ids here
follow from what the spans are about: the trace from the execution, a span from its step and attempt. Every
process that reads the journal makes the same spans. One of them, the one that writes a record, hands on those
which end with it. So a trace has all workers and crashes in it, and a replay adds nothing.

    invoke_workflow deal_analysis                   the execution
      invoke_agent coordinator                      a run, as long as one agent is active
        chat mistral-medium-latest                  one attempt at a model call
        execute_tool screen_sanctions               one attempt at a tool call
        await_approval send_report                  a call waits for a person
      run_activity send_report                      one attempt at an activity
      handle_update add_item                        an update, from its acceptance to its answer

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI, where these have
one. An attempt begins, for all that a journal knows, when its step was asked for, or when its back-off is
over. An attempt that was under way when its worker was lost ends, with the error `worker_lost`, when another
worker takes over. (Temporal's server retries activities, and its history has the last attempt only: there, a
step is one span.)

A run in a plain script has no execution around it: its `invoke_agent` begins the trace, or is a child of the
caller's span.

The records do not say when a run is over. It is taken to be when it has no open step and no call that waits
for a person, and the next input comes. Should it go on all the same, a further span of that run begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Self

from outlast.core.events import EventKind
from outlast.core.json import JSON
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionEnded,
    ExecutionForked,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.span_messages import output_messages
from outlast.core.step_keys import place_in
from outlast.core.trace_context import TraceContext

WORKER_LOST = "worker_lost"
"""The error of an attempt whose worker was lost."""
ABANDONED = "abandoned"
"""The error of an attempt whose result the code no longer waits for when the execution ends."""


class Operation(StrEnum):
    """The sort of a span: the value of `gen_ai.operation.name`, and the first word of the span's name."""

    INVOKE_WORKFLOW = "invoke_workflow"
    INVOKE_AGENT = "invoke_agent"
    CHAT = "chat"
    EXECUTE_TOOL = "execute_tool"
    AWAIT_APPROVAL = "await_approval"
    RUN_ACTIVITY = "run_activity"
    RUN_CHILD = "run_child"
    HANDLE_UPDATE = "handle_update"


Attributes = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Times are seconds since the epoch."""

    operation: Operation
    subject: str
    """The workflow, agent, model, tool, activity or update that it is about."""
    context: TraceContext
    parent: TraceContext | None
    began_at: float
    ended_at: float
    attributes: Attributes
    error: str | None = None
    """The kind of the error with which it ended."""
    links: tuple[TraceContext, ...] = ()
    content: Mapping[str, JSON] = field(default_factory=dict)
    """The contents of replies, arguments and results, by attribute. They are not for everybody's eyes."""

    @property
    def name(self) -> str:
        """The name of the span."""
        return f"{self.operation} {self.subject}"

    @property
    def seconds(self) -> float:
        """The time that it took."""
        return self.ended_at - self.began_at


def trace_of(execution_id: str, reopened: int = 0) -> TraceContext:
    """Return the context of an execution's own span, unless its caller gave it a trace to be a part of."""
    return TraceContext(_number(16, "trace", execution_id), _root(execution_id, reopened))


def attempt_context(
    trace: TraceContext, idempotency_key: str, attempt: int, reopened: int = 0
) -> TraceContext:
    """Return the context of an attempt, by its number since the execution was last opened again."""
    return trace._replace(span_id=_number(8, "attempt", idempotency_key, str(reopened), str(attempt)))


def trace_in(execution_id: str, records: Sequence[AnyRecord]) -> TraceContext:
    """Return the context of the execution's own span, or of its caller's; `records` begin with the first."""
    own = trace_of(execution_id)
    first = records[0] if records else None
    if not isinstance(first, ExecutionStarted) or first.trace is None:
        return own
    is_copy = any(isinstance(record, ExecutionForked) for record in records)
    return own if is_copy else TraceContext.of(first.trace) or own


def _root(execution_id: str, reopened: int) -> int:
    return _number(8, "execution", execution_id, str(reopened))


def _number(size: int, *parts: str) -> int:
    digest = sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:size]) or 1  # An id is never zero.


@dataclass(slots=True)
class _OpenSpan:
    scheduled: StepScheduled
    began_at: float
    """The time from which on its present attempt may have run."""
    attempt: int = 1
    """The number of the present attempt."""


@dataclass(slots=True)
class _Stint:
    """The time for which one agent is active in a run."""

    agent: str
    number: int
    began_at: float
    ended_at: float
    tokens: Counter[str] = field(default_factory=Counter)
    """The tokens of its model calls, by attribute."""
    waiting: set[str] = field(default_factory=set)
    """The open steps, and the calls that wait for a person."""


@dataclass(slots=True)
class _Since:
    at: float
    about: dict[str, JSON]


class SpanReader:
    """Turns the records of one execution, read from the first, into the spans that end with them."""

    def __init__(self, execution_id: str) -> None:
        self._id = execution_id
        self._about: Attributes = {"outlast.execution.id": execution_id}
        self._is_plain = False
        """True for a run in a plain script, outside any execution."""
        self._workflow = ""
        self._began_at = self._now = 0.0
        self._carried: TraceContext | None = None
        self._trace = trace_of(execution_id)
        self._reopened = 0
        self._links: tuple[TraceContext, ...] = ()
        self._steps: dict[str, _OpenSpan] = {}
        self._failed: dict[str, _OpenSpan] = {}
        """The steps that failed for good."""
        self._stints: dict[str, _Stint] = {}
        self._numbers: dict[str, int] = {}
        """The number of stints that each run has had."""
        self._approvals: dict[str, _Since] = {}
        self._updates: dict[str, _Since] = {}

    @classmethod
    def of_run(cls, run_id: str, caller: TraceContext | None, began_at: float) -> Self:
        """Return a reader of the records of a run in a plain script, which `caller` has begun."""
        reader = cls(run_id)
        reader._about = {}
        reader._is_plain = True
        reader._now = began_at
        reader._carried, reader._trace = caller, caller or reader._trace
        return reader

    @property
    def root(self) -> TraceContext:
        """The context of the execution's own span."""
        return self._trace._replace(span_id=_root(self._id, self._reopened))

    @property
    def _outermost(self) -> TraceContext | None:
        """The context of the span around what belongs to no run."""
        return self._carried if self._is_plain else self.root

    def read(self, record: AnyRecord) -> Iterator[Span]:
        """Yield the spans that end with the record; consume all of them before the next record."""
        if isinstance(record, INPUTS):
            yield from self._ended_stints(record.at)
            self._now = max(self._now, record.at)
        match record:
            case ExecutionStarted():
                self._begin(record)
            case StepScheduled():
                yield from self._step_asked(record)
            case StepCompleted(key=key) if key in self._steps:
                yield from self._attempt_over(key, record.at, None, record.result)
                self._step_over(key)
            case StepFailed(key=key) if key in self._steps:
                self._failed[key] = self._steps[key]
                # An attempt in doubt may be the last one: then the present one never began.
                if record.attempts >= self._steps[key].attempt:
                    yield from self._attempt_over(key, record.at, record.failure.kind)
                self._step_over(key)
            case AttemptFailed(key=key) if key in self._steps:
                yield from self._attempt_failed(record, self._steps[key])
            case ExecutionRecovered(at=at):
                self._now = max(self._now, at)
                yield from self._lost(at)
            case EventEmitted():
                yield from self._event(record)
            case UpdateAccepted(update_id=update_id):
                self._updates[update_id] = _Since(record.at, {"update": record.name})
            case UpdateCompleted(update_id=update_id) if update_id in self._updates:
                since = self._updates.pop(update_id)
                error = None if record.failure is None else record.failure.kind
                yield self._span(
                    Operation.HANDLE_UPDATE,
                    str(since.about["update"]),
                    _number(8, "update", self._id, str(self._reopened), update_id),
                    self._outermost,
                    since.at,
                    {"outlast.update.id": update_id},
                    error=error,
                )
            case ExecutionForked():
                self._forked(record)
            case ExecutionReopened():
                self._reopen(record)
            case ExecutionEnded():
                yield from self._end(record)
            case _:
                pass

    def come_to_rest(self) -> Iterator[Span]:
        """Yield the spans of the runs that are over, as far as is known when all records were read."""
        yield from self._ended_stints(self._now)

    # The execution ---------------------------------------------------------------------------------------

    def _begin(self, record: ExecutionStarted) -> None:
        self._workflow, self._began_at = record.workflow, record.at
        self._carried = None if record.trace is None else TraceContext.of(record.trace)
        self._trace = self._carried or self._trace

    def _forked(self, record: ExecutionForked) -> None:
        """A copy is a trace of its own, which does not show again what is in the other one."""
        source = trace_of(record.source)
        self._links = (self._trace._replace(span_id=source.span_id) if self._carried else source,)
        self._carried, self._trace = None, trace_of(self._id)
        self._began_at = self._now = max(self._now, record.at)
        self._stints.clear()
        self._numbers.clear()
        for step in self._steps.values():
            step.began_at, step.attempt = record.at, 1
            self._join(step.scheduled)

    def _reopen(self, record: ExecutionReopened) -> None:
        self._links = (self.root,)
        self._reopened += 1
        self._began_at = self._now = max(self._now, record.at)
        before, self._steps = self._failed | self._steps, {}
        for scheduled in record.open:
            self._steps[scheduled.key] = step = before.get(scheduled.key, _OpenSpan(scheduled, record.at, 0))
            if scheduled.key in record.failed:
                step.attempt, step.began_at = 1, record.at
            elif step.began_at <= record.at:
                step.attempt, step.began_at = step.attempt + 1, record.at
            self._join(scheduled)

    def _end(self, record: ExecutionEnded) -> Iterator[Span]:
        for key, step in self._steps.items():
            if step.began_at <= self._now:
                yield from self._attempt_over(key, self._now, ABANDONED)
        for stint in self._stints.values():
            stint.waiting.clear()
        yield from self._ended_stints(self._now)
        self._approvals.clear()
        self._updates.clear()
        failure = record.failure
        status = record.status
        error = status.value if status in (Status.CANCELLED, Status.TERMINATED) else None
        yield self._span(
            Operation.INVOKE_WORKFLOW,
            self._workflow,
            self.root.span_id,
            None if self._reopened else self._carried,
            self._began_at,
            {"gen_ai.workflow.name": self._workflow, "outlast.execution.status": status.value},
            error=error if failure is None else failure.kind,
            links=self._links,
        )

    # Steps -----------------------------------------------------------------------------------------------

    def _step_asked(self, record: StepScheduled) -> Iterator[Span]:
        self._steps[record.key] = _OpenSpan(record, self._now)
        run = _run_of(record)
        stint = None if run is None else self._stints.get(run)
        if run is not None and stint is not None and record.kind is StepKind.MODEL:
            yield from self._handed_off(run, stint, str(record.about.get("agent", "")))
        self._join(record)

    def _handed_off(self, run: str, stint: _Stint, agent: str) -> Iterator[Span]:
        if stint.agent != agent:
            del self._stints[run]
            yield self._stint_span(run, stint)

    def _join(self, record: StepScheduled) -> None:
        """Count a step among those that its run waits for."""
        run = _run_of(record)
        if run is None:
            return
        if run not in self._stints:
            self._numbers[run] = number = self._numbers.get(run, 0) + 1
            agent = str(record.about.get("agent", ""))
            self._stints[run] = _Stint(agent, number, self._now, self._now)
        self._stints[run].waiting.add(record.key)

    def _step_over(self, key: str) -> None:
        run = _run_of(self._steps.pop(key).scheduled)
        if run is not None and (stint := self._stints.get(run)) is not None:
            stint.waiting.discard(key)
            stint.ended_at = self._now

    def _attempt_failed(self, record: AttemptFailed, step: _OpenSpan) -> Iterator[Span]:
        # A second record of one attempt corrects a date.
        if record.attempt >= step.attempt:
            yield from self._attempt_over(record.key, record.at, record.failure.kind)
            step.attempt = record.attempt + 1
        step.began_at = record.retry_at

    def _lost(self, at: float) -> Iterator[Span]:
        for key, step in self._steps.items():
            # A step that was still backing off had no attempt under way, and a child goes on elsewhere.
            if step.began_at <= at and step.scheduled.kind is not StepKind.CHILD:
                yield from self._attempt_over(key, at, WORKER_LOST)
                step.attempt += 1
                step.began_at = at

    def _attempt_over(self, key: str, at: float, error: str | None, result: JSON = None) -> Iterator[Span]:
        step = self._steps[key]
        scheduled = step.scheduled
        attributes: Attributes = {"outlast.step.key": key, "outlast.attempt": step.attempt}
        content: dict[str, JSON] = {}
        run = _run_of(scheduled)
        stint = None if run is None else self._stints.get(run)
        if agent := scheduled.about.get("agent"):
            attributes["gen_ai.agent.name"] = str(agent)
        match scheduled.kind:
            case StepKind.MODEL | StepKind.SUMMARY:
                operation = Operation.CHAT
                subject = scheduled.model or scheduled.name
                if scheduled.model is not None:
                    attributes["gen_ai.request.model"] = scheduled.model
                if isinstance(result, dict):
                    tokens = _tokens(result.get("usage"))
                    attributes |= tokens
                    if stint is not None:
                        stint.tokens.update(tokens)
                    content["gen_ai.output.messages"] = output_messages(result)
            case StepKind.TOOL:
                operation = Operation.EXECUTE_TOOL
                subject = str(scheduled.about.get("tool", scheduled.name))
                attributes["gen_ai.tool.name"] = subject
                attributes["gen_ai.tool.type"] = "function"
                if run is not None:
                    attributes["gen_ai.tool.call.id"] = place_in(key).call_id or ""
                content["gen_ai.tool.call.arguments"] = scheduled.arguments
                content["gen_ai.tool.call.result"] = result
            case StepKind.CHILD:
                operation, subject = Operation.RUN_CHILD, scheduled.name
            case _:
                operation, subject = Operation.RUN_ACTIVITY, scheduled.name
                content["outlast.activity.arguments"] = scheduled.arguments
                content["outlast.activity.result"] = result
        context = attempt_context(
            self._trace, f"{self._id}/{scheduled.idempotency_key}", step.attempt, self._reopened
        )
        yield Span(
            operation,
            subject,
            context,
            self._parent(run, stint),
            min(step.began_at, at),
            at,
            attributes | self._about,
            error,
            content={name: value for name, value in content.items() if value is not None},
        )

    # Runs ------------------------------------------------------------------------------------------------

    def _parent(self, run: str | None, stint: _Stint | None) -> TraceContext | None:
        if run is None or stint is None:
            return self._outermost
        return self._trace._replace(span_id=self._stint_id(run, stint))

    def _stint_id(self, run: str, stint: _Stint) -> int:
        return _number(8, "run", self._id, str(self._reopened), run, str(stint.number))

    def _ended_stints(self, at: float) -> Iterator[Span]:
        for run, stint in list(self._stints.items()):
            if not stint.waiting:
                del self._stints[run]
                yield self._stint_span(run, stint)

    def _stint_span(self, run: str, stint: _Stint) -> Span:
        attributes: Attributes = {"gen_ai.agent.name": stint.agent, "outlast.run": run}
        attributes |= stint.tokens
        outer, _, inner = run.rpartition("/")
        around = self._stints.get(outer) if inner else None
        return self._span(
            Operation.INVOKE_AGENT,
            stint.agent,
            self._stint_id(run, stint),
            self._parent(outer, around),
            stint.began_at,
            attributes,
            ended_at=stint.ended_at,
        )

    def _event(self, record: EventEmitted) -> Iterator[Span]:
        about = record.data
        run, call = about.get("run"), f"{about.get('turn')}/{about.get('call_id')}"
        key = f"{run}/t{call}"
        stint = self._stints.get(str(run))
        match record.kind:
            case EventKind.APPROVAL_REQUESTED:
                self._approvals[key] = _Since(self._now, about)
                if stint is not None:
                    stint.waiting.add(f"approval {key}")
            case EventKind.APPROVAL_GIVEN | EventKind.APPROVAL_DENIED if key in self._approvals:
                since = self._approvals.pop(key)
                tool = str(about.get("tool"))
                yield self._span(
                    Operation.AWAIT_APPROVAL,
                    tool,
                    _number(8, "approval", self._id, str(self._reopened), key),
                    self._parent(str(run), stint),
                    since.at,
                    {
                        "gen_ai.tool.name": tool,
                        "gen_ai.agent.name": str(about.get("agent")),
                        "outlast.approval": record.kind,
                    },
                )
                if stint is not None:
                    stint.waiting.discard(f"approval {key}")
                    stint.ended_at = self._now
            case _:
                pass

    def _span(
        self,
        operation: Operation,
        subject: str,
        span_id: int,
        parent: TraceContext | None,
        began_at: float,
        attributes: Attributes,
        *,
        error: str | None = None,
        links: tuple[TraceContext, ...] = (),
        ended_at: float | None = None,
    ) -> Span:
        return Span(
            operation,
            subject,
            self._trace._replace(span_id=span_id),
            parent,
            began_at,
            self._now if ended_at is None else ended_at,
            attributes | self._about,
            error,
            links,
        )


def _run_of(scheduled: StepScheduled) -> str | None:
    """Return the run that a step belongs to, if it does."""
    if scheduled.kind in (StepKind.ACTIVITY, StepKind.CHILD):
        return None
    try:
        return place_in(scheduled.key).run
    except ValueError:
        return None


def _tokens(usage: JSON) -> dict[str, int]:
    """Return the tokens of a model call, by attribute; none if its usage is not known."""
    if not isinstance(usage, dict) or not usage:
        return {}
    counts = {
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens", 0),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens", 0),
    }
    return {name: count for name, count in counts.items() if isinstance(count, int)}
