"""Limits of a run, and answers that are checked, one rule at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    AnswerAccepted,
    AnswerBlocked,
    AnswerRejected,
    AskToRaise,
    CallModel,
    CallTool,
    CheckAnswer,
    Fail,
    Finish,
    LimitAnswered,
    ModelReplied,
    RunCancelled,
    RunStarted,
    Stop,
    ToolCallFailed,
    ToolReturned,
    UserMessageAdded,
)
from outlast.core.agent_machine import allowance_within, step
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec, handoff_tool
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolExecution,
)
from outlast.core.failure import Failure
from outlast.core.limits import Limits, RunAllowance
from outlast.core.replies import callers_in
from outlast.core.usage import Usage

TOOL = ToolSpec(name="look", parameters={"type": "object"})
GRAPH = AgentGraph(
    start="a",
    agents={
        name: AgentSpec(name=name, model="m", tools=(TOOL,), handoffs=(other,))
        for name, other in (("a", "b"), ("b", "a"))
    },
)
ANSWER = MessageOutput(content="yes")


def calls(*ids: str, name: str = "look") -> ModelReplied:
    made = tuple(FunctionCall(tool_call_id=one, name=name, arguments="{}") for one in ids)
    return ModelReplied(entries=made, usage=Usage(total_tokens=10))


def answer(content: str = "yes") -> ModelReplied:
    return ModelReplied(entries=(MessageOutput(content=content),), usage=Usage(total_tokens=10))


def after(*events: AgentEvent, **start: Any) -> tuple[AgentRun, tuple[AgentEffect, ...]]:
    """Return the run after `events`, and the effects of the last of them."""
    run = AgentRun(graph=GRAPH, **start)
    effects: tuple[AgentEffect, ...] = ()
    for event in (RunStarted(inputs=()), *events):
        run, effects = step(run, event)
    return run, effects


def last(effects: tuple[AgentEffect, ...], kind: type[Any]) -> Any:
    """Return the last effect, which must be of that kind."""
    assert isinstance(effects[-1], kind), effects
    return effects[-1]


@pytest.mark.parametrize(("allowed", "is_reached"), [(19, True), (20, True), (21, False)])
def test_tokens_are_used_up_when_as_many_were_spent_as_are_allowed(allowed: int, is_reached: bool) -> None:
    events = (calls("x"), ToolReturned(call_id="x", result=""), calls("y"))
    run, effects = after(*events, ToolReturned(call_id="y", result=""), limits=Limits(total_tokens=allowed))
    assert (run.phase is Phase.FAILED) == is_reached
    if is_reached:
        error = last(effects, Fail).failure.details
        assert error == {"agent": "a", "limit": "total_tokens", "allowed": allowed, "used": 20}


def test_tokens_are_counted_by_their_parts_where_a_server_gives_no_sum() -> None:
    said = ModelReplied(entries=calls("x").entries, usage=Usage(prompt_tokens=3, completion_tokens=2))
    run, _ = after(said, ToolReturned(call_id="x", result=""), limits=Limits(total_tokens=5))
    assert run.phase is Phase.FAILED


@pytest.mark.parametrize(("at", "is_reached"), [(104.9, False), (105.0, True)])
def test_time_is_counted_from_the_start(at: float, is_reached: bool) -> None:
    run, _ = step(AgentRun(graph=GRAPH, limits=Limits(seconds=5)), RunStarted(inputs=(), at=100))
    run, _ = step(run, calls("x").with_(at=101))
    run, _ = step(run, ToolReturned(call_id="x", result="", at=at))
    assert (run.phase is Phase.FAILED) == is_reached


def test_a_clock_that_goes_back_gives_no_time_back() -> None:
    run, _ = step(AgentRun(graph=GRAPH, limits=Limits(seconds=5)), RunStarted(inputs=(), at=100))
    run, _ = step(run, calls("x").with_(at=106))
    run, _ = step(run, ToolReturned(call_id="x", result="", at=90))
    assert run.phase is Phase.FAILED


@pytest.mark.parametrize("raise_on_tool_fail", [False, True])
def test_calls_above_the_limit_are_answered_and_the_others_are_made(raise_on_tool_fail: bool) -> None:
    start = {"limits": Limits(tool_calls=2), "raise_on_tool_fail": raise_on_tool_fail}
    run, effects = after(calls("x", "y", "z"), **start)
    assert [effect.call_id for effect in effects if isinstance(effect, CallTool)] == ["x", "y"]
    assert [call.call_id for call in run.open_calls] == ["x", "y"]
    run, _ = step(run, ToolReturned(call_id="y", result="of y"))
    run, effects = step(run, ToolReturned(call_id="x", result="of x"))
    failed = last(effects, Fail)
    assert failed.failure.details == {"agent": "a", "limit": "tool_calls", "allowed": 2, "used": 3}
    results = [entry.result for entry in failed.unsent if isinstance(entry, FunctionResult)]
    assert results[:2] == ["of x", "of y"]
    assert "limit of 2 tool calls" in results[2]


def test_as_many_calls_as_the_limit_are_made() -> None:
    _, effects = after(calls("x"), ToolReturned(call_id="x", result=""), limits=Limits(tool_calls=1))
    assert last(effects, CallModel).limit is None


def test_calls_that_cannot_be_made_count_for_nothing() -> None:
    run, _ = after(calls("x", "y", name="no_such_tool"), limits=Limits(tool_calls=1))
    assert (run.tool_calls, run.phase) == (0, Phase.AWAITING_MODEL)


def test_at_a_limit_a_run_that_may_finish_asks_once_more_and_runs_nothing_then() -> None:
    start = {"max_turns": 1, "on_limit": "finish"}
    run, effects = after(calls("x"), ToolReturned(call_id="x", result=""), **start)
    asked = last(effects, CallModel)
    assert (asked.turn, asked.limit.kind) == (2, "MaxTurnsExceeded")
    ended, effects = step(run, answer())
    assert last(effects, Finish).entries == (ANSWER,)
    ended, effects = step(run, calls("y", "z"))
    failed = last(effects, Fail)
    assert not any(isinstance(effect, CallTool) for effect in effects)
    assert failed.failure.kind == "MaxTurnsExceeded"
    assert ["had not been started" in entry.result for entry in failed.unsent] == [True, True]
    assert ended.phase is Phase.FAILED


def test_an_answer_rejected_at_a_limit_ends_the_run() -> None:
    start: dict[str, Any] = {"max_turns": 1, "on_limit": "finish", "checked": {"a": 5}}
    run, _ = after(calls("x"), ToolReturned(call_id="x", result=""), **start)
    run, effects = step(run, answer())
    last(effects, CheckAnswer)
    _, effects = step(run, AnswerRejected(problem="no"))
    failed = last(effects, Fail)
    assert (failed.failure.kind, failed.unsent) == ("MaxTurnsExceeded", ())


def test_a_rejected_answer_may_be_given_again_as_often_as_is_allowed() -> None:
    run, effects = after(answer(), checked={"a": 1})
    assert last(effects, CheckAnswer).entries == (ANSWER,)
    run, effects = step(run, AnswerRejected(problem="too short", usage=Usage(total_tokens=3)))
    [message] = last(effects, CallModel).entries
    assert "too short" in str(message.content)
    run, _ = step(run, answer())
    run, effects = step(run, AnswerRejected(problem="still too short"))
    assert last(effects, Fail).failure.details == {
        "agent": "a",
        "attempts": 2,
        "problem": "still too short",
    }
    assert run.usage.total_tokens == 23


BY_US = (calls("h", name=handoff_tool("b")), answer())
BY_THE_SERVER = (ModelReplied(entries=(AgentHandoff(previous_agent_name="a", next_agent_name="b"), ANSWER)),)


@pytest.mark.parametrize("hands_off", [BY_US, BY_THE_SERVER], ids=["by us", "by the server"])
def test_each_agent_has_its_own_output_retries(hands_off: tuple[AgentEvent, ...]) -> None:
    start = {"checked": {"a": 1, "b": 1}}
    run, _ = after(answer(), AnswerRejected(problem="no"), *hands_off, **start)
    assert (run.agent, run.phase) == ("b", Phase.CHECKING_ANSWER)
    run, effects = step(run, AnswerRejected(problem="no"))
    assert last(effects, CallModel).agent == "b"


def test_an_answer_does_not_end_the_run_if_a_message_came_after_it() -> None:
    said = MessageInput(content="one more thing")
    events = (answer(), UserMessageAdded(entry=said))
    _, effects = after(*events, AnswerAccepted(), checked={"a": 0})
    assert last(effects, CallModel).entries == (said,)
    _, effects = after(*events, AnswerRejected(problem="no"), checked={"a": 1})
    assert last(effects, CallModel).entries[1:] == (said,)
    blocked = Failure(kind="X", message="no")
    _, effects = after(*events, AnswerBlocked(failure=blocked), checked={"a": 1})
    assert (last(effects, Fail).failure, effects[-1]) == (blocked, Fail(failure=blocked, unsent=(said,)))


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("on_limit", ["raise", "ask"])
def test_a_message_that_comes_too_late_for_another_turn_does_not_take_the_answer_away(
    on_limit: str, is_checked: bool
) -> None:
    start = {"max_turns": 1, "on_limit": on_limit, "checked": {"a": 2} if is_checked else {}}
    first, second = MessageInput(content="wait"), MessageInput(content="and")
    run, effects = after(UserMessageAdded(entry=first), answer(), **start)
    if is_checked:
        last(effects, CheckAnswer)
        run, effects = step(run, AnswerAccepted())
    left: tuple[Entry, ...] = (first,)
    if on_limit == "ask":
        last(effects, AskToRaise)
        run, _ = step(run, UserMessageAdded(entry=second))
        asked, effects = step(run, LimitAnswered(limit="max_turns", to=Decimal(2)))
        assert (last(effects, CallModel).entries, asked.answer) == ((first, second), None)
        run, effects = step(run, LimitAnswered(limit="max_turns"))
        left = (first, second)
    finish = last(effects, Finish)
    assert (finish.entries, finish.unsent, run.phase) == ((ANSWER,), left, Phase.FINISHED)


def test_an_answer_that_was_rejected_is_none_at_the_limit() -> None:
    start = {"max_turns": 1, "on_limit": "ask", "checked": {"a": 2}}
    run, effects = after(answer(), AnswerRejected(problem="no"), **start)
    _, effects = step(run, LimitAnswered(limit="max_turns"))
    assert last(effects, Fail).failure.kind == "MaxTurnsExceeded"


def test_an_answer_may_be_replaced() -> None:
    _, effects = after(answer(), AnswerAccepted(replacement="perhaps"), checked={"a": 0})
    assert last(effects, Finish).entries == (MessageOutput(content="perhaps"),)
    _, effects = after(answer(), AnswerAccepted(), checked={"a": 0})
    assert last(effects, Finish).entries == (ANSWER,)


def test_only_the_agents_that_are_named_are_checked() -> None:
    _, effects = after(answer(), checked={"b": 0})
    last(effects, Finish)


def test_the_failure_of_a_tool_at_a_limit_is_an_event_before_the_run_ends() -> None:
    failure = Failure(kind="ValueError", message="no luck")
    events = (calls("x"), ToolCallFailed(call_id="x", failure=failure))
    _, effects = after(*events, max_turns=1)
    failed = last(effects, Fail)
    assert failed.failure.kind == "MaxTurnsExceeded"
    assert "no luck" in failed.unsent[0].result


@pytest.mark.parametrize(
    ("own", "around", "left", "allowed"),
    [(None, None, None, None), (5, None, 3, 5), (5, 1, 1, 9), (5, 4, 3, 5), (1, None, 0, 1), (None, 2, 2, 9)],
)
def test_a_run_within_may_make_the_calls_that_the_nearest_limit_leaves(
    own: int | None, around: int | None, left: int | None, allowed: int | None
) -> None:
    outer = RunAllowance() if around is None else RunAllowance(tool_calls=around, tool_calls_max=9)
    run = AgentRun(graph=GRAPH, limits=Limits(tool_calls=own), tool_calls=2, allowance=outer)
    within = allowance_within(run)
    assert (within.tool_calls, within.tool_calls_max) == (left, allowed)


def test_calls_above_the_bound_wait_for_those_at_work_in_the_order_in_which_the_model_asked() -> None:
    spec = AgentSpec(name="a", model="m", tools=(TOOL,), max_parallel_tools=2)
    run = AgentRun(graph=AgentGraph(start="a", agents={"a": spec}))
    begun: list[list[str]] = []
    for event in (
        RunStarted(inputs=()),
        calls("w", "x", "y", "z"),
        ToolReturned(call_id="x", result="1"),
        ToolCallFailed(call_id="w", failure=Failure(kind="ValueError", message="no")),
        ToolReturned(call_id="z", result="2"),
        ToolReturned(call_id="y", result="3"),
    ):
        run, effects = step(run, event)
        begun.append([effect.call_id for effect in effects if isinstance(effect, CallTool)])
    assert begun == [[], ["w", "x"], ["y"], ["z"], [], []]
    assert run.phase is Phase.AWAITING_MODEL


def test_a_call_that_waited_when_the_run_was_cancelled_was_not_started() -> None:
    spec = AgentSpec(name="a", model="m", tools=(TOOL,), max_parallel_tools=1)
    run = AgentRun(graph=AgentGraph(start="a", agents={"a": spec}))
    for event in (RunStarted(inputs=()), calls("x", "y")):
        run, _ = step(run, event)
    _, [stop] = step(run, RunCancelled())
    assert isinstance(stop, Stop)
    first, second = (entry for entry in stop.unsent if isinstance(entry, FunctionResult))
    assert "may or may not have" in first.result
    assert "had not been started" in second.result


def test_an_agent_has_called_a_tool_if_it_called_one_before_a_server_handed_off_for_it() -> None:
    call = FunctionCall(tool_call_id="x", name="look", arguments="{}")
    ran = ToolExecution(name="web_search", arguments="{}")
    to_b = AgentHandoff(previous_agent_name="a", next_agent_name="b")
    assert callers_in("a", (ANSWER,)) == set()
    assert (
        callers_in("a", (ANSWER, call)) == callers_in("a", (ran,)) == callers_in("a", (to_b, ANSWER)) == {"a"}
    )
    assert callers_in("a", (to_b, call)) == {"a", "b"}
