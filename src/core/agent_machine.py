"""The agent machine: agent turn, tool dispatch, handoff.

A run of an agent is a value, `AgentRun`, and a function, `step`: an event and a state give the next state
and what the driver must now do, in order. It performs nothing, and reads no clock.

A turn is one model reply and the tool calls that it asked for. The phases:

- READY: nothing has happened; `RunStarted` brings the inputs.
- AWAITING_MODEL: the model has been asked; its reply (or its failure) is the next thing of interest.
- AWAITING_TOOLS: the reply asked for calls; every one of them gets exactly one result before the model is
  asked again, in the order of the calls, whatever the order of completion.
- CHECKING_ANSWER: the reply is an answer, and the agent's answers are checked before they count.
- FINISHED, FAILED, CANCELLED: the run is over and accepts nothing.

What is legal stands in `TRANSITIONS`, from which the diagram in the docs is drawn. A handoff made by us is
a call of a function named `transfer_to_<agent>`; one made by the server is an `agent.handoff` entry, and
calls that stand before it are abandoned (the server answers for them).
"""

from __future__ import annotations

from typing import Any, Literal, assert_never

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnnounceHandoff,
    AnswerAccepted,
    AnswerBlocked,
    AnswerCall,
    AnswerChecked,
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
    UserMessageAdded,
)
from outlast.core.agent_run import AgentRun, CallState, Phase, ToolCall
from outlast.core.agents import HANDOFF_PREFIX
from outlast.core.approvals import fingerprint_of
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolConfirmation,
)
from outlast.core.errors import (
    BudgetExceeded,
    CallCancelled,
    CallDenied,
    CallOverLimit,
    IgnoredHandoff,
    IllegalTransition,
    InvalidArguments,
    InvalidOutput,
    MalformedReply,
    MaxTurnsExceeded,
    ToolError,
    ToolFailed,
    UnknownHandoff,
    UnknownTool,
)
from outlast.core.failure import Failure
from outlast.core.json import encode
from outlast.core.replies import open_function_calls, parsed_arguments, with_own_call_ids
from outlast.core.values import Value

TRANSITIONS: dict[Phase, dict[type[Value], frozenset[Phase]]] = {
    Phase.READY: {
        RunStarted: frozenset({Phase.AWAITING_MODEL, Phase.FAILED}),
        RunCancelled: frozenset({Phase.CANCELLED}),
    },
    Phase.AWAITING_MODEL: {
        ModelReplied: frozenset(
            {
                Phase.AWAITING_MODEL,
                Phase.AWAITING_TOOLS,
                Phase.CHECKING_ANSWER,
                Phase.FINISHED,
                Phase.FAILED,
            }
        ),
        ModelFailed: frozenset({Phase.FAILED}),
        UserMessageAdded: frozenset({Phase.AWAITING_MODEL}),
        RunCancelled: frozenset({Phase.CANCELLED}),
    },
    Phase.AWAITING_TOOLS: {
        ToolReturned: frozenset({Phase.AWAITING_TOOLS, Phase.AWAITING_MODEL, Phase.FAILED}),
        ToolCallFailed: frozenset({Phase.AWAITING_TOOLS, Phase.AWAITING_MODEL, Phase.FAILED}),
        ApprovalGiven: frozenset({Phase.AWAITING_TOOLS}),
        ApprovalRefused: frozenset({Phase.AWAITING_TOOLS, Phase.AWAITING_MODEL, Phase.FAILED}),
        UserMessageAdded: frozenset({Phase.AWAITING_TOOLS}),
        RunCancelled: frozenset({Phase.CANCELLED}),
    },
    Phase.CHECKING_ANSWER: {
        AnswerAccepted: frozenset({Phase.FINISHED, Phase.AWAITING_MODEL, Phase.FAILED}),
        AnswerRejected: frozenset({Phase.AWAITING_MODEL, Phase.FAILED}),
        AnswerBlocked: frozenset({Phase.FAILED}),
        UserMessageAdded: frozenset({Phase.CHECKING_ANSWER}),
        RunCancelled: frozenset({Phase.CANCELLED}),
    },
    Phase.FINISHED: {},
    Phase.FAILED: {},
    Phase.CANCELLED: {},
}
"""Which events a phase accepts, and the phases that each may lead to."""

ALLOWED = "allowed"
"""The result of a call that the server may run now."""

Moved = tuple[AgentRun, tuple[AgentEffect, ...]]


def step(run: AgentRun, event: AgentEvent) -> Moved:
    """Return the run after `event`, and what the driver must now do, in order.

    Raises:
        IllegalTransition: the phase does not accept the event, it names no call that waits for it, or it
            decides about other arguments than the call has; `run` is as it was.
    """
    if type(event) not in TRANSITIONS[run.phase]:
        raise IllegalTransition(run.phase, type(event).__name__)
    run = run.with_(now=max(run.now, event.at))
    match event:
        case RunStarted(inputs=inputs):
            return _ask_model(run.with_(started_at=run.now, usage=event.usage), inputs)
        case ModelReplied():
            return _take_reply(run, event)
        case ModelFailed(failure=failure):
            return _fail(run, failure)
        case ToolReturned(call_id=call_id, result=result):
            return _settle(_answer(run, call_id, result, CallState.RUNNING, event))
        case ToolCallFailed(call_id=call_id, failure=failure):
            return _take_tool_failure(run, call_id, failure, event)
        case ApprovalGiven():
            return _approve(run, event)
        case ApprovalRefused():
            return _deny(run, event)
        case AnswerAccepted(replacement=replacement):
            return _accept(_charged(run, event), replacement)
        case AnswerRejected(problem=problem):
            return _reject(_charged(run, event), problem)
        case AnswerBlocked(failure=failure):
            return _fail(_charged(run, event), failure)
        case UserMessageAdded(entry=entry):
            return run.with_(added=(*run.added, entry)), ()
        case RunCancelled(why=why):
            closed = _close(run, why)
            return closed.with_(phase=Phase.CANCELLED), (Stop(unsent=_unsent(closed)),)
        case _:
            assert_never(event)


def _ask_model(run: AgentRun, entries: tuple[Entry, ...]) -> Moved:
    limit = run.limit or _limit_reached(run)
    if limit is not None and _is_final(run):
        return run.with_(phase=Phase.FAILED, calls=(), added=()), (Fail(failure=limit, unsent=entries),)
    turn = run.turn + 1
    asked = run.with_(phase=Phase.AWAITING_MODEL, turn=turn, calls=(), added=(), limit=limit)
    return asked, (CallModel(agent=run.agent, turn=turn, entries=entries, limit=limit),)


def _is_final(run: AgentRun) -> bool:
    """Whether a limit ends the run; else the model is asked once more."""
    return run.on_limit == "raise" or run.limit is not None


def _limit_reached(run: AgentRun) -> Failure | None:
    """Return the error that says which limit stands in the way of another call of the model."""
    if run.turn >= run.max_turns:
        return Failure.of(MaxTurnsExceeded(run.agent, run.max_turns))
    allowed, usage = run.limits, run.usage
    tokens = max(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    if allowed.total_tokens is not None and tokens >= allowed.total_tokens:
        return Failure.of(BudgetExceeded(run.agent, "total_tokens", allowed.total_tokens, tokens))
    if allowed.tool_calls is not None and run.tool_calls > allowed.tool_calls:
        return Failure.of(BudgetExceeded(run.agent, "tool_calls", allowed.tool_calls, run.tool_calls))
    seconds = run.now - run.started_at
    if allowed.seconds is not None and seconds >= allowed.seconds:
        return Failure.of(BudgetExceeded(run.agent, "seconds", allowed.seconds, seconds))
    return None


def _take_reply(run: AgentRun, reply: ModelReplied) -> Moved:
    entries = with_own_call_ids(reply.entries)
    asked = open_function_calls(entries)
    run = run.with_(usage=run.usage + reply.usage)
    effects: list[AgentEffect] = [KeepReply(entries=entries)]
    for entry in entries:
        if isinstance(entry, AgentHandoff):
            if entry.next_agent_name not in run.graph:
                why = f"it hands off to {entry.next_agent_name!r}, which is not an agent of this run"
                failure = Failure.of(MalformedReply(why))
                failed, ending = _fail(run.with_(calls=_unmade(asked)), failure, started=False)
                return failed, (*effects, *ending)
            effects.append(AnnounceHandoff(turn=run.turn, previous=run.agent, next=entry.next_agent_name))
            run = run.with_(agent=entry.next_agent_name, rejections=0)
    if asked:
        if run.limit is not None:
            failed, ending = _fail(run.with_(calls=_unmade(asked)), run.limit, started=False)
            return failed, (*effects, *ending)
        return _dispatch(run, asked, effects)
    if run.added:
        run, more = _ask_model(run, run.added)
        return run, (*effects, *more)
    if run.agent in run.checked:
        check = CheckAnswer(agent=run.agent, turn=run.turn, entries=entries)
        return run.with_(phase=Phase.CHECKING_ANSWER, calls=(), answer=entries), (*effects, check)
    return run.with_(phase=Phase.FINISHED), (*effects, Finish(agent=run.agent, entries=entries))


def _unmade(asked: tuple[FunctionCall, ...]) -> tuple[ToolCall, ...]:
    return tuple(_made(call) for call in asked)


def _made(call: FunctionCall) -> ToolCall:
    return ToolCall(call_id=call.tool_call_id, tool=call.name, by_server=call.awaits_confirmation)


def _charged(run: AgentRun, checked: AnswerChecked) -> AgentRun:
    return run.with_(usage=run.usage + checked.usage)


def _accept(run: AgentRun, replacement: str | None) -> Moved:
    """End the run with its answer; one that somebody has spoken after is not the last word."""
    if run.added:
        return _ask_model(run, run.added)
    entries = run.answer if replacement is None else (MessageOutput(content=replacement),)
    return run.with_(phase=Phase.FINISHED), (Finish(agent=run.agent, entries=entries),)


def _reject(run: AgentRun, problem: str) -> Moved:
    """Tell the model what is wrong with its answer, as often as it may try again."""
    rejections = run.rejections + 1
    if rejections > run.checked[run.agent]:
        return _fail(run, Failure.of(InvalidOutput(run.agent, rejections, problem)))
    limit = run.limit or _limit_reached(run)
    if limit is not None and _is_final(run):
        return _fail(run, limit)
    told = MessageInput(content=f"This answer cannot be used. {problem}\nAnswer again.")
    return _ask_model(run.with_(rejections=rejections), (told, *run.added))


def _dispatch(run: AgentRun, asked: tuple[FunctionCall, ...], effects: list[AgentEffect]) -> Moved:
    """Open every call that can run, and answer at once those that cannot."""
    agent = run.graph[run.agent]
    handoffs = agent.handoff_tools()
    calls: list[ToolCall] = []
    winner: str | None = None
    broken: Failure | None = None
    tool_calls, allowed = run.tool_calls, run.limits.tool_calls
    for call in asked:
        made = _made(call)
        refusal: ToolError | None = None
        if call.name in handoffs and not made.by_server:
            target = handoffs[call.name]
            if winner is None:
                winner = target
                answer = encode({"handed_off_to": target}).decode()
                made = made.with_(handoff=target, state=CallState.DONE, result=answer)
            else:
                refusal = IgnoredHandoff(target, winner)
        else:
            made, refusal = _open(run, made, call.arguments)
            tool_calls += refusal is None
            if refusal is None and allowed is not None and tool_calls > allowed:
                refusal = CallOverLimit(call.name, allowed)
        if refusal is not None:
            made = made.with_(state=CallState.DONE, result=str(refusal))
            # A call over the limit is no fault of its own: the run ends at its next call of the model.
            if not isinstance(refusal, CallOverLimit):
                broken = broken or Failure.of(refusal)
        calls.append(made)
        effects.append(_effect_of(run, made, failed=refusal is not None))
    run = run.with_(phase=Phase.AWAITING_TOOLS, calls=tuple(calls), tool_calls=tool_calls)
    if broken is not None and run.raise_on_tool_fail:
        # Nothing has been started yet: what would have been is closed before the driver hears of it.
        started = [effect for effect in effects if not isinstance(effect, (CallTool, AskApproval))]
        failed, ending = _fail(run, broken, started=False)
        return failed, (*started, *ending)
    run, more = _settle(run)
    return run, (*effects, *more)


def _open(run: AgentRun, call: ToolCall, text: str) -> tuple[ToolCall, ToolError | None]:
    if call.by_server:
        waiting = {"arguments": parsed_arguments(text) or {}, "state": CallState.AWAITING_APPROVAL}
        return call.with_(**waiting), None
    agent = run.graph[run.agent]
    tool = agent.tool(call.tool)
    if tool is None:
        if call.tool.startswith(HANDOFF_PREFIX):
            target = call.tool.removeprefix(HANDOFF_PREFIX)
            return call, UnknownHandoff(target, agent.name, agent.handoffs)
        return call, UnknownTool(call.tool, agent.name, tuple(known.name for known in agent.tools))
    arguments = parsed_arguments(text)
    if arguments is None:
        return call, InvalidArguments(call.tool, ("the arguments are not a JSON object; send one",))
    state = CallState.AWAITING_APPROVAL if tool.requires_approval else CallState.RUNNING
    return call.with_(arguments=arguments, state=state), None


def _effect_of(run: AgentRun, call: ToolCall, *, failed: bool, denied: bool = False) -> AgentEffect:
    about: dict[str, Any] = {"agent": run.agent, "turn": run.turn, "call_id": call.call_id, "tool": call.tool}
    if call.state is CallState.RUNNING:
        return CallTool(**about, arguments=call.arguments)
    if call.state is CallState.AWAITING_APPROVAL:
        fingerprint = fingerprint_of(run.agent, call.tool, call.arguments)
        return AskApproval(**about, arguments=call.arguments, fingerprint=fingerprint)
    return AnswerCall(**about, result=call.result or "", failed=failed, denied=denied)


def _take_tool_failure(run: AgentRun, call_id: str, failure: Failure, event: ToolCallFailed) -> Moved:
    call = _call(run, call_id, CallState.RUNNING, event)
    error = failure.error()
    told = error if isinstance(error, ToolError) else ToolFailed(call.tool, failure.kind, failure.message)
    answered = _answer(run, call_id, str(told), CallState.RUNNING, event)
    return _fail(answered, Failure.of(told)) if run.raise_on_tool_fail else _settle(answered)


def _approve(run: AgentRun, event: ApprovalGiven) -> Moved:
    call = _decided(run, event)
    edited = event.edited_arguments
    if call.by_server:
        if edited is not None:
            return _refuse(run, call, "the server runs it, and takes no other arguments for it")
        return _settle(_replace(run, call.with_(state=CallState.DONE, result=ALLOWED)))
    allowed = call.with_(state=CallState.RUNNING, arguments=call.arguments if edited is None else edited)
    return _replace(run, allowed), (_effect_of(run, allowed, failed=False),)


def _deny(run: AgentRun, event: ApprovalRefused) -> Moved:
    return _refuse(run, _decided(run, event), event.reason)


def _refuse(run: AgentRun, call: ToolCall, reason: str | None) -> Moved:
    denial = CallDenied(call.tool, reason)
    denied = call.with_(state=CallState.DONE, result=str(denial))
    answered = _replace(run, denied)
    told = _effect_of(run, denied, failed=True, denied=True)
    after, more = _fail(answered, Failure.of(denial)) if run.raise_on_tool_fail else _settle(answered)
    return after, (told, *more)


def _settle(run: AgentRun) -> Moved:
    """Go on with the model if every call has its result: the first handoff now takes effect."""
    if run.open_calls:
        return run, ()
    entries = _unsent(run)
    winner = next((call.handoff for call in run.calls if call.handoff is not None), None)
    if winner is None:
        return _ask_model(run, entries)
    announced = AnnounceHandoff(turn=run.turn, previous=run.agent, next=winner)
    after, effects = _ask_model(run.with_(agent=winner, rejections=0), entries)
    return after, (announced, *effects)


def _fail(run: AgentRun, failure: Failure, *, started: bool = True) -> Moved:
    closed = _close(run, "the run failed", started=started)
    return closed.with_(phase=Phase.FAILED), (Fail(failure=failure, unsent=_unsent(closed)),)


def _close(run: AgentRun, why: str, *, started: bool = True) -> AgentRun:
    """Give every open call a result that says why it has no other."""
    calls: list[ToolCall] = []
    for call in run.calls:
        if call.state is not CallState.DONE:
            told = CallCancelled(call.tool, why, started=started and call.state is CallState.RUNNING)
            call = call.with_(state=CallState.DONE, result=str(told))
        calls.append(call)
    return run.with_(calls=tuple(calls))


def _unsent(run: AgentRun) -> tuple[Entry, ...]:
    return (*(_told(call) for call in run.calls), *run.added)


def _told(call: ToolCall) -> Entry:
    """Return what answers the call; one that the server runs is not run unless a person has allowed it."""
    if call.by_server:
        confirmation: Literal["allow", "deny"] = "allow" if call.result == ALLOWED else "deny"
        return ToolConfirmation(tool_call_id=call.call_id, confirmation=confirmation)
    return FunctionResult(tool_call_id=call.call_id, result=call.result or "")


def _call(run: AgentRun, call_id: str, state: CallState, event: Value) -> ToolCall:
    for call in run.calls:
        if call.call_id == call_id and call.state is state:
            return call
    raise IllegalTransition(run.phase, f"{type(event).__name__} for call {call_id!r}")


def _decided(run: AgentRun, event: ApprovalGiven | ApprovalRefused) -> ToolCall:
    """Return the call that a decision is about; one that was shown otherwise is not decided by it."""
    call = _call(run, event.call_id, CallState.AWAITING_APPROVAL, event)
    if event.fingerprint != fingerprint_of(run.agent, call.tool, call.arguments):
        what = f"{type(event).__name__} for another agent, tool or arguments than call {event.call_id!r} has"
        raise IllegalTransition(run.phase, what)
    return call


def _answer(run: AgentRun, call_id: str, result: str, state: CallState, event: Value) -> AgentRun:
    call = _call(run, call_id, state, event)
    return _replace(run, call.with_(state=CallState.DONE, result=result))


def _replace(run: AgentRun, changed: ToolCall) -> AgentRun:
    calls = tuple(changed if call.call_id == changed.call_id else call for call in run.calls)
    return run.with_(calls=calls)
