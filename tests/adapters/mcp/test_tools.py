"""The tools of a server: their list, arguments and results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import outlast
from outlast.adapters.mcp.limits import TOOLS_MAX
from outlast.adapters.mcp.sdk.tool_list import LEFT_OUT_MAX
from outlast.core.agents import TOOL_NAME
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.ports.tools import ToolOutput
from outlast.runtime.attempts.shared_resources import SharedResources
from tests.adapters.mcp.calling import OBJECT, WAYS, Caller, raw
from tests.core.strategies import nested

pytestmark = pytest.mark.server

Calling = Callable[..., Caller]

ODD: dict[str, JSON] = {
    "sound": OBJECT,
    "no-such-type": {**OBJECT, "properties": {"a": {"type": "objekt"}}},
    "elsewhere": {**OBJECT, "properties": {"a": {"$ref": "https://example.org/schema.json"}}},
    "endless": {**OBJECT, "properties": {"a": {"$ref": "#/properties/a"}}},
    "multiplying": {
        **OBJECT,
        "properties": {"a": {"$ref": "#/$defs/40"}},
        "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n - 1}"}] * 2} for n in range(1, 41)},
    },
    "tree": {**OBJECT, "properties": {"a": {"$ref": "#"}}},
    "slow": {
        **OBJECT,
        "properties": {"a": {"type": "string", "pattern": "(a+)+$"}},
        "patternProperties": {"(a+)+$": True},
        "additionalProperties": False,
    },
    "ein Wörkzeug: " + "ü" * 100: OBJECT,
}

SPOILT: dict[str, list[JSON]] = {
    "$schema": [[], {}, 1, True],
    "properties": [3, "x", {"a": 1}, {"a": None}, {"a": {"type": 3}}],
    "required": [3, "x", [1], [None]],
    "$defs": [3, {"a": 1}],
    "$ref": [3, []],
    "allOf": [{}, []],
}
"""Values of keywords that no schema may have."""


# The list


async def test_a_list_in_pages_is_read_to_its_end(calling: Calling) -> None:
    tools = await calling("stdio", "paged").tools()
    assert tools == [f"tool{number:04}" for number in range(1500)]


async def test_a_list_without_an_end_is_refused(calling: Calling) -> None:
    with pytest.raises(
        outlast.ToolServerError, match="offers more than 2000 tools; name those that you need in include"
    ) as refused:
        await calling("stdio", "endless").tools()
    assert not refused.value.retryable


async def test_of_a_list_without_an_end_an_optional_server_gives_the_beginning(
    calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(await calling("stdio", "endless", required=False).tools()) == TOOLS_MAX
    assert "it offers more than 2000 tools; the others are left out" in caplog.text


async def test_of_a_list_without_an_end_nothing_is_taken_that_was_never_found(
    calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.limits.PAGES_MAX", 3)
    with pytest.raises(outlast.ToolServerError, match="does not end: after 3 pages there are more"):
        await calling("stdio", "endless", include=["absent"], required=False).tools()


async def test_a_list_that_goes_in_a_circle_is_refused(calling: Calling) -> None:
    with pytest.raises(outlast.ToolServerError, match="does not end: a page leads back to one that was read"):
        await calling("stdio", "circling").tools()


async def test_tools_that_no_model_could_call_are_left_out_and_logged(
    resources: SharedResources, caplog: pytest.LogCaptureFixture
) -> None:
    tools: list[JSON] = [{"name": name, "inputSchema": schema} for name, schema in ODD.items()]
    task: JSON = {"name": "task", "inputSchema": OBJECT, "execution": {"taskSupport": "required"}}
    server = raw({"content": [{"type": "text", "text": "done"}]}, *tools, task)
    listed = {tool.name: tool for tool in await server.list_tools(resources)}
    long = next(name for name in listed if name.startswith("t_ein_W"))
    assert sorted(listed) == sorted(["t_sound", "t_elsewhere", "t_tree", "t_slow", long])
    assert TOOL_NAME.match(long)
    for name, why in (
        ("no-such-type", "its schema is not valid"),
        ("endless", "the references in its schema lead back to themselves"),
        ("multiplying", "its schema has references that multiply"),
        ("task", "it can only be called as a task"),
    ):
        assert f"tool '{name}' is left out: {why}" in caplog.text
    for name in (long, "t_sound"):
        assert await server.call(name, {}, resources) == ToolOutput(content="done")
    # Nothing is fetched, and no regular expression runs for ever: the server checks for itself.
    odd_calls: list[tuple[str, dict[str, JSON]]] = [
        ("t_elsewhere", {"a": 1}),
        ("t_tree", {"a": {"a": {}}}),
        ("t_slow", {"a": "a" * 50 + "!", "a" * 50 + "!": 1}),
    ]
    for name, arguments in odd_calls:
        assert await server.call(name, arguments, resources) == ToolOutput(content="done")
    with pytest.raises(outlast.InvalidArguments, match="a: 1 is not of type 'string'"):
        await server.call("t_slow", {"a": 1}, resources)


@pytest.mark.parametrize(
    ("tool", "problem"),
    [
        (
            {"name": "a", "inputSchema": {"type": "array"}},
            "'a' is left out: its inputSchema is not valid MCP",
        ),
        ({"name": "a", "inputSchema": []}, "'a' is left out: its inputSchema is not valid MCP"),
        ({"name": "a"}, "'a' is left out: its inputSchema is not valid MCP"),
        ({"inputSchema": OBJECT}, "is left out: it has no name"),
        ({"name": 3, "inputSchema": OBJECT}, "is left out: it has no name"),
        (None, "is left out: it has no name"),
        ([[[]]], "is left out: it has no name"),
        ({"name": "n" * 1001, "inputSchema": OBJECT}, "its name has more than 1000 characters"),
        ({"name": "a", "description": "d" * 30_000, "inputSchema": OBJECT}, "and at most 20000 are read"),
        ({"name": "a", "inputSchema": {**OBJECT, "default": nested(110)}}, "more than 100 levels deep"),
        ({"name": "a", "inputSchema": {**OBJECT, "default": [0] * 6000}}, "has more than 5000 values"),
        ({"name": "a", "inputSchema": OBJECT, "outputSchema": {"type": 1}}, "not valid"),
        *(
            ({"name": "a", "inputSchema": {**OBJECT, keyword: value}}, "'a' is left out")
            for keyword, values in SPOILT.items()
            for value in values
        ),
    ],
)
async def test_a_tool_that_cannot_be_read_costs_only_itself(
    tool: JSON,
    problem: str,
    resources: SharedResources,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.limits.TOOL_BYTES_MAX", 20_000)
    odd: JSON = {
        "name": "b",
        "title": 1,
        "description": [],
        "annotations": 3,
        "icons": 4,
        "inputSchema": OBJECT,
    }
    listed = await raw({}, tool, odd).list_tools(resources)
    assert [one.name for one in listed] == ["t_b"]
    assert problem in caplog.text
    assert len(caplog.text) < 2000


async def test_two_names_that_become_one_are_refused_until_one_is_excluded(calling: Calling) -> None:
    with pytest.raises(
        DefinitionError,
        match="MCP server 't': tools 'a b' and 'a_b' would both have the name 't_a_b'; exclude one",
    ):
        await calling("stdio", "clashing").tools()
    assert await calling("stdio", "clashing", exclude=["a b"]).tools() == ["a_b"]


async def test_of_two_names_that_become_one_an_optional_server_keeps_the_first(
    calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    caller = calling("stdio", "clashing", required=False)
    assert await caller.tools() == ["a_b"]
    assert "tools 'a b' and 'a_b' would both have the name 't_a_b'" in caplog.text
    assert await caller.text("a_b") == "a b"


async def test_what_is_left_out_is_logged_once_and_not_for_ever(
    resources: SharedResources, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.sdk.connection_life.LIST_SECONDS", -1.0)
    bad: list[JSON] = [{"name": f"bad{number}", "inputSchema": {}} for number in range(1500)]
    server = raw({}, {"name": "a", "inputSchema": OBJECT}, *bad)
    for _ in range(3):
        assert [tool.name for tool in await server.list_tools(resources)] == ["t_a"]
    assert len(caplog.records) <= LEFT_OUT_MAX + 1


async def test_only_what_is_included_and_not_excluded_is_there(
    calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    caller = calling(include=["sleep", "shout", "absent"], exclude=["shout"])
    assert await caller.tools() == ["sleep"]
    assert "tool 'absent' is left out: the server does not have this tool" in caplog.text
    with pytest.raises(outlast.UnknownTool):
        await caller.call("shout", text="a")


async def test_effects_are_those_of_the_configuration_then_of_the_server(calling: Calling) -> None:
    caller = calling(effects={"shout": "idempotent", "sleep": "once"})
    assert caller.config.effect("t_shout") == "idempotent"
    listed = {tool.name: tool.effect for tool in await caller.config.list_tools(caller.resources)}
    assert (listed["t_shout"], listed["t_sleep"], listed["t_big"], listed["t_die"]) == (
        *("idempotent", "once", "read", "once"),
    )
    assert {name: caller.config.effect(name) for name in listed} == listed
    other = calling(effects={"*": "read", "die": "once"})
    listed = {tool.name: tool.effect for tool in await other.config.list_tools(other.resources)}
    assert {effect for name, effect in listed.items() if name != "t_die"} == {"read"}
    assert listed["t_die"] == "once"


@pytest.mark.parametrize("way", WAYS)
async def test_a_list_that_changes_is_listed_again(way: str, calling: Calling) -> None:
    caller = calling(way)
    assert "hello" not in await caller.tools()
    assert await caller.text("rename", old="", new="hello") == "renamed"
    await caller.until_listed("hello")
    assert await caller.text("hello") == "hello"
    assert await caller.text("rename", old="hello", new="hey") == "renamed"
    await caller.until_listed("hey")
    with pytest.raises(outlast.UnknownTool, match="has no tool named 't_hello'") as gone:
        await caller.call("hello")
    assert "t_hey" in gone.value.known


async def test_a_tool_that_takes_other_arguments_now_is_reported_with_its_schema(calling: Calling) -> None:
    caller = calling()
    assert await caller.text("shout", text="a") == "A"
    await caller.text("make_shout")
    await caller.until_listed("marked")
    with pytest.raises(outlast.InvalidArguments, match="'times' is a required property") as refused:
        await caller.call("shout", text="a")
    assert 'its schema is {"type":"object"' in str(refused.value)
    assert await caller.text("shout", text="a", times=3) == "AAA"


@pytest.mark.parametrize("way", WAYS)
async def test_a_tool_that_takes_more_arguments_now_is_called_and_its_new_schema_is_reported(
    way: str, calling: Calling
) -> None:
    caller = calling(way)

    async def shout(known: str) -> ToolOutput:
        return await caller.config.call("t_shout", {"text": "a"}, caller.resources, known=known)

    before = await caller.spec("shout")
    assert (await shout(before.fingerprint)).changed is None
    await caller.text("make_shout", compatibly=True)
    await caller.until_listed("marked")
    output = await shout(before.fingerprint)
    assert output.content == "A"
    now = output.changed
    assert now is not None
    assert now == await caller.spec("shout")
    assert now.description == "Shout, perhaps several times."
    assert "times" in str(now.parameters)
    assert (await shout(now.fingerprint)).changed is None


async def test_a_change_that_a_server_does_not_announce_is_found_after_an_error(
    calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.sdk.connection_life.DOUBT_SECONDS", 0.0)
    caller = calling()
    await caller.text("make_shout", quietly=True)
    assert (await caller.call("shout", text="a")).is_error  # the server's own word, which may be any
    with pytest.raises(outlast.InvalidArguments, match="'times' is a required property"):
        await caller.call("shout", text="a")


async def test_an_old_list_is_not_trusted(calling: Calling, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = calling()
    first = await caller.tools()
    life = "outlast.adapters.mcp.sdk.connection_life"
    monkeypatch.setattr(f"{life}.LIST_SECONDS", -1.0)
    assert await caller.tools() == first


# Arguments and results


async def test_the_faults_of_arguments_are_bounded(calling: Calling) -> None:
    with pytest.raises(outlast.InvalidArguments) as refused:
        await calling().call("shout", text=["x" * 10_000])
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("way", WAYS)
async def test_a_text_that_cannot_be_sent_is_refused_and_costs_no_connection(
    way: str, calling: Calling
) -> None:
    caller = calling(way)
    held = asyncio.create_task(caller.text("sleep", seconds=0.2))
    with pytest.raises(outlast.InvalidArguments, match="half a character"):
        await caller.call("shout", text="a\ud800b")
    assert await held == "slept"
    assert await caller.text("shout", text="ä👋") == "Ä👋"


async def test_content_of_every_kind_becomes_chunks(calling: Calling) -> None:
    output = await calling().call("everything")
    assert ToolOutput.model_validate(output.model_dump(mode="json")) == output
    assert not isinstance(output.content, str)
    assert [chunk.to_wire() for chunk in output.content] == [
        {"type": "text", "text": "text"},
        {"type": "image_url", "image_url": "data:image/jpeg;base64,CCCC"},
        {"type": "input_audio", "input_audio": "DDDD"},
        {"type": "document_url", "document_url": "file:///a.md", "document_name": "a.md"},
        {"type": "text", "text": "a file"},
        {
            "type": "document_url",
            "document_url": "data:application/pdf;base64,AAAA",
            "document_name": "file:///a.pdf",
        },
        {"type": "image_url", "image_url": "data:image/png;base64,BBBB"},
    ]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            {"content": [], "structuredContent": {"far": 1}},
            "Invalid structured content returned by",
        ),
        ({"content": []}, "has an output schema but did not return structured content"),
        ({"content": [{"type": "smell"}], "structuredContent": {"near": 1}}, "is not valid MCP"),
        ({"what": "ever"}, "is not valid MCP"),
        ({"content": [], "structuredContent": {"near": nested(150)}}, "nested more than 100 levels deep"),
        (
            {"content": [], "structuredContent": {"near": float("inf")}},
            "cannot be stored: JSON has no number inf",
        ),
    ],
)
async def test_a_result_that_is_not_as_declared_is_reported_and_not_asked_for_again(
    result: JSON, message: str, resources: SharedResources
) -> None:
    near: JSON = {"type": "object", "required": ["near"]}
    server = raw(result, {"name": "look", "inputSchema": OBJECT, "outputSchema": near})
    output = await server.call("t_look", {}, resources)
    assert output.is_error
    assert message in str(output.content)
