"""The bounds of a run, as callers of `Runner` give them, checked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from pydantic import AwareDatetime, Field, ValidationError

from outlast.core.errors import DefinitionError
from outlast.core.limits import DEFAULT_MAX_TURNS, Limits, OnLimit
from outlast.core.money import Money
from outlast.core.values import Value, faults

SECONDS_MAX = 3_000_000_000
"""The latest deadline, from the start of a run: some 95 years, for which every backend has timers."""


def _is_none(value: object) -> bool:
    return value is None


class Bounds(Value):
    """The limits of one run, by the names that callers use, and its behaviour at a limit."""

    max_turns: int = Field(default=DEFAULT_MAX_TURNS, ge=1, strict=True)
    max_total_tokens: int | None = Field(default=None, ge=1, strict=True)
    max_tool_calls: int | None = Field(default=None, ge=0, strict=True)
    max_wall_time: float | None = Field(default=None, gt=0)
    max_cost: Money | None = Field(default=None, gt=0, exclude_if=_is_none)
    on_limit: OnLimit = "raise"
    deadline: AwareDatetime | None = Field(default=None, exclude_if=_is_none)
    deadline_after: float | None = Field(default=None, gt=0, le=SECONDS_MAX, exclude_if=_is_none)
    """The deadline in seconds from the start of the run."""

    @classmethod
    def of(
        cls,
        *,
        max_wall_time: timedelta | float | None = None,
        deadline: datetime | timedelta | None = None,
        **given: Any,
    ) -> Self:
        """Return the bounds.

        Raises:
            DefinitionError: a limit that a run cannot keep.
        """
        if isinstance(max_wall_time, timedelta):
            max_wall_time = max_wall_time.total_seconds()
        if deadline is not None and not isinstance(deadline, (datetime, timedelta)):
            raise DefinitionError(
                f"the deadline of the run is {deadline!r}; use a datetime with a time zone, or a timedelta "
                "from the start of the run, such as timedelta(hours=1)"
            )
        if isinstance(deadline, timedelta):
            given["deadline_after"] = deadline.total_seconds()
        else:
            given["deadline"] = deadline
        try:
            return cls.model_validate({**given, "max_wall_time": max_wall_time})
        except ValidationError as error:
            raise DefinitionError(f"the run has a limit that it cannot keep: {faults(error)[0]}") from error

    @property
    def limits(self) -> Limits:
        """The limits as the core counts them, without that of turns."""
        return Limits(
            total_tokens=self.max_total_tokens,
            cost=self.max_cost,
            tool_calls=self.max_tool_calls,
            seconds=self.max_wall_time,
        )

    def due_at(self, start: datetime) -> float | None:
        """Return the deadline of a run that starts then, in seconds since the epoch; None if it has none."""
        if self.deadline_after is not None:
            return start.timestamp() + self.deadline_after
        return None if self.deadline is None else self.deadline.timestamp()
