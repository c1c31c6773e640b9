"""The effects of a program under test: what its activities were called with, attempt by attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from outlast.core.errors import ForeignError
from outlast.core.json import JSON
from outlast.ports.durability.steps import AskModel, Attempt, Call, CallSourceTool, HeldBack, RunActivity
from outlast.runtime.attempts.attempt import NotBegun
from outlast.testing.jumping_clock import JumpingClock

Outcome = Literal["running", "completed", "failed", "interrupted"]


@dataclass(eq=False)
class Effect:
    """One attempt at an activity, or at a tool of an MCP server."""

    activity: str
    """The name of the activity or the tool."""
    arguments: Mapping[str, Any]
    """The arguments as they are in the journal: JSON, by parameter."""
    attempt: int
    """The number of the attempt, from 1."""
    execution: str
    """The id of the execution."""
    at: datetime
    """The virtual time when it began (UTC)."""
    idempotency_key: str
    outcome: Outcome = "running"
    """The end of the attempt: "interrupted" if its worker crashed, or the code no longer waited for it."""
    result: JSON = None
    """The result, if it is completed."""
    error: BaseException | None = None
    """The error, if it has failed."""


class AttemptLog:
    """Sees the attempts of some executions, and keeps their effects."""

    def __init__(
        self, clock: JumpingClock, is_ours: Callable[[str], bool], mistaken: Callable[[BaseException], None]
    ) -> None:
        """Call `mistaken` with an error of code that stands in for a model."""
        self.effects: list[Effect] = []
        self.under_way = 0
        """The number of attempts that have begun and not ended."""
        self._clock = clock
        self._is_ours = is_ours
        self._mistaken = mistaken

    async def see(self, call: Call, attempt: Attempt, make: Callable[[], Awaitable[JSON]]) -> JSON:
        """Make an attempt, and write down what becomes of it."""
        if not self._is_ours(attempt.execution_id):
            return await make()
        effect = self._effect(call, attempt)
        self.under_way += 1
        try:
            result = await make()
        except (NotBegun, HeldBack):
            if effect in self.effects:
                self.effects.remove(effect)
            raise
        except Exception as error:
            effect.outcome, effect.error = "failed", error
            if isinstance(call, AskModel) and isinstance(error, ForeignError):
                self._mistaken(error.__cause__ or error)
            raise
        except BaseException:
            effect.outcome = "interrupted"
            raise
        finally:
            self.under_way -= 1
        effect.outcome, effect.result = "completed", result
        return result

    def _effect(self, call: Call, attempt: Attempt) -> Effect:
        arguments = dict(call.arguments) if isinstance(call, (RunActivity, CallSourceTool)) else {}
        effect = Effect(
            activity=attempt.activity,
            arguments=arguments,
            attempt=attempt.earlier + attempt.attempt,
            execution=attempt.execution_id,
            at=self._clock.date,
            idempotency_key=attempt.idempotency_key,
        )
        if isinstance(call, (RunActivity, CallSourceTool)):
            self.effects.append(effect)
        return effect
