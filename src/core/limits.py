"""The limits of one run, counted from its events and checked before every call of the model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from outlast.core.values import Value

OnLimit = Literal["raise", "finish"]
"""The behaviour of a run at a limit: raise an error, or ask the model once more, without tools."""


class Limits(Value):
    """The limits of one run; None means unlimited."""

    total_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all replies together. The reply that goes over it is still used."""
    tool_calls: int | None = Field(default=None, ge=0)
    """Calls of tools; those above it are not made, and the model gets an error as their result."""
    seconds: float | None = Field(default=None, gt=0)
    """Time from the start of the run, waiting and crashes included."""
