"""Methods of workflow classes as names: `execution.signal(Deal.decide, "buy")` means `"decide"`.

A method says more than its name: type checkers know its arguments and its result. The decorators of
`outlast.workflow` leave a mark on each method, so that no class needs to be known to read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from outlast.core.errors import DefinitionError

ROLE = "__outlast_role__"
"""The attribute of a method with its role in its workflow, and the name that it was given, if any."""

HandlerRole = Literal["signal", "query", "update"]
Handler = str | Callable[..., Any]
"""The name of a handler, or its method in a workflow class."""


def role_of(method: Any) -> str | None:
    """Return the role of a method in its workflow, if it has one."""
    role: str | None = getattr(method, ROLE, (None, None))[0]
    return role


def name_of(role: HandlerRole, handler: Handler) -> str:
    """Return the name of a handler that is given by its name or by its method.

    Raises:
        DefinitionError: the method has another role in its workflow, or none.
    """
    if isinstance(handler, str):
        return handler
    marked, given = getattr(handler, ROLE, (None, None))
    if marked == role:
        return handler.__name__ if given is None else given
    shown = getattr(handler, "__qualname__", repr(handler))
    if marked is None:
        raise DefinitionError(f"{shown} is not a handler; mark it with @workflow.{role}, or give a name")
    raise DefinitionError(f"{shown} is marked as {marked}, so it cannot be sent as {role}")
