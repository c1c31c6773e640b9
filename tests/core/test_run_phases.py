"""The phases of runs, read from the events that a driver emits, are those in which the machine was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import event as tally
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import entries as wire
from outlast.core import events
from outlast.core.agent_events import (
    AgentEffect,
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
    Fail,
    LimitAnswered,
    ModelFailed,
    ModelReplied,
    RunCancelled,
    Stop,
    ToolCallFailed,
    ToolReturned,
)
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.agent_transitions import TRANSITIONS, transitions
from outlast.core.entries import FunctionResult
from outlast.core.event_stream import Event
from outlast.core.events import AnyEventData
from outlast.core.failure import Failure
from outlast.core.run_phases import PhaseMove, PhaseReader
from tests.core.stories import Move, Story, stories
from tests.core.strategies import agent_runs, asking_runs

any_story = stories(st.one_of(agent_runs(), asking_runs()), max_moves=16)
AT = datetime(2026, 1, 1, tzinfo=UTC)
FAILURE = Failure(kind="ValueError", message="no")
RUN = "run0"


class Watcher:
    """Somebody who watches the stream of an execution, and keeps the moves of its runs."""

    def __init__(self) -> None:
        self.position = 0
        self._reader = PhaseReader()
        self._moves: dict[tuple[str, int], PhaseMove] = {}

    def see(self, *shown: AnyEventData) -> None:
        for data in shown:
            self.position += 1
            for move in self._reader.read(Event(self.position, AT, data)):
                assert move.position <= self.position
                self._moves[move.run, move.position] = move

    def moves(self, run: str = RUN) -> list[PhaseMove]:
        return sorted(move for move in self._moves.values() if move.run == run)

    def phase(self, run: str = RUN) -> Phase:
        moves = self.moves(run)
        return moves[-1].after if moves else Phase.READY


# Any run -----------------------------------------------------------------------------------------------


def shown_by(run: AgentRun, move: Move) -> Iterator[AnyEventData]:
    """Yield the events of the batch that a move of the machine causes."""
    yield from event_of(run, move.event)
    for effect in move.effects:
        yield from events_of(effect)


def event_of(run: AgentRun, event: AgentEvent) -> Iterator[AnyEventData]:
    about: dict[str, Any] = {"run": RUN, "agent": run.agent, "turn": run.turn}
    step: dict[str, Any] = {**about, "key": "k"}

    def call(call_id: str) -> dict[str, Any]:
        tool = next(one.tool for one in run.calls if one.call_id == call_id)
        return {**about, "call_id": call_id, "tool": tool}

    match event:
        case ModelReplied(entries=entries):
            yield events.ModelRepliedData(**step, result={"entries": [*wire.to_wire(entries)]})
        case ModelFailed(failure=failure):
            yield events.ModelFailedData(**step, failure=failure)
        case ToolReturned(call_id=call_id, result=result):
            yield events.ToolReturnedData.model_validate({**call(call_id), "key": "k", "result": result})
        case ToolCallFailed(call_id=call_id, failure=failure):
            yield events.ToolFailedData.model_validate({**call(call_id), "key": "k", "failure": failure})
        case ApprovalGiven(call_id=call_id):
            yield events.ApprovalGivenData.model_validate(call(call_id))
        case ApprovalDenied(call_id=call_id):
            yield events.ApprovalDeniedData.model_validate(call(call_id))
        case AnswerRejected():
            yield events.AnswerRejectedData(**about, reason="no number")
        case AnswerBlocked() | AnswerAccepted(replacement=str()):
            guard: dict[str, Any] = {"run": RUN, "agent": run.agent, "of": "output", "guardrail": "g"}
            if isinstance(event, AnswerBlocked):
                yield events.GuardrailRejectedData.model_validate({**guard, "reason": "no"})
            else:
                yield events.GuardrailReplacedData.model_validate({**guard, "text": "***"})
        case LimitAnswered(to=to):
            yield events.QuestionAnsweredData(key="q", answer=None if to is None else str(to))
        case RunCancelled():
            yield events.CancelRequestedData()
        case _:
            pass  # The beginning, a message, and an answer that is accepted emit nothing.


def events_of(effect: AgentEffect) -> Iterator[AnyEventData]:
    match effect:
        case CallModel(agent=agent, turn=turn, limit=limit):
            about: dict[str, Any] = {"run": RUN, "agent": agent, "turn": turn}
            if limit is not None:
                yield events.LimitReachedData(**about, limit=limit.message)
            yield events.TurnStartedData(**about, key="k")
        case AskToRaise(agent=agent, turn=turn, limit=limit):
            asked = {"run": RUN, "agent": agent, "turn": turn, "limit": limit.message, "question": "q"}
            yield events.LimitReachedData.model_validate(asked)
        case CallTool():
            yield events.ToolCalledData(**_call(effect), key="k")
        case AskApproval():
            yield events.ApprovalRequestedData(**_call(effect), fingerprint=effect.fingerprint)
        case AnswerCall(failure=Failure() as failure):
            if not effect.denied:
                yield events.ToolCalledData(**_call(effect))
            yield events.ToolFailedData(**_call(effect), failure=failure)
        case AnnounceHandoff():
            yield events.HandedOffData(
                run=RUN, turn=effect.turn, from_agent=effect.previous, to_agent=effect.next
            )
        case Fail(unsent=unsent) | Stop(unsent=unsent):
            for entry in unsent:
                if isinstance(entry, FunctionResult):
                    yield events.ResultUnsentData(run=RUN, call_id=entry.tool_call_id, text=entry.result)
        case _:
            pass


def _call(effect: CallTool | AskApproval | AnswerCall) -> dict[str, Any]:
    return {
        "run": RUN,
        "agent": effect.agent,
        "turn": effect.turn,
        "call_id": effect.call_id,
        "tool": effect.tool,
    }


def is_seen(move: Move) -> bool:
    """Return whether the stream shows the move, or one after it does."""
    if move.after.phase is Phase.CHECKING_ANSWER:
        return False
    if move.after.phase is Phase.CANCELLED:
        return move.before.phase is not Phase.CHECKING_ANSWER
    # The reply handed off to nobody.
    return not (isinstance(move.event, ModelReplied) and move.after.phase is Phase.FAILED)


@given(story=any_story)
def test_the_phase_of_a_run_is_that_of_the_machine_after_each_batch(story: Story) -> None:
    watcher = Watcher()
    for move in story.moves:
        batch = list(shown_by(move.before, move))
        watcher.see(*batch)
        is_over = not TRANSITIONS[move.after.phase]
        if is_over:
            watcher.see(events.ExecutionFailedData(failure=FAILURE))
        if batch and move.after.phase is not Phase.READY and (is_seen(move) or _has_unsent(batch)):
            assert watcher.phase() is move.after.phase, move.event
    tally(f"ends {story.end.phase}")


def _has_unsent(batch: Sequence[AnyEventData]) -> bool:
    return any(isinstance(data, events.ResultUnsentData) for data in batch)


@given(story=any_story, valid=st.integers(0, 60))
def test_after_a_retry_the_phase_is_the_one_that_it_was_at_that_position(story: Story, valid: int) -> None:
    once, again = Watcher(), Watcher()
    shown = [data for move in story.moves for data in shown_by(move.before, move)]
    valid = min(valid, len(shown))
    once.see(*shown[:valid])
    again.see(*shown, events.ExecutionReopenedData(valid=valid))
    assert again.phase() is once.phase()


@given(story=any_story)
def test_every_move_is_an_arrow_of_the_table_or_has_no_event(story: Story) -> None:
    watcher = Watcher()
    for move in story.moves:
        watcher.see(*shown_by(move.before, move))
    arrows = {(one.before, one.event, one.after) for one in transitions()}
    phase = Phase.READY
    for one in watcher.moves():
        assert one.before is phase
        assert not one.event or (one.before, one.event, one.after) in arrows
        phase = one.after


# What a story has not --------------------------------------------------------------------------------------

TURN: dict[str, Any] = {"run": RUN, "agent": "clerk", "turn": 1, "key": "k"}
JUDGE = f"{RUN}/run0"
JUDGED: dict[str, Any] = {"run": JUDGE, "agent": "judge", "turn": 1, "key": "k"}
GUARD: dict[str, Any] = {"run": RUN, "agent": "clerk", "of": "output", "guardrail": "judge"}
CALL: dict[str, Any] = {"run": RUN, "agent": "clerk", "turn": 1, "call_id": "c", "tool": "t"}
ANSWER: dict[str, Any] = {"entries": [{"type": "message.output", "content": "done"}]}
ASKED: dict[str, Any] = {
    "entries": [{"type": "function.call", "tool_call_id": "c", "name": "t", "arguments": "{}"}]
}


def after(*shown: AnyEventData) -> Watcher:
    watcher = Watcher()
    watcher.see(*shown)
    return watcher


def judged(verdict: AnyEventData) -> Watcher:
    """Return a watcher of a run whose answer a judge has looked at twice, and who gives that verdict then."""
    watcher = after(events.TurnStartedData(**TURN), events.ModelRepliedData(**TURN, result=ANSWER))
    assert watcher.phase() is Phase.FINISHED
    for _ in range(2):
        watcher.see(events.TurnStartedData(**JUDGED))
        assert watcher.phase() is Phase.CHECKING_ANSWER
        watcher.see(verdict)
    return watcher


def test_an_answer_is_being_checked_while_another_agent_runs_within_the_run() -> None:
    watcher = judged(events.ModelRepliedData(**JUDGED, result=ANSWER))
    assert watcher.phase() is Phase.FINISHED
    # The last move that led to a wrong end was taken back.
    assert [(one.event, one.after) for one in watcher.moves()] == [
        ("RunStarted", Phase.AWAITING_MODEL),
        ("ModelReplied", Phase.CHECKING_ANSWER),
        ("", Phase.CHECKING_ANSWER),
        ("AnswerAccepted", Phase.FINISHED),
    ]
    assert watcher.phase(JUDGE) is Phase.FINISHED


def test_a_check_that_failed_ends_the_run() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ANSWER),
        events.TurnStartedData(**JUDGED),
        events.ModelFailedData(**JUDGED, failure=FAILURE),
    )
    assert watcher.moves()[-1].event == "AnswerBlocked"
    assert watcher.phase() is Phase.FAILED


def test_a_judge_of_the_inputs_runs_before_the_run_begins() -> None:
    watcher = after(
        events.TurnStartedData(**JUDGED),
        events.ModelRepliedData(**JUDGED, result=ANSWER),
        events.GuardrailRejectedData(**{**GUARD, "of": "input"}, reason="no"),
    )
    assert watcher.phase() is Phase.READY


def test_a_guardrail_that_rejects_an_answer_takes_back_that_it_was_accepted() -> None:
    watcher = judged(events.ModelRepliedData(**JUDGED, result=ANSWER))
    watcher.see(events.GuardrailRejectedData(**GUARD, reason="no"))
    assert watcher.phase() is Phase.FAILED


def test_a_guardrail_that_replaces_an_answer_accepts_it() -> None:
    watcher = judged(events.ModelRepliedData(**JUDGED, result=ANSWER))
    watcher.see(events.GuardrailReplacedData(**GUARD, text="yes"))
    assert watcher.phase() is Phase.FINISHED


def test_a_run_that_a_person_interrupts_is_cancelled() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ASKED),
        events.ToolCalledData(**CALL),
        events.RunInterruptedData(run=RUN, agent="clerk", turn=1, reason="too far"),
        events.ResultUnsentData(run=RUN, call_id="c", text="no"),
    )
    assert watcher.moves()[-1] == PhaseMove(
        4, RUN, Phase.AWAITING_TOOLS, "RunCancelled", "stopped", Phase.CANCELLED
    )


def test_a_run_for_a_call_of_another_one_leaves_that_waiting_for_its_calls() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ASKED),
        events.ToolCalledData(**CALL, nested_run=JUDGE),
        events.TurnStartedData(**JUDGED),
        events.ModelRepliedData(**JUDGED, result=ANSWER),
    )
    assert (watcher.phase(), watcher.phase(JUDGE)) == (Phase.AWAITING_TOOLS, Phase.FINISHED)
    watcher.see(events.ToolReturnedData(**CALL, result="yes"), events.TurnStartedData(**TURN))
    assert watcher.phase() is Phase.AWAITING_MODEL


def test_a_run_that_asks_the_model_no_more_has_failed() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ANSWER),
        events.AnswerRejectedData(run=RUN, agent="clerk", turn=1, reason="no"),
    )
    assert watcher.phase() is Phase.AWAITING_MODEL
    watcher.see(events.TimerFiredData(key="t"))
    assert watcher.moves()[-1] == PhaseMove(3, RUN, Phase.CHECKING_ANSWER, "AnswerRejected", "", Phase.FAILED)


def test_a_run_is_cancelled_when_its_execution_ends() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ASKED),
        events.ToolCalledData(**CALL),
        events.CancelRequestedData(),
        events.ResultUnsentData(run=RUN, call_id="c", text="no"),
        events.ExecutionCancelledData(),
    )
    assert watcher.moves()[-1].event == "RunCancelled"
    assert watcher.moves()[-1].position == 5


def test_a_run_that_was_terminated_stays_where_it_was() -> None:
    watcher = after(events.TurnStartedData(**TURN), events.ExecutionTerminatedData(reason="enough"))
    assert watcher.phase() is Phase.AWAITING_MODEL


def test_a_summary_belongs_to_the_time_in_which_the_model_is_asked() -> None:
    watcher = after(events.SummaryStartedData(**TURN), events.SummaryFailedData(**TURN, failure=FAILURE))
    assert watcher.phase() is Phase.AWAITING_MODEL


def test_text_and_replies_that_nobody_understands_move_nothing() -> None:
    watcher = after(
        events.TurnStartedData(**TURN),
        events.TextDeltaData(**TURN, attempt=1, sequence=1, text="x"),
        events.ReplyCutData(run=RUN, agent="clerk", turn=1, reason="length"),
    )
    assert len(watcher.moves()) == 1
    watcher.see(events.ModelRepliedData(**TURN, result={"entries": [1]}))
    assert watcher.phase() is Phase.FINISHED


def test_what_the_table_does_not_have_is_shown_without_an_event() -> None:
    watcher = after(events.TurnStartedData(**TURN), events.ModelFailedData(**TURN, failure=FAILURE))
    watcher.see(events.ToolReturnedData(**CALL, result=1))
    assert watcher.phase() is Phase.FAILED
    watcher.see(events.ToolCalledData(**CALL))
    assert watcher.moves()[-1] == PhaseMove(4, RUN, Phase.FAILED, "", "", Phase.AWAITING_TOOLS)
    watcher.see(events.TurnStartedData(**TURN))
    assert watcher.moves()[-1] == PhaseMove(5, RUN, Phase.AWAITING_TOOLS, "", "", Phase.AWAITING_MODEL)


def test_a_run_at_a_limit_waits_for_a_person_and_goes_on_or_ends() -> None:
    asked = {"run": RUN, "agent": "clerk", "turn": 1, "limit": "no turns are left", "question": "q"}
    reached = events.LimitReachedData.model_validate(asked)
    other = events.QuestionAnsweredData(key="another", answer=1)
    watcher = after(
        events.TurnStartedData(**TURN),
        events.ModelRepliedData(**TURN, result=ASKED),
        events.ToolCalledData(**CALL, key="k"),
        events.ToolReturnedData(**CALL, key="k", result=1),
        reached,
        other,
    )
    assert watcher.phase() is Phase.AT_LIMIT
    watcher.see(events.QuestionAnsweredData(key="q", answer=5), events.TurnStartedData(**TURN))
    assert watcher.phase() is Phase.AWAITING_MODEL
    watcher.see(events.ModelRepliedData(**TURN, result=ASKED), reached)
    watcher.see(events.QuestionAnsweredData(key="q", answer=None))
    watcher.see(events.ExecutionFailedData(failure=FAILURE))
    assert [move.after for move in watcher.moves()][-2:] == [Phase.AT_LIMIT, Phase.FAILED]
