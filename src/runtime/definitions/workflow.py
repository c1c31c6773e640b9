"""Defining workflows, and the functions for their code: `import outlast; outlast.workflow.now()`.

Inside a workflow, `asyncio` does the rest: `sleep`, `gather`, `timeout`, `TaskGroup`, `Event`, `Queue` are
durable and reproducible there.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timedelta
from random import Random
from typing import Any, Concatenate, NoReturn, ParamSpec, Protocol, TypeVar, overload

from outlast.core.argument_checks import check_text, check_timedelta
from outlast.core.errors import DefinitionError
from outlast.core.events import QuestionAnsweredData, QuestionAskedData, QuestionWithdrawnData, TaggedData
from outlast.core.json import JSON
from outlast.core.tags import TAGS_MAX, changed, checked_changes, too_many
from outlast.ports.definitions import (
    START_OPTIONS,
    UPDATE_OPTIONS,
    HandlerDefinition,
    OnFailure,
    WorkflowDefinition,
    check_reachable,
)
from outlast.ports.durability.workflow_context import WorkflowInfo, current_context
from outlast.ports.method_references import ROLE
from outlast.runtime.definitions.callables import innermost, is_async
from outlast.runtime.definitions.children import ChildHandle as ChildHandle
from outlast.runtime.definitions.children import execute_child as execute_child
from outlast.runtime.definitions.children import map as map
from outlast.runtime.definitions.children import start_child as start_child
from outlast.runtime.definitions.codec import Codec, Misfit
from outlast.runtime.definitions.depends import refuse_dependencies
from outlast.runtime.definitions.known_workflows import (
    definition_of,
    make_known,
    running_context,
)
from outlast.runtime.definitions.signature import CallableSignature

A = TypeVar("A")
C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R", covariant=True)

RESERVED = "outlast."
"""The beginning of the names of messages that every execution takes, such as answers to questions."""
_VALIDATOR = "__outlast_validator__"
_TAGS = "tags of the code"


@overload
def define(cls: C, /) -> C: ...
@overload
def define(
    *, name: str | None = None, keep: timedelta | None = None, on_failure: OnFailure = "fail"
) -> Callable[[C], C]: ...
def define(
    cls: Any = None,
    /,
    *,
    name: str | None = None,
    keep: timedelta | None = None,
    on_failure: OnFailure = "fail",
) -> Any:
    """Make a class a workflow; exactly one of its methods is the `entrypoint`, an `async def`.

    Args:
        name: The name in journals; the class's own by default.
        keep: How long an execution is kept after it has ended; for ever (until `prune`) by default.
        on_failure: With "hold", a failure that would end an execution holds it instead: mend the cause, and
            `resume` lets it go on as `retry` does. It ends all the same if it was cancelled, or if a failed
            step has `effect="once"`. Not on Temporal.

    Raises:
        DefinitionError: no entrypoint or more than one, an entrypoint that is not an `async def`, a parameter
            without a type hint, a constructor that needs arguments, two handlers with one name, or a
            keyword-only parameter with the name of an option: `id`, `task_queue`, `tags` or `backend` for
            the entrypoint, `id` for an update.
    """

    if keep is not None:
        check_timedelta("keep", keep)

    def decorate(cls: Any) -> Any:
        if not isinstance(cls, type):
            raise DefinitionError(
                f"@workflow.define makes a class a workflow, and {cls!r} is not a class; "
                "a name is given as define(name=...)"
            )
        definition = _read(cls, cls.__name__ if name is None else name, keep, on_failure)
        make_known(cls, definition)
        return cls

    return decorate if cls is None else decorate(cls)


@overload
def entrypoint(method: F, /) -> F: ...
@overload
def entrypoint() -> Callable[[F], F]: ...
def entrypoint(method: Any = None, /) -> Any:
    """Mark the method with which an execution begins."""
    return _handler("entrypoint", method)


@overload
def signal(name: F, /) -> F: ...
@overload
def signal(name: str | None = None) -> Callable[[F], F]: ...
def signal(name: Any = None) -> Any:
    """Mark a method that takes a signal; `def` or `async def`. By default it has the method's name."""
    return _handler("signal", name)


@overload
def query(name: F, /) -> F: ...
@overload
def query(name: str | None = None) -> Callable[[F], F]: ...
def query(name: Any = None) -> Any:
    """Mark a `def` method that answers a query without changing anything."""
    return _handler("query", name)


class UpdateMethod(Protocol[P, R]):
    """A method that answers an update; its `validator` marks the method that can reject the update."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def validator(self, method: F) -> F:
        """Mark a `def` method that takes the same arguments and raises to reject the update.

        It only reads: its changes would be lost when the execution is replayed.
        """


@overload
def update(name: Callable[Concatenate[Any, P], R], /) -> UpdateMethod[P, R]: ...
@overload
def update(
    name: str | None = None,
) -> Callable[[Callable[Concatenate[Any, P], R]], UpdateMethod[P, R]]: ...
def update(name: Any = None) -> Any:
    """Mark a method that answers an update, `def` or `async def`; the caller gets its result or error.

        @outlast.workflow.update
        async def add_item(self, item: str, count: int = 1) -> float:
            self.total += count * await price_of(item)
            return self.total

        @add_item.validator
        def check_item(self, item: str, count: int = 1) -> None:
            if self.closed:
                raise ValueError("the order is closed")

    The validator is optional. It runs in the worker, before anything is journaled; on Temporal, that may be
    before the entrypoint has begun. Handlers run beside the entrypoint and each other.
    """

    def marked(method: Any, given: str | None = None) -> Any:
        def validator(check: F) -> F:
            setattr(check, ROLE, ("validator", method.__name__))
            setattr(method, _VALIDATOR, check.__name__)
            return check

        setattr(method, ROLE, ("update", given))
        method.validator = validator
        return method

    return marked(name) if callable(name) else lambda method: marked(method, name)


def now() -> datetime:
    """Return the workflow's time (UTC): it stands still while code runs, and is the same in every replay."""
    return running_context("workflow.now()").now()


def uuid4() -> uuid.UUID:
    """Return a random UUID that is the same in every replay."""
    return uuid.UUID(int=running_context("workflow.uuid4()").random.getrandbits(128), version=4)


def random() -> Random:
    """Return the execution's source of random numbers, the same in every replay."""
    return running_context("workflow.random()").random


async def wait_condition(condition: Callable[[], bool], timeout: timedelta | float | None = None) -> None:
    """Return once `condition()` holds; it is checked after every input of the execution.

    Raises:
        TimeoutError: it did not hold within `timeout` (a number means seconds).
    """
    if not callable(condition):
        raise DefinitionError(
            "wait_condition takes a function that returns a bool, such as `lambda: self.done`, "
            f"not {condition!r}"
        )
    if isinstance(timeout, (int, float)):
        timeout = timedelta(seconds=timeout)
    if timeout is not None:
        check_timedelta("the timeout of wait_condition", timeout)
    try:
        await running_context("workflow.wait_condition()").wait_condition(condition, timeout)
    except TimeoutError as error:
        if isinstance(error.__cause__, asyncio.CancelledError):  # else the condition itself has raised it
            raise TimeoutError(f"the condition did not hold within {timeout}") from None
        raise


def all_handlers_finished() -> bool:
    """Return whether no handler of a signal or an update is running; a condition to wait for before the end.

    await workflow.wait_condition(workflow.all_handlers_finished)
    """
    return running_context("workflow.all_handlers_finished()").all_handlers_finished


def patched(patch: str) -> bool:
    """Return whether an execution runs the new version of code that was changed while executions run.

        if workflow.patched("check-limits"):
            await check_limits(order)       # new executions, and old ones that had not come here
        else:
            await check(order)              # executions that passed here before the change

    It is True when an execution comes here for the first time, and this is journaled; it is False when a
    replay comes here and the journal lacks it. Delete the old version when no execution runs it any more.
    """
    check_text("the name of a patch", patch)
    return running_context("workflow.patched()").patched(patch)


def should_continue_as_new() -> bool:
    """Return whether the backend suggests `continue_as_new`; Temporal does when a history is long."""
    return running_context("workflow.should_continue_as_new()").should_continue_as_new


async def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """Go on from the entrypoint with these arguments, in a new history. Steps and tasks that still run are
    cancelled, but it waits for handlers of signals and updates: call it in the entrypoint, and let no handler
    wait for it.

    The execution keeps its id, its event stream and its unread messages. Sessions begin new conversations, so
    carry the state that you need in the arguments; `AgentWorkflow` does this for a conversation.

    Raises:
        PayloadTooLarge: the arguments are over the backend's limit; the execution goes on here.
        NotSupported: the backend never suggests it.
    """
    context = running_context("workflow.continue_as_new()")
    signature = definition_of(context.info.workflow).signature
    await context.continue_as_new(signature.dump_arguments(*args, **kwargs))


def info() -> WorkflowInfo:
    """Return the identity of the running execution."""
    return running_context("workflow.info()").info


class _ExecutionLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the execution's id; silent while an execution is replayed, so that nothing is logged twice."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        context = current_context.get()
        if context is not None:
            kwargs = {
                **kwargs,
                "extra": {**kwargs.get("extra", {}), "execution_id": context.info.execution_id},
            }
            msg = f"[{context.info.execution_id}] {msg}"
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:
        context = current_context.get()
        return (context is None or not context.is_replaying) and super().isEnabledFor(level)


logger = _ExecutionLogger(logging.getLogger("outlast.workflow"), {})
"""A logger for workflow code."""


def tag(tags: Mapping[str, str | None]) -> None:
    """Give the execution tags by which it is found, or remove those whose value is None.

    It is durable together with what the code asks for next, and has no effect again in a replay. An execution
    has at most 20 tags from its code, beside those from outside.

    Raises:
        DefinitionError: there are more, or one is not text of at most 200 characters.
    """
    context = running_context("workflow.tag")
    changes = checked_changes(tags)
    own: dict[str, str] = context.state.get(_TAGS, {})
    after = changed(own, changes)
    if len(after) > TAGS_MAX:
        raise too_many(len(after))
    if changes:
        context.emit(TaggedData.of(changes))
    context.state[_TAGS] = after


def check_question(question: Any, to: Any, timeout: Any) -> None:
    """Raise DefinitionError unless these can be a question, those who are asked, and how long it waits."""
    check_text("the question to a person", question, may_be_empty=False)
    if to is not None:
        check_text("the people to ask (to)", to, may_be_empty=False)
    if timeout is not None:
        check_timedelta("the timeout of a question", timeout)


@overload
async def ask(question: str, /, *, timeout: timedelta | None = None, to: str | None = None) -> str: ...
@overload
async def ask(
    question: str, answer: type[A], /, *, timeout: timedelta | None = None, to: str | None = None
) -> A: ...
@overload
async def ask(
    question: str, answer: Any, /, *, timeout: timedelta | None = None, to: str | None = None
) -> Any: ...
async def ask(
    question: str, answer: Any = str, /, *, timeout: timedelta | None = None, to: str | None = None
) -> Any:
    """Ask a person, and return the answer, a value of the type `answer`; it waits as long as it takes.

    The question is in the inbox beside the calls that need approval, with the JSON schema of the answer. It
    is answered once: with `execution.answer(key, value)`, `outlast answer`, or in the inspector. An answer of
    another type is refused (a text is not a number, and "yes" is not a bool), and so is one that comes too
    late.

    Args:
        question: The question, as the person reads it.
        answer: The type of the answer: anything that an argument of an activity may be. A text by default.
        timeout: The longest time to wait.
        to: The people who are asked, as they are known to those who look at the inbox.

    Raises:
        TimeoutError: nobody has answered in time; the question is withdrawn.
        DefinitionError: the type has no JSON schema, or an argument is not of its type.
        NotSupported: this is a native workflow of Temporal.
    """
    context = running_context("workflow.ask")
    check_question(question, to, timeout)
    codec = Codec(answer, owner="the answer")
    schema, definitions = codec.schema()
    key = context.next_key()
    whole = {**schema, "$defs": definitions} if definitions else schema
    context.emit(QuestionAskedData(key=key, question=question, answer_schema=whole, to=to))

    def faults_in(value: JSON) -> list[str]:
        try:
            codec.load(value, by_name=False, strict=True)
        except Misfit as misfit:
            return [*misfit.faults]
        return []

    try:
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            answered = await context.answer_to(key, faults_in)
    except TimeoutError:
        context.emit(QuestionWithdrawnData(key=key))
        raise TimeoutError(f"nobody has answered the question within {timeout}") from None
    except asyncio.CancelledError:
        context.emit(QuestionWithdrawnData(key=key))
        raise
    context.emit(QuestionAnsweredData(key=key, answer=answered.value, by=answered.by))
    return codec.load(answered.value, by_name=False)


def _handler(role: str, name: Any) -> Any:
    def decorate(method: F, given: str | None = None) -> F:
        setattr(method, ROLE, (role, given))
        return method

    return decorate(name) if callable(name) else lambda method: decorate(method, name)


def _read(cls: type[Any], name: str, keep: timedelta | None, on_failure: OnFailure) -> WorkflowDefinition:
    entrypoints: list[str] = []
    handlers: dict[str, dict[str, HandlerDefinition]] = {"signal": {}, "query": {}, "update": {}}
    for attribute in dir(cls):
        method = getattr(cls, attribute)
        role, given = getattr(method, ROLE, (None, None))
        if role == "entrypoint":
            entrypoints.append(attribute)
        elif role == "validator":
            _check_validator(cls, name, str(given), attribute)
        elif role is not None:
            validator = getattr(method, _VALIDATOR, None)
            handler = HandlerDefinition(
                attribute if given is None else given, attribute, _signature(method), validator
            )
            if handler.name.startswith(RESERVED):
                raise DefinitionError(
                    f"{role} {handler.name!r} of workflow {name!r} begins with {RESERVED!r}, as those of the "
                    "library do; choose another name"
                )
            if role == "update":
                what = f"update {handler.name!r} of workflow {name!r}"
                check_reachable(what, handler.signature, UPDATE_OPTIONS)
            if handler.name in handlers[role]:
                raise DefinitionError(f"workflow {name!r} has two {role} handlers called {handler.name!r}")
            handlers[role][handler.name] = handler
    if len(entrypoints) != 1:
        found = f"has {len(entrypoints)}: {', '.join(entrypoints)}" if entrypoints else "has none"
        raise DefinitionError(
            f"workflow {name!r} needs exactly one method marked @workflow.entrypoint; it {found}"
        )
    method = getattr(cls, entrypoints[0])
    if not _waits(method):
        raise DefinitionError(f"the entrypoint of workflow {name!r} must be an `async def`")
    signature = _signature(method)
    check_reachable(f"the entrypoint of workflow {name!r}", signature, START_OPTIONS)
    for handler in handlers["query"].values():
        if _waits(getattr(cls, handler.method)):
            raise DefinitionError(
                f"query {handler.name!r} of workflow {name!r} must be a plain `def`: it may not wait"
            )
    if cls.__init__ is not object.__init__ and _needs_arguments(cls):
        raise DefinitionError(
            f"workflow {name!r} has a constructor that needs arguments; give them to the entrypoint instead"
        )
    return WorkflowDefinition(
        name=name,
        cls=cls,
        entrypoint=entrypoints[0],
        signature=signature,
        signals=handlers["signal"],
        queries=handlers["query"],
        updates=handlers["update"],
        keep_seconds=None if keep is None else keep.total_seconds(),
        on_failure=on_failure,
    )


def _check_validator(cls: type[Any], name: str, handler_name: str, attribute: str) -> None:
    """Raise DefinitionError unless the method called `attribute` can be the validator of that handler."""
    handler, validator = getattr(cls, handler_name, None), getattr(cls, attribute)
    what = f"the validator of update {handler_name!r} of workflow {name!r}"
    if getattr(handler, ROLE, ("", None))[0] != "update":
        raise DefinitionError(f"{what} has the same name as its handler, and replaces it; call it otherwise")
    if _waits(validator):
        raise DefinitionError(f"{what} must be a plain `def`: it may not wait")
    taken = [[(one.name, one.kind) for one in _parameters(method)] for method in (handler, validator)]
    if taken[0] != taken[1]:
        raise DefinitionError(f"{what} must take the same arguments as the handler, by the same names")


def _waits(method: Callable[..., Any]) -> bool:
    """Return whether a method is an `async def`, also when a decorator that is a plain `def` wraps it."""
    return is_async(method) or is_async(innermost(method))


def _parameters(method: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())


def _signature(method: Callable[..., Any]) -> CallableSignature:
    refuse_dependencies(method, f"{method.__qualname__}()")
    return CallableSignature.of(functools.partial(method, None))  # `self` is not an argument


def _needs_arguments(cls: type[Any]) -> bool:
    parameters = list(inspect.signature(cls).parameters.values())
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
