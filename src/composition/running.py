"""The short forms: run a worker, run one execution, run an agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, overload

from outlast.adapters.mistral import RemoteSession
from outlast.composition.durable_run import AT_ONCE, DurableCall, first_of, opened
from outlast.composition.waits_log import log_waits
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError
from outlast.core.limits import DEFAULT_MAX_TURNS, OnLimit
from outlast.core.money import Amount
from outlast.ports.definitions import check_options
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.steps import StepContext
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.llm import Session
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.conversation import messages_of, set_messages
from outlast.runtime.runs.run_result import RunResult
from outlast.runtime.runs.runner import as_entries, check_run, run_agent, summarise
from outlast.runtime.runs.streamed_run import StreamedRun, plainly
from outlast.runtime.runs.undurable_context import PlainContext

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NO_ID = "a durable run needs an id by which the same line finds it: give id="


async def run_worker(
    workflows: Sequence[type[Any]], backend: Backend | str | None = None, **options: Any
) -> None:
    """Run a worker until SIGINT or SIGTERM; then stop gracefully. `options` are those of `Backend.worker`."""
    stop = asyncio.Event()
    async with opened(backend) as backend:
        with contextlib.ExitStack() as signals:
            signals.enter_context(stop_signals(stop))
            async with backend.worker(workflows, **options) as worker:
                await first_of(worker.run(), stop.wait())
                signals.close()  # Whoever does not want to wait for the stop sends the signal again.


@overload
async def execute_workflow(
    workflow: type[Any],
    /,
    *args: Any,
    id: str | None = None,
    backend: Backend | str | None = None,
    **kwargs: Any,
) -> Any: ...
@overload
async def execute_workflow(
    workflow: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> R: ...
@overload
async def execute_workflow(
    workflow: Callable[[Any, *Ts], Awaitable[R]],
    /,
    *args: *Ts,
    id: str | None = None,
    backend: Backend | str | None = None,
    task_queue: str = ...,
    tags: Mapping[str, str] | None = None,
) -> R: ...
async def execute_workflow(  # type: ignore[misc]
    workflow: Any,
    /,
    *args: Any,
    id: str | None = None,
    backend: Backend | str | None = None,
    **kwargs: Any,
) -> Any:
    """Start an execution, carry it on in this process until it has ended, and return its result.

    The workflow is its entrypoint, such as `Deal.run`, or its class: see `Backend.start`. After a crash, the
    same call with the same id goes on where the first one stopped. A parameter of the
    entrypoint with the name `id`, `backend` or `task_queue` is given by position.
    """
    definition = definition_of(workflow)
    check_options(f"workflow {definition.name}", definition.signature, args, backend=backend)
    async with opened(backend) as backend:
        execution = await backend.start(definition.cls, *args, id=id, **kwargs)
        async with backend.worker([definition.cls], **AT_ONCE) as worker:
            return await first_of(execution.result(), worker.run(), log_waits(execution))


class Runner:
    """Runs agents: durably in workflows, and in plain scripts too if given an id; else undurably."""

    @staticmethod
    async def run(
        agent: Agent[C, T],
        inputs: Any,
        session: Session | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        *,
        max_total_tokens: int | None = None,
        max_cost: Amount | None = None,
        max_tool_calls: int | None = None,
        max_wall_time: timedelta | float | None = None,
        deadline: datetime | timedelta | None = None,
        on_limit: OnLimit = "raise",
        context: C | None = None,
        id: str | None = None,
        backend: Backend | str | None = None,
    ) -> RunResult[T]:
        """Run `agent` until it answers.

        In workflow code of any backend every step is journaled. In a plain script the run is durable only if
        it has an `id` (and perhaps a `backend`): then the same line after a crash, in any process, goes on
        where it stopped, or returns the result if the run has ended.

        Args:
            agent: The agent to start with.
            inputs: A text, or messages.
            session: The way to the model; Mistral's API by default. A session used again goes on with its
                conversation.
            max_turns: How often the model may be called.
            max_total_tokens: How many tokens its replies may cost together; checked before each call.
            max_cost: How many US dollars its replies may cost together; checked before each call. The prices
                of all models must be known: they are published, or the session is given them.
            max_tool_calls: How many tool calls are made; calls above it get an error as their result.
            max_wall_time: How long the run may take (a number means seconds), waiting and crashes included;
                checked before each call of the model, so a tool under way is not interrupted.
            deadline: The time when the run ends, wherever it is: a point in time, or the time from the start
                of the run by the clock of the execution. Calls under way are cancelled.
            on_limit: At a limit, "raise" the error, or "finish": one more call, to answer without tools. Or
                "ask": the run waits, as long as it takes, for a person to raise the limit; the question is in
                the inbox, and an answer that does not raise it ends the run with the error.
            context: An object for the code of the run, which gets it in a `RunContext`: plain functions that
                are tools, guardrails, approval checks and functions that make instructions. It is never
                journaled. After a crash the caller gives it again.
            id: Outside workflows: the id of the run's durable execution.
            backend: Outside workflows: the backend of that execution; see `connect`.

        Raises:
            DefinitionError: the agent, the inputs or the session cannot be used; nothing was done.
            RunError, ToolError: the run ended without an answer: `MaxTurnsExceeded`, `BudgetExceeded`,
                `DeadlineExceeded`, `InvalidOutput`, `InputRejected`, `OutputRejected`, `ModelError`.
            UnknownPrice: there is a `max_cost`, and the price of a model or a connector is not known.
            ExecutionAlreadyExists: the id belongs to a run of another agent or input.
        """
        session = RemoteSession() if session is None else session
        bounds = Bounds.of(
            max_turns=max_turns,
            max_total_tokens=max_total_tokens,
            max_cost=max_cost,
            max_tool_calls=max_tool_calls,
            max_wall_time=max_wall_time,
            deadline=deadline,
            on_limit=on_limit,
        )
        workflow = current_context.get()
        if workflow is not None:
            if id is not None or backend is not None:
                raise DefinitionError("inside a workflow a run is durable already; leave out id and backend")
            return await run_agent(agent, inputs, session, bounds, workflow, given_context=context)
        if id is not None:
            return await DurableCall.of(agent, inputs, session, bounds, context, id, backend).result()
        if backend is not None:
            raise DefinitionError(NO_ID)
        async with SharedResources() as resources:
            with PlainContext(resources, SystemClock()) as plain:
                return await run_agent(agent, inputs, session, bounds, plain, given_context=context)

    @staticmethod
    def run_sync(
        agent: Agent[C, T],
        inputs: Any,
        session: Session | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        *,
        max_total_tokens: int | None = None,
        max_cost: Amount | None = None,
        max_tool_calls: int | None = None,
        max_wall_time: timedelta | float | None = None,
        deadline: datetime | timedelta | None = None,
        on_limit: OnLimit = "raise",
        context: C | None = None,
        id: str | None = None,
        backend: Backend | str | None = None,
    ) -> RunResult[T]:
        """Run `agent` until it answers, in a script without an event loop; the arguments are those of `run`.

        Ctrl-C cancels the run. A durable one goes on with the next call that has its id.

        Raises:
            DefinitionError: an event loop is running here, as in a notebook, a web server or a workflow; or
                the run could not work.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise DefinitionError(
                "run_sync is for scripts, and an event loop is running here; write `await Runner.run(...)`"
            )
        return asyncio.run(
            Runner.run(
                agent,
                inputs,
                session,
                max_turns,
                max_total_tokens=max_total_tokens,
                max_cost=max_cost,
                max_tool_calls=max_tool_calls,
                max_wall_time=max_wall_time,
                deadline=deadline,
                on_limit=on_limit,
                context=context,
                id=id,
                backend=backend,
            )
        )

    @staticmethod
    def run_streamed(
        agent: Agent[C, T],
        inputs: Any,
        session: Session | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        *,
        max_total_tokens: int | None = None,
        max_cost: Amount | None = None,
        max_tool_calls: int | None = None,
        max_wall_time: timedelta | float | None = None,
        deadline: datetime | timedelta | None = None,
        on_limit: OnLimit = "raise",
        context: C | None = None,
        id: str | None = None,
        backend: Backend | str | None = None,
    ) -> StreamedRun[T]:
        """Begin to run `agent` outside any workflow, and return the run, which gives its events.

            run = Runner.run_streamed(agent, "Write a poem.")
            async for event in run.events():
                if isinstance(event.data, events.TextDeltaData):
                    print(event.data.text, end="")
            result = await run.result()

        The arguments are those of `run`. With an `id` the run is durable: the same line after a crash, in any
        process, goes on with it, and its events are those of the execution, from the first. Cancelling it, or
        leaving the `async with` block, then ends only the work of this process; the execution stays.

        Raises:
            DefinitionError: the call is inside a workflow, or the run could not work.
        """
        if current_context.get() is not None:
            raise DefinitionError(
                "run_streamed is for plain scripts; in a workflow, give the session stream=True, await "
                "Runner.run, and read the execution's events from outside"
            )
        way = RemoteSession() if session is None else session
        bounds = Bounds.of(
            max_turns=max_turns,
            max_total_tokens=max_total_tokens,
            max_cost=max_cost,
            max_tool_calls=max_tool_calls,
            max_wall_time=max_wall_time,
            deadline=deadline,
            on_limit=on_limit,
        )
        if id is not None:
            return StreamedRun(DurableCall.of(agent, inputs, way, bounds, context, id, backend).watched)
        if backend is not None:
            raise DefinitionError(NO_ID)
        given = check_run(agent, inputs)

        async def to_the_end(plain: StepContext) -> RunResult[T]:
            return await run_agent(agent, given, way, bounds, plain, given_context=context)

        return StreamedRun(plainly(to_the_end, SystemClock()))

    @staticmethod
    def messages(session: Session) -> tuple[Entry, ...]:
        """Return the entries of the conversation that `session` carries on here, oldest first.

        The conversation belongs to this execution; in a plain script, to the session object. A run by an `id`
        has a conversation of its own, which ends with it.
        """
        return messages_of(session, current_context.get())

    @staticmethod
    def set_messages(session: Session, messages: Any) -> None:
        """Replace the conversation by these messages (entries, or the same types as the inputs of `run`).

        A session whose server keeps the conversation begins a new one there, with all of them.

        Raises:
            DefinitionError: they are not messages, a call has no result or a result no call, or a run
                is using the session; nothing was changed.
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
            with PlainContext(resources, SystemClock()) as plain:
                return await summarise(session, agent, keep_turns, Bounds(), plain)


@contextlib.contextmanager
def stop_signals(stop: asyncio.Event) -> Iterator[None]:
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
