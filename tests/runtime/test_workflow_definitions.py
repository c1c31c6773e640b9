"""Defining workflows: the definition of a class, and classes that are refused at once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast.composition.running import execute_workflow
from outlast.core.errors import DefinitionError, InvalidArguments, NotInWorkflow
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.known_workflows import definition_of, known_definition


@workflow.define(name="definition-tests.full", keep=timedelta(hours=1))
class Full:
    """Has one of everything."""

    def __init__(self, default: int = 1) -> None:
        self.default = default

    @workflow.entrypoint
    async def run(self, value: int) -> int:
        return value

    @workflow.signal
    def one(self) -> None: ...

    @workflow.signal("second")
    async def two(self, value: int) -> None: ...

    @workflow.query
    def three(self) -> int:
        return 3

    @workflow.query("fourth")
    def four(self) -> int:
        return 4

    @workflow.update
    def five(self, value: int) -> int:
        return value

    @five.validator
    def check_five(self, value: int) -> None: ...

    @workflow.update("sixth")
    async def six(self) -> None: ...


def test_a_definition_holds_what_the_class_says() -> None:
    definition = definition_of(Full)
    assert (definition.name, definition.entrypoint, definition.keep_seconds) == (
        "definition-tests.full",
        "run",
        3600,
    )
    assert {name: handler.method for name, handler in definition.signals.items()} == {
        "one": "one",
        "second": "two",
    }
    assert set(definition.queries) == {"three", "fourth"}
    assert {name: (one.method, one.validator) for name, one in definition.updates.items()} == {
        "five": ("five", "check_five"),
        "sixth": ("six", None),
    }
    assert definition_of("definition-tests.full") is known_definition("definition-tests.full") is definition


def test_handlers_can_be_called_as_the_methods_that_they_are() -> None:
    assert Full().five(5) == 5


def test_the_name_is_that_of_the_class_unless_it_is_given() -> None:
    @workflow.define()
    class NamedByItself:
        @workflow.entrypoint
        async def run(self) -> None: ...

    assert definition_of(NamedByItself).name == "NamedByItself"


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00b", "half \ud800", "x" * 1001])
def test_a_name_that_no_backend_could_know_is_refused(name: str) -> None:
    class Plain:
        @workflow.entrypoint
        async def run(self) -> None: ...

    class Signalled(Plain):
        @workflow.signal(name)
        def notify(self) -> None: ...

    async def act() -> None: ...

    with pytest.raises(DefinitionError, match="cannot be the name of a workflow"):
        workflow.define(name=name)(Plain)
    with pytest.raises(DefinitionError, match="cannot be the name of a handler"):
        workflow.define()(Signalled)
    with pytest.raises(DefinitionError, match="cannot be the name of an activity"):
        activity(name=name)(act)


def test_a_subclass_is_not_a_workflow_until_it_is_defined() -> None:
    class Heir(Full):
        pass

    with pytest.raises(DefinitionError, match="Heir is not a workflow"):
        definition_of(Heir)
    defined = workflow.define(name="definition-tests.heir")(Heir)
    assert set(definition_of(defined).signals) == {"one", "second"}


class NoEntrypoint:
    async def run(self) -> None: ...


class TwoEntrypoints:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.entrypoint
    async def walk(self) -> None: ...


class PlainEntrypoint:
    @workflow.entrypoint
    def run(self) -> None: ...


class WaitingQuery:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.query
    async def ask(self) -> None: ...


class NeedsArguments:
    def __init__(self, needed: int) -> None: ...

    @workflow.entrypoint
    async def run(self) -> None: ...


class TwoSignalsOfOneName:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.signal("same")
    def one(self) -> None: ...

    @workflow.signal("same")
    def other(self) -> None: ...


class ValidatorInTheHandlersPlace:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.update
    def put(self, value: int) -> None: ...

    @put.validator  # type: ignore[no-redef]  # as a property setter
    def put(self, value: int) -> None: ...


class WaitingValidator:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.update
    def put(self, value: int) -> None: ...

    @put.validator
    async def check(self, value: int) -> None: ...


class ValidatorOfSomethingElse:
    @workflow.entrypoint
    async def run(self) -> None: ...

    @workflow.update
    def put(self, value: int, times: int = 1) -> None: ...

    @put.validator
    def check(self, value: int) -> None: ...


class VariableArguments:
    @workflow.entrypoint
    async def run(self, *values: int) -> None: ...


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoEntrypoint, "it has none"),
        (TwoEntrypoints, "it has 2: run, walk"),
        (PlainEntrypoint, "must be an `async def`"),
        (WaitingQuery, "must be a plain `def`"),
        (NeedsArguments, "constructor that needs arguments"),
        (TwoSignalsOfOneName, "two signal handlers called 'same'"),
        (ValidatorInTheHandlersPlace, "replaces it; call it otherwise"),
        (WaitingValidator, "'put' .* must be a plain `def`"),
        (ValidatorOfSomethingElse, "'put' .* must take the same arguments"),
        (VariableArguments, "values"),
    ],
)
def test_a_class_that_cannot_be_a_workflow_is_refused(cls: type[Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        workflow.define(name=f"definition-tests.{cls.__name__}")(cls)
    assert known_definition(f"definition-tests.{cls.__name__}") is None


@pytest.mark.parametrize("wrong", [object, object(), 3, None, "definition-tests.never", lambda: None])
def test_the_error_for_an_object_that_is_not_a_workflow_says_what_to_do(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=r"decorate|import the module"):
        definition_of(wrong)


@pytest.mark.parametrize(
    "ask", [workflow.now, workflow.uuid4, workflow.random, workflow.info, workflow.all_handlers_finished]
)
def test_outside_a_workflow_its_functions_raise(ask: Callable[[], Any]) -> None:
    with pytest.raises(NotInWorkflow, match=r"workflow\."):
        ask()


async def test_outside_a_workflow_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(NotInWorkflow):
        await workflow.wait_condition(lambda: True)


@pytest.mark.parametrize("run", [workflow.start_child, workflow.execute_child, workflow.map])
async def test_outside_a_workflow_there_are_no_children(run: Any) -> None:
    with pytest.raises(NotInWorkflow, match=r"workflow\."):
        await run("definition-tests.never", ["an item"])


def test_outside_a_workflow_the_logger_is_a_plain_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "outlast.workflow"):
        workflow.logger.info("hello")
    assert caplog.messages == ["hello"]


def test_a_parameter_that_no_caller_could_reach_is_refused() -> None:
    for parameter in ("id", "task_queue", "backend"):
        with pytest.raises(
            DefinitionError, match=rf"entrypoint of workflow 'w' has a parameter '{parameter}'"
        ):
            define_with(f"async def run(self, *, {parameter}: str = '') -> None: ...", workflow.entrypoint)
    with pytest.raises(DefinitionError, match=r"update 'change' of workflow 'w' has a parameter 'id'"):
        define_with("async def change(self, *, id: str) -> None: ...", workflow.update)
    define_with(
        "async def change(self, id: str, /, *, name: str, timeout: int) -> None: ...", workflow.update
    )
    define_with("def note(self, *, id: str, name: str) -> None: ...", workflow.signal)


def define_with(text: str, role: Any) -> None:
    """Define a workflow with a method that is written so."""
    module: dict[str, Any] = {}
    exec(text, module)
    method = role(next(value for name, value in module.items() if not name.startswith("__")))

    async def run(self: Any) -> None:
        """Do nothing."""

    body = {"run": workflow.entrypoint(run), method.__name__: method}
    workflow.define(name="w")(type("W", (), body))


async def test_an_option_of_the_short_form_is_never_taken_for_an_argument_of_its_name() -> None:
    @workflow.define(name="definition-tests.options")
    class Options:
        @workflow.entrypoint
        async def run(self, backend: str, workflow_class: str = "", id: str = "") -> list[str]:
            return [backend, workflow_class, id]

    with pytest.raises(InvalidArguments, match="backend is an option of the call"):
        await execute_workflow(Options, backend="memory:")
    with pytest.raises(InvalidArguments, match="id is an option of the call"):
        await execute_workflow(Options, "b", backend="memory:", id="x")
    assert await execute_workflow(Options, "b", workflow_class="c", backend="memory:") == ["b", "c", ""]
    assert await execute_workflow(Options, "b", "c", "d", backend="memory:", id="x") == ["b", "c", "d"]


def test_what_becomes_of_a_failure_is_one_of_two_words() -> None:
    async def run(self: Any) -> None:
        """Do nothing."""

    def define(on_failure: Any) -> Any:
        body = {"run": workflow.entrypoint(run)}
        return workflow.define(name="definition-tests.failing", on_failure=on_failure)(type("W", (), body))

    assert definition_of(define("hold")).on_failure == "hold"
    with pytest.raises(DefinitionError, match='"fail" or "hold", not \'pause\''):
        define("pause")


@pytest.mark.parametrize("mark", [workflow.signal, workflow.query, workflow.update])
def test_a_handler_cannot_have_a_name_of_the_library(mark: Callable[[str], Any]) -> None:
    class Taken:
        @workflow.entrypoint
        async def run(self) -> None: ...

        def answer(self) -> None: ...

    mark("outlast.answer")(Taken.answer)
    with pytest.raises(DefinitionError, match=r"'outlast\.answer' of workflow 'taken'.*another name"):
        workflow.define(name="taken")(Taken)


class Counting:
    """A base class with an entrypoint; not a workflow."""

    start = 1

    @workflow.entrypoint
    async def run(self, *, step: int = 1) -> int:
        """Count."""
        start: int = __class__.start  # type: ignore[name-defined]
        return start + step

    @workflow.signal
    def stop(self) -> None:
        """Stop."""


def defined(name: str, cls: Any) -> Any:
    return workflow.define(name=name)(cls)


def test_a_workflow_is_found_by_its_entrypoint_also_by_an_inherited_one() -> None:
    first = defined("tests.first_counting", type("First", (Counting,), {}))
    second = defined("tests.second_counting", type("Second", (Counting,), {}))
    assert definition_of(first.run) is definition_of(first)
    assert definition_of(second.run) is definition_of(second)
    assert second.run.__doc__ == "Count."
    assert asyncio.run(second().run(step=2)) == 3


def test_a_function_in_two_classes_starts_each_of_them() -> None:
    async def run(self: Any) -> None: ...

    marked = workflow.entrypoint(run)
    first = defined("tests.first_owner", type("First", (), {"run": marked}))
    second = defined("tests.second_owner", type("Second", (), {"run": marked}))
    assert [definition_of(one.run).cls for one in (first, second)] == [first, second]


def test_an_entrypoint_that_wraps_another_keeps_what_it_wraps() -> None:
    @functools.wraps(Counting.run)
    async def run(self: Any, **named: Any) -> int:
        return await Counting.run(self, **named)

    base = type("Base", (), {"run": run})
    cls = defined("tests.wrapping_counting", type("Wrapping", (base,), {}))
    assert cls.run is not run
    assert cls.run.__wrapped__ is Counting.run
    assert definition_of(cls.run).cls is cls


def test_a_function_that_wraps_the_entrypoint_of_a_workflow_is_not_it() -> None:
    cls = defined("tests.wrapped_counting", type("Wrapped", (Counting,), {}))
    wrapper = functools.wraps(cls.run)(lambda self: None)
    with pytest.raises(DefinitionError, match="is not in a workflow; decorate its class"):
        definition_of(wrapper)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Counting.run, r"Counting\.run is not in a workflow; decorate its class with @workflow\.define"),
        (Counting.stop, r"Counting\.stop is marked as signal; give the workflow's class, or its entrypoint"),
        (asyncio.sleep, r"sleep is not a workflow; give a class that is decorated with @workflow\.define"),
    ],
)
def test_a_method_that_starts_nothing_is_an_error(method: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        definition_of(method)
