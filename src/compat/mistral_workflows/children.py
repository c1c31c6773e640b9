"""Executions that are started from code, as Mistral Workflows starts them: with one object of parameters."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Generator
from datetime import timedelta
from enum import IntEnum
from inspect import isclass
from typing import Any, get_type_hints

from pydantic import BaseModel

from outlast.compat.mistral_workflows.refusals import PAGE
from outlast.composition import running
from outlast.core.errors import DefinitionError, NotSupported
from outlast.ports.durability.workflow_context import current_context
from outlast.runtime.definitions.callables import innermost
from outlast.runtime.definitions.children import ChildHandle, execute_child, start_child
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.definitions.workflow import info


class ParentClosePolicy(IntEnum):
    """The end of a parent, as far as it concerns a child."""

    UNSPECIFIED = 0
    TERMINATE = 1
    ABANDON = 2
    REQUEST_CANCEL = 3


_ON_PARENT_END: Any = {
    ParentClosePolicy.TERMINATE: "terminate",
    ParentClosePolicy.ABANDON: "abandon",
    ParentClosePolicy.REQUEST_CANCEL: "cancel",
}


class StartedChild:
    """A child that goes on beside its parent; `await` gives its result."""

    def __init__(self, handle: ChildHandle[Any]) -> None:
        self.handle = handle

    @property
    def id(self) -> str:
        """The id of its execution."""
        return self.handle.id

    def __await__(self) -> Generator[Any, None, Any]:
        return self.handle.result().__await__()


async def execute_workflow(
    workflow: type[Any],
    params: BaseModel | None = None,
    execution_timeout: timedelta | None = None,
    execution_id: str | None = None,
    wait: bool = True,
    parent_close_policy: ParentClosePolicy | None = None,
) -> Any:
    """Run a workflow: as a child in workflow code, else as an execution that this process carries on.

    The fields of `params` are the arguments of the entrypoint; if its only argument is a model, `params` is
    that argument. With `wait=False` the result is a handle that can be awaited. The time that
    `execution_timeout` allows is that of waiting: after it the child is cancelled.

    Raises:
        NotSupported: `wait=False` outside workflow code.
        TimeoutError: the execution took too long.
        ChildFailed: the child did not complete.
        ExecutionFailed: the execution did not, outside workflow code.
    """
    arguments = _arguments(workflow, params)
    if current_context.get() is None:
        if not wait:
            raise NotSupported(
                "execute_workflow(wait=False) is for workflow code; elsewhere write "
                f"`await backend.start(Workflow, ...)` with a backend from `outlast.connect` ({PAGE})"
            )
        async with asyncio.timeout(None if execution_timeout is None else execution_timeout.total_seconds()):
            return await running.execute_workflow(workflow, *arguments, id=execution_id)
    policy = parent_close_policy or (ParentClosePolicy.TERMINATE if wait else ParentClosePolicy.ABANDON)
    end = _ON_PARENT_END[policy]
    if not wait:
        if execution_timeout is not None:
            raise NotSupported(
                "a child that nobody waits for has no execution_timeout= here; give it to the child's "
                f"`workflow.define` ({PAGE})"
            )
        return StartedChild(await start_child(workflow, *arguments, id=execution_id, on_parent_end=end))
    async with asyncio.timeout(None if execution_timeout is None else execution_timeout.total_seconds()):
        return await execute_child(workflow, *arguments, id=execution_id, on_parent_end=end)


def get_execution_id() -> str | None:
    """Return the id of the running execution; None outside workflow code."""
    return None if current_context.get() is None else info().execution_id


def _arguments(workflow: type[Any], params: Any) -> tuple[Any, ...]:
    """Return the arguments of the entrypoint, in order."""
    definition = definition_of(workflow)
    names = list(definition.signature.python.parameters)
    if params is None:
        return ()
    hints = get_type_hints(innermost(functools.partial(getattr(definition.cls, definition.entrypoint))))
    if len(names) == 1 and isclass(hint := hints.get(names[0])) and issubclass(hint, BaseModel):
        return (params if isinstance(params, hint) else hint.model_validate(params.model_dump()),)
    missing = [name for name in names if not hasattr(params, name)]
    if not isinstance(params, BaseModel) or missing:
        raise DefinitionError(
            f"the params of workflow {definition.name!r} must be a pydantic model with the fields "
            f"{', '.join(names)}, the arguments of its entrypoint"
        )
    return tuple(getattr(params, name) for name in names)
