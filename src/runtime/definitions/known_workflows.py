"""The workflows that this process defines, and the context of the workflow code that runs in it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from outlast.core.errors import DefinitionError, NotInWorkflow
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.workflow_context import WorkflowContext, current_context
from outlast.ports.method_references import role_of
from outlast.runtime.definitions.module_copies import in_copy

_DEFINITION = "__outlast_workflow__"

_defined: dict[str, WorkflowDefinition] = {}


def make_known(cls: type[Any], definition: WorkflowDefinition) -> None:
    """Let `cls` be the workflow with this definition, and be found by its name."""
    setattr(cls, _DEFINITION, definition)
    _mark_entrypoint(cls, definition)
    if not (definition.name in _defined and in_copy()):
        _defined[definition.name] = definition


def definition_of(workflow: Any) -> WorkflowDefinition:
    """Return the definition of a workflow: of its class, its entrypoint, or its name in this process.

    Raises:
        DefinitionError: it is not a workflow; the message says what to write.
    """
    if isinstance(workflow, str):
        if workflow not in _defined:
            raise DefinitionError(
                f"workflow {workflow!r} is not defined in this process; import the module that defines it"
            )
        return _defined[workflow]
    if isinstance(workflow, FunctionType):
        return _definition_by_entrypoint(workflow)
    definition = workflow.__dict__.get(_DEFINITION) if isinstance(workflow, type) else None
    if not isinstance(definition, WorkflowDefinition):
        shown = workflow.__name__ if isinstance(workflow, type) else repr(workflow)
        raise DefinitionError(
            f"{shown} is not a workflow; decorate its class with @workflow.define(name=...)"
        )
    return definition


def _definition_by_entrypoint(method: FunctionType) -> WorkflowDefinition:
    definition = vars(method).get(_DEFINITION)
    if (
        isinstance(definition, WorkflowDefinition)
        and definition.cls.__dict__.get(definition.entrypoint) is method
    ):
        return definition
    shown = method.__qualname__
    match role_of(method):
        case "entrypoint":
            raise DefinitionError(
                f"{shown} is not in a workflow; decorate its class with @workflow.define(name=...)"
            )
        case None:
            raise DefinitionError(
                f"{shown} is not a workflow; give a class that is decorated with @workflow.define(name=...), "
                "or its entrypoint"
            )
        case role:
            raise DefinitionError(
                f"{shown} is marked as {role}; give the workflow's class, or its entrypoint"
            )


def _mark_entrypoint(cls: type[Any], definition: WorkflowDefinition) -> None:
    """Let the entrypoint be found as `cls.method`.

    A class that has the method of another class gets a copy: else one function would mean two workflows.
    """
    method = inspect.getattr_static(cls, definition.entrypoint)
    if not isinstance(method, FunctionType):
        return
    if definition.entrypoint not in vars(cls) or _DEFINITION in vars(method):
        method = _copy_of(method)
        setattr(cls, definition.entrypoint, method)
    setattr(method, _DEFINITION, definition)


def _copy_of(function: FunctionType) -> FunctionType:
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copied, function)
    del vars(copied)["__wrapped__"]
    vars(copied).update(vars(function))
    return copied


def known_definition(name: str) -> WorkflowDefinition | None:
    """Return the definition that this process has under `name`, if any."""
    return _defined.get(name)


def known_workflows() -> Mapping[str, type[Any]]:
    """Return the workflows that this process defines, by name."""
    return {name: definition.cls for name, definition in _defined.items()}


def running_context(what: str) -> WorkflowContext:
    """Return the context of the workflow code that calls `what`.

    Raises:
        NotInWorkflow: it is not called by workflow code.
    """
    context = current_context.get()
    if context is None:
        raise NotInWorkflow(what)
    return context
