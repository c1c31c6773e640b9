"""The tool calls of one turn: the ones that can be made, and the results of the others.

A model may ask for anything. A call of its reply is opened (to run, or to wait for a person), or it gets its
result at once: it is a handoff, or it cannot be made and the result says why, in words that the model can act
upon. Nothing here changes a run; `agent_machine` decides what follows from the calls.

An agent may bound the calls that are at work at the same time. The others are queued, in call order, and were
not started if the run ends first. A call that waits for a person is not at work.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from outlast.core.agent_events import AgentEffect, AnswerCall, AskApproval, CallTool
from outlast.core.agent_run import AgentRun, CallState, ToolCall
from outlast.core.agents import HANDOFF_PREFIX
from outlast.core.entries import Entry, FunctionCall, FunctionResult, ToolConfirmation
from outlast.core.errors import (
    CallCancelled,
    CallOverLimit,
    IgnoredHandoff,
    InvalidArguments,
    ToolError,
    UnknownHandoff,
    UnknownTool,
)
from outlast.core.failure import Failure
from outlast.core.fingerprints import call_fingerprint
from outlast.core.replies import handed_off, parsed_arguments

Effects = tuple[AgentEffect, ...]
ALLOWED = "allowed"
"""The result of a call that the server may run now."""


class OpenedCalls(NamedTuple):
    """The calls of a reply, each opened or answered."""

    calls: tuple[ToolCall, ...]
    effects: tuple[AgentEffect, ...]
    """One for each call."""
    tool_calls: int
    """The number of tool calls that the run has asked for so far."""
    fault: ToolError | None
    """The error of the first call that the model should not have made."""


def open_calls(run: AgentRun, asked: tuple[FunctionCall, ...]) -> OpenedCalls:
    """Return the calls that the active agent asks for: opened where they can be made, answered where not.

    The first handoff wins. It is answered here; it takes effect when all calls of the turn have a result.
    """
    handoffs = run.graph[run.agent].handoff_tools()
    calls: list[ToolCall] = []
    effects: list[AgentEffect] = []
    tool_calls = run.tool_calls
    winner: str | None = None
    fault: ToolError | None = None
    for one in asked:
        call, refusal = unmade(one), None
        target = None if call.by_server else handoffs.get(call.tool)
        if target is None:
            call, refusal = _open(run, call, one.arguments)
            tool_calls += refusal is None
        elif winner is None:
            winner = target
            call = call.with_(handoff=target, state=CallState.DONE, result=handed_off(target))
        else:
            refusal = IgnoredHandoff(target, winner)
        fault = fault or refusal
        if target is None and refusal is None and (limit := _limit_passed(run, tool_calls)) is not None:
            # The call has no fault of its own: the run reaches its limit before the model is asked again.
            refusal = CallOverLimit(call.tool, limit)
        if refusal is not None:
            call = call.with_(state=CallState.DONE, result=str(refusal))
        calls.append(call)
        effects.append(effect_of(run, call, refusal))
    return OpenedCalls(tuple(calls), tuple(effects), tool_calls, fault)


def _limit_passed(run: AgentRun, tool_calls: int) -> int | None:
    """Return the limit that a run with so many tool calls has passed: its own, or one of a run around it."""
    own, around = run.limits.tool_calls, run.allowance
    if own is not None and tool_calls > own:
        return own
    if around.tool_calls is not None and tool_calls - run.tool_calls > around.tool_calls:
        return around.tool_calls_max
    return None


def unmade(call: FunctionCall) -> ToolCall:
    """Return the call before it is opened or answered."""
    return ToolCall(call_id=call.tool_call_id, tool=call.name, by_server=call.awaits_confirmation)


def _open(run: AgentRun, call: ToolCall, text: str) -> tuple[ToolCall, ToolError | None]:
    """Return the call with its arguments, ready to be made, or the error that says why it cannot be made."""
    if call.by_server:
        # The server runs the call, if it may: the tool is not one of ours, and the arguments are only shown.
        return call.with_(arguments=parsed_arguments(text) or {}, state=CallState.AWAITING_APPROVAL), None
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


def within_bound(run: AgentRun, effects: Effects) -> tuple[AgentRun, Effects]:
    """Return the run and its effects with no more calls at work than the active agent allows.

    The others are queued. They are made in call order, as those at work end.
    """
    most = run.graph[run.agent].max_parallel_tools
    if most is None:
        return run, effects
    begun = {effect.call_id for effect in effects if isinstance(effect, CallTool)}
    room = most - sum(call.state is CallState.RUNNING and call.call_id not in begun for call in run.calls)
    calls: list[ToolCall] = []
    held: set[str] = set()
    more: list[AgentEffect] = []
    for call in run.calls:
        if call.call_id in begun or call.state is CallState.QUEUED:
            room -= 1
            if room < 0:
                held.add(call.call_id)
                call = call.with_(state=CallState.QUEUED)
            elif call.state is CallState.QUEUED:
                call = call.with_(state=CallState.RUNNING)
                more.append(effect_of(run, call))
        calls.append(call)
    kept = (effect for effect in effects if not (isinstance(effect, CallTool) and effect.call_id in held))
    return run.with_(calls=tuple(calls)), (*kept, *more)


def effect_of(
    run: AgentRun, call: ToolCall, refusal: ToolError | None = None, *, denied: bool = False
) -> AgentEffect:
    """Return the effect of the call for the driver: make it, ask a person, or emit its result."""
    about: dict[str, Any] = {"agent": run.agent, "turn": run.turn, "call_id": call.call_id, "tool": call.tool}
    if call.state is CallState.RUNNING:
        return CallTool(**about, arguments=call.arguments)
    if call.state is CallState.AWAITING_APPROVAL:
        fingerprint = call_fingerprint(run.agent, call.tool, call.arguments)
        return AskApproval(**about, arguments=call.arguments, fingerprint=fingerprint)
    failure = None if refusal is None else Failure.of(refusal)
    return AnswerCall(**about, result=call.result or "", failure=failure, denied=denied)


def ended_call(call: ToolCall, why: str, *, started: bool) -> ToolCall:
    """Return the call with a result; `why` is the reason why an open call cannot get its own result.

    `started` says whether a call that runs may have had its side effect: the driver was asked to make it.
    """
    if call.state is CallState.DONE:
        return call
    result = CallCancelled(call.tool, why, started=started and call.state is CallState.RUNNING)
    return call.with_(state=CallState.DONE, result=str(result))


def entry_of(call: ToolCall) -> Entry:
    """Return the entry with the result; a call that the server runs is denied unless a person allowed it."""
    if call.by_server:
        confirmation: Literal["allow", "deny"] = "allow" if call.result == ALLOWED else "deny"
        return ToolConfirmation(tool_call_id=call.call_id, confirmation=confirmation)
    return FunctionResult(tool_call_id=call.call_id, result=call.result or "")
