"""Runs of the agent machine as stories: the events, the states after them, and the effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnswerAccepted,
    AnswerBlocked,
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
from outlast.core.agent_machine import step
from outlast.core.agent_run import AgentRun, CallState, Phase
from outlast.core.agent_transitions import TRANSITIONS
from outlast.core.entries import AgentHandoff, Entry, FunctionCall
from outlast.core.fingerprints import call_fingerprint
from tests.core.strategies import (
    agent_runs,
    allowances,
    any_text,
    asking_allowances,
    call_replies,
    failures,
    json_objects,
    raises,
    replies,
    usages,
    user_messages,
)


@dataclass(frozen=True)
class Move:
    """One step of a run."""

    before: AgentRun
    event: AgentEvent
    after: AgentRun
    effects: tuple[AgentEffect, ...]


@dataclass(frozen=True)
class Story:
    """A run from its beginning to its end, or to where we stopped looking."""

    start: AgentRun
    moves: tuple[Move, ...]

    @property
    def end(self) -> AgentRun:
        return self.moves[-1].after if self.moves else self.start

    @property
    def events(self) -> tuple[AgentEvent, ...]:
        return tuple(move.event for move in self.moves)

    @property
    def effects(self) -> tuple[AgentEffect, ...]:
        return tuple(effect for move in self.moves for effect in move.effects)


def fold(start: AgentRun, events: Sequence[AgentEvent]) -> Story:
    """Return the story of these events."""
    run, moves = start, []
    for event in events:
        after, effects = step(run, event)
        moves.append(Move(run, event, after, effects))
        run = after
    return Story(start, tuple(moves))


def outstanding(story: Story) -> list[AgentEffect]:
    """Return the effects that the driver has not answered yet, in order."""
    open_effects: list[AgentEffect] = []
    for move in story.moves:
        match move.event:
            case ModelReplied() | ModelFailed() | AnswerAccepted() | AnswerRejected() | AnswerBlocked():
                open_effects = []
            case LimitAnswered():
                open_effects = [one for one in open_effects if not isinstance(one, AskToRaise)]
            case ToolReturned() | ToolCallFailed() | ApprovalGiven() | ApprovalDenied():
                answered = move.event.call_id
                open_effects = [
                    effect for effect in open_effects if getattr(effect, "call_id", None) != answered
                ]
            case RunStarted() | UserMessageAdded() | RunCancelled() | SpentWithin():
                pass
        for effect in move.effects:
            if isinstance(effect, (CallModel, CallTool, AskApproval, AskToRaise, CheckAnswer)):
                open_effects.append(effect)
            elif isinstance(effect, (Finish, Fail, Stop)):
                open_effects = []
    return open_effects


def conversation(story: Story) -> tuple[Entry, ...]:
    """Return the transcript of a driver that carries out every effect."""
    entries: list[Entry] = []
    for effect in story.effects:
        match effect:
            case CallModel() | KeepReply():
                entries += effect.entries
            case Finish() | Fail() | Stop():
                entries += effect.unsent
            case _:
                pass
    return tuple(entries)


def _within(run: AgentRun, reply: Sequence[Entry]) -> tuple[Entry, ...]:
    """Make most of a reply possible: handoffs to agents that there are, calls that the agent knows."""
    agent, made = run.graph[run.agent], list[Entry]()
    for entry in reply:
        match entry:
            case AgentHandoff(next_agent_name=name) if name != "nobody":
                agent = run.graph.agents.get(name, agent)
                entry = entry.model_copy(update={"next_agent_name": agent.name})
            case FunctionCall(name=name) if name.isdigit():
                known = [*(tool.name for tool in agent.tools), *agent.handoff_tools()] or ["none"]
                entry = entry.model_copy(update={"name": known[int(name) % len(known)]})
        made.append(entry)
    return tuple(made)


def enabled(draw: st.DrawFn, run: AgentRun) -> AgentEvent:
    """Draw an event that the run accepts, at a time that the clock may have gone back to."""
    at = run.now + draw(st.sampled_from([0, 1, -1, 0.25]))
    drawn = asking_allowances if run.on_limit == "ask" else allowances
    is_over = run.allowance.limit is not None and not run.allowance.asks
    allowance = run.allowance if is_over else draw(drawn)
    return _enabled(draw, run).with_(at=at, allowance=allowance)


def _enabled(draw: st.DrawFn, run: AgentRun) -> AgentEvent:
    if run.phase is Phase.READY:
        inputs = tuple(draw(st.lists(user_messages, max_size=2)))
        return RunStarted(inputs=inputs, usage=draw(usages))
    chance = draw(st.integers(0, 19))
    if chance == 19:
        return RunCancelled(why=draw(any_text))
    if run.phase is Phase.AT_LIMIT and chance < 17:
        return draw(raises)
    if chance >= 17:
        return UserMessageAdded(entry=draw(user_messages))
    if run.phase is Phase.AWAITING_MODEL:
        if chance == 16:
            return ModelFailed(failure=draw(failures))
        reply = draw(call_replies) if chance <= 11 else draw(replies)
        return ModelReplied(entries=_within(run, reply), usage=draw(usages))
    if run.phase is Phase.CHECKING_ANSWER:
        if chance >= 15:
            return AnswerBlocked(failure=draw(failures), usage=draw(usages))
        if chance >= 6:
            return AnswerRejected(problem=draw(any_text), usage=draw(usages))
        return AnswerAccepted(replacement=draw(st.none() | any_text), usage=draw(usages))
    if chance == 15 and run.on_limit == "ask":
        return draw(raises)
    if chance == 16:
        return SpentWithin(usage=draw(usages), tool_calls=draw(st.integers(0, 2)))
    call = draw(st.sampled_from([one for one in run.open_calls if one.state is not CallState.QUEUED]))
    if call.state is CallState.AWAITING_APPROVAL:
        shown = call_fingerprint(run.agent, call.tool, call.arguments)
        if chance >= 12:
            reason = draw(st.none() | any_text)
            return ApprovalDenied(call_id=call.call_id, fingerprint=shown, reason=reason)
        edited = draw(st.none() | json_objects)
        return ApprovalGiven(call_id=call.call_id, fingerprint=shown, edited_arguments=edited)
    if chance >= 14:
        return ToolCallFailed(call_id=call.call_id, failure=draw(failures))
    return ToolReturned(call_id=call.call_id, result=draw(any_text))


@st.composite
def stories(draw: st.DrawFn, runs: SearchStrategy[AgentRun] | None = None, max_moves: int = 11) -> Story:
    """Stories of random agents, models, tools and people, in any order of completion."""
    start = draw(agent_runs() if runs is None else runs)
    run, moves = start, []
    for _ in range(max_moves):
        if not TRANSITIONS[run.phase]:
            break
        event = enabled(draw, run)
        after, effects = step(run, event)
        moves.append(Move(run, event, after, effects))
        run = after
    return Story(start, tuple(moves))


def any_events(run: AgentRun) -> SearchStrategy[AgentEvent]:
    """Events of every type, about a call that there is or is not."""
    call_ids = st.sampled_from(["", *(call.call_id for call in run.calls)])
    shown = st.sampled_from(
        ["", *(call_fingerprint(run.agent, call.tool, call.arguments) for call in run.calls)][::-1]
    )
    return st.one_of(
        st.builds(ToolReturned, call_id=call_ids, result=any_text),
        st.builds(ToolCallFailed, call_id=call_ids, failure=failures),
        st.builds(
            ApprovalGiven, call_id=call_ids, fingerprint=shown, edited_arguments=st.none() | json_objects
        ),
        st.builds(ApprovalDenied, call_id=call_ids, fingerprint=shown, reason=st.none() | any_text),
        st.builds(RunStarted, inputs=st.lists(user_messages, max_size=1).map(tuple)),
        st.builds(ModelReplied, entries=replies, usage=usages),
        st.builds(ModelFailed, failure=failures),
        st.builds(UserMessageAdded, entry=user_messages),
        st.builds(SpentWithin, usage=usages),
        raises,
        st.builds(RunCancelled, why=any_text),
        st.builds(AnswerAccepted, replacement=st.none() | any_text),
        st.builds(AnswerRejected, problem=any_text),
        st.builds(AnswerBlocked, failure=failures),
    )
