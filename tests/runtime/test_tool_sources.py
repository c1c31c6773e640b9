"""Tool sources in a run: their steps in the journal, their outputs and their failures."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.agents import ToolSpec
from outlast.core.errors import DefinitionError, UnknownTool
from outlast.core.events import ActivityCompletedData, ResultUnsentData, ToolCalledData, ToolReturnedData
from outlast.core.json import JSON
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelRequest
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolList, ToolOutput, ToolSource
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.testing.contracts.durability.stage import all_events, data_of
from tests.runtime.stages import in_memory

OBJECT: dict[str, JSON] = {"type": "object", "properties": {}}


class Shelf(ToolSource):
    """A source whose tools a test can hold up, and which it can take away."""

    def __init__(self, name: str = "shelf", effect: Effect = "once") -> None:
        self._name = name
        self._effect = effect
        self.is_gone = False
        self.failures: list[Exception] = []
        """The errors that the next calls and listings raise, one each."""
        self.outputs: dict[str, ToolOutput] = {}
        self.tools = [ToolSpec(name=tool, description=tool, parameters=OBJECT) for tool in ("take", "wait")]
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.cancelled = 0
        self.done: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._name

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        self.done["list"] += 1
        self._stumble()
        return self.tools

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        self.done[tool] += 1
        self._stumble()
        if tool == "wait":
            self.reached.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.outputs.get(tool, ToolOutput(content=f"{tool} done"))

    def effect(self, tool: str) -> Effect:
        return self._effect

    def _stumble(self) -> None:
        if self.is_gone:
            raise ConnectionError("the shelf is gone")
        if self.failures:
            raise self.failures.pop(0)


class Scene:
    """The objects that the workflow of a test uses."""

    tools: Sequence[Any]
    script: Any


@outlast.workflow.define(name="sources.script")
class Script:
    """Runs an agent with the scene's tools on the scene's script, and waits to be let go."""

    def __init__(self) -> None:
        self.is_over = True

    @outlast.workflow.entrypoint
    async def run(self, waits: bool = False) -> list[str]:
        session = outlast.ScriptedSession({"solo": Scene.script})
        agent = outlast.Agent(model="m", name="solo", tools=Scene.tools)
        result = await outlast.Runner.run(agent, "go", session)
        self.is_over = not waits
        await outlast.workflow.wait_condition(lambda: self.is_over)
        return answers(result)

    @outlast.workflow.signal
    def leave(self) -> None:
        self.is_over = True

    @outlast.workflow.query
    def has_run(self) -> bool:
        return not self.is_over


def answers(result: outlast.RunResult) -> list[str]:
    wire = [entry.to_wire() for entry in result.entries]
    return [entry["result"] for entry in wire if entry["type"] == "function.result"]


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    Scene.tools = [shelf]
    Scene.script = [call("take"), say("done")]
    return shelf


async def run_plainly(*tools: Any, script: Any = None) -> list[str]:
    agent = outlast.Agent(model="m", name="solo", tools=tools)
    return answers(
        await outlast.Runner.run(agent, "go", outlast.ScriptedSession({"solo": script or Scene.script}))
    )


async def test_the_tool_list_and_each_call_are_journaled_once_and_replay_without_the_source(
    shelf: Shelf,
) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Script, True)
        process = await stage.worker(Script)
        await stage.event(execution, "tool_returned")
        await stage.until(lambda: has_run(execution))
        await stage.lose(process)
        shelf.is_gone = True
        await stage.worker(Script)
        await (await stage.again(execution)).signal("leave")
        assert await stage.soon((await stage.again(execution)).result()) == ["take done"]
        assert shelf.done == {"list": 1, "take": 1}
        events = await all_events(execution)
        (listed,) = data_of(events, ActivityCompletedData)
        assert listed.name == "list tools of shelf"
        tools = ToolList.model_validate(listed.result)
        assert [tool.name for tool in tools.tools] == ["take", "wait"]
        assert tools.fingerprint == ToolList.of(shelf.tools).fingerprint
        (called,), (returned,) = data_of(events, ToolCalledData), data_of(events, ToolReturnedData)
        assert (called.tool, called.source) == (returned.tool, returned.source) == ("take", "shelf")
        assert returned.result == "take done"


@outlast.workflow.define(name="sources.astray")
class Astray:
    """Runs an agent that names an agent which nobody can reach, perhaps as a tool of another one."""

    @outlast.workflow.entrypoint
    async def run(self, as_tool: bool) -> None:
        agent = outlast.Agent(model="m", name="solo", tools=Scene.tools, handoffs=["nobody"])
        if as_tool:
            agent = outlast.Agent(model="m", name="chief", tools=[agent])
        await outlast.Runner.run(agent, "go", outlast.ScriptedSession({"solo": ["Hello."]}))


@pytest.mark.parametrize("as_tool", [False, True])
async def test_a_handoff_that_leads_nowhere_is_refused_before_a_source_is_asked(
    shelf: Shelf, as_tool: bool
) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Astray, as_tool)
        await stage.worker(Astray)
        with pytest.raises(
            outlast.ExecutionFailed, match="'solo' hands off to 'nobody', which the start agent"
        ):
            await stage.soon(execution.result())
        assert shelf.done == {}
        kinds = [event.kind for event in await all_events(execution)]
        assert kinds == ["execution_started", "execution_failed"]


@outlast.workflow.define(name="sources.twice")
class Twice:
    """Runs the same agent several times."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        async def once() -> list[str]:
            agent = outlast.Agent(model="m", name="solo", tools=Scene.tools)
            return answers(
                await outlast.Runner.run(agent, "go", outlast.ScriptedSession({"solo": Scene.script}))
            )

        return [*await once(), *itertools.chain(*await asyncio.gather(once(), once())), *await once()]


async def test_an_execution_asks_a_source_once_whatever_the_number_of_its_runs(shelf: Shelf) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Twice)
        await stage.worker(Twice)
        assert await stage.soon(execution.result()) == ["take done"] * 4
        assert shelf.done == {"list": 1, "take": 4}


class Optional(Shelf):
    """A source that a run can do without."""

    @property
    def required(self) -> bool:
        return False


async def test_a_run_goes_on_without_a_source_that_is_not_required_and_says_so(shelf: Shelf) -> None:
    gone, script = Optional("cupboard"), [call("take"), say("done")]
    gone.is_gone = True
    asked: list[str] = []

    def reply(request: ModelRequest) -> Any:
        asked.append(request.graph[request.agent].instructions)
        return script[request.turn - 1]

    agent = outlast.Agent(model="m", name="solo", instructions="Be kind.", tools=[shelf], mcp_clients=[gone])
    for _ in range(2):
        result = await outlast.Runner.run(agent, "go", outlast.ScriptedSession(reply))
        assert answers(result) == ["take done"]
    note = "The tools of cupboard are not available in this conversation; do without, and say so."
    assert asked == [f"Be kind.\n\n{note}"] * 4
    assert gone.done == {"list": 4}


async def test_the_tools_that_a_run_does_without_are_logged_once_and_not_in_a_replay(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    rival = Optional("rival")
    Scene.tools = [shelf, rival]
    async with in_memory() as stage:
        execution, _ = await stage.start(Twice)
        await stage.worker(Twice)
        assert await stage.soon(execution.result()) == ["take done"] * 4
        caplog.clear()
        execution, _ = await stage.start(Script, True)
        process = await stage.worker(Script)
        await stage.until(lambda: has_run(execution))
        await stage.lose(process)
        await stage.worker(Script)
        await (await stage.again(execution)).signal("leave")
        assert await stage.soon((await stage.again(execution)).result()) == ["take done"]
    logged = [record.getMessage() for record in caplog.records if record.name == "outlast.tools"]
    assert [message.split(":")[0] for message in logged] == [
        f"agent 'solo' does not have tool '{tool}' of tool source 'rival'" for tool in ("take", "wait")
    ]
    assert rival.done == {"list": 2}


async def has_run(execution: Execution) -> bool | None:
    return (await execution.query("has_run")) or None


@pytest.mark.parametrize(("effect", "times"), [("once", 1), ("idempotent", 2), ("read", 2)])
async def test_after_a_crash_a_call_is_repeated_only_as_its_effect_allows(
    shelf: Shelf, effect: Effect, times: int
) -> None:
    shelf = Shelf(effect=effect)
    Scene.tools, Scene.script = [shelf], [call("wait"), say("done")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        process = await stage.worker(Script)
        await stage.soon(shelf.reached.wait())
        await stage.lose(process)
        shelf.gate.set()
        await stage.worker(Script)
        (answer,) = await stage.later((await stage.again(execution)).result(), 60)
        assert shelf.done == {"list": 1, "wait": times}
        if effect == "once":
            assert "OutcomeUnknown" in answer
            assert "unknown whether" in answer
        else:
            assert answer == "wait done"


@pytest.mark.parametrize(("effect", "part"), [("idempotent", "take done"), ("once", "ConnectionError: cut")])
async def test_a_call_that_fails_is_tried_again_only_as_its_effect_allows(effect: Effect, part: str) -> None:
    class Cut(Shelf):
        async def call(
            self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
        ) -> ToolOutput:
            if not self.done[tool]:
                self.failures.append(ConnectionError("cut"))
            return await super().call(tool, arguments, resources, known=known)

    Scene.tools, Scene.script = [Cut(effect=effect)], [call("take"), say("done")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        await stage.worker(Script)
        (answer,) = await stage.later(execution.result(), 60)
        assert part in answer


async def test_an_error_that_a_tool_reports_is_sent_to_the_model(shelf: Shelf) -> None:
    shelf.outputs["take"] = ToolOutput(content="the shelf is empty", is_error=True)
    (answer,) = await run_plainly(shelf)
    assert "'take' failed" in answer
    assert "the shelf is empty" in answer
    assert shelf.done["take"] == 1


async def test_an_error_that_a_tool_reports_ends_the_run_if_the_session_says_so(shelf: Shelf) -> None:
    shelf.outputs["take"] = ToolOutput(content="the shelf is empty", is_error=True)
    session = outlast.ScriptedSession({"solo": [call("take")]}, raise_on_tool_fail=True)
    with pytest.raises(outlast.ToolFailed, match="the shelf is empty"):
        await outlast.Runner.run(outlast.Agent(model="m", name="solo", tools=[shelf]), "go", session)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (ToolOutput(content="three", structured={"result": 3}), "three"),
        (ToolOutput(content="", structured={"result": 3}), '{"result":3}'),
        (ToolOutput(content=""), ""),
        (ToolOutput(content=(outlast.TextChunk(text="one "), outlast.TextChunk(text="two"))), "one two"),
        (
            ToolOutput(
                content=(
                    outlast.TextChunk(text="see"),
                    outlast.DocumentURLChunk(document_url="https://a.b/c"),
                )
            ),
            '[{"type":"text","text":"see"},{"type":"document_url","document_url":"https://a.b/c"}]',
        ),
        (
            ToolOutput(
                content=(
                    outlast.TextChunk(text="y" * 2000),
                    outlast.ImageURLChunk(image_url="data:image/png;base64," + "A" * 5000),
                )
            ),
            '[{"type":"text","text":"' + "y" * 2000 + '"},{"type":"image_url",'
            '"image_url":"data:image/png;base64,AAAAAAAAAAAAAAAAAA… (5022 characters, not shown)"}]',
        ),
    ],
)
async def test_the_model_gets_the_whole_content(shelf: Shelf, output: ToolOutput, expected: str) -> None:
    shelf.outputs["take"] = output
    assert await run_plainly(shelf) == [expected]


@outlast.activity(name="sources_add", effect="read")
async def add(left: int, right: int) -> int:
    """Add."""
    return left + right


@outlast.activity(name="take")
async def take() -> str:
    """Take."""
    return "taken"


async def test_arguments_that_do_not_fit_are_reported_to_the_model_and_not_tried_again() -> None:
    script = [call("sources_add", {"left": "many"}), call("sources_add", {"left": 1, "right": 2}), say("3")]
    refused, answer = await run_plainly(ActivitySource(add), script=script)
    assert refused.startswith("invalid arguments for 'sources_add'")
    assert "right: missing" in refused
    assert "left: " in refused
    assert answer == "3"


async def test_a_tool_that_has_gone_since_it_was_listed_is_reported_to_the_model(shelf: Shelf) -> None:
    class Emptied(Shelf):
        async def call(
            self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
        ) -> ToolOutput:
            raise UnknownTool(tool, self.name)

    (answer,) = await run_plainly(Emptied())
    assert "has no tool named 'take'" in answer


class Changed(Shelf):
    """A source whose tools have changed since they were listed."""

    now = ToolSpec(name="take", description="take by name", parameters=OBJECT)

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        output = await super().call(tool, arguments, resources, known=known)
        return output if known in (None, self.now.fingerprint) else output.with_(changed=self.now)


async def test_a_tool_that_has_changed_since_it_was_listed_is_reported_to_the_model_once_a_run() -> None:
    shelf = Changed()
    shelf.outputs["wait"] = ToolOutput(content="nothing to wait for", is_error=True)
    shelf.gate.set()
    Scene.tools, Scene.script = [shelf], [call("take"), call("take"), call("wait"), say("done")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script, True)
        process = await stage.worker(Script)
        await stage.until(lambda: has_run(execution))
        await stage.lose(process)  # the report is in the journal: a replay sends the same
        await stage.worker(Script)
        await (await stage.again(execution)).signal("leave")
        first, second, failed = await stage.soon((await stage.again(execution)).result())
        assert first.startswith("take done\n\n[The tool 'take' has changed since it was listed to you")
        assert '{"description":"take by name","parameters":{"type":"object","properties":{}}}' in first
        assert second == "take done"
        assert "nothing to wait for" in failed
        assert "has changed since it was listed to you" in failed
        assert shelf.done == {"list": 1, "take": 2, "wait": 1}


async def test_names_that_clash_are_refused_before_the_model_is_asked(shelf: Shelf) -> None:
    never = outlast.ScriptedSession(lambda request: pytest.fail("the model was asked"))

    async def refused(match: str, start: outlast.Agent) -> None:
        with pytest.raises(DefinitionError, match=match):
            await outlast.Runner.run(start, "go", never)

    def agent(*tools: Any, **more: Any) -> outlast.Agent:
        return outlast.Agent(model="m", name="solo", tools=tools, **more)

    await refused("two tools or handoffs called 'take'", agent(shelf, take))
    await refused("two tools or handoffs called 'take'", agent(shelf, Shelf("cupboard")))
    await refused("two tools or handoffs called 'take'", agent(shelf, mcp_clients=[shelf]))
    await refused("two tool sources are called 'shelf'", agent(shelf, Shelf()))
    other = outlast.Agent(model="m", name="other", tools=[Shelf()])
    await refused("two tool sources are called 'shelf'", agent(shelf, handoffs=[other]))


async def test_agents_may_share_a_source_which_is_then_listed_once(shelf: Shelf) -> None:
    other = outlast.Agent(model="m", name="other", mcp_clients=[shelf])
    start = outlast.Agent(model="m", name="solo", tools=[shelf], handoffs=[other])
    result = await outlast.Runner.run(start, "go", outlast.ScriptedSession({"solo": Scene.script}))
    assert answers(result) == ["take done"]
    assert shelf.done == {"list": 1, "take": 1}


@pytest.mark.parametrize("tools", [[Shelf], [object()], ["shelf"]])
async def test_an_object_that_is_not_a_tool_is_refused(tools: list[Any]) -> None:
    with pytest.raises(DefinitionError, match="something in tools that is not a tool"):
        await run_plainly(*tools, script=[say("no")])


def test_an_object_that_is_not_an_mcp_client_is_refused_without_being_shown() -> None:
    with pytest.raises(DefinitionError, match="not a tool source: dict") as refusal:
        outlast.Agent(model="m", name="solo", mcp_clients=[{"token": "key-51e2"}])  # type: ignore[list-item]
    assert "key-51e2" not in str(refusal.value)


async def test_a_source_that_cannot_be_listed_ends_the_run_with_a_clear_error(shelf: Shelf) -> None:
    shelf.is_gone = True
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        await stage.worker(Script)
        with pytest.raises(outlast.ExecutionFailed, match="list tools of shelf") as failed:
            await stage.later(execution.result(), 600)
        assert isinstance(failed.value.__cause__, outlast.ActivityFailed)
        assert "the shelf is gone" in str(failed.value)
        assert shelf.done == {"list": 5}


async def test_a_listing_that_fails_now_and_then_is_tried_again(shelf: Shelf) -> None:
    shelf.failures = [ConnectionError("cut"), ConnectionError("cut again")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        await stage.worker(Script)
        assert await stage.later(execution.result(), 60) == ["take done"]
        assert shelf.done == {"list": 3, "take": 1}


async def test_cancelling_a_run_cancels_its_call(shelf: Shelf) -> None:
    Scene.script = [call("wait"), say("done")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        await stage.worker(Script)
        await stage.soon(shelf.reached.wait())
        await execution.cancel()
        with pytest.raises(outlast.ExecutionCancelled):
            await stage.soon(execution.result())
        await stage.pass_time(1)
        assert shelf.cancelled == 1
        assert len(data_of(await all_events(execution), ResultUnsentData)) == 1


async def test_an_activity_that_a_source_offers_is_a_step_of_the_workflow() -> None:
    Scene.tools = [ActivitySource(add, take, name="desk")]
    Scene.script = [[call("sources_add", {"left": 1, "right": 2}), call("take")], say("done")]
    async with in_memory() as stage:
        execution, _ = await stage.start(Script)
        await stage.worker(Script)
        assert await stage.soon(execution.result()) == ["3", "taken"]
        assert len(data_of(await all_events(execution), ToolReturnedData)) == 2


@outlast.activity(name="sources_key")
async def key() -> str:
    """Return the idempotency key."""
    return outlast.activity.info().idempotency_key


async def test_an_activity_behind_a_source_knows_its_attempt() -> None:
    (key_seen,) = await run_plainly(ActivitySource(key), script=[call("sources_key"), say("done")])
    assert "/run:" in key_seen
