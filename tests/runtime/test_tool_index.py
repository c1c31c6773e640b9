"""Tools that a model searches: what it sees, what it may call, and what stays the same in a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.agents import TOOLS_MAX
from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.json import JSON, decode
from outlast.ports.llm import ModelRequest
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.definitions.agent_binding import bind_agents, sources_of
from outlast.runtime.definitions.tool_index import IndexSource


def tool(number: int, about: str = "thing") -> Callable[[], str]:
    def numbered() -> str:
        return f"{about} {number}"

    numbered.__name__ = f"{about}_{number}"
    return numbered


def things(count: int) -> list[Any]:
    return [tool(number) for number in range(count)]


class Warehouse(ToolSource):
    """A source of many tools."""

    def __init__(self, count: int = 3, required: bool = True) -> None:
        self.count = count
        self._required = required
        self.listed = 0

    @property
    def name(self) -> str:
        return "warehouse"

    @property
    def required(self) -> bool:
        return self._required

    async def list_tools(self, resources: Resources) -> Sequence[outlast.ToolSpec]:
        self.listed += 1
        return [
            outlast.ToolSpec(name=f"box_{number}", description="Opens a box.", parameters={"type": "object"})
            for number in range(self.count)
        ]

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        return ToolOutput(content=f"{tool} is open")

    def effect(self, tool: str) -> Effect:
        return "read"


class Play:
    """Plays replies in order, and keeps the tools that the model saw."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.seen: list[list[str]] = []
        self.session = outlast.ScriptedSession(self.reply, may_call_unknown_tools=True)

    def reply(self, request: ModelRequest) -> Any:
        self.seen.append([tool.name for tool in request.graph[request.agent].tools])
        return self.replies.pop(0)

    async def run(self, *tools: Any, **options: Any) -> list[str]:
        """Return the results that the model got."""
        agent = outlast.Agent(model="m", name="solo", tools=tools, **options)
        result = await outlast.Runner.run(agent, "Go.", self.session)
        return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]


def search(query: str) -> outlast.FunctionCall:
    return call("search_tools", {"query": query})


async def test_a_model_sees_what_it_has_found_for_the_rest_of_the_run() -> None:
    play = Play(
        search("box 1"),
        search("nothing like it"),
        [call("box_1"), search("thing")],
        call("thing_0"),
        say("."),
    )
    warehouse = Warehouse()
    results = await play.run(outlast.ToolIndex([*things(2), warehouse], limit=1), tool(7, "own"))
    always = ["search_tools", "own_7"]
    assert play.seen == [always, *[[*always, "box_1"]] * 2, *[[*always, "box_1", "thing_0"]] * 2]
    found, nothing, opened, again, done = results
    assert decode(found.encode()) == {"found": [{"name": "box_1", "description": "Opens a box."}]}
    assert decode(nothing.encode()) == {"found": [], "note": "no tool was found; try other words"}
    assert (opened, done) == ("box_1 is open", "thing 0")
    assert "thing_0" in again
    assert warehouse.listed == 1


async def test_each_run_begins_with_what_the_agent_always_sees() -> None:
    play = Play(search("thing"), say("."), say("."))
    agent = outlast.Agent(model="m", name="solo", tools=[outlast.ToolIndex(things(1))])
    for _ in range(2):
        await outlast.Runner.run(agent, "Go.", play.session)
    assert play.seen == [["search_tools"], ["search_tools", "thing_0"], ["search_tools"]]


async def test_a_tool_that_the_model_knows_from_before_can_be_called() -> None:
    play = Play([call("thing_1"), call("thing_9")], say("."))
    known, unknown = await play.run(outlast.ToolIndex(things(2)))
    assert known == "thing 1"
    assert "search_tools" in unknown


async def test_a_search_of_the_user_decides_what_is_found() -> None:
    def backwards(query: str, tools: Sequence[outlast.ToolSpec]) -> list[str]:
        return [tool.name for tool in reversed(tools) if query in tool.name]

    play = Play(search("thing"), search("own"), say("."))
    indexes = [
        outlast.ToolIndex(things(5), search=backwards, limit=2),
        outlast.ToolIndex([tool(1, "own")], name="more", search=backwards),
    ]
    await play.run(*indexes)
    assert play.seen[-1] == ["search_tools", "more", "thing_4", "thing_3"]


async def test_a_search_that_returns_something_else_is_a_failed_call() -> None:
    play = Play(search("thing"), say("."))
    [failed] = await play.run(outlast.ToolIndex(things(1), search=lambda query, tools: ["nothing"]))
    assert "returned 'nothing', which is not one of its tools" in failed


async def test_a_model_is_shown_no_more_tools_than_an_api_accepts() -> None:
    index = outlast.ToolIndex(things(300), limit=100)
    play = Play(search("thing"), search(" ".join(map(str, range(100, 200)))), say("."))
    first, second = await play.run(index)
    assert [len(seen) for seen in play.seen[:2]] == [1, 101]
    assert "note" not in first
    assert len(play.seen[-1]) == TOOLS_MAX
    assert "which is the most" in second
    assert len(decode(second.encode())["found"]) == TOOLS_MAX - 101
    assert len(set(play.seen[-1])) == TOOLS_MAX


async def test_sources_that_are_not_required_need_no_room_in_an_index() -> None:
    agent = outlast.Agent(model="m", name="solo", tools=[outlast.ToolIndex([Warehouse(required=False)])])
    listed = await Warehouse(300).list_tools(None)  # type: ignore[arg-type]  # it needs no connection
    agents = bind_agents(agent, {"warehouse": listed})
    assert len(agents.graph["solo"].indexed) == 300
    assert agents.left_out == []


async def test_approvals_and_guardrails_hold_for_tools_in_an_index() -> None:
    play = Play(search("box 1"), call("box_1"), say("."))
    index = outlast.ToolIndex([Warehouse()])
    results = await play.run(index, tool_input_guardrails={"box_1": lambda arguments: outlast.Reject("no")})
    assert "rejected by '<lambda>'" in results[1]
    with pytest.raises(NotSupported, match="approval"):
        await Play().run(index, requires_approval={"box_2": True})
    with pytest.raises(DefinitionError, match="requires approval of a tool 'box_7' that it does not have"):
        await Play().run(index, requires_approval={"box_7": True})


async def test_an_agent_in_an_index_is_a_tool() -> None:
    helper = outlast.Agent(model="m", name="helper", description="Helps.")
    play = Play(search("helper"), call("helper", {"input": "Help."}), say("Helped."), say("."))
    assert (await play.run(outlast.ToolIndex([helper])))[1] == "Helped."
    cyclic: Any = outlast.AgentTool(lambda: boss)
    boss = outlast.Agent(model="m", name="boss", tools=[outlast.ToolIndex([cyclic])])
    with pytest.raises(DefinitionError, match="is a tool of itself"):
        await outlast.Runner.run(boss, "Go.", Play().session)


async def later(query: str, tools: Any) -> list[str]:
    """Take too long."""
    return []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"limit": 0}, "limit of tool index 'search_tools' is 0"),
        ({"search": later}, "must be a plain function"),
        ({"search": 7}, "must be a plain function"),
        ({"name": "a b"}, "a name the model API refuses"),
        ({"tools": [outlast.ToolIndex([])]}, "has another one in it"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_at_its_definition(options: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        outlast.ToolIndex(**{"tools": [], **options})


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ([outlast.ToolIndex([outlast.WebSearchTool()])], "something in tools that is not a tool"),
        ([outlast.ToolIndex(things(1)), tool(0)], "two tools or handoffs called 'thing_0'"),
        ([outlast.ToolIndex([]), outlast.ToolIndex([])], "two tools or handoffs called 'search_tools'"),
        ([outlast.ToolIndex([tool(1, "box"), Warehouse()])], "two tools or handoffs called 'box_1'"),
    ],
)
async def test_an_agent_with_an_index_that_it_cannot_have_is_refused(tools: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        await Play().run(*tools)


async def test_the_source_of_an_index_only_lists() -> None:
    agent = outlast.Agent(model="m", name="solo", tools=[outlast.ToolIndex(things(1))])
    [source] = sources_of(agent).values()
    [again] = sources_of(agent).values()
    assert isinstance(source, IndexSource)
    assert (source.name, source, hash(source)) == ("solo/search_tools", again, hash(again))
    assert (source.effect("thing_0"), source.required) == ("read", True)
    with pytest.raises(outlast.UnknownTool):
        await source.call("thing_0", {}, None)  # type: ignore[arg-type]  # it needs no connection


@outlast.activity(name="index_wait")
async def wait() -> str:
    """Wait for a while."""
    return "waited"


catalogue: list[Any] = []
searches: list[str] = []


@outlast.workflow.define(name="index.searching")
class Searching:
    """Searches, and calls what it has found in a later run of its code."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        def script(request: ModelRequest) -> Any:
            match request.turn:
                case 1:
                    return search("thing")
                case 2:
                    return [call("index_wait"), call("index_ask")]
            return say(",".join(tool.name for tool in request.graph["solo"].tools))

        async def index_ask() -> str:
            """Ask a person."""
            return await outlast.workflow.ask("Well?")

        agent = outlast.Agent(
            model="m", name="solo", tools=[outlast.ToolIndex([*catalogue], limit=2), wait, index_ask]
        )
        return [(await outlast.Runner.run(agent, "Go.", outlast.ScriptedSession(script))).text]


async def test_a_search_finds_in_a_replay_what_it_found_before_though_tools_have_changed(
    tmp_path: Path,
) -> None:
    catalogue[:] = [tool(1), tool(2)]
    async with outlast.connect(f"sqlite:///{tmp_path}/runs.db") as backend:
        execution = await backend.start(Searching, id="s-1")
        async with backend.worker([Searching], max_cached_executions=0):
            async for event in execution.events():
                if event.kind == "question_asked":
                    break
        catalogue[:] = [tool(0), tool(1), tool(3)]
        async with backend.worker([Searching], max_cached_executions=0):
            [question] = await execution.questions()
            await execution.answer(question.key, "Yes.")
            [seen] = await execution.result()
        data = [event.data async for event in execution.events()]
        names = [one.name for one in data if isinstance(one, outlast.events.ActivityStartedData)]
    # What is gone cannot be called any more; what was added was not there to be found.
    assert seen == "search_tools,index_wait,index_ask,thing_1"
    assert names == ["list tools of solo/search_tools"]
