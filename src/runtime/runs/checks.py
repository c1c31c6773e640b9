"""Checks of a run: guardrails check its inputs; output type and guardrails check its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from outlast.core.agent_events import AnswerAccepted, AnswerBlocked, AnswerRejected, CheckAnswer
from outlast.core.chunks import text_of
from outlast.core.entries import Entry, MessageInput
from outlast.core.errors import InputRejected, InvalidOutput, LimitExceeded, OutputRejected
from outlast.core.events import AnswerRejectedData, GuardrailRejectedData, GuardrailReplacedData
from outlast.core.failure import Failure
from outlast.core.usage import Usage
from outlast.ports.durability.steps import StepContext
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.guardrails import (
    GuardrailAnswer,
    Reject,
    Replace,
    Verdict,
    as_guardrail,
    guardrail_name,
    verdict_of,
)
from outlast.runtime.definitions.output_type import OutputType
from outlast.runtime.definitions.run_context import RunContext
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.runs.run_result import RunResult, said_in

Here = Callable[[], RunContext[Any]]
"""Returns the place of the run that it has come to."""
RunAlone = Callable[[Agent[Any], tuple[Entry, ...]], Awaitable[RunResult[Any]]]
"""Runs an agent over the same session, in a conversation of its own."""


class Checks:
    """The checks of one run, known by its key."""

    def __init__(
        self, agents: BoundAgents, context: StepContext, run: str, run_alone: RunAlone, here: Here
    ) -> None:
        self._agents = agents
        self._context = context
        self._run = run
        self._run_alone = run_alone
        self._here = here
        self._spent = Usage()

    async def let_in(self, given: tuple[Entry, ...]) -> tuple[tuple[Entry, ...], Usage]:
        """Return the inputs that may be sent to the model, and the usage of checking them.

        Raises:
            InputRejected: a guardrail of the start agent rejects it.
        """
        start = self._agents.graph.start
        for guardrail in self._agents.by_name[start].input_guardrails:
            said = "\n".join(text_of(entry.content) for entry in given if isinstance(entry, MessageInput))
            verdict = await self._judge(guardrail, said)
            verdict = self._emit_verdict(verdict, guardrail, start, "input")
            if isinstance(verdict, Reject):
                raise InputRejected(guardrail_name(guardrail), verdict.reason)
            if isinstance(verdict, Replace):
                given = (MessageInput(content=verdict.text),)
        return given, self.take_spent()

    async def verdict_on(self, effect: CheckAnswer) -> AnswerAccepted | AnswerRejected | AnswerBlocked:
        """Return the verdict on an answer. If a check fails, the answer is blocked."""
        try:
            with contained(self._context.unwinds):
                verdict = await self._checked(effect)
        except Exception as error:
            verdict = AnswerBlocked(failure=failure_of(error))
        return verdict.with_(usage=self.take_spent())

    def take_spent(self) -> Usage:
        """Return what the checks have cost since this was last asked."""
        spent, self._spent = self._spent, Usage()
        return spent

    async def _checked(self, effect: CheckAnswer) -> AnswerAccepted | AnswerRejected | AnswerBlocked:
        text = said_in(effect.entries)
        output = self._agents.outputs.get(effect.agent)
        if output is not None and (problem := _problem(output, text)) is not None:
            emitted = self._context.emit(
                AnswerRejectedData(run=self._run, agent=effect.agent, turn=effect.turn, reason=problem)
            )
            return AnswerRejected(problem=emitted.reason)
        replacement = None
        for guardrail in self._agents.by_name[effect.agent].output_guardrails:
            verdict = await self._judge(guardrail, text)
            verdict = self._emit_verdict(verdict, guardrail, effect.agent, "output")
            if isinstance(verdict, Reject):
                rejected = OutputRejected(guardrail_name(guardrail), effect.agent, verdict.reason)
                return AnswerBlocked(failure=Failure.of(rejected))
            if isinstance(verdict, Replace):
                text = replacement = verdict.text
        if output is not None and (problem := _problem(output, text)) is not None:
            invalid = InvalidOutput(effect.agent, 1, f"what a guardrail replaced it with: {problem}")
            return AnswerBlocked(failure=Failure.of(invalid))
        return AnswerAccepted(replacement=replacement)

    async def _judge(self, guardrail: Any, text: str) -> Verdict:
        """Return the verdict of a guardrail."""
        if not isinstance(guardrail, Agent):
            with contained(self._context.unwinds):
                return await verdict_of(guardrail, text, self._here())
        judge: Agent[Any, GuardrailAnswer] = as_guardrail(guardrail)
        asked = (MessageInput(content=text or "(nothing)"),)
        try:
            result = await self._run_alone(judge, asked)
        except LimitExceeded as error:
            self._spent += error.usage
            raise
        self._spent += result.usage
        verdict: Verdict = result.output.verdict()
        return verdict

    def _emit_verdict(
        self, verdict: Verdict, guardrail: Any, agent: str, of: Literal["input", "output"]
    ) -> Verdict:
        """Put a verdict into the event stream, and return it with the words that it has there."""
        about = {"run": self._run, "agent": agent, "of": of, "guardrail": guardrail_name(guardrail)}
        match verdict:
            case Reject(reason=reason):
                rejected = GuardrailRejectedData.model_validate({**about, "reason": reason})
                return Reject(self._context.emit(rejected).reason)
            case Replace(text=text):
                self._context.emit(GuardrailReplacedData.model_validate({**about, "text": text}))
        return verdict


def _problem(output: OutputType, text: str) -> str | None:
    """Return why an answer is not of the output type, or None if it is."""
    try:
        output.parse(text)
    except ValueError as error:
        return str(error)
    return None
