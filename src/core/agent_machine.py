"""The agent machine: what one run of an agent does next.

A run is a value, `AgentRun`, and a function, `step`: the run and an event give the run after the event, and
its effects, which the driver must now carry out in order. The machine performs nothing, waits for nothing and
reads no clock: results, times and ids arrive in events. That is why a run survives a crash. Its events are
folded again, and they lead to the same state with the same effects outstanding; there is no other recovery.

A turn is one reply of the model and the tool calls that it asked for. A run with one tool goes like this:

    RunStarted     ->  CallModel              the inputs are sent to the model
    ModelReplied   ->  KeepReply, CallTool    it asks for a tool
    ToolReturned   ->  CallModel              the result is sent to the model: the next turn
    ModelReplied   ->  KeepReply, Finish      it asks for nothing: this is the answer

`tests/data/transcripts` has one such conversation for each thing that can happen. The phases, and what each
of them accepts, stand in the table of `agent_transitions`; the code below computes the outcome of an event
and the effects, and the table says which phase follows. Five decisions shaped the machine:

The model is asked again only when every call of its reply has a result, and it gets the results in the order
of the calls, whatever the order in which they came. Model APIs refuse a conversation in which a call has no
result, or two. A run that ends early therefore gives its open calls a result as well: `Fail` and `Stop` carry
what the next run of the conversation must send first (`unsent`).

A mistake of the model is an answer to the model, not an error of the run. A tool that does not exist,
arguments that are not JSON, a handoff to nobody: the result of the call says what is wrong and what is
possible. To end the run instead would throw away ten good turns for one bad call, which the next turn usually
repairs. Whoever wants that sets `raise_on_tool_fail`. Only a reply that cannot be understood at all ends the
run. So does a mistake of the program, a `WorkflowError` such as that of a tool that reads a clock: no answer
of a model can repair it, and the model would only hide it.

A handoff is a call of a function `transfer_to_<agent>`, because models are trained to call functions. It is
answered at once, but takes effect when all calls of its turn have their results: those belong to the agent
that asked for them. Of several handoffs the first wins. A server that makes handoffs itself reports them as
`agent.handoff` entries in the reply; calls in front of such an entry are the server's business.

A decision of a person counts only for the call that the person was shown. `AskApproval` carries a fingerprint
of agent, tool and arguments, and the decision must carry the same one; else it would be possible to allow a
small payment and to make a large one.

The state is that of the current turn. The conversation is kept by the driver, from the entries of `CallModel`
and `KeepReply`; a state which held it would make each turn dearer than the one before. For the same reason
the limits (turns, tokens, money, calls, seconds) are counters. They are looked at before the model is asked
and at no other time, so that no result which was paid for is lost. With `on_limit="ask"` the run waits at a
limit, and so do the runs within it: a person may raise it, as often as it is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnnounceHandoff,
    AnswerAccepted,
    AnswerBlocked,
    AnswerChecked,
    AnswerRejected,
    ApprovalDenied,
    ApprovalGiven,
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
    ModelReplied,
    RunCancelled,
    RunStarted,
    SpentWithin,
    Stop,
    ToolCallFailed,
    ToolReturned,
    UserMessageAdded,
)
from outlast.core.agent_run import AgentRun, CallState, KeptAtLimit, ToolCall
from outlast.core.agent_transitions import TRANSITIONS, Outcome
from outlast.core.entries import AgentHandoff, Entry, FunctionCall, MessageOutput
from outlast.core.errors import (
    BudgetExceeded,
    CallDenied,
    IllegalTransition,
    InvalidOutput,
    MalformedReply,
    MaxTurnsExceeded,
    UnknownPrice,
)
from outlast.core.failure import Failure
from outlast.core.fingerprints import call_fingerprint
from outlast.core.limits import LimitName, RunAllowance
from outlast.core.replies import (
    failed_call,
    is_mistake_of_program,
    open_function_calls,
    rejected_answer,
    with_own_call_ids,
)
from outlast.core.turn_calls import (
    ALLOWED,
    Effects,
    effect_of,
    ended_call,
    entry_of,
    open_calls,
    unmade,
    within_bound,
)
from outlast.core.values import Value

Move = tuple[AgentRun, Outcome, Effects]
"""The run after an event, but for its phase; the outcome of the event; and the effects."""


def step(run: AgentRun, event: AgentEvent) -> tuple[AgentRun, Effects]:
    """Return the run after `event`, and what the driver must now do, in order.

    Raises:
        IllegalTransition: the phase does not accept the event, no call waits for it, or it decides about
            other arguments than the call has; `run` is as it was. (Also where the table has no row for the
            outcome of the event, which would be a fault of this module.)
    """
    phases = TRANSITIONS[run.phase].get(type(event))
    if phases is None:
        raise IllegalTransition(run.phase, type(event).__name__)
    after, outcome, effects = move(run, event)
    if outcome is Outcome.CALLS_OPEN:
        after, effects = within_bound(after, effects)
    phase = phases.get(outcome)
    if phase is None:
        raise IllegalTransition(run.phase, f"{type(event).__name__} with the outcome '{outcome}'")
    return after if after.phase is phase else after.with_(phase=phase), effects


def move(run: AgentRun, event: AgentEvent) -> Move:
    """Return what `step` returns, with the outcome of the event instead of the next phase."""
    run = run.with_(now=max(run.now, event.at), allowance=event.allowance)
    match event:
        case RunStarted(inputs=inputs):
            return _ask_model(run.with_(started_at=run.now, usage=event.usage), inputs)
        case ModelReplied():
            return _take_reply(run, event)
        case ModelFailed(failure=failure):
            return _fail(run, failure)
        case ToolReturned(call_id=call_id, result=result):
            return _settle(_answer(run, _call(run, call_id, event, CallState.RUNNING), result))
        case ToolCallFailed():
            return _take_tool_failure(run, event)
        case SpentWithin(usage=usage, tool_calls=calls):
            spent = run.with_(usage=run.usage + usage, tool_calls=run.tool_calls + calls)
            return spent, Outcome.COUNTED, ()
        case ApprovalGiven():
            return _approve(run, event)
        case ApprovalDenied():
            return _deny(run, _decided(run, event), event.reason)
        case AnswerAccepted(replacement=replacement):
            return _accept(_charged(run, event), replacement)
        case AnswerRejected(problem=problem):
            return _reject(_charged(run, event), problem)
        case AnswerBlocked(failure=failure):
            return _fail(_charged(run, event), failure)
        case LimitAnswered():
            return _take_answer_about_limit(run, event)
        case UserMessageAdded(entry=entry):
            return run.with_(added=(*run.added, entry)), Outcome.MESSAGE_KEPT, ()
        case RunCancelled(why=why):
            ended = _end_calls(run, why)
            return ended, Outcome.STOPPED, (Stop(unsent=_unsent(ended)),)
        case _:
            assert_never(event)


# The model -----------------------------------------------------------------------------------------------


def _ask_model(run: AgentRun, entries: tuple[Entry, ...], unsent: tuple[Entry, ...] | None = None) -> Move:
    """Ask the model, if the limits allow it; `unsent` is what is left of the entries if the run ends.

    If the run has an answer, and would only ask because somebody had more to say, it ends with that answer.
    """
    limit = run.limit or _limit_reached(run)
    left = entries if unsent is None else unsent
    run = run.with_(calls=(), added=(), kept_at_limit=None)
    if limit is not None and _may_be_raised(run, limit):
        asked = run.with_(kept_at_limit=KeptAtLimit(entries=entries, unsent=left))
        is_own = limit != run.allowance.limit
        question = AskToRaise(agent=run.agent, turn=run.turn, limit=limit, is_own=is_own)
        return asked, Outcome.PERSON_ASKED, (question,)
    if limit is not None and _is_final(run, limit):
        if run.answer is not None:
            return run, Outcome.ANSWERED, (Finish(agent=run.agent, entries=run.answer, unsent=left),)
        return run, Outcome.LIMIT_REACHED, (Fail(failure=limit, unsent=left),)
    turn = run.turn + 1
    asked = run.with_(turn=turn, limit=limit, answer=None)
    return asked, Outcome.MODEL_ASKED, (CallModel(agent=run.agent, turn=turn, entries=entries, limit=limit),)


def _may_be_raised(run: AgentRun, limit: Failure) -> bool:
    """Return whether a person is asked to raise a limit; nobody can put a price in."""
    is_asked = run.allowance.asks if limit == run.allowance.limit else run.on_limit == "ask"
    return is_asked and limit.kind != UnknownPrice.__name__


def _is_final(run: AgentRun, limit: Failure) -> bool:
    """Return whether a limit ends the run; if not, the model is asked once more."""
    return run.on_limit != "finish" or run.limit is not None or limit.kind == UnknownPrice.__name__


def _take_answer_about_limit(run: AgentRun, event: LimitAnswered) -> Move:
    """Go on, if a limit was raised; one that was not raised is not asked about again."""
    if event.limit is not None:
        run = _with_limit(run, event.limit, event.to) or run.with_(on_limit="raise")
    held = run.kept_at_limit
    if held is None:
        return run, Outcome.COUNTED, ()
    return _ask_model(run, (*held.entries, *run.added), (*held.unsent, *run.added))


def _with_limit(run: AgentRun, limit: LimitName, to: Decimal | None) -> AgentRun | None:
    """Return the run with that limit; None if it would not be higher than it is."""
    now = run.max_turns if limit == "max_turns" else getattr(run.limits, limit)
    if to is None or now is None or to <= now:
        return None
    raised = to if limit == "cost" else type(now)(to)
    if limit == "max_turns":
        return run.with_(max_turns=raised)
    return run.with_(limits=run.limits.with_(**{limit: raised}))


def _limit_reached(run: AgentRun) -> Failure | None:
    """Return the error for the limit that stands in the way of another call of the model, if one does."""
    if run.turn >= run.max_turns:
        return Failure.of(MaxTurnsExceeded(run.agent, run.max_turns))
    return run.allowance.limit or _used_up(run)


def allowance_within(run: AgentRun) -> RunAllowance:
    """Return what a run that is made for one of this run's calls may still use.

    The turns of this run do not count: its last turn may need the run within it. If this run has reached a
    limit meanwhile, the run within it may not ask its model again, and this run is asked what follows.
    """
    left, allowed = run.allowance.tool_calls, run.allowance.tool_calls_max
    if run.limits.tool_calls is not None:
        own = max(run.limits.tool_calls - run.tool_calls, 0)
        if left is None or own < left:
            left, allowed = own, run.limits.tool_calls
    limit = run.allowance.limit or _used_up(run)
    asks = limit is not None and _may_be_raised(run, limit)
    return RunAllowance(limit=limit, asks=asks, tool_calls=left, tool_calls_max=allowed)


def _used_up(run: AgentRun) -> Failure | None:
    """Return the error for what the run has used up, if it has: tokens, money, calls or time."""
    allowed, usage = run.limits, run.usage
    tokens = max(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    if allowed.total_tokens is not None and tokens >= allowed.total_tokens:
        return Failure.of(BudgetExceeded(run.agent, "total_tokens", allowed.total_tokens, tokens))
    if allowed.cost is not None and usage.unpriced:
        return Failure.of(UnknownPrice(", ".join(usage.unpriced)))
    if allowed.cost is not None and usage.cost >= allowed.cost:
        return Failure.of(BudgetExceeded(run.agent, "cost", allowed.cost, usage.cost))
    if allowed.tool_calls is not None and run.tool_calls > allowed.tool_calls:
        return Failure.of(BudgetExceeded(run.agent, "tool_calls", allowed.tool_calls, run.tool_calls))
    seconds = run.now - run.started_at
    if allowed.seconds is not None and seconds >= allowed.seconds:
        return Failure.of(BudgetExceeded(run.agent, "seconds", allowed.seconds, seconds))
    return None


def _take_reply(run: AgentRun, reply: ModelReplied) -> Move:
    entries = with_own_call_ids(reply.entries)
    asked = open_function_calls(entries)
    run = run.with_(usage=run.usage + reply.usage)
    effects: list[AgentEffect] = [KeepReply(entries=entries)]
    for entry in entries:
        if isinstance(entry, AgentHandoff):
            if entry.next_agent_name not in run.graph:
                why = f"it hands off to {entry.next_agent_name!r}, which is not an agent of this run"
                return _then(effects, _fail_unmade(run, asked, Failure.of(MalformedReply(why))))
            effects.append(AnnounceHandoff(turn=run.turn, previous=run.agent, next=entry.next_agent_name))
            run = run.with_(agent=entry.next_agent_name, rejections=0)
    if asked:
        if run.limit is not None:
            return _then(effects, _fail_unmade(run, asked, run.limit, Outcome.LIMIT_REACHED))
        return _then(effects, _take_calls(run, asked))
    must_check = run.agent in run.checked
    if run.added and not (must_check and (run.limit or _limit_reached(run))):
        return _then(effects, _ask_model(run.with_(answer=entries), run.added))
    if must_check:
        check = CheckAnswer(agent=run.agent, turn=run.turn, entries=entries)
        return run.with_(calls=(), answer=entries), Outcome.ANSWER_TO_CHECK, (*effects, check)
    return run, Outcome.ANSWERED, (*effects, Finish(agent=run.agent, entries=entries))


def _then(effects: Sequence[AgentEffect], move: Move) -> Move:
    """Return the move with `effects` before its own."""
    run, outcome, more = move
    return run, outcome, (*effects, *more)


# The calls of a turn -------------------------------------------------------------------------------------


def _take_calls(run: AgentRun, asked: tuple[FunctionCall, ...]) -> Move:
    opened = open_calls(run, asked)
    run = run.with_(calls=opened.calls, tool_calls=opened.tool_calls)
    if opened.fault is not None and run.raise_on_tool_fail:
        # The driver has made no call yet, and makes none: it gets effects only for those that were answered.
        answered = [effect for effect in opened.effects if not isinstance(effect, (CallTool, AskApproval))]
        return _then(answered, _fail(run, Failure.of(opened.fault), started=False))
    return _then(opened.effects, _settle(run))


def _settle(run: AgentRun) -> Move:
    """Ask the model if every call has its result. The first handoff takes effect then."""
    if run.open_calls:
        return run, Outcome.CALLS_OPEN, ()
    entries = _unsent(run)
    winner = next((call.handoff for call in run.calls if call.handoff is not None), None)
    if winner is None:
        return _ask_model(run, entries)
    announced = AnnounceHandoff(turn=run.turn, previous=run.agent, next=winner)
    return _then([announced], _ask_model(run.with_(agent=winner, rejections=0), entries))


def _take_tool_failure(run: AgentRun, event: ToolCallFailed) -> Move:
    call = _call(run, event.call_id, event, CallState.RUNNING, CallState.AWAITING_APPROVAL)
    fault = failed_call(call.tool, event.failure)
    answered = _answer(run, call, str(fault))
    if is_mistake_of_program(event.failure):
        return _fail(answered, event.failure)
    if not run.raise_on_tool_fail:
        return _settle(answered)
    return _fail(answered, Failure.of(fault).with_(cause=event.failure))


def _approve(run: AgentRun, event: ApprovalGiven) -> Move:
    call, edited = _decided(run, event), event.edited_arguments
    if call.by_server:
        if edited is not None:
            return _deny(run, call, "the server runs it, and takes no other arguments for it")
        return _settle(_answer(run, call, ALLOWED))
    allowed = call.with_(state=CallState.RUNNING, arguments=call.arguments if edited is None else edited)
    return _replace(run, allowed), Outcome.CALLS_OPEN, (effect_of(run, allowed),)


def _deny(run: AgentRun, call: ToolCall, reason: str | None) -> Move:
    denial = CallDenied(call.tool, reason)
    denied = call.with_(state=CallState.DONE, result=str(denial))
    answered = _replace(run, denied)
    reported = effect_of(run, denied, denial, denied=True)
    move = _fail(answered, Failure.of(denial)) if run.raise_on_tool_fail else _settle(answered)
    return _then([reported], move)


def _call(run: AgentRun, call_id: str, event: Value, *states: CallState) -> ToolCall:
    for call in run.calls:
        if call.call_id == call_id and call.state in states:
            return call
    raise IllegalTransition(run.phase, f"{type(event).__name__} for call {call_id!r}")


def _decided(run: AgentRun, event: ApprovalGiven | ApprovalDenied) -> ToolCall:
    """Return the call that a decision is about; one that was shown otherwise is not decided by it."""
    call = _call(run, event.call_id, event, CallState.AWAITING_APPROVAL)
    if event.fingerprint != call_fingerprint(run.agent, call.tool, call.arguments):
        what = f"{type(event).__name__} for another agent, tool or arguments than call {event.call_id!r} has"
        raise IllegalTransition(run.phase, what)
    return call


def _answer(run: AgentRun, call: ToolCall, result: str) -> AgentRun:
    return _replace(run, call.with_(state=CallState.DONE, result=result))


def _replace(run: AgentRun, changed: ToolCall) -> AgentRun:
    calls = tuple(changed if call.call_id == changed.call_id else call for call in run.calls)
    return run.with_(calls=calls)


# The answer ----------------------------------------------------------------------------------------------


def _charged(run: AgentRun, checked: AnswerChecked) -> AgentRun:
    return run.with_(usage=run.usage + checked.usage)


def _accept(run: AgentRun, replacement: str | None) -> Move:
    """End the run with its answer; if somebody has more to say, ask the model again, if it may be asked."""
    assert run.answer is not None
    answer = run.answer if replacement is None else (MessageOutput(content=replacement),)
    if run.added:
        return _ask_model(run.with_(answer=answer), run.added)
    return run, Outcome.ANSWERED, (Finish(agent=run.agent, entries=answer),)


def _reject(run: AgentRun, problem: str) -> Move:
    """Send the model what is wrong with its answer, as often as it may try again."""
    rejections = run.rejections + 1
    if rejections > run.checked[run.agent]:
        return _fail(run, Failure.of(InvalidOutput(run.agent, rejections, problem)))
    objection = rejected_answer(problem)
    return _ask_model(run.with_(rejections=rejections, answer=None), (objection, *run.added), run.added)


# Early ends ----------------------------------------------------------------------------------------------


def _fail_unmade(
    run: AgentRun, asked: tuple[FunctionCall, ...], failure: Failure, outcome: Outcome = Outcome.FAILED
) -> Move:
    """End the run because of a reply of which no call is made."""
    return _fail(run.with_(calls=tuple(unmade(call) for call in asked)), failure, outcome, started=False)


def _fail(
    run: AgentRun, failure: Failure, outcome: Outcome = Outcome.FAILED, *, started: bool = True
) -> Move:
    ended = _end_calls(run, "the run failed", started=started)
    return ended, outcome, (Fail(failure=failure, unsent=_unsent(ended)),)


def _end_calls(run: AgentRun, why: str, *, started: bool = True) -> AgentRun:
    """Give every open call a result that says why the call ended."""
    return run.with_(calls=tuple(ended_call(call, why, started=started) for call in run.calls))


def _unsent(run: AgentRun) -> tuple[Entry, ...]:
    """Return what the model has not seen: the results of the turn's calls, and what was said meanwhile."""
    held = () if run.kept_at_limit is None else run.kept_at_limit.unsent
    return (*held, *(entry_of(call) for call in run.calls), *run.added)
