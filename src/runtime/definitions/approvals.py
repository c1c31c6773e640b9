"""Approval: whether a call of a model needs a person's, as a bool or as a function of the arguments.

The function gets all arguments as one dict, as the model gave them, and the `RunContext` if one of its
parameters has that type. It runs in the workflow, so it must be pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outlast.core.errors import DefinitionError
from outlast.runtime.definitions.callables import is_async, name_of
from outlast.runtime.definitions.depends import refuse_dependencies
from outlast.runtime.definitions.run_context import RunContext, can_take

Approval = (
    bool
    | Callable[[dict[str, Any]], bool]
    | Callable[[dict[str, Any], RunContext[Any]], bool]
    | Callable[[RunContext[Any], dict[str, Any]], bool]
)
"""True if a person must allow each call; or a function that decides for one call."""


def check_approval(approval: Any, what: str) -> None:
    """Refuse a value that cannot decide whether a call needs approval.

    Raises:
        DefinitionError: it is neither a bool nor a plain function of the arguments, or it has dependencies.
    """
    if isinstance(approval, bool):
        return
    if not callable(approval) or is_async(approval):
        raise DefinitionError(
            f"{what} must be True, False or a plain `def` that takes the arguments, a dict, and returns one "
            "of them"
        )
    refuse_dependencies(approval, what)
    if not can_take(approval, {}):
        raise DefinitionError(
            f"{what} is {name_of(approval)!r}, which must take one argument beside a RunContext: a dict of "
            "the call's arguments by name; write `def needs_approval(arguments: dict[str, Any]) -> bool`"
        )
