"""Asking a person to raise a limit that a run has reached: the question, and what an answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from outlast.core.agent_events import LimitAnswered
from outlast.core.errors import BudgetExceeded, MaxTurnsExceeded
from outlast.core.events import QuestionAnsweredData, QuestionAskedData, QuestionWithdrawnData
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.limits import LimitName
from outlast.core.money import plain
from outlast.ports.durability.steps import StepContext

NOBODY_TO_ASK = (
    'on_limit="ask" waits for a person, for which this run cannot wait: '
    "run it in a workflow, or give it an id and a backend"
)

_THINGS: dict[LimitName, str] = {
    "max_turns": "turns",
    "total_tokens": "tokens",
    "cost": "US dollars",
    "tool_calls": "tool calls",
    "seconds": "seconds",
}


_TOO_LARGE = 10**18
"""No limit is as large; numbers below it are counted exactly."""


@dataclass(frozen=True)
class Raise:
    """The question whether to raise one limit."""

    agent: str
    limit: LimitName
    allowed: Decimal
    used: Decimal

    @classmethod
    def of(cls, limit: Failure) -> Raise:
        """Return the question about a limit that is reached."""
        error = limit.error()
        if isinstance(error, MaxTurnsExceeded):
            turns = Decimal(error.max_turns)
            return cls(error.agent, "max_turns", turns, turns)
        assert isinstance(error, BudgetExceeded)
        name: LimitName = error.limit  # type: ignore[assignment]
        return cls(error.agent, name, Decimal(str(error.allowed)), Decimal(str(error.used)))

    @property
    def text(self) -> str:
        """The question in words."""
        things = _THINGS[self.limit]
        return (
            f"The run of agent {self.agent!r} has used {plain(self.used)} of {plain(self.allowed)} {things}. "
            f"How many may it use in all? Not more than {plain(self.allowed)}, or null, ends the run."
        )

    @property
    def schema(self) -> dict[str, JSON]:
        """The JSON schema of the answer."""
        number = "number" if self.limit in ("cost", "seconds") else "integer"
        return {"anyOf": [{"type": number}, {"type": "null"}], "title": _THINGS[self.limit]}

    def faults_in(self, answer: JSON) -> list[str]:
        """Return what is wrong with an answer: it is not a number, or raises the limit by too little."""
        if answer is None:
            return []
        to = _amount(answer)
        if to is None or (to % 1 and self.limit not in ("cost", "seconds")):
            return [f"it is not a number of {_THINGS[self.limit]}, nor null"]
        is_too_low = to < self.used if self.limit == "tool_calls" else to <= self.used
        if is_too_low and to > self.allowed:
            return [f"{plain(self.used)} are used already: give more than that, or null to end the run"]
        return []

    def answered(self, answer: JSON) -> LimitAnswered:
        """Return what an answer without faults means for the run."""
        return LimitAnswered(limit=self.limit, to=_amount(answer))


def _amount(answer: JSON) -> Decimal | None:
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not abs(answer) < _TOO_LARGE:
        return None
    return Decimal(str(answer))


class Raising:
    """The question whether to raise a limit of one run: one for all that wait for it, the runs within too."""

    def __init__(self, context: StepContext, take: Callable[[LimitAnswered], None]) -> None:
        """Ask nothing yet; `take` gets each answer."""
        self._context = context
        self._take = take
        self._key = ""
        self._task: asyncio.Task[None] | None = None

    def ask(self, limit: Failure) -> str:
        """Ask about a limit that is reached, unless a question is open; return the key of the open one."""
        if self._task is None or self._task.done():
            self._key = self._context.next_key()
            self._task = asyncio.create_task(self._ask(Raise.of(limit), self._key))
        return self._key

    async def is_over(self) -> None:
        """Return once the open question has its answer, and that was taken."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def cancel(self) -> None:
        """Withdraw the question, if one is open."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, question: Raise, key: str) -> None:
        context = self._context
        context.emit(QuestionAskedData(key=key, question=question.text, answer_schema=question.schema))
        try:
            answer = await context.answer_to(key, question.faults_in)
        except asyncio.CancelledError:
            context.emit(QuestionWithdrawnData(key=key))
            raise
        context.emit(QuestionAnsweredData(key=key, answer=answer.value, by=answer.by))
        self._take(question.answered(answer.value))
