"""Backends that break one promise each about runs of agents, and about the people around them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Any

from outlast.core.agent_run import AgentRun
from outlast.core.approvals import Decision
from outlast.core.errors import ModelOverloaded, NoRunAtWork, QuestionNotPending
from outlast.core.limits import RunAllowance
from outlast.ports.durability.steps import Steered
from outlast.ports.llm import ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.runtime.attempts import attempt
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.executions import journaled_execution
from outlast.runtime.executions.questions import OpenQuestions
from outlast.runtime.executions.steering import RunsAtWork
from outlast.runtime.runs import run
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.conversation import Conversation
from tests.broken.broken_backend import BrokenBackend


def _says_nothing(self: run.Run, text: str, by: str | None) -> None: ...


class LosesWhatIsSaid(BrokenBackend):
    """A message to a run is accepted, and that is all."""

    breaks = "what_is_said_to_a_run"
    replaced = ((run.Run, "say", _says_nothing),)


def _first(self: RunsAtWork, key: str | None) -> Steered:
    if not self._runs:
        raise NoRunAtWork(self._execution_id, key, [])
    return next(iter(self._runs.values()))


class SteersAnyRun(BrokenBackend):
    """Of several runs at work, the first is steered, whichever is meant."""

    breaks = "a_run_is_steered_only"
    replaced = ((RunsAtWork, "_chosen", _first),)


def _goes_on(self: run.Run, reason: str | None, by: str | None) -> None: ...


class IgnoresInterruptions(BrokenBackend):
    """An interruption is accepted, and the run goes on."""

    breaks = "a_run_that_is_interrupted"
    replaced = ((run.Run, "interrupt", _goes_on),)


def _checks_no_type(self: OpenQuestions, key: str, answer: Any, by: str | None = None) -> None:
    if key not in self._open or self._open[key][1].done():
        raise QuestionNotPending(self._execution_id, key, [*self._open])


class TakesAnyAnswer(BrokenBackend):
    """An answer need not be of the type of its question."""

    breaks = "a_wrong_or_late_answer"
    replaced = ((OpenQuestions, "check", _checks_no_type),)


def _not_looked_at(name: str, named: Mapping[str, Any]) -> Decision | None:
    return None


class TakesASecondDecision(BrokenBackend):
    """A call that somebody has decided can be decided again, until a worker takes the first decision."""

    breaks = "d17_a_call_is_decided_once"
    replaced = ((journaled_execution, "decision_in", _not_looked_at),)


def _unbounded(state: AgentRun) -> RunAllowance:
    return RunAllowance()


class DoesNotBoundRunsWithin(BrokenBackend):
    """The limits of a run are not those of the runs within it."""

    breaks = "a_limit_of_a_run_bounds"
    replaced = ((run, "allowance_within", _unbounded),)


def _anew(self: Conversation, tool: str) -> Conversation:
    return Conversation()


class ForgetsConversationsWithin(BrokenBackend):
    """An agent that is a tool has a new conversation for each call, though it was to keep its own."""

    breaks = "d3_runs_within_a_run"
    replaced = ((Conversation, "within", _anew),)


def _no_deadline(self: Bounds, start: datetime) -> float | None:
    return None


class KnowsNoDeadlines(BrokenBackend):
    """A run goes on after its deadline."""

    breaks = "a_deadline_ends"
    replaced = ((Bounds, "due_at", _no_deadline),)


def _holds_nothing_back(self: SharedResources, key: Hashable, seconds: float) -> None: ...


class LeavesNobodyAlone(BrokenBackend):
    """Only the execution that a server asked to wait does so."""

    breaks = "all_executions_of_a_worker_leave"
    replaced = ((SharedResources, "hold_back", _holds_nothing_back),)


def _fails_at_once(session: Session, request: ModelRequest, resources: Resources) -> None:
    seconds = min(map(resources.held_back, session.models_asked(request.graph[request.agent])), default=0.0)
    if seconds > 0:
        raise ModelOverloaded(429, "not yet", seconds)


class CountsWaitingAsAnAttempt(BrokenBackend):
    """An execution that leaves a server alone uses up its attempts meanwhile."""

    breaks = "all_executions_of_a_worker_leave"
    replaced = ((attempt, "_check_held_back", _fails_at_once),)
