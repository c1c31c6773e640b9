"""Finding the handler of a workflow that a message or query is for, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.errors import InvalidArguments
from outlast.core.json import JSON
from outlast.ports.definitions import HandlerDefinition, WorkflowDefinition
from outlast.runtime.executions.questions import ANSWER_HANDLER
from outlast.runtime.executions.steering import INTERRUPT_HANDLER, SAY_HANDLER

Call = tuple[HandlerDefinition, tuple[Any, ...], dict[str, Any]]
"""A handler, and its positional and keyword arguments."""


BUILT_IN_UPDATES: Mapping[str, HandlerDefinition] = {
    handler.name: handler for handler in (ANSWER_HANDLER, SAY_HANDLER, INTERRUPT_HANDLER)
}
"""The updates that every execution takes."""


def update_call(
    workflow: WorkflowDefinition, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]
) -> Call:
    """Return the handler of an update, and its arguments.

    Raises:
        InvalidArguments, DefinitionError: no handler has that name, or the arguments do not fit it.
    """
    handler = known_update(workflow, name)
    return (handler, *load_handler_arguments(handler, arguments, named))


def known_update(workflow: WorkflowDefinition, name: str) -> HandlerDefinition:
    """Return the handler of an update: one of the workflow, or one that every execution has."""
    return BUILT_IN_UPDATES.get(name) or known_handler(workflow.updates, "update", name)


def known_handler(handlers: Mapping[str, HandlerDefinition], sort: str, name: str) -> HandlerDefinition:
    """Return the handler of that name; raises `InvalidArguments` if it does not exist."""
    if name not in handlers:
        known = ", ".join(sorted(handlers)) or "none"
        raise InvalidArguments(
            f"{sort} {name}", [f"the workflow has no {sort} of that name; it has: {known}"]
        )
    return handlers[name]


def load_handler_arguments(
    handler: HandlerDefinition, arguments: Sequence[JSON], named: Mapping[str, JSON]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the Python arguments of a handler for the JSON that was sent.

    Raises:
        InvalidArguments, DefinitionError: they do not fit the handler.
    """
    try:
        bound = handler.signature.python.bind(*arguments, **named)
    except TypeError as error:
        raise InvalidArguments(handler.name, [str(error)]) from None
    rest = next((p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
    by_name = {name: value for name, value in bound.arguments.items() if name != rest}
    return handler.signature.load_arguments({**by_name, **bound.arguments.get(rest or "", {})})
