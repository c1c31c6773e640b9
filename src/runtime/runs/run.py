"""One run of an agent: the agent machine's effects, carried out through the context at hand."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnnounceHandoff,
    AnswerCall,
    AskApproval,
    AskToRaise,
    CallModel,
    CallTool,
    CheckAnswer,
    Fail,
    Finish,
    KeepReply,
    LimitAnswered,
    ModelFailed,
    RunCancelled,
    RunStarted,
    SpentWithin,
    Stop,
    ToolCallFailed,
    ToolReturned,
    UserMessageAdded,
)
from outlast.core.agent_machine import allowance_within, step
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.agent_transitions import TRANSITIONS
from outlast.core.entries import Entry, FunctionResult, MessageInput, ToolExecution
from outlast.core.errors import (
    CallTooDeep,
    DeadlineExceeded,
    LimitExceeded,
    RunInterrupted,
)
from outlast.core.events import (
    LimitReachedData,
    MessageSaidData,
    ResultUnsentData,
    RunInterruptedData,
    ToolCalledData,
    ToolExecutedData,
    ToolFailedData,
)
from outlast.core.limits import RunAllowance
from outlast.core.step_keys import is_within_another
from outlast.core.usage import Usage
from outlast.ports.durability.steps import StepContext
from outlast.ports.llm import Session
from outlast.runtime.definitions.agent import Agent, AgentTool
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.determinism_guard import mark_own_code, own_code
from outlast.runtime.definitions.run_context import RunContext
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.runs.approving import Approving
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.checks import Checks
from outlast.runtime.runs.coming_events import ComingEvents
from outlast.runtime.runs.conversation import Conversation
from outlast.runtime.runs.found_tools import FoundTools
from outlast.runtime.runs.handoffs import Handoffs
from outlast.runtime.runs.model_calls import ModelCalls, Produced
from outlast.runtime.runs.raising import Raising
from outlast.runtime.runs.run_result import RunRecord, RunResult
from outlast.runtime.runs.tool_calls import ToolCalls, about_call

logger = logging.getLogger("outlast.runs")

TOO_LATE = "the deadline of the run has passed"

UNBOUNDED = RunAllowance()
"""The allowance of a run that is in no other one."""


@dataclass(frozen=True)
class Around:
    """The place of a run that is made for a call of another one."""

    run: Run
    """The run that makes the call."""
    tool: str
    """The tool that is called, with the agent that calls it."""

    def depth(self, tool: str) -> int:
        """Return how many runs of that tool are around."""
        outer = self.run.around
        return (self.tool == tool) + (0 if outer is None else outer.depth(tool))


class RunWithin(Protocol):
    """Runs an agent over the same session, in a conversation of its own choice."""

    async def __call__(
        self,
        agent: Agent[Any],
        given: tuple[Entry, ...],
        conversation: Conversation,
        /,
        *,
        key: str | None = None,
        bounds: Bounds = ...,
        around: Around | None = None,
    ) -> RunResult[Any]:
        """Return the result of the run; raises its failure. Without a key it gets one within this run's."""


class Run:
    """One run: holds the machine's state, and turns its effects into steps."""

    def __init__(
        self,
        agents: BoundAgents,
        session: Session,
        conversation: Conversation,
        bounds: Bounds,
        context: StepContext,
        key: str,
        run_within: RunWithin,
        around: Around | None = None,
        given_context: Any = None,
        must_have_price: tuple[str, ...] = (),
    ) -> None:
        self._agents = agents
        self._session = session
        self._conversation = conversation
        self._context = context
        self._key = key
        self._run_within = run_within
        self._given_context = given_context
        self.around = around
        self._reason: BaseException | None = None
        """The cause of the last failure of a model call, where this process has seen it."""
        self._bounds = bounds
        self._deadline = asyncio.timeout(None)
        """Ends the run when its deadline has passed."""
        self._found = FoundTools(agents)
        self._calls = ToolCalls(agents, context, self._key, self._ask, self._here, self._found)
        self._handoffs = Handoffs(agents, context, self._key, self._here)
        self._produced = Produced()
        self._models = ModelCalls(
            agents,
            session,
            conversation,
            context,
            key,
            self._here,
            self._produced,
            self._found,
            self._handoffs,
            must_have_price,
        )
        self._checks = Checks(agents, context, self._key, self._run_alone, self._here)
        self._events = ComingEvents()
        self._approvals = Approving(agents, context, key, self._calls, self._here, self._events.put)
        self.raising = Raising(context, self._take_answer_about_limit)
        self._state = AgentRun(
            graph=agents.graph,
            max_turns=bounds.max_turns,
            limits=bounds.limits,
            on_limit=bounds.on_limit,
            checked=agents.checked(),
            raise_on_tool_fail=session.raise_on_tool_fail,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._result: RunResult[Any] | None = None
        self._interrupted: RunInterrupted | None = None

    async def to_the_end(self, given: tuple[Entry, ...]) -> RunResult[Any]:
        """Run until the machine has ended, and return its result or raise its failure."""
        with ExitStack() as steered:
            if not is_within_another(self._key):
                steered.enter_context(self._context.at_work(self._key, self))
            now = self._context.now()
            due = self._bounds.due_at(now)
            if due is None:
                return await self._to_the_end(given)
            return await self._in_time(given, due, due - now.timestamp())

    async def _in_time(self, given: tuple[Entry, ...], due: float, seconds: float) -> RunResult[Any]:
        if seconds > 0:
            self._deadline = asyncio.timeout(seconds)
            try:
                async with self._deadline:
                    return await self._to_the_end(given)
            except TimeoutError:
                if not self._deadline.expired():
                    raise
        at = datetime.fromtimestamp(due, UTC).isoformat()
        raise self._with_produced(DeadlineExceeded(self._state.agent, at)) from None

    async def _to_the_end(self, given: tuple[Entry, ...]) -> RunResult[Any]:
        try:
            given, usage = await self._checks.let_in(given)
            self._handoffs.begin(self._conversation, self._state.agent, self._session)
            self._take(RunStarted(inputs=(*self._conversation.unsent, *given), usage=usage))
            while self._result is None:
                event = await self._events.next()
                if self._interrupted is not None:
                    raise self._interrupted
                self._take(event)
        except asyncio.CancelledError:
            if self._interrupted is None and self._state.phase is not Phase.READY:
                self._take(RunCancelled(why=TOO_LATE) if self._deadline.expired() else RunCancelled())
            raise
        except LimitExceeded as error:
            self._with_produced(error)
            raise
        finally:
            self._cancel_tasks()
        return self._result

    def _with_produced(self, error: LimitExceeded) -> LimitExceeded:
        """Put onto the error what the run has produced, and return it."""
        error.entries = tuple(self._produced.entries)
        error.usage = self._state.usage + self._checks.take_spent()
        return error

    def _cancel_tasks(self) -> None:
        self.raising.cancel()
        for task in self._tasks:
            task.cancel()

    # Steering

    @property
    def takes_steering(self) -> bool:
        return UserMessageAdded in TRANSITIONS[self._state.phase]

    @property
    def is_checking_input(self) -> bool:
        return self._state.phase is Phase.READY

    def say(self, text: str, by: str | None) -> None:
        state = self._state
        self._context.emit(
            MessageSaidData(run=self._key, agent=state.agent, turn=state.turn, text=text, by=by)
        )
        self._take(UserMessageAdded(entry=MessageInput(content=text)))

    def interrupt(self, reason: str | None, by: str | None) -> None:
        state = self._state
        self._context.emit(
            RunInterruptedData(run=self._key, agent=state.agent, turn=state.turn, reason=reason, by=by)
        )
        self._interrupted = RunInterrupted(reason, by)
        cancelled = RunCancelled(why=str(self._interrupted))
        self._take(cancelled)
        self._cancel_tasks()  # Nothing may come from them any more, nor from the runs within this one.
        self._events.put(cancelled)  # It only wakes the run.

    def _here(self) -> RunContext[Any]:
        """Return the place of the run that functions of its agents are given."""
        state = self._state
        return RunContext(self._given_context, state.agent, state.turn, state.usage)

    def _now(self) -> float:
        return self._context.now().timestamp()

    def _take(self, event: AgentEvent) -> None:
        at = self._now()
        before = self._state
        with own_code():
            allowance = UNBOUNDED if self.around is None else self.around.run.allowance_at(at)
            self._state, effects = step(before, event.with_(at=at, allowance=allowance))
        if self.around is not None:
            self._report_spent(before)
        for effect in effects:
            self._do(effect)

    def _do(self, effect: AgentEffect) -> None:
        match effect:
            case CallModel(entries=entries):
                # At once, so that a run which is cancelled before the task begins leaves them to the next.
                self._conversation.unsent = entries
                asking = asyncio.create_task(self._call_model(effect))
                if not self._models.runs_user_code(effect.agent):
                    mark_own_code(asking)
                self._tasks = [asking]
            case CallTool():
                calling = asyncio.create_task(self._call_tool(effect))
                if not self._calls.runs_user_code(effect):
                    mark_own_code(calling)
                self._tasks.append(calling)
            case KeepReply(entries=entries):
                self._conversation.add(entries)
                self._produced.entries += entries
                self._emit_executions(entries)
            case AnswerCall():
                self._emit_answer(effect)
            case AnnounceHandoff():
                self._handoffs.announce(effect)
            case Finish(unsent=unsent):
                self._leave(unsent)
                self._finish(effect)
            case Fail(failure=failure, unsent=unsent):
                self._leave(unsent)
                error = failure.error()
                raise error from (error.__cause__ if self._reason is None else self._reason)
            case Stop(unsent=unsent):
                self._leave(unsent)
            case AskApproval():
                if (waiting := self._approvals.ask(effect)) is not None:
                    self._tasks.append(asyncio.create_task(waiting))
            case CheckAnswer():
                self._tasks = [asyncio.create_task(self._check_answer(effect))]
            case AskToRaise():
                self._tasks = [asyncio.create_task(self._await_raise(effect))]

    # The model

    async def _call_model(self, effect: CallModel) -> None:
        """Ask the model, and queue its reply, or its failure, for the run."""
        event: AgentEvent
        try:
            with contained(self._context.unwinds):
                event = await self._models.reply_to(effect)
        except Exception as error:
            self._reason = error.__cause__
            event = ModelFailed(failure=failure_of(error))
        self._events.put(event)

    # Tools

    async def _call_tool(self, effect: CallTool) -> None:
        """Run one tool, and queue its result or failure for the run; raise only errors that unwind code."""
        try:
            with contained(self._context.unwinds):
                result = await self._calls.result_of(effect)
        except Exception as error:
            self._events.put(ToolCallFailed(call_id=effect.call_id, failure=failure_of(error)))
        else:
            self._events.put(ToolReturned(call_id=effect.call_id, result=result))

    async def _ask(self, tool: AgentTool, name: str, text: str, key: str) -> str:
        """Return the answer of an agent that is a tool of this run: a run within this one.

        Raises:
            CallTooDeep: as many runs of the tool are around as there may be.
            Exception: whatever the run within fails with.
        """
        place = Around(self, f"{self._state.agent}/{name}")
        if tool.max_depth is not None and place.depth(place.tool) > tool.max_depth:
            raise CallTooDeep(name, tool.max_depth)
        asked, bounds = (MessageInput(content=text),), Bounds(max_turns=tool.max_turns)
        if not tool.keeps_conversation:
            conversation = Conversation()
            result = await self._run_within(
                tool.target, asked, conversation, key=key, bounds=bounds, around=place
            )
            return result.text
        conversation = self._conversation.within(place.tool)
        async with conversation.turn:
            result = await self._run_within(
                tool.target, asked, conversation, key=key, bounds=bounds, around=place
            )
        return result.text

    async def _run_alone(self, agent: Agent[Any], asked: tuple[Entry, ...]) -> RunResult[Any]:
        return await self._run_within(agent, asked, Conversation())

    def allowance_at(self, now: float) -> RunAllowance:
        """Return what a run within this one may still use."""
        outer = UNBOUNDED if self.around is None else self.around.run.allowance_at(now)
        return allowance_within(self._state.with_(now=max(self._state.now, now), allowance=outer))

    def _report_spent(self, before: AgentRun) -> None:
        """Count what this run has used since `before` for the runs around it."""
        assert self.around is not None
        usage = self._state.usage - before.usage
        calls = self._state.tool_calls - before.tool_calls
        if calls or usage != Usage():
            self.around.run._take(SpentWithin(usage=usage, tool_calls=calls))

    def _emit_executions(self, reply: tuple[Entry, ...]) -> None:
        """Emit an event for each tool that the server ran; its result is in the reply just before."""
        for entry in reply:
            if isinstance(entry, ToolExecution):
                entry_id = (entry.model_extra or {}).get("id")
                self._context.emit(
                    ToolExecutedData(
                        run=self._key,
                        turn=self._state.turn,
                        tool=entry.name,
                        entry=entry_id if isinstance(entry_id, str) else None,
                    )
                )

    def _emit_answer(self, answer: AnswerCall) -> None:
        """Emit the end of a call that the machine answered itself; a handoff has an event of its own."""
        if answer.failure is None:
            return
        about = about_call(self._key, answer)
        if not answer.denied:
            self._context.emit(ToolCalledData(**about))
        self._context.emit(ToolFailedData(**about, failure=answer.failure))

    # Limits that may be raised

    async def _await_raise(self, effect: AskToRaise) -> None:
        """Wait until a person has answered about the limit, of this run or of one around it."""
        asking = self if effect.is_own else self._around_that_asks()
        key = asking.raising.ask(effect.limit)
        self._context.emit(
            LimitReachedData(
                run=self._key,
                agent=effect.agent,
                turn=effect.turn,
                limit=effect.limit.message,
                question=key,
            )
        )
        if asking is not self:
            await asking.raising.is_over()
            self._events.put(LimitAnswered())

    def _around_that_asks(self) -> Run:
        """Return the run around this one whose limit is reached: the outermost of those."""
        assert self.around is not None
        run = self.around.run
        while run.around is not None and run.around.run.allowance_at(self._now()).limit is not None:
            run = run.around.run
        return run

    def _take_answer_about_limit(self, answered: LimitAnswered) -> None:
        """Take it now if runs within this one wait for it; else in its turn, because it may end the run."""
        if self._state.phase is Phase.AWAITING_TOOLS:
            self._take(answered)
        elif self._state.phase is Phase.AT_LIMIT:
            self._events.put(answered)

    # Checks

    async def _check_answer(self, effect: CheckAnswer) -> None:
        self._events.put(await self._checks.verdict_on(effect))

    # Ends

    def _finish(self, effect: Finish) -> None:
        record = RunRecord(
            agent=effect.agent,
            final=effect.entries,
            entries=tuple(self._produced.entries),
            usage=self._state.usage,
            turns=self._state.turn,
            warnings=tuple(self._produced.warnings),
        )
        self._result = RunResult(record, self._agents.by_name[effect.agent])

    def _leave(self, unsent: tuple[Entry, ...]) -> None:
        """Keep the entries that were not sent for the next run of the conversation, and emit that."""
        self._conversation.unsent = unsent or self._conversation.unsent
        for entry in unsent:
            if isinstance(entry, FunctionResult):
                self._context.emit(
                    ResultUnsentData(run=self._key, call_id=entry.tool_call_id, text=entry.result)
                )
