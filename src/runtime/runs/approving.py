"""Asking a person whether a call may be made: the question, and what the decision means for the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from outlast.core.agent_events import AgentEvent, ApprovalDenied, ApprovalGiven, AskApproval, ToolCallFailed
from outlast.core.approvals import Decision, Verdict
from outlast.core.errors import NotSupported, WorkflowError
from outlast.core.events import ApprovalDeniedData, ApprovalGivenData, ApprovalRequestedData
from outlast.core.failure import named_message_of
from outlast.core.json import JSON
from outlast.core.step_keys import call_key
from outlast.ports.durability.steps import StepContext
from outlast.runtime.definitions.agent_binding import BoundAgents
from outlast.runtime.definitions.run_context import with_context
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tracebacks import failure_of
from outlast.runtime.runs.failed_checks import log_failed_check
from outlast.runtime.runs.tool_calls import Here, ToolCalls, about_call

logger = logging.getLogger("outlast.runs")


class Approving:
    """The approvals of one run, known by its key; `put` gets each decision."""

    def __init__(
        self,
        agents: BoundAgents,
        context: StepContext,
        run: str,
        calls: ToolCalls,
        here: Here,
        put: Callable[[AgentEvent], None],
    ) -> None:
        self._agents = agents
        self._context = context
        self._run = run
        self._calls = calls
        self._here = here
        self._put = put

    def ask(self, effect: AskApproval) -> Coroutine[Any, Any, None] | None:
        """Return the wait for a person's decision; None if the tool's own check says that it needs none."""
        try:
            # If it is settled, the model gets the faults, or what the guardrail says, as the result.
            needed = not self._calls.is_settled(effect) and self._is_needed(effect)
        except WorkflowError as error:
            self._put(ToolCallFailed(call_id=effect.call_id, failure=failure_of(error)))
            return None
        except Exception as error:
            # A call that cannot be judged is not made.
            log_failed_check(f"the check whether a call of {effect.tool!r} needs approval", error)
            reason = f"the check whether it needs approval failed with {named_message_of(error)}"
            self._take_decision(effect, "deny", reason)
            return None
        if not needed:
            self._put(ApprovalGiven(call_id=effect.call_id, fingerprint=effect.fingerprint))
            return None
        tool = self._agents.graph[effect.agent].tool(effect.tool)
        self._context.emit(
            ApprovalRequestedData(
                **about_call(self._run, effect),
                fingerprint=effect.fingerprint,
                parameters={} if tool is None else dict(tool.parameters),
            )
        )
        return self._await_decision(effect)

    def _is_needed(self, effect: AskApproval) -> bool:
        approval = self._agents.approval(effect.agent, effect.tool)
        if not callable(approval):
            return True
        with contained(self._context.unwinds):
            return bool(with_context(approval, self._here())(effect.arguments))

    async def _await_decision(self, effect: AskApproval) -> None:
        key = call_key(self._run, effect.turn, effect.call_id)

        def fits(decision: Decision) -> bool:
            edited = decision.edited_arguments
            if decision.verdict == "deny" or edited is None:
                return True
            fault = self._calls.fault_of(effect.agent, effect.tool, edited)
            if fault is not None:
                logger.warning("a decision about call %s does not count: %s", key, fault)
            return fault is None

        try:
            decision = await self._context.decision(key, effect.fingerprint, fits)
        except NotSupported as error:
            # The server asks for a call of which the definitions said nothing, and nobody can be asked.
            self._take_decision(effect, "deny", str(error))
            return
        self._take_decision(effect, decision.verdict, decision.reason, decision.edited_arguments, decision.by)

    def _take_decision(
        self,
        effect: AskApproval,
        verdict: Verdict,
        reason: str | None = None,
        edited_arguments: dict[str, JSON] | None = None,
        by: str | None = None,
    ) -> None:
        about = {**about_call(self._run, effect), "reason": reason, "by": by}
        event: AgentEvent
        if verdict == "allow":
            self._context.emit(ApprovalGivenData(**about, edited_arguments=edited_arguments))
            event = ApprovalGiven(
                call_id=effect.call_id, fingerprint=effect.fingerprint, edited_arguments=edited_arguments
            )
        else:
            reason = self._context.emit(ApprovalDeniedData(**about)).reason
            event = ApprovalDenied(call_id=effect.call_id, fingerprint=effect.fingerprint, reason=reason)
        self._put(event)
