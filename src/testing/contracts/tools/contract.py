"""The contract suite of the tools port: inherit `ToolsContract` and say how to open a world.

    class TestMySource(ToolsContract):
        capabilities = frozenset({ToolsCapability.EFFECTS})

        @asynccontextmanager
        async def open(self) -> AsyncIterator[ToolsWorld]:
            tools = Toolbox()
            ...  # make a source that offers each of `tools.functions()`

The tools may live in this process or in another one: a test learns about them only by calling them. Each of
the promises T1 to T6 of `ports.tools` has at least one test with its number. This library's own tests have
sources that break one promise each, and prove that each is caught.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # untyped
from pydantic import BaseModel

from outlast.core.agents import TOOL_NAME, ToolSpec
from outlast.core.chunks import text_of
from outlast.core.errors import InvalidArguments, ToolError, UnknownTool
from outlast.core.json import JSON, decode, encode
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.loop_watch import loop_that_goes_on
from outlast.testing.contracts.patience import at_most

EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "add": "read",
        "echo": "read",
        "fail": "once",
        "forecast": "read",
        "greet": "idempotent",
        "hold": "once",
        "release": "idempotent",
        "runs": "read",
        "version": "read",
        "wait_for_cancelled": "read",
        "wait_for_held": "read",
    }
)
"""The declared side effect of each tool of the toolbox."""

CARE: Mapping[Effect, int] = MappingProxyType({"read": 0, "idempotent": 1, "once": 2})
"""The care that a caller takes with a tool that declares this effect."""

VERSION = "7.1"
MANY = 20

Tool = Callable[..., Coroutine[Any, Any, Any]]


class Refusal(Exception):
    """The error of the toolbox's `fail`. The tool itself reports it, not the infrastructure."""


class Forecast(BaseModel):
    """A result with a structure."""

    city: str
    degrees: list[float]


class Toolbox:
    """The tools that a source under test offers, and the state of their calls."""

    def __init__(self) -> None:
        self.is_broken = False
        """If true, every call fails as if its connection were lost; for worlds in one process."""
        self._runs: Counter[str] = Counter()
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._held: set[str] = set()
        self._cancelled: set[str] = set()
        self._changed = asyncio.Condition()

    def functions(self) -> Mapping[str, Tool]:
        """Return the tools by name: typed `async def`s, the docstrings of which describe them."""
        return {name: self._counted(getattr(self, name)) for name in EFFECTS}

    def _counted(self, tool: Tool) -> Tool:
        async def run(**arguments: Any) -> Any:
            if self.is_broken:
                raise ConnectionError("the connection to the tools was lost")
            self._runs[tool.__name__] += 1
            return await tool(**arguments)

        run.__name__, run.__doc__ = tool.__name__, tool.__doc__
        run.__annotations__ = inspect.get_annotations(tool, eval_str=True)
        run.__signature__ = inspect.signature(tool, eval_str=True)  # type: ignore[attr-defined]  # where inspect looks
        return run

    async def add(self, left: int, right: int) -> int:
        """Add two numbers."""
        return left + right

    async def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def fail(self, why: str) -> str:
        """Fail, and say why."""
        raise Refusal(why)

    async def forecast(self, city: str, days: int) -> Forecast:
        """Foretell the weather."""
        return Forecast(city=city, degrees=[20.5 + day for day in range(days)])

    async def greet(self, name: str) -> str:
        """Grüß jemanden: «¡Hola!», 你好, 👋."""
        return f"¡Hola, {name}! 👋"

    async def version(self) -> str:
        """Return the version."""
        return VERSION

    async def hold(self, key: str) -> str:
        """Wait until `key` is released."""
        await self._note(self._held, key)
        try:
            await self._released[key].wait()
        except asyncio.CancelledError:
            # This is not awaited here: a caller that cancels a call may not wait for its cleanup.
            self._noting = asyncio.create_task(self._note(self._cancelled, key))
            raise
        return f"{key} released"

    async def release(self, key: str) -> str:
        """Let the calls go on that hold `key`, and those to come."""
        self._released[key].set()
        return "done"

    async def wait_for_held(self, keys: list[str]) -> str:
        """Wait until each of the keys has been held."""
        return await self._wait_for(self._held, keys)

    async def wait_for_cancelled(self, keys: list[str]) -> str:
        """Wait until a call that held each of the keys was cancelled."""
        return await self._wait_for(self._cancelled, keys)

    async def runs(self, tool: str) -> int:
        """Return how often a tool has been run."""
        return self._runs[tool]

    async def _note(self, where: set[str], key: str) -> None:
        async with self._changed:
            where.add(key)
            self._changed.notify_all()

    async def _wait_for(self, where: set[str], keys: list[str]) -> str:
        async with self._changed:
            await self._changed.wait_for(lambda: where.issuperset(keys))
        return "done"


class ToolsCapability(StrEnum):
    """The abilities that only some sources have."""

    EFFECTS = "its tools can say what they do to the world"
    CANCELLATION = "cancelling a call reaches the tool"


@dataclass(frozen=True)
class ToolsWorld:
    """A source of the toolbox's tools, and the connection between the two."""

    source: ToolSource
    break_down: Callable[[], None]
    """After this returns, calls no longer reach the tools."""
    prefix: str = ""
    """The text that the source puts before the name of every tool."""


@dataclass(frozen=True)
class Caller:
    """Calls tools as a worker does."""

    world: ToolsWorld
    resources: Resources
    unanswered: list[str] = field(default_factory=list)
    """Calls that are under way, or were cancelled."""

    @property
    def source(self) -> ToolSource:
        return self.world.source

    def name(self, tool: str) -> str:
        """Return the source's name for a tool of the toolbox."""
        return self.world.prefix + tool

    async def listed(self) -> dict[str, ToolSpec]:
        """Return the tools that the source lists, by their names in the toolbox, in the source's order."""
        tools = await self.source.list_tools(self.resources)
        assert all(tool.name.startswith(self.world.prefix) for tool in tools)
        return {tool.name.removeprefix(self.world.prefix): tool for tool in tools}

    async def call(self, tool: str, /, **arguments: JSON) -> ToolOutput:
        """Return the output of the tool. The arguments cannot be changed on their way."""
        call = f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
        self.unanswered.append(call)
        try:
            return await self.source.call(self.name(tool), MappingProxyType(arguments), self.resources)
        except asyncio.CancelledError:
            self.unanswered.append(call)
            raise
        finally:
            self.unanswered.remove(call)

    async def text(self, tool: str, /, **arguments: JSON) -> str:
        """Return the text of the tool's output, which must not be an error."""
        output = await self.call(tool, **arguments)
        assert not output.is_error, output
        return text_of(output.content)

    async def runs(self, tool: str) -> int:
        """Return the number of times that the tool has run."""
        return int(await self.text("runs", tool=tool))

    def holding(self, *keys: str) -> list[asyncio.Task[str]]:
        """Begin to hold each of the keys."""
        return [asyncio.create_task(self.text("hold", key=key)) for key in keys]


NOT_A_NUMBER: st.SearchStrategy[JSON] = st.sampled_from([None, "many", [1], {"value": 1}, 1.5, ""])
integers = st.integers(min_value=-(2**52), max_value=2**52)
misfits: st.SearchStrategy[dict[str, JSON]] = st.one_of(
    st.fixed_dictionaries({"left": NOT_A_NUMBER, "right": integers}),
    st.fixed_dictionaries({"left": integers, "right": NOT_A_NUMBER}),
    st.dictionaries(st.sampled_from(["left", "write", ""]), integers),
)
"""Arguments that `add` can never accept: of another type, or without `right`."""


LARGE: Sequence[dict[str, JSON]] = (
    {"left": [{"write": number} for number in range(20_000)], "right": 1},
    {"left": "9" * 1_000_000, "right": 1},
    {f"left{number}": number for number in range(20_000)},
)
"""Arguments of `add` that do not fit, and that nobody should look at for long."""

ANOTHER = "0" * 64
"""A fingerprint that belongs to no tool, as if the tool was different when its caller listed it."""
ADD: tuple[str, dict[str, JSON], bool] = ("add", {"left": 1, "right": 2}, False)
FAIL: tuple[str, dict[str, JSON], bool] = ("fail", {"why": "no luck"}, True)


class ToolsContract(AsyncioTests):
    """The tests. Inherit it, and give `open` and `capabilities`."""

    capabilities: ClassVar[frozenset[ToolsCapability]] = frozenset()
    patience_seconds: ClassVar[float] = 30.0
    """The longest real time that anything which is due may take."""

    def open(self) -> AbstractAsyncContextManager[ToolsWorld]:
        """Return a world whose source offers the functions of a new toolbox, and nothing else."""
        raise NotImplementedError

    def needs(self, capability: ToolsCapability) -> None:
        """Skip the test, with the reason, if a capability is missing."""
        if capability not in self.capabilities:
            pytest.skip(f"needs a source of which this is true: {capability.value}")

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Caller]:
        """Open a world and what its source shares; nothing in it may take longer than the patience."""
        unanswered: list[str] = []
        async with self.patience(unanswered), self.open() as world, SharedResources() as shared:
            yield Caller(world, shared, unanswered)

    def patience(self, unanswered: list[str]) -> AbstractAsyncContextManager[None]:
        async def look() -> str:
            return f"calls that have ended without an answer: {', '.join(unanswered) or 'none'}"

        return at_most(self.patience_seconds, "the source", look)

    @pytest.fixture
    async def caller(self) -> AsyncIterator[Caller]:
        """Open a caller that all examples of a test share, so that each example needs only a call."""
        async with self.open() as world, SharedResources() as shared:
            yield Caller(world, shared)

    # T1: every tool once, with a valid schema ----------------------------------------------------------

    async def test_t1_every_tool_is_listed_once_and_by_name(self) -> None:
        async with self.calling() as caller:
            listed = await caller.source.list_tools(caller.resources)
            assert [tool.name for tool in listed] == [caller.name(tool) for tool in sorted(EFFECTS)]
            assert all(TOOL_NAME.match(tool.name) for tool in listed)

    async def test_t1_listing_again_gives_the_same(self) -> None:
        async with self.calling() as caller:
            first = list(await caller.source.list_tools(caller.resources))
            assert list(await caller.source.list_tools(caller.resources)) == first
            async with self.calling() as other:
                assert list(await other.source.list_tools(other.resources)) == first

    async def test_t1_a_schema_is_valid_and_accepts_the_arguments_that_fit(self) -> None:
        async with self.calling() as caller:
            schemas = {name: tool.parameters for name, tool in (await caller.listed()).items()}
        for schema in schemas.values():
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
        add = Draft202012Validator(schemas["add"])
        assert add.is_valid({"left": 1, "right": -2})
        assert not add.is_valid({"left": 1})
        assert not add.is_valid({"left": 1, "right": "many"})
        assert Draft202012Validator(schemas["version"]).is_valid({})

    async def test_t1_a_tool_is_described_in_the_words_of_its_author(self) -> None:
        async with self.calling() as caller:
            for name, tool in (await caller.listed()).items():
                assert tool.description == inspect.getdoc(getattr(Toolbox, name))

    async def test_t1_listing_runs_nothing(self) -> None:
        async with self.calling() as caller:
            await caller.source.list_tools(caller.resources)
            assert [await caller.runs(tool) for tool in EFFECTS if tool != "runs"] == [0] * (len(EFFECTS) - 1)

    # T2: one call, one run, and the output of the tool ------------------------------------------------

    @given(left=integers, right=integers)
    @example(left=2**52, right=1)
    @few_examples(10, in_one_place=True)
    async def test_t2_numbers_arrive_as_they_were_sent(self, caller: Caller, left: int, right: int) -> None:
        async with self.patience(caller.unanswered):
            assert await caller.text("add", left=left, right=right) == str(left + right)

    @given(text=st.text())
    @example(text="")
    @example(text=" \t小明 👋\r\n\x00\u2028 ")
    @few_examples(20, in_one_place=True)
    async def test_t2_text_arrives_as_it_was_sent(self, caller: Caller, text: str) -> None:
        async with self.patience(caller.unanswered):
            assert await caller.text("echo", text=text) == text

    async def test_t2_a_result_may_be_in_any_script(self) -> None:
        async with self.calling() as caller:
            assert await caller.text("greet", name="Zoë 小明") == "¡Hola, Zoë 小明! 👋"

    async def test_t2_a_tool_without_arguments_needs_none(self) -> None:
        async with self.calling() as caller:
            assert await caller.text("version") == VERSION

    async def test_t2_a_structured_result_is_sent_as_text_and_kept(self) -> None:
        async with self.calling() as caller:
            output = await caller.call("forecast", city="Lyon", days=2)
            expected = {"city": "Lyon", "degrees": [20.5, 21.5]}
            assert output.structured == expected
            assert decode(text_of(output.content)) == expected

    async def test_t2_an_output_is_equal_to_what_a_journal_keeps_of_it(self) -> None:
        async with self.calling() as caller:
            for output in (
                await caller.call("greet", name="Zoë"),
                await caller.call("forecast", city="Lyon", days=1),
                await caller.call("fail", why="no luck"),
            ):
                kept = decode(encode(output.model_dump(mode="json")))
                assert ToolOutput.model_validate(kept) == output

    async def test_t2_an_error_that_the_tool_reports_is_an_output(self) -> None:
        async with self.calling() as caller:
            output = await caller.call("fail", why="no luck, 小明")
            assert output.is_error
            assert "no luck, 小明" in text_of(output.content)
            assert await caller.text("echo", text="still here") == "still here"

    async def test_t2_a_call_runs_its_tool_once(self) -> None:
        async with self.calling() as caller:
            await caller.call("add", left=1, right=2)
            await caller.call("fail", why="no luck")
            await caller.call("add", left=1, right=2)
            assert [await caller.runs(tool) for tool in ("add", "fail", "echo")] == [2, 1, 0]

    # T3: arguments that do not fit, and failures -------------------------------------------------------

    @given(arguments=misfits)
    @example(arguments={})
    @example(arguments={"left": "many", "right": 1})
    @few_examples(20, in_one_place=True)
    async def test_t3_arguments_that_do_not_fit_are_refused_before_anything_runs(
        self, caller: Caller, arguments: dict[str, JSON]
    ) -> None:
        async with self.patience(caller.unanswered):
            with pytest.raises(InvalidArguments) as refusal:
                await caller.call("add", **arguments)
            assert refusal.value.tool == caller.name("add")
            assert refusal.value.faults
            assert await caller.runs("add") == 0

    @given(name=st.text(max_size=10).filter(lambda name: name not in EFFECTS))
    @example(name="subtract")
    @example(name="")
    @few_examples(10, in_one_place=True)
    async def test_t3_an_unknown_tool_is_refused(self, caller: Caller, name: str) -> None:
        async with self.patience(caller.unanswered):
            with pytest.raises(UnknownTool) as refusal:
                await caller.call(name)
            assert refusal.value.tool == caller.name(name)
            assert caller.source.effect(caller.name(name)) == "once"

    async def test_t3_an_infrastructure_failure_is_raised(self) -> None:
        async with self.calling() as caller:
            assert await caller.text("echo", text="yes") == "yes"
            caller.world.break_down()
            (outcome,) = await asyncio.gather(caller.call("echo", text="no"), return_exceptions=True)
            assert isinstance(outcome, Exception)
            # A `ToolError` would be sent to the model, and the call would not be tried again.
            assert not isinstance(outcome, ToolError)

    async def test_t3_an_effect_is_never_declared_weaker_than_it_is(self) -> None:
        async with self.calling() as caller:
            before = {tool: caller.source.effect(caller.name(tool)) for tool in EFFECTS}
            await caller.source.list_tools(caller.resources)
            after = {tool: caller.source.effect(caller.name(tool)) for tool in EFFECTS}
            for tool, effect in EFFECTS.items():
                assert CARE[before[tool]] >= CARE[after[tool]] >= CARE[effect]

    async def test_t3_a_source_that_knows_the_effects_declares_them(self) -> None:
        self.needs(ToolsCapability.EFFECTS)
        async with self.calling() as caller:
            listed = await caller.listed()
            assert {tool: caller.source.effect(caller.name(tool)) for tool in EFFECTS} == EFFECTS
            assert all(spec.effect in (None, EFFECTS[tool]) for tool, spec in listed.items())

    # T4: many at once ----------------------------------------------------------------------------------

    async def test_t4_many_calls_run_at_once_and_each_gets_its_own_result(self) -> None:
        async with self.calling() as caller:
            keys = [f"key-{number}" for number in range(MANY)]
            calls = caller.holding(*keys)
            await caller.text("wait_for_held", keys=list[JSON](keys))
            assert len(await caller.source.list_tools(caller.resources)) == len(EFFECTS)
            for key in reversed(keys):
                await caller.text("release", key=key)
            assert await asyncio.gather(*calls) == [f"{key} released" for key in keys]

    async def test_t4_cancelling_one_call_leaves_the_others_alone(self) -> None:
        async with self.calling() as caller:
            first, second, third = caller.holding("first", "second", "third")
            await caller.text("wait_for_held", keys=["first", "second", "third"])
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert await caller.text("echo", text="still here") == "still here"
            for key in ("third", "first"):
                await caller.text("release", key=key)
            assert list(await asyncio.gather(first, third)) == ["first released", "third released"]

    async def test_t4_a_call_that_fails_leaves_the_others_alone(self) -> None:
        async with self.calling() as caller:
            (held,) = caller.holding("key")
            await caller.text("wait_for_held", keys=["key"])
            assert (await caller.call("fail", why="no luck")).is_error
            with pytest.raises(InvalidArguments):
                await caller.call("add", left="many")
            with pytest.raises(UnknownTool):
                await caller.call("nothing")
            await caller.text("release", key="key")
            assert await held == "key released"

    async def test_t4_cancelling_a_call_reaches_its_tool(self) -> None:
        self.needs(ToolsCapability.CANCELLATION)
        async with self.calling() as caller:
            (held,) = caller.holding("key")
            await caller.text("wait_for_held", keys=["key"])
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            await caller.text("wait_for_cancelled", keys=["key"])

    async def test_t4_one_source_serves_several_workers(self) -> None:
        async with self.calling() as caller:
            async with SharedResources() as shared:
                other = Caller(caller.world, shared)
                assert await other.text("echo", text="there") == "there"
                assert await caller.text("echo", text="here") == "here"
            # The other worker has closed only its own resources.
            assert await caller.text("echo", text="still here") == "still here"

    # T5: a tool that has changed -----------------------------------------------------------------------

    async def test_t5_a_call_of_a_tool_that_has_changed_says_what_it_is_now(self) -> None:
        async with self.calling() as caller:
            listed = await caller.listed()
            for tool, arguments, failed in ADD, FAIL:
                spec = listed[tool]
                for known in (ANOTHER, spec.fingerprint, None):
                    output = await caller.source.call(spec.name, arguments, caller.resources, known=known)
                    assert output.is_error is failed
                    assert output.changed == (spec if known == ANOTHER else None)
            assert await caller.runs("add") == 3

    @given(arguments=misfits)
    @few_examples(5, in_one_place=True)
    async def test_t5_arguments_that_do_not_fit_a_tool_that_has_changed_are_refused_with_its_schema(
        self, caller: Caller, arguments: dict[str, JSON]
    ) -> None:
        async with self.patience(caller.unanswered):
            spec = (await caller.listed())["add"]
            with pytest.raises(InvalidArguments) as refusal:
                await caller.source.call(spec.name, arguments, caller.resources, known=ANOTHER)
            assert "has changed" in str(refusal.value)
            assert encode(spec.parameters).decode() in str(refusal.value)
            assert await caller.runs("add") == 0

    # T6: whoever else uses the event loop --------------------------------------------------------------

    async def test_t6_listing_does_not_hold_the_event_loop(self) -> None:
        async with self.calling() as caller, loop_that_goes_on():
            await caller.listed()

    async def test_t6_checking_arguments_does_not_hold_the_event_loop(self) -> None:
        async with self.calling() as caller:
            await caller.listed()
            async with loop_that_goes_on():
                for arguments in LARGE:
                    outcome, *_ = await asyncio.gather(
                        caller.call("add", **arguments), return_exceptions=True
                    )
                    # A source that does not check so much leaves it to the tool.
                    assert isinstance(outcome, InvalidArguments) or (
                        isinstance(outcome, ToolOutput) and outcome.is_error
                    )
