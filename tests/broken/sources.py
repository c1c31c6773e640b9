"""Tool sources that break one promise of the tools port each, in a way that somebody might write by mistake.

They prove that the contract suite bites: each is laid over a sound source, and the test that it `fails` does.
The name of that test has the number of the promise. Each docstring says what the mistake is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from outlast.core.agents import ToolSpec
from outlast.core.errors import InvalidArguments, ToolFailed, UnknownTool
from outlast.core.json import JSON
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource

Call = Callable[[Mapping[str, JSON]], Coroutine[Any, Any, ToolOutput]]
"""Makes the call on the sound source, with the given arguments."""


class BrokenSource(ToolSource):
    """A source with one mistake in it, over one without."""

    fails: ClassVar[str]
    """The test that must catch it."""

    def __init__(self, source: ToolSource) -> None:
        self._source = source

    @property
    def name(self) -> str:
        return self._source.name

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return self.listed(list(await self._source.list_tools(resources)))

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return tools

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        return await self.around(tool, arguments, partial(self._call, tool, resources, known))

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        return await call(arguments)

    def given(self, output: ToolOutput) -> ToolOutput:
        return output

    async def _call(
        self, tool: str, resources: Resources, known: str | None, arguments: Mapping[str, JSON]
    ) -> ToolOutput:
        return self.given(await self._source.call(tool, arguments, resources, known=known))

    def effect(self, tool: str) -> Effect:
        return self._source.effect(tool)


# T1 ------------------------------------------------------------------------------------------------------


class ListsAPageTwice(BrokenSource):
    """Follows the listing's cursor and begins with the last tool of the page before."""

    fails = "test_t1_every_tool_is_listed_once_and_by_name"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [*tools[:5], *tools[4:]]


class ListsTheFirstPage(BrokenSource):
    """Does not follow the listing's cursor."""

    fails = "test_t1_every_tool_is_listed_once_and_by_name"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return tools[:5]


class ListsAsTheyCome(BrokenSource):
    """Lists the tools in the order of the answers."""

    fails = "test_t1_every_tool_is_listed_once_and_by_name"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [*tools[5:], *tools[:5]]


class NumbersItsListings(BrokenSource):
    """Puts a random number into each description."""

    fails = "test_t1_listing_again_gives_the_same"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [tool.with_(description=f"{tool.description} ({random.random()})") for tool in tools]


class WritesPythonTypes(BrokenSource):
    """Names types as Python does: that is not a JSON schema."""

    fails = "test_t1_a_schema_is_valid_and_accepts_the_arguments_that_fit"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        python: dict[str, JSON] = {"type": "object", "properties": {"left": {"type": "int"}}}
        return [tool.with_(parameters=python) for tool in tools]


class ListsPropertiesAlone(BrokenSource):
    """Gives the properties for the whole schema, so that any arguments fit."""

    fails = "test_t1_a_schema_is_valid_and_accepts_the_arguments_that_fit"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [tool.with_(parameters=tool.parameters["properties"]) for tool in tools]


class ForgetsWhatIsRequired(BrokenSource):
    """Calls every argument optional."""

    fails = "test_t1_a_schema_is_valid_and_accepts_the_arguments_that_fit"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [tool.with_(parameters={**tool.parameters, "required": []}) for tool in tools]


class DescribesNothing(BrokenSource):
    """Lists the tools by name alone."""

    fails = "test_t1_a_tool_is_described_in_the_words_of_its_author"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        return [tool.with_(description="") for tool in tools]


class TriesWhatItLists(BrokenSource):
    """Calls a tool to see whether it is there."""

    fails = "test_t1_listing_runs_nothing"

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        await self._source.call("version", {}, resources)
        return await super().list_tools(resources)


# T2 ------------------------------------------------------------------------------------------------------


class RoundsNumbers(BrokenSource):
    """Writes large numbers in scientific notation, with six digits."""

    fails = "test_t2_numbers_arrive_as_they_were_sent"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        rounded = {
            key: int(float(f"{value:.6g}")) if isinstance(value, int) else value
            for key, value in arguments.items()
        }
        return await call(rounded)


class StripsText(BrokenSource):
    """Removes the white space around a result."""

    fails = "test_t2_text_arrives_as_it_was_sent"

    def given(self, output: ToolOutput) -> ToolOutput:
        content = output.content
        return output.with_(content=content.strip() if isinstance(content, str) else content)


class SpeaksAscii(BrokenSource):
    """Decodes results as ASCII."""

    fails = "test_t2_a_result_may_be_in_any_script"

    def given(self, output: ToolOutput) -> ToolOutput:
        content = output.content
        if isinstance(content, str):
            content = content.encode("ascii", "replace").decode()
        return output.with_(content=content)


class ExpectsArguments(BrokenSource):
    """Takes empty arguments for missing ones."""

    fails = "test_t2_a_tool_without_arguments_needs_none"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        if not arguments:
            raise InvalidArguments(tool, ["there are none"])
        return await call(arguments)


class KeepsTextOnly(BrokenSource):
    """Drops the structure of a result."""

    fails = "test_t2_a_structured_result_is_sent_as_text_and_kept"

    def given(self, output: ToolOutput) -> ToolOutput:
        return output.with_(structured=None)


class HandsOutTuples(BrokenSource):
    """Gives a structure that a journal cannot keep as it is."""

    fails = "test_t2_an_output_is_equal_to_what_a_journal_keeps_of_it"

    def given(self, output: ToolOutput) -> ToolOutput:
        if isinstance(output.structured, dict):
            return output.with_(structured={key: (value,) for key, value in output.structured.items()})
        return output


class TakesErrorsForResults(BrokenSource):
    """Does not look at whether the tool reports an error."""

    fails = "test_t2_an_error_that_the_tool_reports_is_an_output"

    def given(self, output: ToolOutput) -> ToolOutput:
        return output.with_(is_error=False)


class RaisesReportedErrors(BrokenSource):
    """Raises the error that a tool reports, as if the infrastructure had failed."""

    fails = "test_t2_an_error_that_the_tool_reports_is_an_output"

    def given(self, output: ToolOutput) -> ToolOutput:
        if output.is_error:
            raise ToolFailed("?", "ToolError", str(output.content))
        return output


class HidesReportedErrors(BrokenSource):
    """Says that the tool failed, without its message."""

    fails = "test_t2_an_error_that_the_tool_reports_is_an_output"

    def given(self, output: ToolOutput) -> ToolOutput:
        return output.with_(content="the tool failed") if output.is_error else output


class TriesErrorsAgain(BrokenSource):
    """Repeats a call by itself, which only the engine may do."""

    fails = "test_t2_a_call_runs_its_tool_once"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        output = await call(arguments)
        return await call(arguments) if output.is_error else output


class RemembersResults(BrokenSource):
    """Answers the same call from memory."""

    fails = "test_t2_a_call_runs_its_tool_once"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._known: dict[tuple[str, str], ToolOutput] = {}

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        key = tool, repr(arguments)
        if key not in self._known:
            self._known[key] = await call(arguments)
        return self._known[key]


# T3 ------------------------------------------------------------------------------------------------------


class RunsBeforeItChecks(BrokenSource):
    """Finds out that arguments do not fit when the tool has already run."""

    fails = "test_t3_arguments_that_do_not_fit_are_refused_before_anything_runs"

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        if tool == "add":
            await self._source.call(tool, {"left": 0, "right": 0}, resources)
        return await super().call(tool, arguments, resources, known=known)


class FillsInWhatIsMissing(BrokenSource):
    """Gives a value to missing arguments."""

    fails = "test_t3_arguments_that_do_not_fit_are_refused_before_anything_runs"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        if tool == "add":
            arguments = {"left": arguments.get("left", 0), "right": arguments.get("right", 0)}
        return await call(arguments)


class ReturnsMisfits(BrokenSource):
    """Makes an output of arguments that do not fit, as a server does that checks them itself."""

    fails = "test_t3_arguments_that_do_not_fit_are_refused_before_anything_runs"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except InvalidArguments as error:
            return ToolOutput(content=str(error), is_error=True)


class LooksUpUnknownTools(BrokenSource):
    """Lets the failed look-up of an unknown tool through."""

    fails = "test_t3_an_unknown_tool_is_refused"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except UnknownTool as error:
            raise KeyError(tool) from error


class ReturnsInfrastructureFailures(BrokenSource):
    """Returns a failure of the infrastructure as an error of the tool, so that nothing is retried."""

    fails = "test_t3_an_infrastructure_failure_is_raised"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except OSError as error:
            return ToolOutput(content=str(error), is_error=True)


class BlamesTheTool(BrokenSource):
    """Raises every failure as one of the tool."""

    fails = "test_t3_an_infrastructure_failure_is_raised"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except OSError as error:
            raise ToolFailed(tool, type(error).__name__, str(error)) from error


class ThinksAllIsRepeatable(BrokenSource):
    """Says of every tool that it may be repeated."""

    fails = "test_t3_an_effect_is_never_declared_weaker_than_it_is"

    def effect(self, tool: str) -> Effect:
        return "idempotent"


class ThinksUnknownToolsHarmless(BrokenSource):
    """Says of a tool that it does not know that it does nothing."""

    fails = "test_t3_an_unknown_tool_is_refused"

    def effect(self, tool: str) -> Effect:
        effect = super().effect(tool)
        return "idempotent" if effect == "once" and tool not in ("fail", "hold") else effect


class KnowsNoEffects(BrokenSource):
    """Does not declare the effects that it knows."""

    fails = "test_t3_a_source_that_knows_the_effects_declares_them"

    def effect(self, tool: str) -> Effect:
        return "once"


# T4 ------------------------------------------------------------------------------------------------------


class OneAtATime(BrokenSource):
    """Lets a call wait for the one before."""

    fails = "test_t4_many_calls_run_at_once_and_each_gets_its_own_result"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._free = asyncio.Lock()

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        async with self._free:
            return await call(arguments)


class AFewAtATime(BrokenSource):
    """Has a pool with fewer places than calls."""

    fails = "test_t4_many_calls_run_at_once_and_each_gets_its_own_result"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._free = asyncio.Semaphore(10)

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        async with self._free:
            return await call(arguments)


class AnswersInTurn(BrokenSource):
    """Gives the answer that comes first to the call that has waited longest."""

    fails = "test_t4_many_calls_run_at_once_and_each_gets_its_own_result"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._waiting: list[asyncio.Future[ToolOutput]] = []

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        if tool != "hold":
            return await call(arguments)
        answer: asyncio.Future[ToolOutput] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        output = await call(arguments)
        self._waiting.pop(0).set_result(output)
        return await answer


class FallsTogether(BrokenSource):
    """Ends every call when one is cancelled, as if the first caller that leaves closed the connection."""

    fails = "test_t4_cancelling_one_call_leaves_the_others_alone"
    ends_with: ClassVar[type[BaseException]] = asyncio.CancelledError

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._running: set[asyncio.Task[ToolOutput]] = set()

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        task = asyncio.create_task(call(arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except self.ends_with:
            for other in list(self._running):
                other.cancel()
            raise


class FailsTogether(FallsTogether):
    """Ends every call when one is refused."""

    fails = "test_t4_a_call_that_fails_leaves_the_others_alone"
    ends_with = InvalidArguments


class CannotBeCancelled(BrokenSource):
    """Goes on with a call when it is cancelled."""

    fails = "test_t4_cancelling_one_call_leaves_the_others_alone"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except asyncio.CancelledError:
            return ToolOutput(content="cancelled", is_error=True)


class LeavesToolsRunning(BrokenSource):
    """Stops waiting when a call is cancelled, and does not cancel the tool."""

    fails = "test_t4_cancelling_a_call_reaches_its_tool"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._running: set[asyncio.Task[Any]] = set()

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        task = asyncio.ensure_future(call(arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


class BelongsToOneWorker(BrokenSource):
    """Keeps the connection of the first worker on itself."""

    fails = "test_t4_one_source_serves_several_workers"

    def __init__(self, source: ToolSource) -> None:
        super().__init__(source)
        self._first: Resources | None = None

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        self._first = self._first or resources
        if resources is not self._first:
            raise ConnectionError("connected to another worker")
        return await super().call(tool, arguments, resources, known=known)


# T5 ------------------------------------------------------------------------------------------------------


class NeverSeesAChange(BrokenSource):
    """Calls a tool as it is now, and says nothing of it."""

    fails = "test_t5_a_call_of_a_tool_that_has_changed_says_what_it_is_now"

    def given(self, output: ToolOutput) -> ToolOutput:
        return output.with_(changed=None)


class SeesChangesEverywhere(BrokenSource):
    """Returns the description of the tool with every call."""

    fails = "test_t5_a_call_of_a_tool_that_has_changed_says_what_it_is_now"

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        return await super().call(tool, arguments, resources, known="")


class ReportsChangesOfSuccessAlone(BrokenSource):
    """Says nothing of a change where the tool has reported an error."""

    fails = "test_t5_a_call_of_a_tool_that_has_changed_says_what_it_is_now"

    def given(self, output: ToolOutput) -> ToolOutput:
        return output.with_(changed=None) if output.is_error else output


class KeepsTheSchemaToItself(BrokenSource):
    """Refuses arguments that do not fit any more without saying what would."""

    fails = "test_t5_arguments_that_do_not_fit_a_tool_that_has_changed_are_refused_with_its_schema"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        try:
            return await call(arguments)
        except InvalidArguments as error:
            raise InvalidArguments(error.tool, error.faults[:-1]) from error


# T6 ------------------------------------------------------------------------------------------------------


def compute(seconds: float) -> None:
    """Use the processor, as the check of an unbounded schema does."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


class ChecksSchemasInTheEventLoop(BrokenSource):
    """Checks the schemas of all tools at once, where every execution waits for it."""

    fails = "test_t6_listing_does_not_hold_the_event_loop"

    def listed(self, tools: list[ToolSpec]) -> list[ToolSpec]:
        compute(0.7)
        return tools


class ChecksArgumentsToTheEnd(BrokenSource):
    """Compares all of the arguments with all of the schema, however much that is."""

    fails = "test_t6_checking_arguments_does_not_hold_the_event_loop"

    async def around(self, tool: str, arguments: Mapping[str, JSON], call: Call) -> ToolOutput:
        compute(len(repr(arguments)) / 1e6)
        return await call(arguments)


BROKEN_SOURCES: tuple[type[BrokenSource], ...] = tuple(
    one
    for one in vars().copy().values()
    if isinstance(one, type) and issubclass(one, BrokenSource) and one is not BrokenSource
)
"""Each broken source is caught by the test that it names."""
