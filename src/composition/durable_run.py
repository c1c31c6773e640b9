"""A durable run outside any workflow: one execution, which the process that asks for it carries on itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, is_dataclass, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

from outlast.composition.backends import connect
from outlast.composition.waits_log import log_waits
from outlast.core import entries as wire
from outlast.core.agents import AgentGraph
from outlast.core.errors import DefinitionError, ExecutionFailed, LimitExceeded
from outlast.core.json import JSON, decode
from outlast.core.records import AnyRecord, ExecutionStarted
from outlast.core.reruns import counted
from outlast.core.step_keys import run_key
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.llm import Session
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.agent_binding import bind_agents, reachable, sources_of, starts_within
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.recorded_run import RecordedRun
from outlast.runtime.runs.run_result import RunRecord, RunResult, said_in
from outlast.runtime.runs.runner import check_run, run_agent
from outlast.runtime.runs.streamed_run import EmitEvents

T = TypeVar("T")

AT_ONCE: Mapping[str, Any] = {"graceful_shutdown_timeout": timedelta(0)}
"""A caller that stops waiting for one execution (Ctrl-C, a timeout) does not wait for an activity."""


RUN_WORKFLOW = "outlast.run"


@workflow.define(name=RUN_WORKFLOW)
class DurableRun:
    """The workflow behind a durable run outside any workflow.

    Its input describes the run, so that another agent under the same id is refused. A journal cannot hold the
    agent itself and its session: they come from the caller.

    It returns nothing: the outcome of the run stands in the journal, step by step, and is read from there. A
    result would repeat it in one record, and a record is bounded in size where a run is not.
    """

    @workflow.entrypoint
    async def run(self, graph: dict[str, JSON], inputs: list[dict[str, JSON]], bounds: Bounds) -> None:
        context = current_context.get()
        assert context is not None
        callers = _callers[context.info.execution_id]
        for one in callers:
            one.has_run = True
        caller = callers[-1]
        given = wire.entries.validate_python(inputs)
        await run_agent(caller.agent, given, caller.session, bounds, context, RUN_KEY, caller.context)


RUN_KEY = run_key("")
"""The key of the run that such an execution is."""


@dataclass(eq=False)
class RunCaller:
    """A caller in this process that waits for a durable run."""

    agent: Agent[Any, Any]
    session: Session
    context: Any
    has_run: bool = False
    """True if the code of the run has been at work here since the call."""


_callers: dict[str, list[RunCaller]] = {}
"""The callers, by execution.

Several may wait for one run. Their agents are the same as far as the input of the execution says, so the code
goes with any of them.
"""


@contextmanager
def carried_by(
    agent: Agent[Any, Any], session: Session, given_context: Any, *, id: str
) -> Iterator[RunCaller]:
    """Let the durable run with this id use that agent, session and context in this process, in the block."""
    caller = RunCaller(agent, session, given_context)
    callers = _callers.setdefault(id, [])
    callers.append(caller)
    try:
        yield caller
    finally:
        callers.remove(caller)
        if not callers:
            _callers.pop(id, None)


@dataclass(frozen=True)
class DurableCall(Generic[T]):
    """A durable call of the runner, checked: every error that can be found before the start was raised."""

    agent: Agent[Any, T]
    graph: AgentGraph
    inputs: list[dict[str, Any]]
    session: Session
    bounds: Bounds
    context: Any
    id: str
    backend: Backend | str | None

    @classmethod
    def of(
        cls,
        agent: Agent[Any, T],
        inputs: Any,
        session: Session,
        bounds: Bounds,
        context: Any,
        id: str,
        backend: Backend | str | None,
    ) -> DurableCall[T]:
        """Check the call.

        Raises:
            DefinitionError: the run could not work.
        """
        given = wire.to_wire(check_run(agent, inputs))
        unlisted: dict[str, tuple[()]] = dict.fromkeys(sources_of(agent), ())
        graphs = [bind_agents(start, unlisted).graph for start in starts_within(agent)]
        for graph in graphs:
            session.check(graph)
        return cls(agent, graphs[0], given, session, bounds, context, id, backend)

    async def result(self) -> RunResult[T]:
        """Carry the run on to its end, and return its result."""
        async with self._carried_on() as (execution, worker, caller):
            outcome = self._outcome_of(execution, caller)
            return cast(RunResult[T], await first_of(outcome, worker.run(), log_waits(execution)))

    async def watched(self, emit: EmitEvents) -> RunResult[T]:
        """Do the same, and pass all events of the execution to `emit`, with text as it is written."""
        watched = replace(self, session=_streaming(self.session))
        async with watched._carried_on() as (execution, worker, caller):
            outcome = watched._outcome_of(execution, caller, emit)
            return cast(RunResult[T], await first_of(outcome, worker.run(), log_waits(execution)))

    @asynccontextmanager
    async def _carried_on(self) -> AsyncIterator[tuple[Execution, Any, RunCaller]]:
        """Start or find the execution, and open a worker for it."""
        async with opened(self.backend) as backend:
            # A queue of its own: no other process has the agent, so none may claim the execution.
            queue = f"run/{self.id}"
            described = self.graph.model_dump(mode="json")
            with carried_by(self.agent, self.session, self.context, id=self.id) as caller:
                execution = await backend.start(
                    DurableRun, described, self.inputs, self.bounds, id=self.id, task_queue=queue
                )
                async with backend.worker([DurableRun], task_queue=queue, **AT_ONCE) as worker:
                    yield execution, worker, caller

    async def _outcome_of(
        self, execution: Execution, caller: RunCaller, emit: EmitEvents | None = None
    ) -> RunResult[T]:
        if emit is not None:
            async for event in execution.events():
                emit([event])
        try:
            await execution.result()
        except ExecutionFailed as failed:
            error = failed.__cause__ or failed
            if isinstance(error, LimitExceeded):
                record = await self._recorded(execution)
                error.entries, error.usage = record.entries, record.usage
            if error is not failed:
                for note in failed.__notes__:
                    error.add_note(note)
            if not caller.has_run:
                error.add_note(await _stored(execution))
            raise error from None
        record = await self._recorded(execution)
        return RunResult(record, reachable(self.agent)[record.agent])

    async def _recorded(self, execution: Execution) -> RunRecord:
        return _outcome_in([record async for record in execution.records()], self.graph, self.inputs)


async def _stored(execution: Execution) -> str:
    """Return the note for the failure of an execution that had ended before it was asked for."""
    ended_at = (await execution.describe()).ended_at
    when = "earlier" if ended_at is None else f"at {ended_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"execution {execution.id!r} failed with this {when}, and nothing was run now: "
        f"`outlast retry {execution.id}` opens it again, then the same call goes on; or use another id"
    )


async def answer_of(execution: Execution) -> JSON:
    """Return the answer of a durable run that has completed: its text, or the JSON of its output type.

    It is None for an execution of any other workflow.
    """
    if (await execution.describe()).workflow != RUN_WORKFLOW:
        return None
    records = [record async for record in execution.records()]
    started = records[0]
    assert isinstance(started, ExecutionStarted)
    graph = AgentGraph.model_validate(started.arguments["graph"])
    outcome = _outcome_in(records, graph, started.arguments["inputs"])
    text = said_in(outcome.final)
    if graph[outcome.agent].output_schema is None:
        return text
    try:
        answer: JSON = decode(text.encode())
    except ValueError:  # It is JSON with words around it.
        return text
    return answer


def _outcome_in(records: Sequence[AnyRecord], graph: AgentGraph, inputs: Any) -> RunRecord:
    """Return what the journal says that the run has come to."""
    run = RecordedRun(RUN_KEY, graph, wire.entries.validate_python(inputs))
    for record in counted(records).records:
        run.read(record)
    return run.outcome()


def _streaming(session: Session) -> Session:
    """Return the session with `stream` on; a session that is not a dataclass is returned unchanged."""
    if session.stream or not is_dataclass(session):
        return session
    return cast(Session, replace(cast(Any, session), stream=True))


@asynccontextmanager
async def opened(backend: Backend | str | None) -> AsyncIterator[Backend]:
    """Connect to a URL for the time of the block; the caller closes a backend that it gave."""
    if backend is None or isinstance(backend, str):
        async with connect(backend) as connected:
            yield connected
    elif not hasattr(backend, "start"):
        shown = type(backend).__name__
        raise DefinitionError(f"the backend must be a URL, or what connect(url) gives; not {shown}")
    else:
        yield backend


async def first_of(*awaitables: Any) -> Any:
    """Return the result, or raise the error, of the first one to end; cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
