"""The context of a run: an object of the caller's that the code of a run is given, and no journal holds.

A function gets it if one of its parameters has the type `RunContext`: a plain function that is a tool, a
guardrail, a check whether a call needs approval, or a function that makes an agent's instructions. All of
them run where the workflow runs, and again in a replay, so they must be pure. An activity does not get it:
it may run in another process, which has no such object.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from inspect import Parameter
from typing import Any, Generic, get_origin

from typing_extensions import TypeVar

from outlast.core.errors import DefinitionError
from outlast.core.usage import Usage
from outlast.runtime.definitions.callables import name_of

C_co = TypeVar("C_co", covariant=True, default=Any)
C_contra = TypeVar("C_contra", contravariant=True, default=Any)

_WRITTEN = re.compile(r"(\w+\.)*RunContext(\[.*\])?")
"""The type as a text, which is how `from __future__ import annotations` leaves it."""


class RunContext(Generic[C_co]):
    """The place of a run at which a function of its agents is called.

    JSON cannot hold it, so it cannot get into a journal by mistake.
    """

    __slots__ = ("agent", "context", "tool", "turn", "usage")

    def __init__(self, context: C_co, agent: str, turn: int, usage: Usage, tool: str | None = None) -> None:
        self.context = context
        """The object that the caller gave: `Runner.run(..., context=...)`; None without one."""
        self.agent = agent
        """The name of the active agent."""
        self.turn = turn
        """The number of the turn, from 1; 0 before the first call of the model."""
        self.usage = usage
        """The usage of the run so far."""
        self.tool = tool
        """The name of the tool that is called; None outside of a call."""


def takes_context(fn: Any) -> bool:
    """Return whether one of the parameters of `fn` has the type `RunContext`."""
    return _place(fn) is not None


def with_context(fn: Any, run: RunContext[Any] | None) -> Any:
    """Return `fn` with the context given, if it takes one; else `fn` itself.

    Raises:
        DefinitionError: the parameter for it can neither be given first nor by name.
    """
    place = _place(fn)
    if place is None:
        return fn
    position, parameter = place
    if position == 0 and parameter.kind is not Parameter.KEYWORD_ONLY:
        return functools.partial(fn, run)
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        raise DefinitionError(
            f"parameter {parameter.name!r} of {name_of(fn)!r} takes the context of the run by position only; "
            "make it the first one"
        )
    return functools.partial(fn, **{parameter.name: run})


def can_take(fn: Any, *given: Any) -> bool:
    """Return whether `fn` can be called with these arguments, beside a `RunContext`.

    A callable written in C, whose parameters cannot be read, counts as one that can.
    """
    try:
        inspect.signature(with_context(fn, None)).bind(*given)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _place(fn: Callable[..., Any]) -> tuple[int, Parameter] | None:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None  # Not a callable, or one written in C, whose parameters cannot be read.
    for position, parameter in enumerate(parameters):
        hint = parameter.annotation
        if isinstance(hint, str):
            if _WRITTEN.fullmatch(hint.strip("'\"")):
                return position, parameter
        elif RunContext in (hint, get_origin(hint)):
            return position, parameter
    return None
