"""Children: what workflow code can start, wait for, signal and cancel (`outlast.workflow`).

A child is an execution of its own, with an id that is made from that of its parent: see `core.children`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVarTuple, get_args, overload

from typing_extensions import TypeVar

from outlast.core.argument_checks import check_text, check_whole_number
from outlast.core.children import GIVEN_ID, ON_PARENT_END, QUEUE, OnParentEnd
from outlast.core.errors import (
    ActivityFailed,
    ChildrenFailed,
    DefinitionError,
    DurabilityError,
    InvalidArguments,
    OutlastError,
)
from outlast.core.json import JSON
from outlast.core.records import StepKind
from outlast.ports.definitions import ActivityOptions, WorkflowDefinition, check_options
from outlast.ports.durability.steps import Call, MessageChild, StartChild, Step
from outlast.ports.durability.workflow_context import AwaitedChild, WorkflowContext
from outlast.ports.journal import check_id
from outlast.ports.method_references import Handler, name_of
from outlast.runtime.definitions.known_workflows import definition_of, running_context

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R", default=Any)
Ts = TypeVarTuple("Ts")

QUOTED_MAX = 5
"""The most errors of children that the error of `map` quotes."""
_OPTIONS = ActivityOptions()


class ChildHandle(Generic[R]):
    """A child that was started: an execution of its own, which goes on whether or not its parent waits."""

    __slots__ = ("_awaited", "_context", "_definition")

    def __init__(
        self, definition: WorkflowDefinition, awaited: AwaitedChild, context: WorkflowContext
    ) -> None:
        self._definition = definition
        self._awaited = awaited
        self._context = context

    def __repr__(self) -> str:
        return f"<child {self.id}>"

    @property
    def id(self) -> str:
        """The id of the execution."""
        return self._awaited.id

    async def result(self) -> R:
        """Return the result of the child, once it has completed. Who stops waiting does not cancel it.

        Raises:
            ChildFailed: it failed, was cancelled or was terminated; the error that ended it is the cause.
        """
        result: JSON = await asyncio.shield(self._awaited.ended)
        loaded: R = self._definition.signature.load_result(result)
        return loaded

    @overload
    async def signal(self, signal: str, /, *args: Any, **kwargs: Any) -> None: ...
    @overload
    async def signal(
        self, signal: Callable[Concatenate[Any, P], Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    async def signal(self, signal: Handler, /, *args: Any, **kwargs: Any) -> None:
        """Send the child a signal, by its method or its name, once; return when it is in the child's inbox.

        Raises:
            DefinitionError: the method is not marked as a signal.
            InvalidArguments: the child's workflow has no signal of that name, or it takes other arguments.
            ExecutionAlreadyEnded: the child has ended.
        """
        name = name_of("signal", signal)
        handler = self._definition.signals.get(name)
        if handler is None:
            known = ", ".join(sorted(self._definition.signals)) or "none"
            raise InvalidArguments(
                f"signal {name}", [f"the workflow has no signal of that name; it has: {known}"]
            )
        try:
            named = handler.signature.dump_arguments(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"signal {name}", [str(error)]) from None
        try:
            await self._send("signal child", MessageChild(self.id, name, (), named))
        except ActivityFailed as error:
            if isinstance(error.__cause__, DurabilityError):
                raise error.__cause__ from None
            raise

    async def cancel(self) -> None:
        """Ask the child to end, and return when the request is in its inbox; it may have ended already."""
        if not self._awaited.ended.done():
            await self._send("cancel child", MessageChild(self.id))

    async def _send(self, name: str, call: MessageChild) -> None:
        arguments: dict[str, JSON] = {"child": call.child}
        if call.signal is not None:
            arguments |= {"signal": call.signal, "arguments": dict(call.named)}
        await self._context.run_step(_step(self._context, StepKind.ACTIVITY, name, call, arguments))


@overload
async def start_child(
    workflow: type[Any] | str,
    /,
    *args: Any,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
    **kwargs: Any,
) -> ChildHandle: ...
@overload
async def start_child(
    workflow: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> ChildHandle[R]: ...
@overload
async def start_child(
    workflow: Callable[[Any, *Ts], Awaitable[R]],
    /,
    *args: *Ts,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
) -> ChildHandle[R]: ...
async def start_child(  # type: ignore[misc]
    workflow: Any,
    /,
    *args: Any,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
    **kwargs: Any,
) -> ChildHandle:
    """Start a child, and return its handle once it exists; the child runs on any worker of its task queue.

    Args:
        workflow: The workflow of the child: its entrypoint, such as `Deal.run`, its class, or its name. From
            the entrypoint, type checkers know the arguments and the result.
        args: The arguments of its entrypoint; `kwargs` too.
        id: The id of the child. By default it is made from the id of this execution and the place in its
            code, so that a replay, or another worker, finds the same child.
        task_queue: The task queue of the child; that of this execution by default.
        on_parent_end: What happens to the child if this execution ends before it, in any way: "cancel",
            "terminate" or "abandon", which leaves it alone.

    Raises:
        InvalidArguments, Unserialisable: the arguments do not fit the entrypoint.
        ExecutionAlreadyExists: the id belongs to an execution that is not this child.
        DefinitionError: it is not a workflow, or an option is wrong.
        NotSupported: this is a native workflow of Temporal.
    """
    context, definition = running_context("workflow.start_child"), definition_of(workflow)
    awaited = _asked(context, definition, args, kwargs, id, task_queue, on_parent_end)
    await asyncio.shield(awaited.started)
    return ChildHandle(definition, awaited, context)


@overload
async def execute_child(
    workflow: type[Any] | str,
    /,
    *args: Any,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
    **kwargs: Any,
) -> Any: ...
@overload
async def execute_child(
    workflow: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> R: ...
@overload
async def execute_child(
    workflow: Callable[[Any, *Ts], Awaitable[R]],
    /,
    *args: *Ts,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
) -> R: ...
async def execute_child(  # type: ignore[misc]
    workflow: Any,
    /,
    *args: Any,
    id: str | None = None,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
    **kwargs: Any,
) -> Any:
    """Start a child, as `start_child` does, and return its result. Cancelling this cancels the child.

    Raises:
        ChildFailed: it failed, was cancelled or was terminated; the error that ended it is the cause.
    """
    context, definition = running_context("workflow.execute_child"), definition_of(workflow)
    awaited = _asked(context, definition, args, kwargs, id, task_queue, on_parent_end)
    child = ChildHandle(definition, awaited, context)
    try:
        await asyncio.shield(awaited.started)
        return await child.result()
    except asyncio.CancelledError:
        if not awaited.ended.done():
            # The child may not exist yet: then it is asked to end as soon as it does.
            with suppress(OutlastError):
                await asyncio.shield(awaited.started)
                await child.cancel()
        raise


@overload
async def map(
    workflow: type[Any] | str,
    items: Iterable[Any],
    /,
    *,
    at_once: int = 50,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
) -> list[Any]: ...
@overload
async def map(
    workflow: Callable[[Any, A], Awaitable[R]],
    items: Iterable[A],
    /,
    *,
    at_once: int = 50,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
) -> list[R]: ...
async def map(
    workflow: Any,
    items: Iterable[Any],
    /,
    *,
    at_once: int = 50,
    task_queue: str | None = None,
    on_parent_end: OnParentEnd = "cancel",
) -> list[Any]:
    """Run a child for each item, its only argument, and return the results in the order of the items.

    At most `at_once` children are open at a time. If one fails, the others go on all the same. Cancelling
    this cancels the children that are open.

    Raises:
        ChildrenFailed: some did not complete. It says which, its cause is the group of their errors, and its
            `results` are those of the others.
        DefinitionError: `at_once` is not a positive number.
    """
    running_context("workflow.map")
    definition = definition_of(workflow)
    check_whole_number("at_once, the number of children at a time,", at_once, 1)
    if not isinstance(items, Iterable):
        raise DefinitionError(f"workflow.map takes a list of items, one for each child, not {items!r}")
    waiting = list(enumerate(items))
    waiting.reverse()
    count = len(waiting)
    results: dict[int, Any] = {}
    failed: dict[int, Exception] = {}

    async def work() -> None:
        while waiting:
            number, item = waiting.pop()
            try:
                results[number] = await execute_child(
                    workflow, item, task_queue=task_queue, on_parent_end=on_parent_end
                )
            except OutlastError as error:
                failed[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, count)):
            group.create_task(work())
    if failed:
        numbers = sorted(failed)
        errors = [failed[number] for number in numbers]
        quoted = [str(error) for error in errors[:QUOTED_MAX]]
        error = ChildrenFailed(definition.name, count, numbers, quoted)
        error.results = results
        raise error from ExceptionGroup("the children that did not complete", errors)
    return [results[number] for number in range(count)]


def _asked(
    context: WorkflowContext,
    definition: WorkflowDefinition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    id: str | None,
    task_queue: str | None,
    on_parent_end: OnParentEnd,
) -> AwaitedChild:
    """Ask for a child."""
    end = None if on_parent_end == "cancel" else on_parent_end
    about = {GIVEN_ID: id, QUEUE: task_queue, ON_PARENT_END: end}
    check_options(f"workflow {definition.name}", definition.signature, args, **about)
    if on_parent_end not in get_args(OnParentEnd):
        raise DefinitionError(
            f'on_parent_end is "cancel", "terminate" or "abandon", and says what happens to the child when '
            f"its parent ends, not {on_parent_end!r}"
        )
    for name, text in (("id", id), ("task_queue", task_queue)):
        try:
            if text is not None:
                check_text(f"the {name} of a child", text, may_be_empty=False)
                check_id(text)
        except ValueError as error:
            raise DefinitionError(f"a child cannot have that id or task queue: {error}") from error
    try:
        arguments = definition.signature.dump_arguments(*args, **kwargs)
    except TypeError as error:
        raise InvalidArguments(f"workflow {definition.name}", [str(error)]) from None
    given: dict[str, JSON] = {name: value for name, value in about.items() if value is not None}
    return context.start_child(
        _step(context, StepKind.CHILD, definition.name, StartChild(), arguments, given)
    )


def _step(
    context: WorkflowContext,
    kind: StepKind,
    name: str,
    call: Call,
    arguments: JSON,
    about: dict[str, JSON] | None = None,
) -> Step:
    return Step(context.next_key(), kind, name, call, _OPTIONS, arguments, about or {})
