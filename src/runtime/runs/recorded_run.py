"""The outcome of a run, read from the journal of its execution.

A journal holds all that a run has been through: what it was given, every reply, what every call came to, what
became of its answer. So the end of a run writes nothing of that again, and its outcome may have any length,
though a record may not. The outcome is put together here from the records alone. No code of a user's runs:
what has ended stays as it was, whatever became of the tools, guardrails and sessions since.

What is in no record follows from those that there are, and is worked out by the functions that the run itself
uses: the text that a model is sent of a tool's result, of a failure, of a handoff, of an answer that is
rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from outlast.core.agents import AgentGraph
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolConfirmation,
)
from outlast.core.errors import CallRejected, ToolFailed
from outlast.core.events import (
    AnswerRejectedData,
    AnyEventData,
    GuardrailRejectedData,
    GuardrailReplacedData,
    HandedOffData,
    MessageSaidData,
    ToolFailedData,
    ToolReturnedData,
    event_data,
)
from outlast.core.failure import Failure, step_error
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    EventEmitted,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
)
from outlast.core.replies import (
    failed_call,
    handed_off,
    open_function_calls,
    rejected_answer,
    with_own_call_ids,
)
from outlast.core.step_keys import StepPlace, is_run_within, place_in
from outlast.core.tool_output import ToolOutput, as_text
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply
from outlast.runtime.runs.run_result import RunRecord
from outlast.runtime.runs.tool_calls import text_of_output


class _Step(NamedTuple):
    """A step of a run that was asked for."""

    scheduled: StepScheduled
    place: StepPlace

    @property
    def agent(self) -> str:
        """The agent that was active."""
        return str(self.scheduled.about["agent"])

    @property
    def tool(self) -> str:
        """The tool that is called, as the model knows it."""
        return str(self.scheduled.about.get("tool", self.scheduled.name))

    def answer(self, result: JSON) -> str:
        """Return the text that answers the call; raises `ToolFailed` if the tool reports an error."""
        if "source" in self.scheduled.about:
            return text_of_output(self.tool, ToolOutput.model_validate(result))
        return as_text(result)


@dataclass(slots=True)
class _Turn:
    """A reply, and what the model is sent of it next."""

    agent: str
    reply: tuple[Entry, ...]
    answers: dict[str, str] = field(default_factory=dict)
    """The texts that answer its calls, by their ids."""
    problem: str | None = None
    """The fault of the reply, if it was rejected as an answer."""

    @property
    def caller(self) -> str:
        """The agent that makes the calls which wait for a result: the last to which the server handed off."""
        handoffs = [entry.next_agent_name for entry in self.reply if isinstance(entry, AgentHandoff)]
        return handoffs[-1] if handoffs else self.agent


class RecordedRun:
    """One run of an execution: give it the execution's records, in order from the first."""

    def __init__(self, key: str, graph: AgentGraph, given: tuple[Entry, ...]) -> None:
        """Begin without a record; `given` is what the run was given, in the conversation that it began."""
        self._key = key
        self._graph = graph
        self._given = given
        self._agent = graph.start
        self._open: dict[str, _Step] = {}
        """The steps of the run, and of those within it, that have no result."""
        self._turns: list[_Turn] = []
        self._said: dict[int, list[str]] = {}
        """The messages that were said to the run, by the number of the turn at which they came."""
        self._replacement: str | None = None
        """The text that a guardrail has put in the place of the last reply."""
        self._usage = Usage()
        self._warnings: tuple[str, ...] = ()

    def read(self, record: AnyRecord) -> None:
        """Take the next record."""
        match record:
            case StepScheduled(key=key):
                if record.kind is not StepKind.ACTIVITY:
                    place = place_in(key)
                    if is_run_within(place.run, self._key):
                        self._open[key] = _Step(record, place)
            case StepCompleted(key=key, result=result):
                if key in self._open:
                    self._complete(self._open.pop(key), result)
            case StepFailed(key=key, attempts=attempts):
                failed = self._open.pop(key, None)
                if failed is not None and self._is_own(failed) and failed.place.call_id is not None:
                    error = step_error(record.failure, failed.scheduled.name, attempts)
                    self._fail_call(failed.place.call_id, failed.tool, Failure.of(error))
            case EventEmitted(kind=kind, data=data) if data.get("run") == self._key:
                self._take(event_data(kind, data))

    def outcome(self) -> RunRecord:
        """Return what the run has come to: as far as the records go, if it has come to no answer."""
        last = self._turns[-1].reply if self._turns else ()
        return RunRecord(
            agent=self._agent,
            final=last if self._replacement is None else (MessageOutput(content=self._replacement),),
            entries=tuple(self._entries()),
            usage=self._usage,
            turns=len(self._turns),
            warnings=self._warnings,
        )

    def _is_own(self, step: _Step) -> bool:
        """Return whether a step is of the run itself, not of one within it."""
        return step.place.run == self._key

    def _complete(self, step: _Step, result: JSON) -> None:
        call_id = step.place.call_id
        if call_id is None:
            reply = ModelReply.model_validate(result)
            self._usage += reply.usage.of_model(step.scheduled.model)
            if step.scheduled.kind is StepKind.MODEL and self._is_own(step):
                self._turns.append(_Turn(step.agent, with_own_call_ids(reply.entries)))
                self._warnings += reply.warnings
                self._replacement = None
        elif self._is_own(step):
            try:
                self._turns[-1].answers[call_id] = step.answer(result)
            except ToolFailed as error:
                self._fail_call(call_id, step.tool, Failure.of(error))

    def _fail_call(self, call_id: str, tool: str, failure: Failure) -> None:
        self._turns[-1].answers[call_id] = str(failed_call(tool, failure))

    def _take(self, data: AnyEventData) -> None:
        """Take an event of the run itself."""
        match data:
            case ToolReturnedData():
                self._turns[-1].answers[data.call_id] = as_text(data.result)
            case ToolFailedData():
                self._fail_call(data.call_id, data.tool, data.failure)
            case AnswerRejectedData():
                self._turns[-1].problem = data.reason
            case GuardrailReplacedData(of="input"):
                self._given = (MessageInput(content=data.text),)
            case GuardrailReplacedData(of="result", call_id=str(call_id)):
                self._turns[-1].answers[call_id] = data.text
            case GuardrailRejectedData(of="result", call_id=str(call_id), tool=str(tool)):
                rejected = CallRejected(tool, data.guardrail, data.reason, of="result")
                self._turns[-1].answers[call_id] = str(rejected)
            case GuardrailReplacedData(of="output"):
                self._replacement = data.text
            case MessageSaidData():
                self._said.setdefault(data.turn, []).append(data.text)
            case HandedOffData():
                self._agent = data.to_agent

    def _entries(self) -> Iterator[Entry]:
        """Yield what the run has added to its conversation. What was sent counts once there is a reply."""
        sent: Iterable[Entry] = self._given
        for number, turn in enumerate(self._turns, 1):
            yield from sent
            yield from turn.reply
            said = [MessageInput(content=text) for text in self._said.get(number, ())]
            sent = chain(self._sent_after(turn), said)

    def _sent_after(self, turn: _Turn) -> Iterator[Entry]:
        if turn.problem is not None:
            yield rejected_answer(turn.problem)
            return
        for call in open_function_calls(turn.reply):
            yield self._answer_to(call, turn)

    def _answer_to(self, call: FunctionCall, turn: _Turn) -> Entry:
        call_id = call.tool_call_id
        text = turn.answers.get(call_id)
        if call.awaits_confirmation:
            # The server's next reply has the result of a call that it may run.
            return ToolConfirmation(tool_call_id=call_id, confirmation="allow" if text is None else "deny")
        if text is None:
            text = handed_off(self._graph[turn.caller].handoff_tools()[call.name])
        return FunctionResult(tool_call_id=call_id, result=text)
