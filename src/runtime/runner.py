"""Running an agent: the agent machine's effects, carried out through the context at hand."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from durable_agents.core import approvals
from durable_agents.core import entries as wire
from durable_agents.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnnounceHandoff,
    AnswerAccepted,
    AnswerBlocked,
    AnswerCall,
    AnswerRejected,
    ApprovalGiven,
    ApprovalRefused,
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
from durable_agents.core.agent_machine import step
from durable_agents.core.agent_run import AgentRun, Phase
from durable_agents.core.agents import HANDOFF_PREFIX, AgentGraph
from durable_agents.core.approvals import call_key
from durable_agents.core.chunks import TextChunk, as_chunks, text_of, to_wire
from durable_agents.core.entries import Entry, FunctionResult, MessageInput, ToolExecution
from durable_agents.core.errors import (
    DefinitionError,
    InputRejected,
    InvalidArguments,
    InvalidOutput,
    LimitExceeded,
    NotSupported,
    OutputRejected,
    ToolFailed,
)
from durable_agents.core.failure import Failure
from durable_agents.core.json import JSON, encode
from durable_agents.core.model import faults
from durable_agents.core.records import StepKind
from durable_agents.core.retry import RetryPolicy
from durable_agents.core.usage import Usage
from durable_agents.ports.definitions import ActivityOptions, Signature
from durable_agents.ports.durability import (
    ActivityCall,
    Attempt,
    ModelCall,
    Step,
    StepContext,
    ToolCallOf,
    current_context,
)
from durable_agents.ports.llm import ModelReply, ModelRequest, Session
from durable_agents.ports.tools import ToolOutput, ToolSource
from durable_agents.runtime.agent import (
    ActivityTool,
    Agent,
    FunctionTool,
    SourceTool,
    Team,
    sources_of,
    team_of,
)
from durable_agents.runtime.bounds import Bounds
from durable_agents.runtime.catalogues import catalogues_of
from durable_agents.runtime.conversation import Conversation, conversation_of
from durable_agents.runtime.guardrails import (
    GuardrailAnswer,
    Reject,
    Replace,
    Verdict,
    as_guardrail,
    guardrail_name,
    verdict_of,
)
from durable_agents.runtime.output import OutputType
from durable_agents.runtime.plain import NO_APPROVALS, PlainContext
from durable_agents.runtime.results import RunRecord, RunResult, said_in

T = TypeVar("T")

MODEL_OPTIONS = ActivityOptions(
    start_to_close_timeout=600.0,
    retry=RetryPolicy(max_attempts=10, initial_interval=1.0, backoff_coefficient=2.0, max_interval=30.0),
    effect="idempotent",
)
"""How a model call is tried: patiently, since a busy conversation stays locked for up to 90 s."""

TOOL_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, effect="idempotent")
BYTES_SHOWN_MAX = 1000
CONNECTING_SECONDS = 120.0
"""What an attempt may take beyond the time of a source's own: for a connection to be opened first."""
ONCE_OPTIONS = ActivityOptions(start_to_close_timeout=300.0, retry=RetryPolicy(max_attempts=1), effect="once")


def check_run(agent: Agent, inputs: Any) -> tuple[Entry, ...]:
    """Return the inputs as entries.

    Raises:
        DefinitionError: the agent is none, or the input is empty or no message.
    """
    if not isinstance(agent, Agent):
        raise DefinitionError(f"the agent must be an Agent, not {type(agent).__name__}")
    return as_entries(inputs)


def as_entries(inputs: Any) -> tuple[Entry, ...]:
    """Return what a caller gave as entries.

    Raises:
        DefinitionError: it is empty, or no messages.
    """
    try:
        return wire.messages(inputs)
    except ValidationError as error:
        raise DefinitionError(f"the inputs are no messages: {'; '.join(faults(error))}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DefinitionError(f"the inputs cannot be used: {error}") from error


async def run_agent(
    agent: Agent[T], inputs: Any, session: Session, bounds: Bounds, context: StepContext
) -> RunResult[T]:
    """Run `agent` until it answers. The steps are journaled as far as `context` journals.

    Raises:
        DefinitionError: the agent, the inputs or the session cannot be used so; nothing was done.
        LimitExceeded: no answer came within the bounds; `.entries` and `.usage` say what did.
        InvalidOutput: the answers were not of the agent's output type.
        InputRejected, OutputRejected: a guardrail rejected what was given or answered.
        ModelError: the model gave no usable reply.
        ToolError: a tool failed, and the session says `raise_on_tool_fail`.
        ToolServerError: a server that is required cannot be used.
    """
    given = check_run(agent, inputs)
    conversation = conversation_of(session, current_context.get())
    if conversation.in_use:
        raise DefinitionError(
            "this session is being used by another run; runs at the same time need sessions of their own"
        )
    conversation.in_use = True
    try:
        return await run_in(conversation, agent, given, session, bounds, context)
    finally:
        conversation.in_use = False


async def run_in(
    conversation: Conversation,
    agent: Agent[T],
    given: tuple[Entry, ...],
    session: Session,
    bounds: Bounds,
    context: StepContext,
) -> RunResult[T]:
    """Run `agent` in a conversation of its own choice; else as `run_agent`."""
    catalogues = await catalogues_of(sources_of(agent), context)
    team = team_of(agent, catalogues.tools, catalogues.missing)
    session.check(team.graph)
    team.check_approvals(catalogues.missing)
    if isinstance(context, PlainContext) and _requires_approval(team.graph):
        raise NotSupported(NO_APPROVALS)
    return await _Run(team, session, conversation, bounds, context).to_the_end(given)


def _requires_approval(graph: AgentGraph) -> bool:
    return any(tool.requires_approval for agent in graph.agents.values() for tool in agent.tools)


class _Run:
    """One run: holds the machine's state, and turns its effects into steps."""

    def __init__(
        self,
        team: Team,
        session: Session,
        conversation: Conversation,
        bounds: Bounds,
        context: StepContext,
    ) -> None:
        self._team = team
        self._session = session
        self._conversation = conversation
        self._context = context
        self._key = f"run{context.next_key()}"
        self._state = AgentRun(
            graph=team.graph,
            max_turns=bounds.max_turns,
            limits=bounds.limits,
            on_limit=bounds.on_limit,
            checked=team.checked(),
            raise_on_tool_fail=session.raise_on_tool_fail,
        )
        self._events: asyncio.Queue[AgentEvent] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._entries: list[Entry] = []
        self._result: RunResult[Any] | None = None

    async def to_the_end(self, given: tuple[Entry, ...]) -> RunResult[Any]:
        """Run until the machine has ended, and return its result or raise its failure."""
        try:
            given, usage = await self._let_in(given)
            self._take(RunStarted(inputs=(*self._conversation.unsent, *given), usage=usage))
            while self._result is None:
                self._take(await self._events.get())
        except asyncio.CancelledError:
            if self._state.phase is not Phase.READY:
                self._take(RunCancelled())
            raise
        finally:
            for task in self._tasks:
                task.cancel()
        return self._result

    def _take(self, event: AgentEvent) -> None:
        self._state, effects = step(self._state, event.with_(at=self._context.now().timestamp()))
        for effect in effects:
            self._do(effect)

    def _do(self, effect: AgentEffect) -> None:
        match effect:
            case CallModel():
                self._tasks = [asyncio.create_task(self._call_model(effect))]
            case CallTool():
                self._tasks.append(asyncio.create_task(self._call_tool(effect)))
            case KeepReply(entries=entries):
                self._conversation.history += entries
                self._entries += entries
                self._tell_executions(entries)
            case AnswerCall():
                self._tell_answer(effect)
            case AnnounceHandoff():
                data: dict[str, JSON] = {"turn": effect.turn, "from": effect.previous, "to": effect.next}
                self._context.emit("handed_off", {"run": self._key, **data})
            case Finish():
                self._finish(effect)
            case Fail(failure=failure, unsent=unsent):
                self._leave(unsent)
                raise self._error(failure)
            case Stop(unsent=unsent):
                self._leave(unsent)
            case AskApproval():
                self._ask_approval(effect)
            case CheckAnswer():
                self._tasks = [asyncio.create_task(self._check_answer(effect))]

    # The model

    async def _call_model(self, effect: CallModel) -> None:
        """Ask the model; the entries it is told become history only when its reply has come."""
        if effect.limit is not None:
            about: dict[str, JSON] = {"run": self._key, "agent": effect.agent, "turn": effect.turn}
            self._context.emit("limit_reached", {**about, "limit": effect.limit.message})
        conversation = self._conversation
        history, handle = tuple(conversation.history), conversation.handle
        conversation.unsent = effect.entries
        in_doubt, conversation.in_doubt = conversation.in_doubt, True
        graph = self._team.graph

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
                attempt=attempt.attempt,
                in_doubt=in_doubt,
            )

        call = Step(
            key=f"{self._key}/t{effect.turn}/model",
            kind=StepKind.MODEL,
            name="call_model",
            call=ModelCall(self._session, request),
            options=MODEL_OPTIONS,
            about={"run": self._key, "agent": effect.agent, "turn": effect.turn},
        )
        try:
            reply = ModelReply.model_validate(await self._context.run_step(call))
        except Exception as error:
            self._events.put_nowait(ModelFailed(failure=Failure.of(error)))
            return
        conversation.history += effect.entries
        conversation.unsent = ()
        conversation.in_doubt = False
        conversation.handle = reply.handle
        self._entries += effect.entries
        self._events.put_nowait(ModelReplied(entries=reply.entries, usage=reply.usage))

    # Tools

    async def _call_tool(self, effect: CallTool) -> None:
        """Run one tool, and put how it ended where the run finds it. Only what must unwind it gets past."""
        try:
            result = await self._result_of(effect)
        except Exception as error:
            self._events.put_nowait(ToolCallFailed(call_id=effect.call_id, failure=Failure.of(error)))
        else:
            self._events.put_nowait(ToolReturned(call_id=effect.call_id, result=result))

    async def _result_of(self, effect: CallTool) -> str:
        key = call_key(self._key, effect.turn, effect.call_id)
        about = self._about(effect)
        match self._team.bindings[effect.agent, effect.tool]:
            case ActivityTool(activity=activity):
                signature = activity.definition.signature
                args, kwargs = self._bound(signature, effect)
                arguments = signature.dump_arguments(*args, **kwargs)
                call = Step(
                    key=key,
                    kind=StepKind.TOOL,
                    name=activity.definition.name,
                    call=ActivityCall(activity.definition, arguments),
                    options=activity.definition.options,
                    about=about,
                )
                return told(await self._context.run_step(call))
            case FunctionTool(fn=fn, signature=signature):
                args, kwargs = self._bound(signature, effect)
                self._context.emit("tool_called", about)
                try:
                    value = fn(*args, **kwargs)
                    if inspect.isawaitable(value):
                        value = await value
                    result = told(signature.dump_result(value))
                except Exception as error:
                    self._context.emit("tool_failed", {**about, "failure": _failure(error)})
                    raise
                self._context.emit("tool_returned", {**about, "result": result})
                return result
            case SourceTool(source=source, name=name):
                call = Step(
                    key=key,
                    kind=StepKind.TOOL,
                    name=name,
                    call=ToolCallOf(source, name, effect.arguments),
                    options=self._options(effect.agent, source, name),
                    about=about,
                )
                output = ToolOutput.model_validate(await self._context.run_step(call))
                if output.is_error:
                    raise ToolFailed(name, "ToolError", told_output(output))
                return told_output(output)

    def _options(self, agent: str, source: ToolSource, tool: str) -> ActivityOptions:
        """Return how a call is tried: by what the source said when it was listed, which is journaled."""
        spec = self._team.graph[agent].tool(tool)
        assert spec is not None
        options = ONCE_OPTIONS if (spec.effect or source.effect(tool)) == "once" else TOOL_OPTIONS
        if spec.timeout_seconds is None:
            return options
        return replace(options, start_to_close_timeout=spec.timeout_seconds + CONNECTING_SECONDS)

    def _bound(self, signature: Signature, effect: CallTool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return signature.bind(effect.arguments)
        except InvalidArguments as error:
            self._context.emit("tool_called", self._about(effect))
            self._context.emit("tool_failed", {**self._about(effect), "failure": _failure(error)})
            raise

    def _about(self, effect: CallTool | AskApproval | AnswerCall) -> dict[str, JSON]:
        return {
            "run": self._key,
            "agent": effect.agent,
            "turn": effect.turn,
            "call_id": effect.call_id,
            "tool": effect.tool,
        }

    def _tell_executions(self, reply: tuple[Entry, ...]) -> None:
        """Put what the server has run into the event stream; what came of it is in the reply just before."""
        for entry in reply:
            if isinstance(entry, ToolExecution):
                about: dict[str, JSON] = {"run": self._key, "turn": self._state.turn, "tool": entry.name}
                self._context.emit("tool_executed", {**about, "entry": (entry.model_extra or {}).get("id")})

    def _tell_answer(self, answer: AnswerCall) -> None:
        """Put a call that the machine answered itself into the event stream; a handoff is announced apart."""
        if answer.tool.startswith(HANDOFF_PREFIX) and not answer.failed:
            return
        about = self._about(answer)
        if not answer.denied:
            self._context.emit("tool_called", about)
        kind = "tool_failed" if answer.failed else "tool_returned"
        self._context.emit(kind, {**about, "result": answer.result})

    # Approvals

    def _ask_approval(self, effect: AskApproval) -> None:
        """Wait for a person's decision, unless the tool's own check says that the call needs none."""
        approval = self._team.approval(effect.agent, effect.tool)
        if callable(approval):
            try:
                needed = bool(approval(effect.arguments))
            except Exception as error:
                # A call that cannot be judged is not made.
                reason = f"the check whether it needs approval failed with {type(error).__name__}: {error}"
                self._take_decision(effect, "deny", reason)
                return
            if not needed:
                given = ApprovalGiven(call_id=effect.call_id, fingerprint=effect.fingerprint)
                self._events.put_nowait(given)
                return
        self._context.emit("approval_requested", {**self._about(effect), "fingerprint": effect.fingerprint})
        self._tasks.append(asyncio.create_task(self._await_decision(effect)))

    async def _await_decision(self, effect: AskApproval) -> None:
        key = call_key(self._key, effect.turn, effect.call_id)
        decision = await self._context.decision(key, effect.fingerprint)
        self._take_decision(effect, decision.verdict, decision.reason, decision.edited_arguments)

    def _take_decision(
        self,
        effect: AskApproval,
        verdict: approvals.Verdict,
        reason: str | None = None,
        edited_arguments: dict[str, JSON] | None = None,
    ) -> None:
        told: dict[str, JSON] = {**self._about(effect), "reason": reason}
        event: AgentEvent
        if verdict == "allow":
            kind = "approval_given"
            if edited_arguments is not None:
                told["edited_arguments"] = edited_arguments
            event = ApprovalGiven(
                call_id=effect.call_id, fingerprint=effect.fingerprint, edited_arguments=edited_arguments
            )
        else:
            kind = "approval_refused"
            event = ApprovalRefused(call_id=effect.call_id, fingerprint=effect.fingerprint, reason=reason)
        self._context.emit(kind, told)
        self._events.put_nowait(event)

    # Checks

    async def _let_in(self, given: tuple[Entry, ...]) -> tuple[tuple[Entry, ...], Usage]:
        """Return what the model may be told of what the run was given, and what finding out cost.

        Raises:
            InputRejected: a guardrail of the start agent rejects it.
        """
        start = self._state.agent
        usage = Usage()
        for guardrail in self._team.agents[start].input_guardrails:
            said = "\n".join(text_of(entry.content) for entry in given if isinstance(entry, MessageInput))
            verdict, cost = await self._judge(guardrail, said)
            usage += cost
            self._tell_verdict(verdict, guardrail, start, "input")
            if isinstance(verdict, Reject):
                raise InputRejected(guardrail_name(guardrail), verdict.reason)
            if isinstance(verdict, Replace):
                given = (MessageInput(content=verdict.text),)
        return given, usage

    async def _check_answer(self, effect: CheckAnswer) -> None:
        """Put what the checks say of an answer where the run finds it; one that fails lets nothing out."""
        try:
            event = await self._checked(effect)
        except Exception as error:
            event = AnswerBlocked(failure=Failure.of(error))
        self._events.put_nowait(event)

    async def _checked(self, effect: CheckAnswer) -> AnswerAccepted | AnswerRejected | AnswerBlocked:
        text = said_in(effect.entries)
        output = self._team.outputs.get(effect.agent)
        if output is not None and (problem := _problem(output, text)) is not None:
            about: dict[str, JSON] = {"run": self._key, "agent": effect.agent, "turn": effect.turn}
            self._context.emit("answer_rejected", {**about, "reason": problem})
            return AnswerRejected(problem=problem)
        usage, replacement = Usage(), None
        for guardrail in self._team.agents[effect.agent].output_guardrails:
            verdict, cost = await self._judge(guardrail, text)
            usage += cost
            self._tell_verdict(verdict, guardrail, effect.agent, "output")
            if isinstance(verdict, Reject):
                rejected = OutputRejected(guardrail_name(guardrail), effect.agent, verdict.reason)
                return AnswerBlocked(failure=Failure.of(rejected), usage=usage)
            if isinstance(verdict, Replace):
                text = replacement = verdict.text
        if output is not None and (problem := _problem(output, text)) is not None:
            invalid = InvalidOutput(effect.agent, 1, f"what a guardrail replaced it with: {problem}")
            return AnswerBlocked(failure=Failure.of(invalid), usage=usage)
        return AnswerAccepted(replacement=replacement, usage=usage)

    async def _judge(self, guardrail: Any, text: str) -> tuple[Verdict, Usage]:
        """Return what a guardrail says, and what its own model calls cost."""
        if not isinstance(guardrail, Agent):
            return await verdict_of(guardrail, text), Usage()
        judge: Agent[GuardrailAnswer] = as_guardrail(guardrail)
        asked = (MessageInput(content=text or "(nothing)"),)
        result = await run_in(Conversation(), judge, asked, self._session, Bounds(), self._context)
        return result.output.verdict(), result.usage

    def _tell_verdict(self, verdict: Verdict, guardrail: Any, agent: str, what: str) -> None:
        if verdict is not None:
            about: dict[str, JSON] = {"run": self._key, "agent": agent, "of": what}
            about["guardrail"] = guardrail_name(guardrail)
            told: dict[str, JSON] = (
                {"reason": verdict.reason} if isinstance(verdict, Reject) else {"text": verdict.text}
            )
            kind = "guardrail_rejected" if isinstance(verdict, Reject) else "guardrail_replaced"
            self._context.emit(kind, {**about, **told})

    # Ends

    def _finish(self, effect: Finish) -> None:
        record = RunRecord(
            agent=effect.agent,
            final=effect.entries,
            entries=tuple(self._entries),
            usage=self._state.usage,
            turns=self._state.turn,
        )
        self._result = RunResult(record, self._team.agents[effect.agent])

    def _leave(self, unsent: tuple[Entry, ...]) -> None:
        """Keep what the model was not told for the conversation's next run, and say so in the stream."""
        self._conversation.unsent = unsent or self._conversation.unsent
        for entry in unsent:
            if isinstance(entry, FunctionResult):
                data: dict[str, JSON] = {"run": self._key, "call_id": entry.tool_call_id}
                self._context.emit("tool_closed", {**data, "result": entry.result})

    def _error(self, failure: Failure) -> Exception:
        error = failure.error()
        if isinstance(error, LimitExceeded):
            error.entries = tuple(self._entries)
            error.usage = self._state.usage
        return error


def _problem(output: OutputType, text: str) -> str | None:
    """Return why an answer is not of the output type, or None if it is."""
    try:
        output.parse(text)
    except ValueError as error:
        return str(error)
    return None


def told(value: JSON) -> str:
    """Return what a model is told of a tool's result: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def told_output(output: ToolOutput) -> str:
    """Return what a model is told of what a tool source gave: text as it is, anything else as JSON.

    That is its content; a structure is told only where there is no content, which mostly says the same.
    """
    if not output.content:
        return "" if output.structured is None else told(output.structured)
    if all(isinstance(chunk, TextChunk) for chunk in as_chunks(output.content)):
        return text_of(output.content)
    return told(_brief(cast(JSON, to_wire(output.content))))


def _brief(value: JSON) -> JSON:
    """Return `value` without the bytes of images and documents, which are of no use to a model as text."""
    match value:
        case list():
            return [_brief(item) for item in value]
        case dict():
            return {name: item if name == "text" else _brief(item) for name, item in value.items()}
        case str() if len(value) > BYTES_SHOWN_MAX:
            return f"{value[:40]}… ({len(value)} characters, not shown)"
    return value


def _failure(error: Exception) -> JSON:
    return Failure.of(error).model_dump(mode="json")
