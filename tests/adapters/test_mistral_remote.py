"""The session whose server keeps agents and conversations: the tests beyond the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

import outlast
from outlast.adapters.mistral import RemoteSession
from outlast.adapters.mistral.agents import FINGERPRINT
from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec
from outlast.core.chunks import ImageURLChunk
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolExecution,
    UnknownEntry,
)
from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    MalformedReply,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    NotSupported,
)
from outlast.core.json import JSON
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.session.programs import graph_for
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Drop,
    Execute,
    Fault,
    HandOff,
    Hang,
    MistralServer,
    ModelPrompt,
    Output,
    Reply,
    Say,
    ScriptedModel,
    not_json,
    not_the_schema,
)

pytestmark = pytest.mark.server

START, APPEND = "/v1/conversations", "/v1/conversations/*"


@contextmanager
def server_of(*replies: Sequence[Output], **options: Any) -> Iterator[MistralServer]:
    script: list[Reply] = list(replies)
    with MistralServer(ScriptedModel(script), **options) as server:
        yield server
        server.raise_errors()


@asynccontextmanager
async def worker() -> AsyncIterator[Resources]:
    async with SharedResources() as resources:
        yield resources


def session_for(server: MistralServer, **options: Any) -> RemoteSession:
    return RemoteSession(api_key=server.api_key, server_url=server.url, **options)


def start(graph: AgentGraph, text: str = "Go.", key: str = "k1", agent: str | None = None) -> ModelRequest:
    new = (MessageInput(content=text),)
    return ModelRequest(
        graph=graph, agent=agent or graph.start, turn=1, history=(), new=new, idempotency_key=key
    )


def after(
    request: ModelRequest, reply: ModelReply, *new: Entry, key: str = "k2", **changes: Any
) -> ModelRequest:
    history = (*request.history, *request.new, *reply.entries)
    return request.with_(
        turn=request.turn + 1,
        history=history,
        new=new,
        handle=reply.handle,
        idempotency_key=key,
        attempt=1,
        **changes,
    )


def posts(server: MistralServer, path: str) -> int:
    return sum(request.method == "POST" and request.path == path for request in server.requests)


def text(reply: ModelReply) -> list[Any]:
    return [entry.content for entry in reply.entries if isinstance(entry, MessageOutput)]


# Agents --------------------------------------------------------------------------------------------------


async def test_equal_definitions_share_one_remote_agent_across_workers() -> None:
    with server_of([Say("1")], [Say("2")]) as server:
        for key in ("a", "b"):
            async with worker() as resources:
                await session_for(server).reply(start(graph_for("m"), key=key), resources)
        assert len(server.agents) == 2
        assert {agent["name"]: agent["version"] for agent in server.agents.values()} == {
            "front": 1,
            "poet": 1,
        }


async def test_conversations_that_start_together_make_the_agents_once() -> None:
    with server_of(*[[Say("Hello.")]] * 8) as server:
        async with worker() as resources:
            session = session_for(server)
            requests = [start(graph_for("m"), key=str(number)) for number in range(8)]
            await asyncio.gather(*(session.reply(request, resources) for request in requests))
        assert len(server.agents) == 2


async def test_handoffs_lead_round_in_circles_between_remote_agents() -> None:
    with server_of([Say("Hello.")]) as server:
        async with worker() as resources:
            await session_for(server).reply(start(graph_for("m")), resources)
        ids = {agent["name"]: agent["id"] for agent in server.agents.values()}
        handoffs = {agent["name"]: agent["handoffs"] for agent in server.agents.values()}
        assert handoffs == {"front": [ids["poet"]], "poet": [ids["front"]]}


async def test_a_found_agent_is_not_written_again() -> None:
    with server_of([Say("1")], [Say("2")]) as server:
        for key in ("a", "b"):
            async with worker() as resources:
                await session_for(server).reply(start(graph_for("m"), key=key), resources)
        assert posts(server, "/v1/agents") == 2
        assert sum(request.method == "PATCH" for request in server.requests) == 2


async def test_an_agent_is_found_on_whatever_page_it_is() -> None:
    """Others with the same name fill the first pages."""
    graph = AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m")})
    with server_of([Say("1")], [Say("2")]) as server:
        from mistralai.client import Mistral

        async with Mistral(api_key=server.api_key, server_url=server.url) as client:
            for _ in range(101):
                await client.beta.agents.create_async(model="m", name="a")
        for key in ("a", "b"):
            async with worker() as resources:
                await session_for(server).reply(start(graph, key=key), resources)
        assert len(server.agents) == 102


async def test_a_list_of_agents_whose_pages_repeat_is_an_error() -> None:
    page = {"object": "list", "data": [], "next_page_token": "page-1"}
    with server_of([Say("1")]) as server:
        server.faults.add(Fault(AnswerWith(200, page), method="GET", path="/v1/agents/pages", count=3))
        async with worker() as resources:
            with pytest.raises(ModelUnreachable, match="repeats a page token"):
                await session_for(server).reply(start(graph_for("m")), resources)


async def test_agents_that_someone_deleted_are_made_anew() -> None:
    graph = AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m")})
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            await session.reply(start(graph), resources)
            from mistralai.client import Mistral

            async with Mistral(api_key=server.api_key, server_url=server.url) as client:
                await client.beta.agents.delete_async(agent_id=next(iter(server.agents)))
            assert text(await session.reply(start(graph, key="k2"), resources)) == ["2"]


async def test_an_agent_with_an_id_is_used_as_it_is_and_keeps_its_name_in_the_graph() -> None:
    with server_of([HandOff("Remote Expert")], [Say("Done.")]) as server:
        from mistralai.client import Mistral

        async with Mistral(api_key=server.api_key, server_url=server.url) as client:
            remote = await client.beta.agents.create_async(model="m", name="Remote Expert")
        expert = AgentSpec(name="expert", model="m", id=remote.id, instructions="not sent")
        front = AgentSpec(name="front", model="m", handoffs=("expert",))
        graph = AgentGraph(start="front", agents={"front": front, "expert": expert})
        async with worker() as resources:
            reply = await session_for(server).reply(start(graph), resources)
        (handed,) = [entry for entry in reply.entries if isinstance(entry, AgentHandoff)]
        assert (handed.previous_agent_name, handed.next_agent_name) == ("front", "expert")
        assert isinstance(reply.handle, dict)
        assert reply.handle["agent"] == "expert"
        assert server.agents[remote.id]["version"] == 0
        assert server.agents[remote.id]["instructions"] is None


async def test_a_definition_arrives_whole() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    agent = AgentSpec(
        name="the agent",
        model="m",
        description="d",
        instructions="i",
        built_in_tools=({"type": "web_search"},),
        completion_args={"temperature": 0.5},
        output_schema=schema,
        metadata={"team": "tides"},
    )
    with server_of([Say('{"n": 1}')]) as server:
        async with worker() as resources:
            await session_for(server).reply(
                start(AgentGraph(start=agent.name, agents={agent.name: agent})), resources
            )
        (made,) = server.agents.values()
    assert (made["name"], made["description"], made["instructions"]) == ("the agent", "d", "i")
    assert made["tools"] == [{"type": "web_search"}]
    assert made["completion_args"]["temperature"] == 0.5
    wanted = made["completion_args"]["response_format"]["json_schema"]
    assert wanted["schema"] == schema | {"additionalProperties": False}
    assert wanted["strict"] is True
    assert wanted["name"] == "the_agent"
    assert made["metadata"]["team"] == "tides"
    assert len(made["metadata"][FINGERPRINT]) == 32


def solo(**changes: Any) -> AgentGraph:
    """Return the graph of an agent that nobody hands off to."""
    return AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m", **changes)})


def version_of(server: MistralServer, reply: ModelReply) -> Any:
    assert isinstance(reply.handle, dict)
    return server.conversations[str(reply.handle["conversation_id"])].agent_version


async def test_any_number_of_runs_leaves_the_agents_of_one() -> None:
    graph = graph_for("m")
    start_agent = AgentSpec(name="start", model="m", handoffs=("front",))
    wide = AgentGraph(start="start", agents={**graph.agents, "start": start_agent})
    with server_of(*[[Say("Hello.")]] * 5) as server:
        for number in range(5):
            async with worker() as resources:
                await session_for(server).reply(start(wide, key=str(number)), resources)
        assert sorted(agent["name"] for agent in server.agents.values()) == ["front", "poet", "start"]
        assert {agent["name"]: agent["versions"] for agent in server.agents.values()} == {
            "front": [0, 1],
            "poet": [0, 1],
            "start": [0],
        }


async def test_a_changed_definition_is_a_new_version_and_who_began_with_the_old_one_keeps_it() -> None:
    old, new = solo(instructions="Be long."), solo(instructions="Be brief.")
    with server_of([Say("1")], [Say("2")], [Say("3")], [Say("4")]) as server:
        async with worker() as resources, worker() as others:
            session = session_for(server)
            begun = start(old)
            reply = await session.reply(begun, resources)
            other = await session.reply(start(new, key="k2"), others)
            assert (version_of(server, reply), version_of(server, other)) == (0, 1)
            more = await session.reply(after(begun, reply, MessageInput(content="More.")), resources)
            assert version_of(server, more) == 0
            # A worker that still has the old program, and starts after the change.
            async with worker() as late:
                again = await session.reply(start(old, key="k4"), late)
            assert version_of(server, again) == 0
        (agent,) = server.agents.values()
        assert agent["versions"] == [0, 1]
        assert agent["instructions"] == "Be brief."


async def test_settings_that_only_the_session_uses_make_no_new_version() -> None:
    schema: dict[str, JSON] = {"type": "object", "properties": {}}
    free = solo(tools=(ToolSpec(name="t", parameters=schema),))
    guarded = solo(tools=(ToolSpec(name="t", parameters=schema, requires_approval=True),))
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(free)
            reply = await session.reply(request, resources)
            more = after(request, reply, MessageInput(content="More."), graph=guarded)
            assert (await session.reply(more, resources)).warnings == ()
        assert [agent["versions"] for agent in server.agents.values()] == [[0]]
        assert len(server.conversations) == 1


async def test_fields_that_a_definition_no_longer_has_are_removed_from_the_new_version() -> None:
    schema: dict[str, JSON] = {"type": "object", "properties": {}}
    full = solo(
        description="d", instructions="i", tools=(ToolSpec(name="t", parameters=schema),), metadata={"x": 1}
    )
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            await session_for(server).reply(start(full), resources)
            await session_for(server).reply(start(solo(), key="k2"), resources)
        (agent,) = server.agents.values()
        assert (agent["description"], agent["instructions"], agent["tools"]) == (None, None, [])
        assert "x" not in agent["metadata"]


async def test_an_agent_that_is_handed_off_to_is_never_changed_under_a_running_conversation() -> None:
    """The server hands off to whatever version is current, so a changed specialist is another agent."""

    def graph(instructions: str) -> AgentGraph:
        front = AgentSpec(name="front", model="m", handoffs=("poet",))
        poet = AgentSpec(name="poet", model="m", instructions=instructions)
        return AgentGraph(start="front", agents={"front": front, "poet": poet})

    instructions: list[str | None] = []

    def model(call: ModelPrompt) -> Reply:
        if call.agent == "poet":
            instructions.append(call.instructions)
            return [Say("A poem.")]
        return [HandOff("poet")] if call.text == "A poem!" else [Say("Hello.")]

    with MistralServer(model) as server:
        async with worker() as resources:
            session = session_for(server)
            begun = start(graph("Rhyme."))
            reply = await session.reply(begun, resources)
            await session.reply(start(graph("Do not rhyme."), key="k2"), resources)
            await session.reply(after(begun, reply, MessageInput(content="A poem!")), resources)
        assert instructions == ["Rhyme."]
        assert sorted(agent["name"] for agent in server.agents.values()) == ["front", "poet", "poet"]


@pytest.mark.parametrize("graph", [graph_for("m"), solo()], ids=["handed off to", "start"])
async def test_workers_that_make_the_same_agents_at_once_leave_no_duplicates(graph: AgentGraph) -> None:
    with server_of(*[[Say("Hello.")]] * 4) as server:
        # Nobody may create before everybody has looked.
        held = [Hang("request") for _ in range(4)]
        for one in held:
            server.faults.add(Fault(one, method="POST", path="/v1/agents"))
        async with AsyncExitStack() as stack:
            requests = [
                asyncio.create_task(
                    session_for(server).reply(
                        start(graph, key=str(number)), await stack.enter_async_context(worker())
                    )
                )
                for number in range(4)
            ]
            for one in held:
                await one.reached()
            for one in held:
                one.release()
            replies = await asyncio.gather(*requests)
        assert len(server.agents) == len(graph.agents)
        for reply in replies:
            assert isinstance(reply.handle, dict)
            assert set(reply.handle["agents"].values()) == set(server.agents)  # type: ignore[union-attr]  # JSON


# Conversations -------------------------------------------------------------------------------------------


async def test_a_turn_is_one_request_however_long_the_conversation_is() -> None:
    with server_of(*[[Say(str(number))] for number in range(6)]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            sizes = []
            for number in range(5):
                before = len(server.requests)
                request = after(request, reply, MessageInput(content="More."), key=f"more {number}")
                reply = await session.reply(request, resources)
                assert len(server.requests) == before + 1
                sizes.append(len(server.requests[-1].body))
            assert len(set(sizes)) == 1


async def test_results_of_calls_that_the_server_abandoned_are_not_sent() -> None:
    with server_of([Call("look_up"), HandOff("poet")], [Call("rhyme")], [Say("Done.")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            results = [
                FunctionResult(tool_call_id=entry.tool_call_id, result="r")
                for entry in reply.entries
                if isinstance(entry, FunctionCall)
            ]
            assert len(results) == 2
            last = await session.reply(after(request, reply, *results, agent="poet"), resources)
            assert text(last) == ["Done."]


async def test_a_changed_definition_goes_on_in_a_new_conversation_with_all_that_was_said() -> None:
    graph = graph_for("m")
    changed = graph.with_(agents={**graph.agents, "front": graph["front"].with_(instructions="Be brief.")})
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph)
            reply = await session.reply(request, resources)
            more = after(request, reply, MessageInput(content="More."), graph=changed)
            assert text(await session.reply(more, resources)) == ["2"]
        _, second = server.conversations.values()
        assert [entry.get("content") for entry in second.entries] == ["Go.", "1", "More.", "2"]


async def test_built_in_tools_run_on_the_server_and_are_counted() -> None:
    search = AgentSpec(name="s", model="m", built_in_tools=({"type": "web_search"},))
    with server_of([Execute("web_search", {"q": "x"}, {"hits": 1}), Say("Found.")]) as server:
        async with worker() as resources:
            request = start(AgentGraph(start="s", agents={"s": search}))
            reply = await session_for(server).reply(request, resources)
    executed, said = reply.entries
    assert isinstance(executed, ToolExecution)
    assert (executed.name, executed.arguments, executed.info) == ("web_search", '{"q": "x"}', {"hits": 1})
    assert isinstance(said, MessageOutput)
    assert reply.usage.connectors == {"web_search": 1}
    assert reply.usage.connector_tokens > 0


async def test_a_handle_of_another_session_is_refused() -> None:
    with server_of() as server:
        async with worker() as resources:
            request = start(graph_for("m")).with_(handle={"replies": {"front": 1}})
            with pytest.raises(DefinitionError, match="another kind of session"):
                await session_for(server).reply(request, resources)


async def test_answers_of_newer_servers_are_read_as_far_as_they_are_known() -> None:
    body = {
        "conversation_id": "conv_1",
        "outputs": [
            {"type": "tool.execution", "name": "web_search"},
            {"type": "function.call", "tool_call_id": "a1B2c3D4e", "name": "f", "arguments": {"a": 1}},
            {"object": "entry", "type": "video.output", "id": "v_1", "frames": [1, 2], "note": None},
        ],
        "usage": {"prompt_tokens": 1, "connectors": None},
        "new_field": 1,
    }
    with server_of() as server:
        server.faults.add(Fault(AnswerWith(200, body), method="POST", path=START))
        async with worker() as resources:
            reply = await session_for(server).reply(start(graph_for("m")), resources)
    assert reply.entries == (
        ToolExecution(name="web_search", arguments=""),
        FunctionCall(tool_call_id="a1B2c3D4e", name="f", arguments='{"a":1}'),
        UnknownEntry.model_validate({"type": "video.output", "id": "v_1", "frames": [1, 2]}),
    )
    assert reply.usage.prompt_tokens == 1


# Repetition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_works", [True, False])
@pytest.mark.parametrize("garbled", [not_json, not_the_schema])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_cannot_be_read_is_found_in_the_history(
    garbled: Any, stream: bool, filter_works: bool
) -> None:
    with server_of([Say("1")], [Say("2")], metadata_filter_works=filter_works) as server:
        server.faults.add(Fault(garbled(), method="POST", path=START))
        server.faults.add(Fault(garbled(), method="POST", path=APPEND))
        async with worker() as resources:
            session = session_for(server, stream=stream)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            assert text(reply) == ["1"]
            more = await session.reply(after(request, reply, MessageInput(content="More.")), resources)
            assert text(more) == ["2"]
        assert (posts(server, START), len(server.conversations)) == (1, 1)


async def test_an_answer_that_is_nowhere_is_malformed() -> None:
    with server_of() as server:
        server.faults.add(Fault(AnswerWith(200, "<html>"), method="POST", path=START))
        async with worker() as resources:
            with pytest.raises(MalformedReply, match="not JSON: '<html>'"):
                await session_for(server).reply(start(graph_for("m")), resources)


@pytest.mark.parametrize("visible", [True, False])
async def test_a_repeated_request_waits_for_the_first_one(visible: bool) -> None:
    """The connection is cut while the model is thinking, and the server goes on all the same."""
    thinking = Hang("work")
    with server_of([Say("1")], [Say("2")], inputs_visible_at_once=visible) as server:
        async with worker() as resources:
            session = session_for(server, timeout=30)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            more = after(request, reply, MessageInput(content="More."))
            server.faults.add(Fault(Drop("work"), thinking, method="POST", path=APPEND))
            with pytest.raises(ModelUnreachable):
                await session.reply(more, resources)
            with pytest.raises(ModelOverloaded) as busy:
                await session.reply(more.with_(attempt=2), resources)
            assert busy.value.status == 409
            assert busy.value.retry_after_seconds is not None
            assert busy.value.retry_after_seconds >= 15
            thinking.release()
            await server.settled()
            last = await session.reply(more.with_(attempt=3), resources)
            assert text(last) == ["2"]
            assert last.usage.total_tokens == 0
        (conversation,) = server.conversations.values()
        assert [entry.get("content") for entry in conversation.entries] == ["Go.", "1", "More.", "2"]


async def test_a_reply_that_takes_too_long_is_given_up() -> None:
    held = Hang("request")
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            patient, hasty = session_for(server), session_for(server, timeout=0.05)
            await patient.reply(start(graph_for("m")), resources)
            server.faults.add(Fault(held, method="POST", path=START))
            with pytest.raises(ModelUnreachable, match=r"0\.05 s"):
                await hasty.reply(start(graph_for("m"), key="k2"), resources)
        held.release()


async def test_a_request_that_the_api_refuses_raises_model_refused() -> None:
    image: Any = {"type": "image_url", "image_url": {"link": "https://example.org"}}
    with server_of() as server:
        async with worker() as resources:
            request = start(graph_for("m")).with_(new=(MessageInput(content=(ImageURLChunk(**image),)),))
            with pytest.raises(ModelRefused, match="422"):
                await session_for(server).reply(request, resources)
        assert posts(server, START) == 1


# Handoffs done by us -------------------------------------------------------------------------------------


async def test_handoffs_can_be_done_by_the_run_and_the_server_knows_nothing_of_them() -> None:
    made: list[list[str]] = []

    def model(call: ModelPrompt) -> Reply:
        made.append(list(call.tool_names))
        if call.agent == "poet":
            return [Say("A poem.")]
        return [Call("transfer_to_poet"), Call("look_up")]

    with MistralServer(model) as server:
        session = session_for(server, handoff_execution="client")
        async with worker() as resources:
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            results = [
                FunctionResult(tool_call_id=entry.tool_call_id, result="r")
                for entry in reply.entries
                if isinstance(entry, FunctionCall)
            ]
            assert len(results) == 2
            last = await session.reply(after(request, reply, *results, agent="poet"), resources)
            assert text(last) == ["A poem."]
            assert last.warnings == ()
        assert made[0] == ["look_up", "rhyme", "transfer_to_poet"]
        assert all(not agent["handoffs"] for agent in server.agents.values())
        first, second = server.conversations.values()
        assert [entry["type"] for entry in second.entries] == [
            "message.input",
            "function.call",
            "function.call",
            "function.result",
            "function.result",
            "message.output",
        ]
        assert first.agent_id != second.agent_id


async def test_both_ways_to_hand_off_share_no_agents_that_would_confuse_them() -> None:
    with server_of([Say("1")], [Say("2")], [Say("3")]) as server:
        async with worker() as resources:
            for number, way in enumerate(["server", "client", "server"]):
                session = session_for(server, handoff_execution=way)
                await session.reply(start(graph_for("m"), key=str(number)), resources)
        assert sorted((agent["name"], bool(agent["handoffs"])) for agent in server.agents.values()) == [
            ("front", False),
            ("front", True),
            ("poet", False),
            ("poet", True),
        ]


def test_handoff_execution_is_server_or_client() -> None:
    anybody: Any = "anybody"
    with pytest.raises(ConfigurationError, match="'server' or 'client'"):
        RemoteSession(handoff_execution=anybody)


def test_an_agent_of_the_servers_cannot_be_given_handoffs_of_ours() -> None:
    front = AgentSpec(name="front", model="m", id="ag_1", handoffs=("poet",))
    graph = AgentGraph(start="front", agents={"front": front, "poet": AgentSpec(name="poet", model="m")})
    RemoteSession().check(graph)
    with pytest.raises(NotSupported, match="does not have these handoffs"):
        RemoteSession(handoff_execution="client").check(graph)


async def test_at_a_limit_the_model_must_answer_without_tools() -> None:
    def model(call: ModelPrompt) -> Reply:
        forbidden = call.completion_args.get("tool_choice") == "none"
        assert call.completion_args["temperature"] == 0.5
        return [Say("Enough.") if forbidden else Call("look_up", {})]

    def look_up() -> str:
        """Look it up."""
        return "found"

    agent = outlast.Agent(model="m", name="a", tools=[look_up], completion_args={"temperature": 0.5})
    with MistralServer(model) as server:
        session = session_for(server)
        result = await outlast.Runner.run(agent, "Go.", session, max_turns=2, on_limit="finish")
        assert (result.text, result.turns) == ("Enough.", 3)
        server.raise_errors()


async def test_messages_that_were_changed_here_begin_a_new_conversation_there() -> None:
    def model(call: ModelPrompt) -> Reply:
        return [Say(" / ".join(str(entry["content"]) for entry in call.entries))]

    agent = outlast.Agent(model="m", name="a")
    with MistralServer(model) as server:
        session = session_for(server)
        await outlast.Runner.run(agent, "one", session)
        _, answer = outlast.Runner.messages(session)
        outlast.Runner.set_messages(session, [outlast.MessageInput(content="zero"), answer])
        result = await outlast.Runner.run(agent, "two", session)
        assert result.text == "zero / one / two"
        assert (
            await outlast.Runner.run(agent, "three", session)
        ).text == "zero / one / two / zero / one / two / three"
        assert len(server.conversations) == 2
        server.raise_errors()


async def test_a_model_that_must_call_a_tool_first_may_answer_afterwards() -> None:
    choices: list[Any] = []

    def model(call: ModelPrompt) -> Reply:
        choices.append(call.completion_args.get("tool_choice"))
        assert call.completion_args["temperature"] == 0.5
        return [Call("look_up", {}) if len(choices) % 2 else Say("Found.")]

    def look_up() -> str:
        """Look it up."""
        return "found"

    agent = outlast.Agent(
        model="m",
        name="a",
        tools=[look_up],
        completion_args={"temperature": 0.5},
        tool_choice="required",
        parallel_tool_calls=True,
    )
    with MistralServer(model) as server:
        session = session_for(server)
        assert (await outlast.Runner.run(agent, "Go.", session)).text == "Found."
        assert (await outlast.Runner.run(agent, "Again.", session)).text == "Found."
        server.raise_errors()
    assert choices == ["required", "auto"] * 2


def test_tool_options_that_conversations_do_not_have_are_refused() -> None:
    look = ToolSpec(name="look", parameters={"type": "object"})

    def graph(**options: Any) -> AgentGraph:
        return AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m", tools=(look,), **options)})

    RemoteSession().check(graph(tool_choice="any", parallel_tool_calls=True, max_parallel_tools=1))
    with pytest.raises(NotSupported, match="tool_choice of agent 'a' names a tool, 'look'"):
        RemoteSession().check(graph(tool_choice="look"))
    with pytest.raises(NotSupported, match="use max_parallel_tools=1, or LocalSession"):
        RemoteSession().check(graph(parallel_tool_calls=False))


async def test_a_part_of_the_conversation_is_handed_off_in_a_new_conversation() -> None:
    asked: list[tuple[str, list[str]]] = []

    def model(call: ModelPrompt) -> Reply:
        asked.append((call.model, [str(entry.get("content", entry["type"])) for entry in call.entries]))
        match len(asked):
            case 1:
                return [Call("look_up", {})]
            case 2:
                return [Call("transfer_to_poet", {})]
            case 3:
                return [Call("look_up", {})]
        return [Say("Rain, rain.")]

    def look_up() -> str:
        """Look it up."""
        return "found"

    poet = outlast.Agent(model="poet-model", name="poet", tools=[look_up])
    part = outlast.Handoff(poet, input_filter=outlast.without_tool_calls)
    front = outlast.Agent(model="m", name="front", tools=[look_up], handoffs=[part])
    with MistralServer(model) as server:
        with pytest.raises(NotSupported, match="handoff of agent 'front' to 'poet' has an input_filter"):
            await outlast.Runner.run(front, "Go.", session_for(server))
        session = session_for(server, handoff_execution="client")
        assert (await outlast.Runner.run(front, "Go.", session)).text == "Rain, rain."
        server.raise_errors()
        assert posts(server, START) == 2
    assert [seen for model, seen in asked if model == "poet-model"] == [
        ["Go."],
        ["Go.", "function.call", "function.result"],
    ]


async def test_tools_that_were_found_are_there_in_a_new_conversation_without_a_warning() -> None:
    def look_up() -> str:
        """Look up the weather."""
        return "rain"

    def model(call: ModelPrompt) -> Reply:
        match len([entry for entry in call.entries if entry["type"] == "function.result"]):
            case 0:
                assert call.tool_names == ["search_tools"]
                return [Call("search_tools", {"query": "weather"})]
            case 1:
                assert call.tool_names == ["search_tools", "look_up"]
                return [Call("look_up", {})]
        return [Say("It rains.")]

    agent = outlast.Agent(model="m", name="a", tools=[outlast.ToolIndex([look_up])])
    with MistralServer(model) as server:
        result = await outlast.Runner.run(agent, "Go.", session_for(server))
        assert (result.text, list(result.record.warnings)) == ("It rains.", [])
        server.raise_errors()
        assert posts(server, START) == 2
        with pytest.raises(NotSupported, match="has an id and a ToolIndex"):
            await outlast.Runner.run(replace(agent, id="ag_1"), "Go.", session_for(server))
