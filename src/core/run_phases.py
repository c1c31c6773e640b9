"""The phases of an execution's runs, read from its event stream: where each run stood at every position.

A run of an agent lives in workflow code, and the journal does not hold its state. But nearly everything that
happens to a run is an event of the stream, so the moves of the agent machine can be read from the stream, by
whoever watches, without the code. The phases come from the machine's own table: this module says which event
of the machine an event of the stream stands for, and `TRANSITIONS` says where it leads.

An event of the machine can have several outcomes, and the stream shows which one it was only by what
follows: after `tool_returned` comes `turn_started`, or nothing, because a limit ends the run. So each move is
read with the outcome that is most likely by then, and read again when something follows that contradicts it.
Whoever keeps the moves keeps, for each run and position, the last one. All that one input caused is written
in one batch: at the end of each batch, the phases are those in which the machine was.

What leaves no event is not seen. Guardrails emit nothing when they accept an answer, so a run may look
finished a moment before its checks are. A run that ends with an error of which nothing is emitted looks
finished, too: one whose guardrail raised, or whose model's server handed off to an agent that does not exist.
And a run that was cancelled while it waited for a model is seen to be over when its execution is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from outlast.core.agent_events import (
    AgentEvent,
    AnswerAccepted,
    AnswerBlocked,
    AnswerRejected,
    ApprovalDenied,
    ApprovalGiven,
    LimitAnswered,
    ModelFailed,
    ModelReplied,
    RunCancelled,
    RunStarted,
    ToolCallFailed,
    ToolReturned,
)
from outlast.core.agent_run import Phase
from outlast.core.agent_transitions import TRANSITIONS, Outcome
from outlast.core.event_stream import Event
from outlast.core.events import (
    ActivityCompletedData,
    ActivityFailedData,
    AnswerRejectedData,
    AnyEventData,
    ApprovalDeniedData,
    ApprovalGivenData,
    ApprovalRequestedData,
    CancelRequestedData,
    EventKind,
    ExecutionCancelledData,
    ExecutionCompletedData,
    ExecutionFailedData,
    ExecutionReopenedData,
    GuardrailRejectedData,
    GuardrailReplacedData,
    LimitReachedData,
    ModelFailedData,
    ModelRepliedData,
    QuestionAnsweredData,
    ResultUnsentData,
    RunInterruptedData,
    SignalReceivedData,
    SummaryFailedData,
    SummaryMadeData,
    SummaryStartedData,
    TimerFiredData,
    ToolCalledData,
    ToolFailedData,
    ToolReturnedData,
    TurnStartedData,
    UpdateAcceptedData,
)
from outlast.core.replies import open_function_calls

_ENDS_OF_CALLS = (ToolReturnedData, ToolFailedData)
"""They come from outside if the call is a step."""
_INPUTS = (
    ModelRepliedData,
    ModelFailedData,
    SummaryMadeData,
    SummaryFailedData,
    ActivityCompletedData,
    ActivityFailedData,
    TimerFiredData,
    SignalReceivedData,
    UpdateAcceptedData,
    CancelRequestedData,
)
"""The events that come to workflow code from outside: all that an earlier one caused stands before them."""


class PhaseMove(NamedTuple):
    """A move of a run. `event` is empty if the stream shows only where the run is, not what led there."""

    position: int
    run: str
    before: Phase
    event: str
    """The name of the machine's event, as in its table."""
    outcome: str
    """The outcome of the event; empty if several of them lead to the same phase."""
    after: Phase


@dataclass(frozen=True, slots=True)
class _Run:
    """A run, as far as the stream shows it."""

    phase: Phase = Phase.READY
    last: PhaseMove | None = None
    """The last move, which may be read again."""
    event: type[AgentEvent] | None = None
    """The machine's event of the last move."""
    is_guess: bool = False
    """True if the outcome of the last move is the likely one, and more of its batch may follow."""
    open: frozenset[str] = frozenset()
    """The calls that were asked for and have no end."""


class PhaseReader:
    """Reads the moves of all runs from the events of one execution, given from the first."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._past: list[tuple[int, str, _Run]] = []
        """The position and the run of each change, with what was known of the run before."""
        self._asked: dict[str, set[str]] = {}
        """The runs that wait for an answer about a limit, by the key of the question."""
        self._position = 0

    def read(self, event: Event) -> list[PhaseMove]:
        """Return the moves that the event shows; one may replace an earlier one of its run and position."""
        if event.kind is EventKind.TEXT_DELTA:
            return []
        self._position = event.position
        return [*self._moves_at(event.data)]

    def _moves_at(self, data: AnyEventData) -> Iterator[PhaseMove]:
        match data:
            case ExecutionReopenedData(valid=valid):
                yield from self._reopened(valid)
                return
            case ExecutionCompletedData() | ExecutionFailedData() | ExecutionCancelledData():
                yield from self._ended()
                return
        if isinstance(data, _INPUTS) or (isinstance(data, _ENDS_OF_CALLS) and data.key is not None):
            yield from self._nothing_more_follows()
        if isinstance(data, QuestionAnsweredData):
            yield from self._answered(data.key)
        run = getattr(data, "run", None)
        if isinstance(run, str):
            yield from self._run_around_checks(run)
            yield from self._read(run, data)
            yield from self._check_over(run)

    def _read(self, run: str, data: AnyEventData) -> Iterator[PhaseMove]:
        match data:
            case LimitReachedData(question=str(key)):
                self._asked.setdefault(key, set()).add(run)
                yield from self._seen(run, Phase.AT_LIMIT)
            case TurnStartedData() | SummaryStartedData() | LimitReachedData():
                yield from self._seen(run, Phase.AWAITING_MODEL)
            case ModelRepliedData():
                outcome = Outcome.CALLS_OPEN if _asks_for_calls(data) else Outcome.ANSWERED
                yield from self._happened(run, ModelReplied, outcome)
            case ModelFailedData():
                yield from self._happened(run, ModelFailed, Outcome.FAILED)
            case ToolCalledData(call_id=call_id) | ApprovalRequestedData(call_id=call_id):
                yield from self._seen(run, Phase.AWAITING_TOOLS)
                self._change(run, open=self._of(run).open | {call_id})
            case ToolReturnedData(call_id=call_id):
                yield from self._settled(run, ToolReturned, call_id)
            case ToolFailedData(call_id=call_id) if call_id in self._of(run).open:
                yield from self._settled(run, ToolCallFailed, call_id)
            case ApprovalGivenData():
                yield from self._happened(run, ApprovalGiven, Outcome.CALLS_OPEN)
            case ApprovalDeniedData(call_id=call_id):
                yield from self._settled(run, ApprovalDenied, call_id)
            case AnswerRejectedData():
                yield from self._checked(run, AnswerRejected, Outcome.MODEL_ASKED)
            case GuardrailRejectedData(of="output"):
                yield from self._checked(run, AnswerBlocked, Outcome.FAILED)
            case GuardrailReplacedData(of="output"):
                yield from self._checked(run, AnswerAccepted, Outcome.ANSWERED)
            case RunInterruptedData():
                yield from self._happened(run, RunCancelled, Outcome.STOPPED)
            case ResultUnsentData():
                yield from self._stopped(run)
            case _:
                pass  # It says nothing about the phase: a tool that the server ran, a reply that was cut.

    # Moves -----------------------------------------------------------------------------------------------

    def _happened(self, run: str, event: type[AgentEvent], outcome: Outcome) -> Iterator[PhaseMove]:
        """Move as the table says; if it says nothing, the run stays where it was."""
        before = self._of(run).phase
        after = TRANSITIONS[before].get(event, {}).get(outcome)
        if after is not None:
            move = PhaseMove(self._position, run, before, event.__name__, outcome, after)
            self._change(run, phase=after, last=move, event=event, is_guess=True)
            yield move

    def _settled(self, run: str, event: type[AgentEvent], call_id: str) -> Iterator[PhaseMove]:
        """A call has its end; if it was the last one, the model is asked."""
        still_open = self._of(run).open - {call_id}
        self._change(run, open=still_open)
        yield from self._happened(run, event, Outcome.CALLS_OPEN if still_open else Outcome.MODEL_ASKED)

    def _answered(self, question: str) -> Iterator[PhaseMove]:
        """A person has answered; runs that wait for it at a limit go on, or end."""
        for run in sorted(self._asked.get(question, ())):
            yield from self._happened(run, LimitAnswered, Outcome.MODEL_ASKED)

    def _checked(self, run: str, event: type[AgentEvent], outcome: Outcome) -> Iterator[PhaseMove]:
        yield from self._seen(run, Phase.CHECKING_ANSWER)
        yield from self._happened(run, event, outcome)

    def _seen(self, run: str, phase: Phase) -> Iterator[PhaseMove]:
        """The stream shows the phase: it confirms the last move, or corrects it."""
        if self._of(run).phase is Phase.READY:
            yield from self._happened(run, RunStarted, Outcome.MODEL_ASKED)
        if self._of(run).phase is not phase:
            yield self._corrected(run, phase)
        self._change(run, is_guess=False)

    def _corrected(self, run: str, phase: Phase) -> PhaseMove:
        """Return the last move as it must have been, if it led to this phase; else one that nobody saw."""
        known = self._of(run)
        move = PhaseMove(self._position, run, known.phase, "", "", phase)
        if known.last is not None and known.event is not None:
            leading = [
                one for one, after in TRANSITIONS[known.last.before][known.event].items() if after is phase
            ]
            if leading:
                outcome = leading[0] if len(leading) == 1 else ""
                move = known.last._replace(outcome=outcome, after=phase)
            elif known.last.before is phase:
                move = known.last._replace(event="", outcome="", after=phase)
        has_event = bool(move.event)
        self._change(run, phase=phase, last=move, event=known.event if has_event else None, is_guess=False)
        return move

    # Checks by other agents ------------------------------------------------------------------------------

    def _run_around_checks(self, run: str) -> Iterator[PhaseMove]:
        """A run within another one that has answered is a check of the answer."""
        around = run.rpartition("/")[0]
        if around in self._runs and self._of(around).phase is Phase.FINISHED:
            yield self._corrected(around, Phase.CHECKING_ANSWER)

    def _check_over(self, run: str) -> Iterator[PhaseMove]:
        """A check that has ended lets the answer pass, as far as is known; one that failed ends the run."""
        around, last = run.rpartition("/")[0], self._of(run).last
        if around in self._runs and last is not None and last.position == self._position:
            if last.after is Phase.FINISHED:
                yield from self._happened(around, AnswerAccepted, Outcome.ANSWERED)
            elif last.after is Phase.FAILED:
                yield from self._happened(around, AnswerBlocked, Outcome.FAILED)

    # Ends ------------------------------------------------------------------------------------------------

    def _nothing_more_follows(self) -> Iterator[PhaseMove]:
        """The next input comes. A run that was about to ask the model did not: a limit has ended it."""
        for run, known in list(self._runs.items()):
            if known.is_guess and known.phase is Phase.AWAITING_MODEL:
                yield self._corrected(run, Phase.FAILED)
            self._change(run, is_guess=False)

    def _stopped(self, run: str) -> Iterator[PhaseMove]:
        """The run has ended with calls that the model sees no result of: it failed, or was cancelled."""
        if not TRANSITIONS[self._of(run).phase]:
            return  # An earlier call of the run has said so.
        if self._of(run).is_guess:
            yield self._corrected(run, Phase.FAILED)
        else:
            yield from self._happened(run, RunCancelled, Outcome.STOPPED)

    def _ended(self) -> Iterator[PhaseMove]:
        """The execution has ended, and with it every run: one that moved just now failed by that move."""
        for run, known in list(self._runs.items()):
            if known.is_guess and TRANSITIONS[known.phase]:
                yield self._corrected(run, Phase.FAILED)
            else:
                yield from self._happened(run, RunCancelled, Outcome.STOPPED)

    def _reopened(self, valid: int) -> Iterator[PhaseMove]:
        """Go back to what was known at that position."""
        left = {run: known.phase for run, known in self._runs.items()}
        while self._past and self._past[-1][0] > valid:
            _, run, before = self._past.pop()
            self._runs[run] = before
        for run, phase in left.items():
            restored = self._of(run).phase
            if restored is not phase:
                yield PhaseMove(self._position, run, phase, "", "", restored)
            # The moves before the retry are not read again.
            self._change(run, last=None, event=None, is_guess=False)

    # What is known ---------------------------------------------------------------------------------------

    def _of(self, run: str) -> _Run:
        return self._runs.get(run, _UNKNOWN)

    def _change(self, run: str, **changes: Any) -> None:
        before = self._of(run)
        after = replace(before, **changes)
        if after != before:
            self._past.append((self._position, run, before))
            self._runs[run] = after


_UNKNOWN = _Run()


def _asks_for_calls(data: ModelRepliedData) -> bool:
    try:
        return bool(open_function_calls(data.entries))
    except ValidationError:
        return False  # Nor did the run understand it.
