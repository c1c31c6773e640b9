"""Guardrails of tool calls: they see the arguments before a call, and the result after it.

They hold for every tool that this run calls: activities, plain functions, agents, and the tools of sources. A
guardrail is a plain function, so its verdict is the same in a replay; one that judges otherwise then departs
from the journal. The reason of a rejection is read from there, so it may be worded anew.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

from outlast.core.agent_events import AskApproval, CallTool
from outlast.core.errors import CallRejected, DefinitionError, PayloadTooLarge, WorkflowError
from outlast.core.events import (
    GuardrailRejectedData,
    GuardrailReplacedData,
    ToolCalledData,
    ToolFailedData,
    ToolReturnedData,
)
from outlast.core.failure import Failure, named_message_of
from outlast.ports.durability.steps import StepContext
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.guardrails import (
    Guardrail,
    Reject,
    Replace,
    Verdict,
    guardrail_name,
    plain_verdict_of,
)
from outlast.runtime.definitions.run_context import RunContext
from outlast.runtime.isolation.exits import contained
from outlast.runtime.runs.failed_checks import log_failed_check

Of = Literal["call", "result"]
Judged = tuple[Verdict, str]
"""A verdict, and the name of the guardrail that gave it."""


class ToolGuards:
    """Judges the calls of one run, known by its key."""

    def __init__(self, agents: BoundAgents, context: StepContext, run: str) -> None:
        self._agents = agents
        self._context = context
        self._run = run
        self._stopped: dict[tuple[int, str], Judged] = {}

    def has_any(self, call: CallTool) -> bool:
        """Return whether some guardrail sees the call before it is made."""
        return bool(self._agents.tool_guardrails(call.agent, call.tool, "call"))

    def stops(self, call: CallTool | AskApproval, here: RunContext[Any]) -> bool:
        """Return whether a guardrail stops the call. The verdict counts when the call is to be made."""
        verdict, name = self._judge(call, "call", call.arguments, here)
        if verdict is not None:
            self._stopped[call.turn, call.call_id] = verdict, name
        return verdict is not None

    def answer_before(self, call: CallTool, here: RunContext[Any]) -> str | None:
        """Return the text that a guardrail answers the call with; None if the call is to be made.

        Raises:
            CallRejected: a guardrail rejects the call.
        """
        known = self._stopped.pop((call.turn, call.call_id), None)
        verdict, name = known or self._judge(call, "call", call.arguments, here)
        if verdict is None:
            return None
        about = {field: getattr(call, field) for field in ("agent", "turn", "call_id", "tool")}
        self._context.emit(ToolCalledData(run=self._run, **about))
        verdict = self._emitted(call, "call", verdict, name)
        if isinstance(verdict, Replace):
            self._context.emit(ToolReturnedData(run=self._run, **about, result=verdict.text))
            return verdict.text
        rejected = CallRejected(call.tool, name, verdict.reason)
        self._context.emit(ToolFailedData(run=self._run, **about, failure=Failure.of(rejected)))
        raise rejected

    def let_out(self, call: CallTool, text: str, here: RunContext[Any]) -> str:
        """Return the result that the model gets; each guardrail sees what the one before has left.

        Raises:
            CallRejected: a guardrail rejects the result.
        """
        for guardrail in self._agents.tool_guardrails(call.agent, call.tool, "result"):
            verdict = self._verdict_of(guardrail, text, here)
            if verdict is None:
                continue
            name = guardrail_name(guardrail)
            verdict = self._emitted(call, "result", verdict, name)
            if isinstance(verdict, Reject):
                raise CallRejected(call.tool, name, verdict.reason, of="result")
            text = verdict.text
        return text

    def _judge(self, call: CallTool | AskApproval, of: Of, given: Any, here: RunContext[Any]) -> Judged:
        """Return the first verdict on a call that does not let it pass."""
        for guardrail in self._agents.tool_guardrails(call.agent, call.tool, of):
            verdict = self._verdict_of(guardrail, deepcopy(given), here)
            if verdict is not None:
                return verdict, guardrail_name(guardrail)
        return None, ""

    def _verdict_of(self, guardrail: Guardrail, given: Any, here: RunContext[Any]) -> Verdict:
        """Return the verdict of a guardrail. One that fails lets nothing pass.

        Raises:
            WorkflowError: it does something that workflow code cannot do.
        """
        try:
            with contained(self._context.unwinds):
                return plain_verdict_of(guardrail, given, here)
        except WorkflowError:
            raise
        except Exception as error:
            log_failed_check(f"guardrail {guardrail_name(guardrail)!r} of tool {here.tool!r}", error)
            if isinstance(error, DefinitionError):
                return Reject(str(error))
            return Reject(f"the guardrail failed with {named_message_of(error)}")

    def _emitted(self, call: CallTool, of: Of, verdict: Reject | Replace, name: str) -> Reject | Replace:
        """Put a verdict into the event stream, and return it with the words that it has there."""
        about: dict[str, Any] = {
            "run": self._run,
            "agent": call.agent,
            "turn": call.turn,
            "call_id": call.call_id,
            "tool": call.tool,
            "of": of,
            "guardrail": name,
        }
        if isinstance(verdict, Replace):
            try:
                return Replace(self._context.emit(GuardrailReplacedData(**about, text=verdict.text)).text)
            except PayloadTooLarge as error:
                verdict = Reject(str(error))
        return Reject(self._context.emit(GuardrailRejectedData(**about, reason=verdict.reason)).reason)
