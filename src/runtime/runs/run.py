"""One run of an agent: the agent machine's effects, carried out through the context at hand."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnnounceHandoff,
    AnswerCall,
    ApprovalDenied,
    ApprovalGiven,
    AskApproval,
    CallModel,
    CallTool,
    CheckAnswer,
    Fail,
    Finish,
    KeepReply,
    ModelFailed,
    ModelReplied,
    RunCancelled,
    RunStarted,
    Stop,
    ToolCallFailed,
    ToolReturned,
)
from outlast.core.agent_machine import step
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.agents import AgentSpec
from outlast.core.approvals import Decision, Verdict
from outlast.core.entries import Entry, FunctionResult, ToolExecution
from outlast.core.errors import LimitExceeded, NotSupported
from outlast.core.events import (
    ApprovalDeniedData,
    ApprovalGivenData,
    ApprovalRequestedData,
    HandedOffData,
    LimitReachedData,
    ReplyCutData,
    ResultUnsentData,
    ToolCalledData,
    ToolExecutedData,
    ToolFailedData,
)
from outlast.core.failure import named_message_of
from outlast.core.json import JSON
from outlast.core.records import StepKind
from outlast.core.retry import RetryPolicy
from outlast.core.step_keys import call_key, model_key
from outlast.core.summaries import visible_entries
from outlast.ports.definitions import ActivityOptions
from outlast.ports.durability.steps import Attempt, ModelCall, Step, StepContext
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.runtime.definitions.agent import BoundAgents
from outlast.runtime.definitions.determinism_guard import own_code
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.checks import Checks, RunAlone
from outlast.runtime.runs.conversation import Conversation
from outlast.runtime.runs.run_result import RunRecord, RunResult
from outlast.runtime.runs.summarising import Summaries
from outlast.runtime.runs.tool_calls import ToolCalls, about_call

logger = logging.getLogger("outlast.runs")

MODEL_OPTIONS = ActivityOptions(
    start_to_close_timeout=600.0,
    retry=RetryPolicy(max_attempts=10, initial_interval=1.0, backoff_coefficient=2.0, max_interval=30.0),
    effect="idempotent",
)
"""The options of a model call: many attempts, because a busy conversation stays locked for up to 90 s."""


SPARE_SECONDS = 60.0
"""The time of an attempt beyond the session's time for a reply: agents may have to be made first."""


def _options(session: Session, agent: AgentSpec) -> ActivityOptions:
    longest = max(MODEL_OPTIONS.start_to_close_timeout, session.seconds_max(agent) + SPARE_SECONDS)
    if longest == MODEL_OPTIONS.start_to_close_timeout:
        return MODEL_OPTIONS
    return replace(MODEL_OPTIONS, start_to_close_timeout=longest)


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
        run_alone: RunAlone,
    ) -> None:
        self._agents = agents
        self._session = session
        self._conversation = conversation
        self._context = context
        self._key = key
        self._calls = ToolCalls(agents, context, self._key)
        self._summaries = Summaries(session, context, self._key)
        self._checks = Checks(agents, context, self._key, run_alone)
        self._state = AgentRun(
            graph=agents.graph,
            max_turns=bounds.max_turns,
            limits=bounds.limits,
            on_limit=bounds.on_limit,
            checked=agents.checked(),
            raise_on_tool_fail=session.raise_on_tool_fail,
        )
        self._events: asyncio.Queue[AgentEvent] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._entries: list[Entry] = []
        self._warnings: list[str] = []
        self._result: RunResult[Any] | None = None

    async def to_the_end(self, given: tuple[Entry, ...]) -> RunResult[Any]:
        """Run until the machine has ended, and return its result or raise its failure."""
        try:
            given, usage = await self._checks.let_in(given)
            self._take(RunStarted(inputs=(*self._conversation.unsent, *given), usage=usage))
            while self._result is None:
                self._take(await self._events.get())
        except asyncio.CancelledError:
            if self._state.phase is not Phase.READY:
                self._take(RunCancelled())
            raise
        except LimitExceeded as error:
            error.entries = tuple(self._entries)
            error.usage = self._state.usage + self._checks.take_spent()
            raise
        finally:
            for task in self._tasks:
                task.cancel()
        return self._result

    def _take(self, event: AgentEvent) -> None:
        at = self._context.now().timestamp()
        with own_code():
            self._state, effects = step(self._state, event.with_(at=at))
        for effect in effects:
            self._do(effect)

    def _do(self, effect: AgentEffect) -> None:
        match effect:
            case CallModel(entries=entries):
                # At once, so that a run which is cancelled before the task begins leaves them to the next.
                self._conversation.unsent = entries
                self._tasks = [asyncio.create_task(self._call_model(effect))]
            case CallTool():
                self._tasks.append(asyncio.create_task(self._call_tool(effect)))
            case KeepReply(entries=entries):
                self._conversation.history += entries
                self._entries += entries
                self._emit_executions(entries)
            case AnswerCall():
                self._emit_answer(effect)
            case AnnounceHandoff():
                self._context.emit(
                    HandedOffData(
                        run=self._key, turn=effect.turn, from_agent=effect.previous, to_agent=effect.next
                    )
                )
            case Finish():
                self._finish(effect)
            case Fail(failure=failure, unsent=unsent):
                self._leave(unsent)
                raise failure.error()
            case Stop(unsent=unsent):
                self._leave(unsent)
            case AskApproval():
                self._ask_approval(effect)
            case CheckAnswer():
                self._tasks = [asyncio.create_task(self._check_answer(effect))]

    # The model

    async def _call_model(self, effect: CallModel) -> None:
        """Ask the model, and queue its reply, or its failure, for the run."""
        event: AgentEvent
        try:
            with contained(self._context.unwinds):
                event = await self._reply_to(effect)
        except Exception as error:
            event = ModelFailed(failure=failure_of(error))
        self._events.put_nowait(event)

    async def _reply_to(self, effect: CallModel) -> ModelReplied:
        """Return the model's reply; the entries that were sent become history only when it has come."""
        if effect.limit is not None:
            limit = effect.limit.message
            self._context.emit(
                LimitReachedData(run=self._key, agent=effect.agent, turn=effect.turn, limit=limit)
            )
        conversation, graph = self._conversation, self._agents.graph
        spent = await self._summaries.bring_up_to_date(conversation, effect, graph)
        history, handle = visible_entries(conversation.history, conversation.summary), conversation.handle
        in_doubt, conversation.in_doubt = conversation.in_doubt, True

        def request(attempt: Attempt) -> ModelRequest:
            # Not validated again: that would make a turn cost more the longer the conversation is.
            return ModelRequest.model_construct(
                graph=graph,
                agent=effect.agent,
                turn=effect.turn,
                history=history,
                new=effect.entries,
                handle=handle,
                may_call=effect.limit is None,
                idempotency_key=attempt.idempotency_key,
                attempt=attempt.earlier + attempt.attempt,
                in_doubt=in_doubt,
            )

        call = Step(
            key=model_key(self._key, effect.turn),
            kind=StepKind.MODEL,
            name="call_model",
            call=ModelCall(self._session, request, graph[effect.agent].model),
            options=_options(self._session, graph[effect.agent]),
            about={"agent": effect.agent},
        )
        replied = await self._context.run_step(call)
        with own_code():
            reply = ModelReply.model_validate(replied)
        if reply.cut is not None:
            self._context.emit(
                ReplyCutData(run=self._key, agent=effect.agent, turn=effect.turn, reason=reply.cut)
            )
        self._warnings += reply.warnings
        conversation.history += effect.entries
        conversation.unsent = ()
        # A server may have received more of the conversation, in a part that a retry has made void.
        conversation.in_doubt = self._context.outlived(call.key)
        # A conversation that a server keeps belongs to the original: a fork begins one of its own.
        inherited = self._context.inherited(call.key)
        conversation.handle = self._session.anew(reply.handle) if inherited else reply.handle
        self._entries += effect.entries
        return ModelReplied(entries=reply.entries, usage=spent + reply.usage)

    # Tools

    async def _call_tool(self, effect: CallTool) -> None:
        """Run one tool, and queue its result or failure for the run; raise only errors that unwind code."""
        try:
            with contained(self._context.unwinds):
                result = await self._calls.result_of(effect)
        except Exception as error:
            self._events.put_nowait(ToolCallFailed(call_id=effect.call_id, failure=failure_of(error)))
        else:
            self._events.put_nowait(ToolReturned(call_id=effect.call_id, result=result))

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

    # Approvals

    def _ask_approval(self, effect: AskApproval) -> None:
        """Wait for a person's decision, unless the tool's own check says that the call needs none."""
        if self._calls.fault_of(effect.agent, effect.tool, effect.arguments) is not None:
            # Nobody needs to allow a call that cannot be made: the model gets its faults as the result.
            self._events.put_nowait(ApprovalGiven(call_id=effect.call_id, fingerprint=effect.fingerprint))
            return
        approval = self._agents.approval(effect.agent, effect.tool)
        if callable(approval):
            try:
                with contained(self._context.unwinds):
                    needed = bool(approval(effect.arguments))
            except Exception as error:
                # A call that cannot be judged is not made.
                reason = f"the check whether it needs approval failed with {named_message_of(error)}"
                self._take_decision(effect, "deny", reason)
                return
            if not needed:
                given = ApprovalGiven(call_id=effect.call_id, fingerprint=effect.fingerprint)
                self._events.put_nowait(given)
                return
        tool = self._agents.graph[effect.agent].tool(effect.tool)
        self._context.emit(
            ApprovalRequestedData(
                **about_call(self._key, effect),
                fingerprint=effect.fingerprint,
                parameters={} if tool is None else dict(tool.parameters),
            )
        )
        self._tasks.append(asyncio.create_task(self._await_decision(effect)))

    async def _await_decision(self, effect: AskApproval) -> None:
        key = call_key(self._key, effect.turn, effect.call_id)

        def fits(decision: Decision) -> bool:
            edited = decision.edited_arguments
            if decision.verdict == "deny" or edited is None:
                return True
            fault = self._calls.fault_of(effect.agent, effect.tool, edited)
            if fault is not None:
                logger.warning("a decision about call %s does not count: %s", key, fault)
            return fault is None

        try:
            decision = await self._context.decision(key, effect.fingerprint, fits)
        except NotSupported as error:
            # The server asks for a call of which the definitions said nothing, and nobody can be asked.
            self._take_decision(effect, "deny", str(error))
            return
        self._take_decision(effect, decision.verdict, decision.reason, decision.edited_arguments, decision.by)

    def _take_decision(
        self,
        effect: AskApproval,
        verdict: Verdict,
        reason: str | None = None,
        edited_arguments: dict[str, JSON] | None = None,
        by: str | None = None,
    ) -> None:
        about = {**about_call(self._key, effect), "reason": reason, "by": by}
        event: AgentEvent
        if verdict == "allow":
            self._context.emit(ApprovalGivenData(**about, edited_arguments=edited_arguments))
            event = ApprovalGiven(
                call_id=effect.call_id, fingerprint=effect.fingerprint, edited_arguments=edited_arguments
            )
        else:
            reason = self._context.emit(ApprovalDeniedData(**about)).reason
            event = ApprovalDenied(call_id=effect.call_id, fingerprint=effect.fingerprint, reason=reason)
        self._events.put_nowait(event)

    # Checks

    async def _check_answer(self, effect: CheckAnswer) -> None:
        self._events.put_nowait(await self._checks.verdict_on(effect))

    # Ends

    def _finish(self, effect: Finish) -> None:
        record = RunRecord(
            agent=effect.agent,
            final=effect.entries,
            entries=tuple(self._entries),
            usage=self._state.usage,
            turns=self._state.turn,
            warnings=tuple(self._warnings),
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
