"""The short forms: run a worker, run one execution, run an agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from durable_agents.adapters.mistral import RemoteSession
from durable_agents.composition.backends import connect
from durable_agents.core import entries as wire
from durable_agents.core.agents import AgentGraph
from durable_agents.core.entries import Entry
from durable_agents.core.errors import DefinitionError, ExecutionFailed, LimitExceeded
from durable_agents.core.failure import Failure
from durable_agents.core.json import JSON
from durable_agents.core.limits import OnLimit
from durable_agents.core.usage import Usage
from durable_agents.ports.durability import Backend, Execution, current_context
from durable_agents.ports.llm import Session
from durable_agents.runtime import workflow
from durable_agents.runtime.agent import Agent, reachable, team_of
from durable_agents.runtime.bounds import DEFAULT_MAX_TURNS, Bounds
from durable_agents.runtime.clock import SystemClock
from durable_agents.runtime.conversation import messages_of, set_messages
from durable_agents.runtime.plain import PlainContext
from durable_agents.runtime.resources import SharedResources
from durable_agents.runtime.results import RunRecord, RunResult
from durable_agents.runtime.runner import as_entries, check_run, run_agent, summarise
from durable_agents.runtime.streamed import StreamedRun

T = TypeVar("T")

_AT_ONCE: Mapping[str, Any] = {"graceful_shutdown_timeout": timedelta(0)}
"""Whoever stops waiting for one execution (Ctrl-C, a timeout) wants to be gone, not wait for an activity."""


async def run_worker(
    workflows: Sequence[type[Any]], backend: Backend | str | None = None, **options: Any
) -> None:
    """Run a worker until SIGINT or SIGTERM; then stop gracefully. `options` are those of `Backend.worker`."""
    stop = asyncio.Event()
    async with _opened(backend) as opened, opened.worker(workflows, **options) as worker:
        with _signals(stop):
            await _first(worker.run(), stop.wait())


async def execute_workflow(
    workflow_class: type[Any],
    *args: Any,
    id: str | None = None,
    backend: Backend | str | None = None,
    **kwargs: Any,
) -> Any:
    """Start an execution, carry it on in this process until it has ended, and return its result.

    The same call with the same id, after a crash, goes on where the first one stopped.
    """
    async with _opened(backend) as opened:
        execution = await opened.start(workflow_class, *args, id=id, **kwargs)
        async with opened.worker([workflow_class], **_AT_ONCE) as worker:
            return await _first(execution.result(), worker.run())


class Runner:
    """Runs agents: in workflows durably, in plain scripts as they are, or durably there too by an id."""

    @staticmethod
    async def run(
        agent: Agent[T],
        inputs: Any,
        session: Session | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        *,
        max_total_tokens: int | None = None,
        max_tool_calls: int | None = None,
        max_wall_time: timedelta | float | None = None,
        on_limit: OnLimit = "raise",
        id: str | None = None,
        backend: Backend | str | None = None,
    ) -> RunResult[T]:
        """Run `agent` until it answers.

        In workflow code of any backend every step is journaled. In a plain script the run is not durable,
        unless it is given an `id` (and perhaps a `backend`): then the same line after a crash, in any
        process, goes on where it stopped, or returns the result that there is.

        Args:
            agent: The agent to start with.
            inputs: A text, or messages.
            session: The way to the model; Mistral's API by default. A session used again goes on with its
                conversation.
            max_turns: How often the model may be called.
            max_total_tokens: How many tokens its replies may cost together; looked at before each call.
            max_tool_calls: How many tool calls are made; those above it are not, and the model is told.
            max_wall_time: How long the run may take (a number means seconds), waiting and crashes included;
                looked at before each call of the model, so a tool under way is not cut short.
            on_limit: At a limit, "raise" the error, or "finish": one more call, to answer without tools.
            id: Outside workflows: the id of the durable execution that the run is.
            backend: Outside workflows: where it lives; see `connect`.

        Raises:
            DefinitionError: agent, inputs or session cannot be used so; nothing was done.
            RunError, ToolError: the run ended without an answer: `MaxTurnsExceeded`, `BudgetExceeded`,
                `InvalidOutput`, `InputRejected`, `OutputRejected`, `ModelError`.
            ExecutionAlreadyExists: the id belongs to a run of another agent or input.
        """
        session = RemoteSession() if session is None else session
        bounds = Bounds.of(
            max_turns=max_turns,
            max_total_tokens=max_total_tokens,
            max_tool_calls=max_tool_calls,
            max_wall_time=max_wall_time,
            on_limit=on_limit,
        )
        context = current_context.get()
        if context is not None:
            if id is not None or backend is not None:
                raise DefinitionError("inside a workflow a run is durable already; leave out id and backend")
            return await run_agent(agent, inputs, session, bounds, context)
        if id is not None:
            return await _run_durably(agent, inputs, session, bounds, id, backend)
        if backend is not None:
            raise DefinitionError("a durable run needs an id by which the same line finds it: give id=")
        async with SharedResources() as resources:
            plain = PlainContext(resources, SystemClock())
            return await run_agent(agent, inputs, session, bounds, plain)

    @staticmethod
    def run_streamed(
        agent: Agent[T],
        inputs: Any,
        session: Session | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        *,
        max_total_tokens: int | None = None,
        max_tool_calls: int | None = None,
        max_wall_time: timedelta | float | None = None,
        on_limit: OnLimit = "raise",
    ) -> StreamedRun[T]:
        """Begin to run `agent` in a plain script, and return the run, to be watched while it goes on.

            run = Runner.run_streamed(agent, "Write a poem.")
            async for event in run.events():
                if event.kind == "text_delta":
                    print(event.data["text"], end="")
            result = await run.result()

        The arguments are those of `run`. Durable runs have the same events: give the session `stream=True`,
        and read those of the execution.

        Raises:
            DefinitionError: inside a workflow, or when nothing could come of the run.
        """
        if current_context.get() is not None:
            raise DefinitionError(
                "run_streamed is for plain scripts; in a workflow, give the session stream=True, await "
                "Runner.run, and read the execution's events from outside"
            )
        given, way = check_run(agent, inputs), RemoteSession() if session is None else session
        bounds = Bounds.of(
            max_turns=max_turns,
            max_total_tokens=max_total_tokens,
            max_tool_calls=max_tool_calls,
            max_wall_time=max_wall_time,
            on_limit=on_limit,
        )
        return StreamedRun(lambda context: run_agent(agent, given, way, bounds, context), SystemClock())

    @staticmethod
    def messages(session: Session) -> tuple[Entry, ...]:
        """Return the entries of the conversation that `session` carries on here, oldest first.

        That is the conversation of this execution; in a plain script, of the session object. A run by an `id`
        has one of its own, which ends with it.
        """
        return messages_of(session, current_context.get())

    @staticmethod
    def set_messages(session: Session, messages: Any) -> None:
        """Go on with these messages (entries, or what `run` takes as inputs) instead of those that there are.

        A session whose server keeps the conversation begins a new one there, with all of them.

        Raises:
            DefinitionError: they are no messages, a call has no result or a result no call, or the session is
                being used by a run; nothing was changed.
        """
        set_messages(session, current_context.get(), as_entries(messages) if messages else ())

    @staticmethod
    async def summarise(session: Session, agent: Agent[Any], *, keep_turns: int = 2) -> str | None:
        """Replace all but the last turns of the session's conversation by a summary that `agent` makes.

        Return the summary; None if nothing is older. In workflow code the summary is journaled.

        Raises:
            DefinitionError: `keep_turns < 1`, or the session is being used by a run.
            RunError: the agent made no summary; the conversation is as it was.
        """
        context = current_context.get()
        if context is not None:
            return await summarise(session, agent, keep_turns, Bounds(), context)
        async with SharedResources() as resources:
            plain = PlainContext(resources, SystemClock())
            return await summarise(session, agent, keep_turns, Bounds(), plain)


@workflow.define(name="durable_agents.run")
class DurableRun:
    """The workflow that a durable run outside any workflow is.

    Its input says what the run is, so that another agent under the same id is refused. The agent itself
    and its session, which no journal could hold, are those of the caller.
    """

    @workflow.entrypoint
    async def run(
        self, graph: dict[str, JSON], inputs: list[dict[str, JSON]], bounds: Bounds
    ) -> dict[str, Any]:
        context = current_context.get()
        assert context is not None
        agent, session = _callers[context.info.execution_id]
        try:
            result = await run_agent(agent, inputs, session, bounds, context)
        except LimitExceeded as error:
            failed = {"entries": wire.to_wire(error.entries), "usage": error.usage.model_dump(mode="json")}
            return {"exceeded": Failure.of(error).model_dump(mode="json"), **failed}
        return {"exceeded": None, "record": result.record.model_dump(mode="json")}


_callers: dict[str, tuple[Agent, Session]] = {}
"""The agents and sessions of the durable runs that this process is waiting for, by execution."""


async def _run_durably(
    agent: Agent[T], inputs: Any, session: Session, bounds: Bounds, id: str, backend: Backend | str | None
) -> RunResult[T]:
    given = wire.to_wire(check_run(agent, inputs))
    graph = _graph_without_sources(agent)
    session.check(graph)
    if id in _callers:
        raise DefinitionError(f"run {id!r} is being waited for in this process already")
    async with _opened(backend) as opened:
        # A queue of its own: no other process has the agent, so none may claim the execution.
        queue = f"run/{id}"
        described = graph.model_dump(mode="json")
        _callers[id] = (agent, session)
        try:
            execution = await opened.start(DurableRun, described, given, bounds, id=id, task_queue=queue)
            async with opened.worker([DurableRun], task_queue=queue, **_AT_ONCE) as worker:
                outcome = await _first(_result_of_run(execution), worker.run())
        finally:
            del _callers[id]
    if outcome["exceeded"] is not None:
        exceeded = Failure.model_validate(outcome["exceeded"]).error()
        assert isinstance(exceeded, LimitExceeded)
        exceeded.entries = wire.entries.validate_python(outcome["entries"])
        exceeded.usage = Usage.model_validate(outcome["usage"])
        raise exceeded
    record = RunRecord.model_validate(outcome["record"])
    return RunResult(record, reachable(agent)[record.agent])


async def _result_of_run(execution: Execution) -> Any:
    try:
        return await execution.result()
    except ExecutionFailed as failed:
        raise failed.__cause__ or failed from None


def _graph_without_sources(agent: Agent) -> AgentGraph:
    names = {source.name for one in reachable(agent).values() for source in one.sources}
    return team_of(agent, dict.fromkeys(names, ())).graph


@contextlib.asynccontextmanager
async def _opened(backend: Backend | str | None) -> AsyncIterator[Backend]:
    """Connect to a URL for the time of the block; a backend that was given is the caller's to close."""
    if backend is None or isinstance(backend, str):
        async with connect(backend) as opened:
            yield opened
    else:
        yield backend


async def _first(*awaitables: Any) -> Any:
    """Return what the first to end returns, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Any:
    """Set `stop` on SIGINT and SIGTERM for the time of the block, where the platform and the thread allow."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
