"""The bounds of a run, as callers of `Runner` give them, checked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from pydantic import Field, ValidationError

from outlast.core.errors import DefinitionError
from outlast.core.limits import Limits, OnLimit
from outlast.core.values import Value, faults

DEFAULT_MAX_TURNS = 10


class Bounds(Value):
    """The limits of one run, by the names that callers use, and its behaviour at a limit."""

    max_turns: int = Field(default=DEFAULT_MAX_TURNS, ge=1)
    max_total_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=0)
    max_wall_time: float | None = Field(default=None, gt=0)
    on_limit: OnLimit = "raise"

    @classmethod
    def of(cls, *, max_wall_time: timedelta | float | None = None, **given: Any) -> Self:
        """Return the bounds.

        Raises:
            DefinitionError: a limit that a run cannot keep.
        """
        if isinstance(max_wall_time, timedelta):
            max_wall_time = max_wall_time.total_seconds()
        try:
            return cls.model_validate({**given, "max_wall_time": max_wall_time})
        except ValidationError as error:
            raise DefinitionError(f"the run has a limit that it cannot keep: {faults(error)[0]}") from error

    @property
    def limits(self) -> Limits:
        """The limits as the core counts them, without that of turns."""
        return Limits(
            total_tokens=self.max_total_tokens, tool_calls=self.max_tool_calls, seconds=self.max_wall_time
        )
