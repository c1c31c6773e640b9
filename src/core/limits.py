"""The limits of one run, counted from its events and checked before every call of the model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from outlast.core.failure import Failure
from outlast.core.money import Money
from outlast.core.values import Value

OnLimit = Literal["raise", "finish", "ask"]
"""The behaviour of a run at a limit: raise an error, finish, which is to ask the model once more, without
tools, or ask a person to raise the limit."""

LimitName = Literal["max_turns", "total_tokens", "cost", "tool_calls", "seconds"]

DEFAULT_MAX_TURNS = 10
"""The most calls of the model in one run, unless its caller says another number."""


class Limits(Value):
    """The limits of one run; None means unlimited."""

    total_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all replies together. The reply that goes over it is still used."""
    cost: Money | None = Field(default=None, gt=0)
    """US dollars for all replies together. The reply that goes over it is still used."""
    tool_calls: int | None = Field(default=None, ge=0)
    """Calls of tools; those above it are not made, and the model gets an error as their result."""
    seconds: float | None = Field(default=None, gt=0)
    """Time from the start of the run, waiting and crashes included."""


class RunAllowance(Value):
    """The bounds that the runs around a run still leave it; none for a run that is in no other."""

    limit: Failure | None = None
    """The limit of a run around this one that is reached: the model is not asked again."""
    asks: bool = False
    """True if a person may raise that limit."""
    tool_calls: int | None = Field(default=None, ge=0)
    """The number of calls of tools that may still be made."""
    tool_calls_max: int | None = None
    """The limit of which `tool_calls` is what is left."""
