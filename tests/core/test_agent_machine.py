"""The invariants A1 to A7 of the agent machine, each for random agents, models, tools and people."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core import agent_machine
from outlast.core.agent_events import (
    AgentEvent,
    AnnounceHandoff,
    AnswerAccepted,
    AnswerBlocked,
    AnswerCall,
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
from outlast.core.agent_machine import allowance_within, step
from outlast.core.agent_run import AgentRun, CallState, Phase
from outlast.core.agent_transitions import TRANSITIONS
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolConfirmation,
    entries,
)
from outlast.core.errors import IllegalTransition, ToolError, loggable
from outlast.core.fingerprints import call_fingerprint
from outlast.core.json import decode
from outlast.core.limits import Limits
from outlast.core.replies import open_function_calls
from outlast.core.usage import Usage
from tests.core.sample import AGENT_EVENT
from tests.core.stories import (
    Move,
    Story,
    any_events,
    conversation,
    fold,
    outstanding,
    stories,
)
from tests.core.strategies import UNUSABLE_ARGUMENTS, agent_runs, asking_runs, bounded_runs, replies

UNDER_WAY = (Phase.AWAITING_MODEL, Phase.AWAITING_TOOLS, Phase.CHECKING_ANSWER, Phase.AT_LIMIT)
LIMITS = frozenset({"MaxTurnsExceeded", "BudgetExceeded"})
"""The errors that say which limit a run has reached."""


any_runs = st.one_of(agent_runs(), asking_runs())


def calls_without_answer(entries: tuple[Entry, ...]) -> list[str]:
    """Return the ids of the calls that wait at the end of `entries`.

    Fails unless every earlier call has exactly one result, in call order, before anything else is said.
    """
    waiting: list[str] = []
    reply: list[str] = []
    for entry in entries:
        match entry:
            case FunctionCall():
                reply.append(entry.tool_call_id)
            case AgentHandoff():
                reply.clear()
            case FunctionResult() | ToolConfirmation():
                waiting, reply = waiting or reply, [] if not waiting else reply
                assert waiting, f"a result for {entry.tool_call_id!r}, which nobody asked for"
                assert entry.tool_call_id == waiting.pop(0)
            case MessageInput():
                assert not reply, "a message of a person was sent before the calls had their results"
                assert not waiting, "a message of a person was sent before all results were given"
            case _:
                assert not waiting, "a reply was sent before all results were given"
    return waiting or reply


def results_in(entries: tuple[Entry, ...]) -> dict[str, str]:
    """Return the results among the entries, by call id; for a call of the server's whether it may run."""
    results = {entry.tool_call_id: entry.result for entry in entries if isinstance(entry, FunctionResult)}
    return results | {
        entry.tool_call_id: entry.confirmation for entry in entries if isinstance(entry, ToolConfirmation)
    }


def made_by_us(move: Move) -> tuple[FunctionCall, ...]:
    """Return the open calls of a move's reply that the server does not run."""
    return tuple(call for call in open_function_calls(kept(move)) if not call.awaits_confirmation)


def kept(move: Move) -> tuple[Entry, ...]:
    """Return the entries of a move's reply, as they were kept."""
    return next(effect.entries for effect in move.effects if isinstance(effect, KeepReply))


def replied(story: Story) -> list[Move]:
    """Return the moves in which the model replied."""
    return [move for move in story.moves if isinstance(move.event, ModelReplied)]


def active_agent(move: Move) -> AgentSpec:
    """Return the agent that is active when a reply's open calls are made."""
    server = [entry.next_agent_name for entry in kept(move) if isinstance(entry, AgentHandoff)]
    return move.after.graph[server[-1] if server else move.before.agent]


def accepts(run: AgentRun, tried: AgentEvent) -> bool:
    """Return whether the machine must accept `tried`, by its documentation."""
    waiting: set[CallState]
    match tried:
        case RunStarted():
            return run.phase is Phase.READY
        case RunCancelled():
            return run.phase in (Phase.READY, *UNDER_WAY)
        case ModelReplied() | ModelFailed():
            return run.phase is Phase.AWAITING_MODEL
        case UserMessageAdded():
            return run.phase in UNDER_WAY
        case AnswerAccepted() | AnswerRejected() | AnswerBlocked():
            return run.phase is Phase.CHECKING_ANSWER
        case SpentWithin():
            return run.phase is Phase.AWAITING_TOOLS
        case LimitAnswered():
            return run.phase in (Phase.AWAITING_TOOLS, Phase.AT_LIMIT)
        case ToolReturned():
            waiting = {CallState.RUNNING}
        case ToolCallFailed():
            waiting = {CallState.RUNNING, CallState.AWAITING_APPROVAL}
        case _:
            waiting = {CallState.AWAITING_APPROVAL}
            if tried.fingerprint not in {
                call_fingerprint(run.agent, call.tool, call.arguments)
                for call in run.calls
                if call.call_id == tried.call_id
            }:
                return False
    return run.phase is Phase.AWAITING_TOOLS and any(
        call.call_id == tried.call_id and call.state in waiting for call in run.calls
    )


@given(stories(any_runs))
def test_a1_every_call_gets_one_result_in_call_order_before_the_model_is_called_again(story: Story) -> None:
    sent: list[Entry] = []
    for effect in story.effects:
        if isinstance(effect, CallModel):
            sent += effect.entries
            assert calls_without_answer(tuple(sent)) == []
        elif isinstance(effect, KeepReply):
            sent += effect.entries
            ids = [entry.tool_call_id for entry in effect.entries if isinstance(entry, FunctionCall)]
            assert len({*ids}) == len(ids)
            assert "" not in ids


@given(stories(any_runs))
def test_a1_a_run_that_ended_leaves_no_call_without_an_answer(story: Story) -> None:
    event(story.end.phase)
    if story.end.phase in (Phase.FINISHED, Phase.FAILED, Phase.CANCELLED):
        assert calls_without_answer(conversation(story)) == []
    elif story.end.phase is Phase.AWAITING_TOOLS:
        assert calls_without_answer(conversation(story)) == [call.call_id for call in story.end.calls]


@given(stories())
def test_a1_the_result_of_a_call_is_what_came_of_it_and_the_model_gets_nothing_before(
    story: Story,
) -> None:
    came: dict[str, str] = {}
    by_server: set[str] = set()
    for move in story.moves:
        if isinstance(move.event, ModelReplied):
            asked = open_function_calls(kept(move))
            by_server = {call.tool_call_id for call in asked if call.awaits_confirmation}
        if isinstance(move.event, ApprovalGiven) and move.event.call_id in by_server:
            came[move.event.call_id] = "allow"
        elif isinstance(move.event, ToolReturned):
            came[move.event.call_id] = move.event.result
        elif isinstance(move.event, ToolCallFailed):
            error = move.event.failure.error()
            came[move.event.call_id] = (
                str(error) if isinstance(error, ToolError) else loggable(move.event.failure.message)
            )
        for effect in move.effects:
            match effect:
                case AnswerCall():
                    came[effect.call_id] = "deny" if effect.call_id in by_server else effect.result
                case CallModel():
                    results = results_in(effect.entries)
                    assert results.keys() == came.keys()
                    assert all(came[call_id] in results[call_id] for call_id in results)
                    came = {}
                case Fail() | Stop():
                    results = results_in(effect.unsent)
                    assert results.keys() >= came.keys()
                    for call_id, result in results.items():
                        expected = came.get(call_id, "deny" if result == "deny" else "was cancelled")
                        assert expected in result
                case _:
                    pass


@given(stories())
def test_a1_calls_are_started_exactly_once_and_only_with_the_approval_they_need(story: Story) -> None:
    asked: set[tuple[int, str]] = set()
    started: set[tuple[int, str]] = set()
    for effect in story.effects:
        if isinstance(effect, AskApproval):
            assert (effect.turn, effect.call_id) not in asked | started
            asked.add((effect.turn, effect.call_id))
        elif isinstance(effect, CallTool):
            assert (effect.turn, effect.call_id) not in started
            started.add((effect.turn, effect.call_id))
            tool = story.start.graph[effect.agent].tool(effect.tool)
            assert tool is not None
            assert not tool.requires_approval or (effect.turn, effect.call_id) in asked


@given(stories())
def test_no_more_calls_are_at_work_than_the_agent_allows_and_none_waits_without_need(story: Story) -> None:
    for move in story.moves:
        run = move.after
        most = run.graph[run.agent].max_parallel_tools
        if most is None or run.phase is not Phase.AWAITING_TOOLS:
            continue
        states = [call.state for call in run.calls]
        assert states.count(CallState.RUNNING) <= most
        if CallState.QUEUED in states:
            event("queued")
            assert states.count(CallState.RUNNING) == most
        begun = [effect.call_id for effect in move.effects if isinstance(effect, CallTool)]
        assert begun == [call.call_id for call in run.calls if call.call_id in begun]


@given(stories(any_runs))
def test_a2_folding_the_events_again_gives_the_same_state_and_the_same_outstanding_effects(
    story: Story,
) -> None:
    again = fold(story.start, story.events)
    assert again == story
    assert outstanding(again) == outstanding(story)


@given(stories(any_runs))
def test_a2_a_state_that_went_through_json_goes_on_the_same_way(story: Story) -> None:
    for move in story.moves:
        before = AgentRun.model_validate(decode(move.before.to_json()))
        event = AGENT_EVENT.validate_python(decode(move.event.to_json()))
        after, effects = step(before, event)
        assert (before, event, after, effects) == (move.before, move.event, move.after, move.effects)


@given(stories(any_runs))
def test_a2_the_state_knows_what_is_outstanding(story: Story) -> None:
    waiting = outstanding(story)
    match story.end.phase:
        case Phase.AWAITING_MODEL:
            assert [(type(effect), story.end.turn) for effect in waiting] == [(CallModel, story.end.turn)]
        case Phase.AWAITING_TOOLS:
            kinds = {CallState.RUNNING: CallTool, CallState.AWAITING_APPROVAL: AskApproval}
            answered = {
                (type(effect), effect.call_id, effect.tool, repr(effect.arguments))
                for effect in waiting
                if isinstance(effect, (CallTool, AskApproval))
            }
            assert len(answered) == len(waiting)
            assert answered == {
                (kinds[call.state], call.call_id, call.tool, repr(call.arguments))
                for call in story.end.open_calls
                if call.state is not CallState.QUEUED
            }
        case Phase.AT_LIMIT:
            [asked] = waiting
            assert isinstance(asked, AskToRaise)
            assert story.end.kept_at_limit is not None
        case Phase.CHECKING_ANSWER:
            [check] = waiting
            assert isinstance(check, CheckAnswer)
            assert (check.agent, check.entries) == (story.end.agent, story.end.answer)
        case _:
            assert waiting == []


@given(stories(any_runs))
def test_a3_the_active_agent_is_always_in_the_graph(story: Story) -> None:
    for move in story.moves:
        assert move.before.agent in story.start.graph
        assert move.after.agent in story.start.graph
    for effect in story.effects:
        assert getattr(effect, "agent", story.start.graph.start) in story.start.graph


@given(stories(any_runs))
def test_a3_the_active_agent_changes_only_when_it_is_announced(story: Story) -> None:
    for move in story.moves:
        agent = move.before.agent
        for effect in move.effects:
            if isinstance(effect, AnnounceHandoff):
                assert effect.previous == agent
                agent = effect.next
        assert move.after.agent == agent


@given(stories())
def test_a3_a_handoff_that_the_agent_does_not_declare_is_answered_with_those_it_does(story: Story) -> None:
    for move in replied(story):
        answers = {effect.call_id: effect for effect in move.effects if isinstance(effect, AnswerCall)}
        if move.after.phase is Phase.FAILED:
            continue
        agent = active_agent(move)
        for call in made_by_us(move):
            if call.name.startswith("transfer_to_") and call.name not in agent.handoff_tools():
                assert answers[call.tool_call_id].failure
                assert all(name in answers[call.tool_call_id].result for name in agent.handoffs)


@given(stories())
def test_a4_tools_run_first_and_the_first_handoff_wins(story: Story) -> None:
    for number, move in enumerate(story.moves):
        if not isinstance(move.event, ModelReplied) or move.after.phase is Phase.FAILED:
            continue
        targets = active_agent(move).handoff_tools()
        handoffs = [call for call in made_by_us(move) if call.name in targets]
        if not handoffs:
            continue
        event("handoff")
        winner, *others = handoffs
        answers = {effect.call_id: effect for effect in move.effects if isinstance(effect, AnswerCall)}
        assert not answers[winner.tool_call_id].failure
        for other in others:
            event("another handoff")
            assert answers[other.tool_call_id].failure
            assert "came first" in answers[other.tool_call_id].result
        for later in story.moves[number:]:
            if later.after.phase is Phase.AWAITING_TOOLS:
                assert later.after.agent == active_agent(move).name
                continue
            if later.after.phase is Phase.AWAITING_MODEL:
                announced = [effect for effect in later.effects if isinstance(effect, AnnounceHandoff)]
                assert announced[-1].next == targets[winner.name] == later.after.agent
                assert isinstance(later.effects[-1], CallModel)
            break


@given(agent_runs(), st.data())
def test_a4_cycles_are_bounded_by_max_turns(start: AgentRun, data: st.DataObject) -> None:
    plain = start.with_(raise_on_tool_fail=False, limits=Limits(), on_limit="raise", checked={})
    run, effects = step(plain, RunStarted(inputs=()))
    for turn in range(1, start.max_turns + 1):
        assert (run.phase, run.turn) == (Phase.AWAITING_MODEL, turn)
        names = sorted(run.graph[run.agent].handoff_tools()) or ["none"]
        call = FunctionCall(tool_call_id="c", name=data.draw(st.sampled_from(names)), arguments="{}")
        run, effects = step(run, ModelReplied(entries=(call,)))
    assert run.phase is Phase.FAILED
    assert [effect.failure.kind for effect in effects if isinstance(effect, Fail)] == ["MaxTurnsExceeded"]


@given(stories())
def test_a5_the_model_is_called_at_most_max_turns_times(story: Story) -> None:
    asked = [effect.turn for effect in story.effects if isinstance(effect, CallModel)]
    assert asked == list(range(1, len(asked) + 1))
    last = story.start.on_limit == "finish"
    assert len(asked) <= story.start.max_turns + last
    for failed in (effect for effect in story.effects if isinstance(effect, Fail)):
        if failed.failure.kind == "MaxTurnsExceeded":
            event("max_turns")
            assert len(asked) == story.start.max_turns + last


def spent(story: Story, moves: int) -> tuple[int, int, int, float]:
    """Return turns, tokens, calls of tools and seconds that the first moves took, from what came and went."""
    past = story.moves[:moves]
    turns = sum(isinstance(effect, CallModel) for move in past for effect in move.effects)
    costs = (RunStarted, ModelReplied, SpentWithin, AnswerAccepted, AnswerRejected, AnswerBlocked)
    used = sum((move.event.usage for move in past if isinstance(move.event, costs)), Usage())
    tokens = max(used.total_tokens, used.prompt_tokens + used.completion_tokens)
    calls = {
        (effect.turn, effect.call_id)
        for move in past
        for effect in move.effects
        if isinstance(effect, (CallTool, AskApproval))
        or (isinstance(effect, AnswerCall) and "is used up" in effect.result)
    }
    times = [max(move.event.at, 0.0) for move in past]
    within = sum(move.event.tool_calls for move in past if isinstance(move.event, SpentWithin))
    return turns, tokens, len(calls) + within, max(times) - times[0]


@given(stories(bounded_runs()))
def test_a9_the_model_is_asked_beyond_a_limit_only_once_and_without_tools(story: Story) -> None:
    limits = story.start.limits
    is_last = is_reached = False
    for number, move in enumerate(story.moves):
        for effect in move.effects:
            if isinstance(effect, (CallModel, Fail)):
                # The call of the model that this move makes is not one of those that led to it.
                turns, tokens, calls, seconds = spent(story, number + 1)
                turns -= isinstance(effect, CallModel)
                is_reached = (
                    turns >= story.start.max_turns
                    or (limits.total_tokens is not None and tokens >= limits.total_tokens)
                    or (limits.tool_calls is not None and calls > limits.tool_calls)
                    or (limits.seconds is not None and seconds >= limits.seconds)
                    or move.event.allowance.limit is not None
                )
            if isinstance(effect, CallModel):
                assert not is_last
                is_last = is_reached
                assert (effect.limit is not None) == is_reached
                assert not is_reached or story.start.on_limit == "finish"
                event(f"limit: {effect.limit and effect.limit.kind}")
            elif isinstance(effect, Fail) and effect.failure.kind in LIMITS:
                assert is_reached or is_last
                assert is_last == (story.start.on_limit == "finish")
            elif isinstance(effect, (CallTool, AskApproval)):
                assert not is_last
    made = {
        (effect.turn, effect.call_id)
        for effect in story.effects
        if isinstance(effect, (CallTool, AskApproval))
    }
    assert limits.tool_calls is None or len(made) <= limits.tool_calls


@given(stories(), st.floats(0, 9))
def test_a9_runs_within_are_allowed_what_is_left(story: Story, later: float) -> None:
    for move in story.moves:
        run = move.after.with_(now=move.after.now + later)
        allowed = allowance_within(run)
        if run.allowance.limit is not None:
            assert allowed.limit == run.allowance.limit
        left = [n for n in (run.allowance.tool_calls, run.limits.tool_calls) if n is not None]
        if not left:
            assert allowed.tool_calls is None
        else:
            assert allowed.tool_calls is not None
            assert allowed.tool_calls <= min(left)
        if isinstance(move.event, ModelReplied):
            made = [effect for effect in move.effects if isinstance(effect, (CallTool, AskApproval))]
            asked = move.event.allowance.tool_calls
            assert asked is None or len(made) <= asked


@given(stories(bounded_runs()))
def test_a10_an_answer_that_must_be_checked_counts_only_when_it_was_accepted(story: Story) -> None:
    rejected = 0
    for move in story.moves:
        if any(isinstance(effect, AnnounceHandoff) for effect in move.effects):
            rejected = 0
        finished = [effect for effect in move.effects if isinstance(effect, Finish)]
        checks = [effect for effect in move.effects if isinstance(effect, CheckAnswer)]
        for check in checks:
            assert check.agent in story.start.checked
            assert check.entries == kept(move)
        match move.event:
            case AnswerAccepted(replacement=replacement):
                event("accepted")
                for finish in finished:
                    said = None if replacement is None else (MessageOutput(content=replacement),)
                    assert finish.entries == (said or move.before.answer)
                assert finished or move.before.added
            case AnswerRejected(problem=problem):
                rejected += 1
                may_go_on = rejected <= story.start.checked[move.before.agent]
                event(f"rejected: {may_go_on}")
                ended = [effect.failure.kind for effect in move.effects if isinstance(effect, Fail)]
                assert ended == ["InvalidOutput"] if not may_go_on else set(ended) <= LIMITS
                for asked in (effect for effect in move.effects if isinstance(effect, CallModel)):
                    message = asked.entries[0]
                    assert isinstance(message, MessageInput)
                    assert problem in str(message.content)
            case AnswerBlocked(failure=failure):
                assert [effect.failure for effect in move.effects if isinstance(effect, Fail)] == [failure]
            case _:
                assert not finished or move.after.agent not in story.start.checked


@given(stories(any_runs))
def test_a5_usage_is_that_of_all_replies_and_checks(story: Story) -> None:
    costs = (RunStarted, ModelReplied, SpentWithin, AnswerAccepted, AnswerRejected, AnswerBlocked)
    spent = sum((move.event.usage for move in story.moves if isinstance(move.event, costs)), Usage())
    assert story.end.usage == spent


@given(stories())
def test_a6_a_call_that_cannot_be_made_is_answered_with_a_message_to_act_on(story: Story) -> None:
    for move in replied(story):
        if any(isinstance(e, Fail) and e.failure.kind == "MalformedReply" for e in move.effects):
            continue
        if move.before.limit is not None:
            continue  # Nothing is called any more.
        agent = active_agent(move)
        known = {tool.name for tool in agent.tools} | set(agent.handoff_tools())
        answers = {effect.call_id: effect for effect in move.effects if isinstance(effect, AnswerCall)}
        broken = False
        for call in made_by_us(move):
            answer = answers.get(call.tool_call_id)
            if call.name not in known:
                broken = True
                assert answer is not None
                assert answer.failure
                assert repr(call.name.removeprefix("transfer_to_")) in answer.result
            elif call.name not in agent.handoff_tools() and call.arguments in UNUSABLE_ARGUMENTS:
                broken = True
                assert answer is not None
                assert answer.failure
                assert "send one" in answer.result
            elif call.name not in agent.handoff_tools():
                assert answer is None or "is used up" in answer.result
        ended = [effect.failure for effect in move.effects if isinstance(effect, Fail)]
        if story.start.raise_on_tool_fail and broken:
            assert isinstance(ended[0].error(), ToolError)
        elif not story.start.raise_on_tool_fail:
            assert all(failure.kind in LIMITS for failure in ended)


@given(stories())
def test_a6_a_failed_tool_ends_the_run_only_if_that_was_asked_for_or_the_program_is_mistaken(
    story: Story,
) -> None:
    for move in story.moves:
        if isinstance(move.event, (ToolCallFailed, ApprovalDenied)):
            ended = [effect.failure for effect in move.effects if isinstance(effect, Fail)]
            if isinstance(move.event, ToolCallFailed) and move.event.failure.kind == "DeterminismError":
                assert ended == [move.event.failure]
            elif story.start.raise_on_tool_fail:
                assert [type(failure.error()).__mro__[1] for failure in ended] == [ToolError]
            else:
                assert all(failure.kind in LIMITS for failure in ended)


@given(stories(any_runs), st.data())
def test_a7_any_event_moves_within_the_table_or_is_refused_and_changes_nothing(
    story: Story, data: st.DataObject
) -> None:
    run = data.draw(st.sampled_from([story.start, *(move.after for move in story.moves)][::-1]))
    before = run.model_copy(deep=True)
    tried = data.draw(any_events(run))
    if accepts(run, tried):
        event(f"{run.phase} takes {type(tried).__name__}")
        after, _ = step(run, tried)
        assert after.phase in TRANSITIONS[run.phase][type(tried)].values()
    else:
        event(f"{run.phase} refuses {type(tried).__name__}")
        with pytest.raises(IllegalTransition, match=f"{type(tried).__name__}.*{run.phase}"):
            step(run, tried)
    assert run == before


@given(stories(any_runs))
def test_a7_every_move_stays_within_the_table(story: Story) -> None:
    for move in story.moves:
        _, outcome, _ = agent_machine.move(move.before, move.event)
        event(f"{move.before.phase}: {type(move.event).__name__}, {outcome}")
        assert move.after.phase is TRANSITIONS[move.before.phase][type(move.event)][outcome]


def test_a7_an_outcome_that_the_table_does_not_have_is_refused_and_changes_nothing() -> None:
    start = AgentRun(graph=AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m")}))
    without = TRANSITIONS | {Phase.READY: {RunStarted: {}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_machine, "TRANSITIONS", without)
        with pytest.raises(IllegalTransition, match=r"RunStarted with the outcome 'model asked'.*ready"):
            step(start, RunStarted(inputs=()))
    assert start.phase is Phase.READY


wire_garbage = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["function.call", "agent.handoff", "message.output", "surprise", "", None, 7]
            )
        },
        optional={
            name: st.none() | st.floats() | st.text(max_size=3) | st.lists(st.floats(), max_size=2)
            for name in (
                "tool_call_id",
                "name",
                "arguments",
                "content",
                "next_agent_name",
                "previous_agent_name",
            )
        },
    ),
    max_size=3,
)


@given(agent_runs(), wire_garbage)
def test_a7_a_reply_is_refused_at_once_or_accepted(start: AgentRun, wire: list[dict[str, object]]) -> None:
    run, _ = step(start, RunStarted(inputs=()))
    try:
        taken = entries.validate_python(wire)
    except ValueError:
        return
    after, effects = step(run, ModelReplied(entries=taken))
    assert after.phase in TRANSITIONS[Phase.AWAITING_MODEL][ModelReplied].values()
    assert isinstance(effects[0], KeepReply)


@given(stories(any_runs))
def test_messages_of_people_reach_the_model_after_all_results_and_are_never_lost(story: Story) -> None:
    said = [move.event.entry for move in story.moves if isinstance(move.event, UserMessageAdded)]
    if not isinstance(story.moves[0].event, RunStarted):
        return
    inputs = story.moves[0].event.inputs
    held = () if story.end.kept_at_limit is None else story.end.kept_at_limit.entries
    messages = [
        entry
        for entry in (*conversation(story), *held, *story.end.added)
        if getattr(entry, "type", "") == "message.input"
    ]
    if story.end.phase in (Phase.FINISHED, Phase.FAILED, Phase.CANCELLED):
        messages = [entry for entry in conversation(story) if entry.type == "message.input"]
    messages = [entry for entry in messages if "cannot be used" not in str(getattr(entry, "content", ""))]
    assert messages == [*inputs, *said]


@given(stories(any_runs))
def test_a_run_finishes_only_with_a_reply_without_calls_and_leaves_the_messages_that_came_too_late(
    story: Story,
) -> None:
    for move in story.moves:
        for effect in move.effects:
            if isinstance(effect, Finish):
                assert open_function_calls(effect.entries) == ()
                held = () if move.before.kept_at_limit is None else move.before.kept_at_limit.unsent
                assert effect.unsent == (*held, *move.before.added)
                match move.event:
                    case ModelReplied():
                        assert effect.entries == kept(move)
                    case LimitAnswered():
                        assert effect.entries == move.before.answer
                        assert effect.unsent
                    case _:
                        assert isinstance(move.event, AnswerAccepted)
                assert effect.agent == move.after.agent


@given(agent_runs(), replies)
def test_a_call_keeps_its_id_unless_it_is_missing_in_use_or_not_valid(
    start: AgentRun, reply: tuple[Entry, ...]
) -> None:
    run, _ = step(start, RunStarted(inputs=()))
    _, effects = step(run, ModelReplied(entries=reply))
    assert isinstance(effects[0], KeepReply)
    seen = {""}
    for came, stays in zip(reply, effects[0].entries, strict=True):
        if isinstance(came, FunctionCall) and isinstance(stays, FunctionCall):
            is_of_use = len(came.tool_call_id) <= 200 and came.tool_call_id.isprintable()
            assert (came.tool_call_id == stays.tool_call_id) == (is_of_use and came.tool_call_id not in seen)
            seen.add(came.tool_call_id)
        else:
            assert came == stays


def test_a_run_needs_at_least_one_turn() -> None:
    graph = {"start": "a", "agents": {"a": {"name": "a", "model": "m"}}}
    with pytest.raises(ValueError, match="max_turns"):
        AgentRun.model_validate({"graph": graph, "max_turns": 0})
