"""A conversation of the server has each turn once, although connections, answers and workers are lost.

Against the stand-in in both of its modes: the history shows the inputs of a request at once, or only together
with the outputs. Compared are what the run has seen, what the server holds in the conversation that the run
ended with, and how often the model was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast import Agent, RemoteSession, Runner, activity, workflow
from outlast.adapters.mistral.wire import entries_of
from outlast.adapters.scripted import call, handoff, say
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import Entry, FunctionCall, FunctionResult, MessageInput
from outlast.core.errors import ModelOverloaded, ModelRefused, ModelUnreachable, OutlastError
from outlast.core.replies import with_own_call_ids
from outlast.ports.llm import ModelReply
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage
from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.session.programs import (
    ConversationDriver,
    SessionProgram,
    foreseen,
    graph_for,
    programs,
    seen,
)
from outlast.testing.lifeline import Lifeline
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Drop,
    EndStream,
    Fault,
    HandOff,
    Hang,
    MistralServer,
    Say,
    ScriptedModel,
    not_json,
    not_the_schema,
    rate_limited,
    unavailable,
)
from tests.adapters.mistral_worlds import Cloud, MistralWorld, mistral_world
from tests.adapters.test_mistral_remote import (
    APPEND,
    START,
    after,
    posts,
    server_of,
    session_for,
    start,
    text,
    worker,
)

pytestmark = pytest.mark.server

MODES = list(product([True, False], [True, False]))
"""True if inputs are visible at once; and true if the filter of the list of conversations works."""


@dataclass(frozen=True)
class Mishap:
    """A fault during one attempt: of the network or the cloud, or the end of the worker.

    `lost`: the worker has the reply, and is gone before it is recorded; another one asks again.
    """

    action: Any = None
    method: str = "POST"
    lost: bool = False

    def faults(self) -> list[Fault]:
        """Return the faults that are the mishap, for the first request that they can happen to."""
        if self.action is None:
            return []
        if isinstance(self.action, EndStream) or getattr(self.action, "at", None) == "work":
            return [Fault(self.action, method="POST", path=path) for path in (START, APPEND)]
        if isinstance(self.action, AnswerWith):
            paths = (START, APPEND, f"{APPEND}/history", "/v1/agents", "/v1/agents/*")
            return [Fault(self.action, method=self.method, path=path) for path in paths]
        return [Fault(self.action, method=self.method)]


def mishaps(stream: bool) -> st.SearchStrategy[Mishap]:
    """Cuts at each class of byte boundary, answers that are not valid, and workers that die."""
    cuts = st.builds(
        Drop,
        at=st.sampled_from(["request", "work", "answer", "headers", "body"]),
        fraction=st.floats(0, 1),
        reset=st.booleans(),
    )
    answers = st.sampled_from(
        [
            unavailable(),
            unavailable(applied=True),
            unavailable(500, applied=True),
            rate_limited(7),
            not_json(),
            not_the_schema(),
            AnswerWith(409, {"object": "Error", "message": "Conversation is being updated", "code": 3000}),
        ]
    )
    actions: st.SearchStrategy[Any] = cuts | answers
    if stream:
        actions |= st.builds(EndStream, st.integers(0, 3) | st.integers(-3, -1))
    on_reading = st.sampled_from([Drop("request"), Drop("body"), unavailable()])
    return (
        st.builds(Mishap, actions, st.sampled_from(["POST", "POST", "POST", "*"]), st.booleans())
        | st.builds(Mishap, on_reading, st.just("GET"))
        | st.just(Mishap(lost=True))
    )


@dataclass
class Harried(ConversationDriver):
    """A conversation whose attempts meet with mishaps, one after another, each in a worker of its own."""

    mishaps: Sequence[Mishap] = ()
    attempts: int = 0

    async def ask(self, agent: str, new: tuple[Entry, ...]) -> ModelReply:
        self.turns += 1
        request = self.request(agent, new)
        world = self.world
        assert isinstance(world, MistralWorld)
        while True:
            mishap = self.mishaps[self.attempts] if self.attempts < len(self.mishaps) else Mishap()
            self.attempts += 1
            for fault in mishap.faults():
                world.cloud.server.faults.add(fault)
            try:
                async with SharedResources() as worker:
                    reply = await world.session.reply(request, worker)
                if not mishap.lost:
                    return self._keep(new, reply)
            except OutlastError as error:
                if not error.retryable:
                    raise
            finally:
                world.cloud.server.faults.clear()
            await world.cloud.server.settled()
            request = request.with_(attempt=request.attempt + 1)


@pytest.fixture(scope="module")
def clouds() -> Iterator[dict[tuple[bool, bool], Cloud]]:
    with ExitStack() as stack:
        made = {mode: Cloud(inputs_visible_at_once=mode[0], metadata_filter_works=mode[1]) for mode in MODES}
        for cloud in made.values():
            stack.enter_context(cloud.server)
        yield made


def on_server(world: MistralWorld, conversation: ConversationDriver) -> list[tuple[str, ...]]:
    """Return the server's history of the conversation that the run ended with."""
    handle: Any = conversation.handle
    held = world.cloud.server.conversations[handle["conversation_id"]].entries
    return seen(entries_of(held, {agent_id: name for name, agent_id in handle["agents"].items()}))


async def run_harried(
    cloud: Cloud, program: SessionProgram, drawn: Sequence[Mishap], *, stream: bool
) -> None:
    with mistral_world(cloud, program, RemoteSession, stream=stream) as world:
        async with SharedResources() as resources:
            conversation = Harried(world, resources, program.added, mishaps=drawn)
            await conversation.run("Go.")
        assert seen(conversation.history) == foreseen("Go.", program)
        assert on_server(world, conversation) == foreseen("Go.", program)
        # The reply that was made is the reply that is used.
        assert world.asked() == len(program.replies)
        assert len([one for one in cloud.server.conversations.values() if _is_of(one, world)]) == 1


def _is_of(conversation: Any, world: MistralWorld) -> bool:
    return str((conversation.metadata or {}).get("outlast_request", "")).startswith(f"{world.name}-")


@st.composite
def ordeals(draw: st.DrawFn) -> tuple[SessionProgram, list[Mishap], bool]:
    stream = draw(st.booleans())
    return draw(programs()), draw(st.lists(mishaps(stream), min_size=1, max_size=8)), stream


@given(ordeal=ordeals(), mode=st.sampled_from(MODES))
@few_examples(20)
async def test_any_faults_leave_the_transcript_of_an_undisturbed_run(
    clouds: dict[tuple[bool, bool], Cloud],
    ordeal: tuple[SessionProgram, list[Mishap], bool],
    mode: tuple[bool, bool],
) -> None:
    """A few runs here; the nightly profile asks for thousands."""
    program, drawn, stream = ordeal
    await run_harried(clouds[mode], program, drawn, stream=stream)


ERRAND = SessionProgram(
    ((say("Let me see."), call("look_up", {"city": "Lyon"})), (handoff("poet"),), (say("It rains."),))
)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("at", ["request", "work", "answer", "headers", "body"])
async def test_a_cut_at_every_class_of_byte_boundary_of_every_request_changes_nothing(
    clouds: dict[tuple[bool, bool], Cloud], at: Any, mode: tuple[bool, bool], stream: bool
) -> None:
    cut = Mishap(Drop(at))
    await run_harried(clouds[mode], ERRAND, [cut, Mishap(), cut, Mishap(lost=True), cut], stream=stream)


# Where a look beforehand is not enough ----------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False], ids=["start", "append"])
async def test_a_request_that_ends_between_the_look_and_its_repetition_counts_once(is_first: bool) -> None:
    """It is applied twice where nothing can prevent it; the first reply counts, the rest is left alone."""
    thinking, late = Hang("work"), Hang("request")
    opening = [] if is_first else [[Say("0")]]
    with server_of(*opening, [Say("1")], [Say("1 again")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            if not is_first:
                request = after(
                    request, await session.reply(request, resources), MessageInput(content="More.")
                )
            path = START if is_first else APPEND
            server.faults.add(Fault(Drop("work"), thinking, method="POST", path=path))
            with pytest.raises(ModelUnreachable):
                await session.reply(request, resources)
            server.faults.add(Fault(late, method="POST", path=APPEND))
            again = asyncio.create_task(session.reply(request.with_(attempt=2), resources))
            await late.reached()
            thinking.release()
            await server.settled()
            late.release()
            reply = await again
            assert text(reply) == ["1"]
            assert any("applied twice" in warning for warning in reply.warnings)
            assert reply.usage.total_tokens > 0
            last = await session.reply(after(request, reply, MessageInput(content="On.")), resources)
            assert text(last) == ["2"]
            assert any("new conversation" in warning for warning in last.warnings)
        *_, conversation = server.conversations.values()
        said = ["Go.", "1", "On.", "2"] if is_first else ["Go.", "0", "More.", "1", "On.", "2"]
        assert [entry.get("content") for entry in conversation.entries] == said


@pytest.mark.parametrize("visible", [True, False])
async def test_a_start_that_is_still_answered_is_not_made_again(visible: bool) -> None:
    thinking = Hang("work")
    with server_of([Say("1")], inputs_visible_at_once=visible) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            server.faults.add(Fault(Drop("work"), thinking, method="POST", path=START))
            with pytest.raises(ModelUnreachable):
                await session.reply(request, resources)
            with pytest.raises(ModelOverloaded) as busy:
                await session.reply(request.with_(attempt=2), resources)
            assert busy.value.status == 409
            thinking.release()
            await server.settled()
            assert text(await session.reply(request.with_(attempt=3), resources)) == ["1"]
        assert len(server.conversations) == 1


async def test_a_stream_names_the_conversation_that_it_began_before_it_is_cut() -> None:
    with server_of([Say("1")]) as server:
        async with worker() as resources:
            session = session_for(server, stream=True)
            server.faults.add(Fault(EndStream(1), method="POST", path=START))
            with pytest.raises(ModelUnreachable):
                await session.reply(start(graph_for("m")), resources)
            reply = await session.reply(start(graph_for("m")).with_(attempt=2), resources)
            assert text(reply) == ["1"]
            assert any("usage" in warning for warning in reply.warnings)
        assert not [one for one in server.requests if (one.method, one.path) == ("GET", START)]


async def test_a_start_that_someone_deleted_before_it_was_found_is_made_again() -> None:
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server, stream=True)
            server.faults.add(Fault(EndStream(1), method="POST", path=START))
            with pytest.raises(ModelUnreachable):
                await session.reply(start(graph_for("m")), resources)
            from mistralai.client import Mistral

            async with Mistral(api_key=server.api_key, server_url=server.url) as client:
                await client.beta.conversations.delete_async(conversation_id=next(iter(server.conversations)))
            reply = await session.reply(start(graph_for("m")).with_(attempt=2), resources)
            assert text(reply) == ["2"]
        assert len(server.conversations) == 1


async def test_an_attempt_that_arrives_when_a_later_one_is_done_is_noticed_and_left_behind() -> None:
    """A worker that was paused sends what its successor has sent already; or a proxy does."""
    late = Hang("request")
    with server_of([Say("0")], [Say("1")], [Say("1 again")], [Say("2")], [Say("3")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            request = after(request, await session.reply(request, resources), MessageInput(content="More."))
            server.faults.add(Fault(late, method="POST", path=APPEND))
            zombie = asyncio.create_task(session.reply(request, resources))
            await late.reached()
            reply = await session.reply(request.with_(attempt=2), resources)
            assert (text(reply), reply.warnings) == (["1"], ())
            late.release()
            await zombie
            request = after(request, reply, MessageInput(content="On."))
            reply = await session.reply(request, resources)
            assert text(reply) == ["2"]
            assert any("did not add" in warning for warning in reply.warnings)
            before = len(server.requests)
            assert text(await session.reply(after(request, reply, MessageInput(content="!")), resources)) == [
                "3"
            ]
            assert len(server.requests) == before + 1
        *_, ours = server.conversations.values()
        said = ["Go.", "0", "More.", "1", "On.", "2", "!", "3"]
        assert [entry.get("content") for entry in ours.entries] == said


async def test_a_request_that_an_ended_run_may_have_sent_is_not_sent_again() -> None:
    """A run was cancelled in the middle of its request, which the server answered all the same."""
    with server_of([Say("0")], [Say("lost on the way")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            lost = after(request, reply, MessageInput(content="More."), key="k2")
            server.faults.add(Fault(Drop("answer"), method="POST", path=APPEND))
            with pytest.raises(ModelUnreachable):
                await session.reply(lost, resources)
            more = (*lost.new, MessageInput(content="And more."))
            last = await session.reply(lost.with_(new=more, idempotency_key="k3", in_doubt=True), resources)
            assert text(last) == ["2"]
        _, second = server.conversations.values()
        assert [entry.get("content") for entry in second.entries] == ["Go.", "0", "More.", "And more.", "2"]


async def test_a_reply_that_never_comes_is_given_up_for_a_new_conversation() -> None:
    """The server took the inputs, shows them, and died while it was answering."""
    dead = Hang("work")
    with server_of([Say("0")], [Say("1")], [Say("too late")], inputs_visible_at_once=True) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            request = after(request, await session.reply(request, resources), MessageInput(content="More."))
            server.faults.add(Fault(Drop("work"), dead, method="POST", path=APPEND))
            with pytest.raises(ModelUnreachable):
                await session.reply(request, resources)
            for attempt in range(2, 9):
                with pytest.raises(ModelOverloaded):
                    await session.reply(request.with_(attempt=attempt), resources)
            reply = await session.reply(request.with_(attempt=9), resources)
            assert text(reply) == ["1"]
            assert any("new conversation" in warning for warning in reply.warnings)
            dead.release()
        *_, ours = server.conversations.values()
        assert [entry.get("content") for entry in ours.entries][:3] == ["Go.", "0", "More."]


@pytest.mark.parametrize("visible", [True, False])
async def test_a_worker_killed_in_the_middle_of_a_request_leaves_its_reply_to_the_next(visible: bool) -> None:
    model = ScriptedModel(
        {"front": [[Call("look_up", {"city": "Lyon"})], [HandOff("poet")]], "poet": [[Say("Rain.")]]}
    )
    with MistralServer(model, inputs_visible_at_once=visible) as server:
        thinking = Hang("work")
        server.faults.add(Fault(thinking, method="POST", path=APPEND))
        stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
        try:
            execution, _ = await stage.start(Errand, server.url)
            ended = asyncio.ensure_future(execution.result())
            first = await stage.worker(Errand)
            await thinking.reached()
            await first.kill()
            await stage.worker(Errand)
            # The next worker finds the conversation busy, once its predecessor's lease has run out.
            async with asyncio.timeout(30):
                while len([one for one in server.requests if one.path.endswith("/history")]) < 2:
                    await stage.pass_time(1)
                    await asyncio.wait([ended], timeout=0.01)
                thinking.release()
                while not ended.done():
                    await stage.pass_time(1)
                    await asyncio.wait([ended], timeout=0.01)
            assert await ended == "Rain."
        finally:
            await stage.close()
        server.raise_errors()
        (conversation,) = server.conversations.values()
        assert len(conversation.entries) == 5
        assert len(model.calls) == 3


# Conversations out of order ------------------------------------------------------------------------------


async def test_a_deleted_conversation_is_replaced_by_a_new_one_with_a_warning() -> None:
    with server_of([Say("1")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            from mistralai.client import Mistral

            async with Mistral(api_key=server.api_key, server_url=server.url) as client:
                await client.beta.conversations.delete_async(conversation_id=next(iter(server.conversations)))
            more = await session.reply(after(request, reply, MessageInput(content="More.")), resources)
            assert text(more) == ["2"]
            assert any("no longer has" in warning for warning in more.warnings)
        (conversation,) = server.conversations.values()
        assert [entry.get("content") for entry in conversation.entries] == ["Go.", "1", "More.", "2"]


async def test_results_that_someone_else_gave_are_not_given_again() -> None:
    with server_of([Call("look_up")], [Say("Thanks.")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            (made,) = [entry for entry in reply.entries if isinstance(entry, FunctionCall)]
            result = FunctionResult(tool_call_id=made.tool_call_id, result="r")
            aside: Any = {"type": "function.result", "tool_call_id": made.tool_call_id, "result": "x"}
            from mistralai.client import Mistral

            async with Mistral(api_key=server.api_key, server_url=server.url) as client:
                (conversation_id,) = server.conversations
                await client.beta.conversations.append_async(conversation_id=conversation_id, inputs=[aside])
            last = await session.reply(after(request, reply, result), resources)
            assert text(last) == ["Thanks."]
        assert len(server.conversations) == 1


async def test_a_conversation_that_someone_else_added_to_is_left_alone() -> None:
    with server_of([Call("look_up")], [Say("Thanks.")], [Say("Aside.")], [Say("2")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            (made,) = [entry for entry in reply.entries if isinstance(entry, FunctionCall)]
            result: Any = {"type": "function.result", "tool_call_id": made.tool_call_id, "result": "r"}
            from mistralai.client import Mistral

            async with Mistral(api_key=server.api_key, server_url=server.url) as client:
                (conversation_id,) = server.conversations
                aside = {"type": "message.input", "role": "user", "content": "Also."}
                await client.beta.conversations.append_async(
                    conversation_id=conversation_id, inputs=[result, aside]
                )
            more = after(request, reply, FunctionResult(**result), MessageInput(content="And?"))
            last = await session.reply(more, resources)
            assert any("did not add" in warning for warning in last.warnings)
        *_, ours = server.conversations.values()
        assert [entry["content"] for entry in ours.entries if "content" in entry][:2] == ["Go.", "And?"]


async def test_arguments_that_are_not_json_lead_to_one_new_conversation_with_a_warning() -> None:
    with server_of([Call("look_up", '{"city": "Ly')], [Call("look_up", {})], [Say("Done.")]) as server:
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            warnings = []
            for key in ("k2", "k3"):
                reply = await session.reply(request, resources)
                (made,) = [entry for entry in reply.entries if isinstance(entry, FunctionCall)]
                result = FunctionResult(tool_call_id=made.tool_call_id, result="r")
                request = after(request, reply, result, key=key)
                warnings.append(reply.warnings)
            assert text(await session.reply(request, resources)) == ["Done."]
        assert (posts(server, START), len(server.conversations)) == (2, 2)
        assert [len(one) for one in warnings] == [0, 1]
        assert "not a JSON object" in warnings[1][0]


@pytest.mark.parametrize(
    "ids",
    [("same00000", "same00000"), (None, None), ("a" * 1000, "b" * 1000), ("\t", "\n")],
    ids=["repeated", "missing", "too long", "not to be printed"],
)
async def test_calls_without_ids_of_their_own_are_answered_in_a_new_conversation(ids: Any) -> None:
    outputs = [
        {"type": "function.call", "id": f"fc_{n}", "name": "look_up", "arguments": "{}", "tool_call_id": one}
        for n, one in enumerate(ids)
    ]
    body = {"conversation_id": "conv_1", "outputs": outputs, "usage": {}}
    with server_of([Say("Done.")]) as server:
        server.faults.add(Fault(AnswerWith(200, body), method="POST", path=START))
        async with worker() as resources:
            session = session_for(server)
            request = start(graph_for("m"))
            reply = await session.reply(request, resources)
            reply = reply.with_(entries=with_own_call_ids(reply.entries))
            results = [
                FunctionResult(tool_call_id=entry.tool_call_id, result="r")
                for entry in reply.entries
                if isinstance(entry, FunctionCall)
            ]
            assert len({result.tool_call_id for result in results}) == 2
            last = await session.reply(after(request, reply, *results), resources)
            assert text(last) == ["Done."]
            assert any("ids of their own" in warning for warning in last.warnings)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"api_key": "wrong"}, 401, "Unauthorized; check the session's api_key"),
        ({"agent": "ag_unknown"}, 404, "ag_unknown"),
    ],
    ids=["wrong key", "unknown agent id"],
)
async def test_an_error_that_no_retry_helps_has_the_servers_words(
    options: dict[str, str], status: int, message: str
) -> None:
    agent = AgentSpec(name="a", model="m", id=options.get("agent"))
    with server_of() as server:
        key = options.get("api_key", server.api_key)
        session = RemoteSession(api_key=key, server_url=server.url)
        async with worker() as resources:
            with pytest.raises(ModelRefused, match=message) as refused:
                await session.reply(start(AgentGraph(start="a", agents={"a": agent})), resources)
        assert refused.value.status == status
        assert key not in str(refused.value)


# Workers that die ----------------------------------------------------------------------------------------

looked_up: list[str] = []


@activity()
async def look_up(city: str) -> str:
    looked_up.append(city)
    return f"weather of {city}"


@workflow.define(name="exactly_once_errand")
class Errand:
    """A run of two agents, one of them with a tool."""

    @workflow.entrypoint
    async def run(self, server_url: str) -> str:
        poet = Agent(model="m", name="poet", instructions="Rhyme.")
        front = Agent(model="m", name="front", instructions="Ask.", tools=[look_up], handoffs=[poet])
        session = RemoteSession(api_key="test-key", server_url=server_url)
        return (await Runner.run(agent=front, inputs="Go.", session=session)).text


@pytest.mark.nightly
@pytest.mark.parametrize("dies_after_effect", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("visible", [True, False])
async def test_a_worker_killed_at_any_call_of_its_store_changes_no_transcript(
    visible: bool, dies_after_effect: bool
) -> None:
    assert await die_at(range(1, 60), visible=visible, dies_after_effect=dies_after_effect) > 10


async def test_a_worker_killed_at_some_calls_of_its_store_changes_no_transcript() -> None:
    assert await die_at(range(2, 60, 4), visible=False, dies_after_effect=True) > 2


async def die_at(calls: Iterable[int], *, visible: bool, dies_after_effect: bool) -> int:
    """Run the errand with a worker that dies at one of these calls, until one comes too late to matter."""
    deaths = 0
    for dies_at in calls:
        model = ScriptedModel(
            {"front": [[Call("look_up", {"city": "Lyon"})], [HandOff("poet")]], "poet": [[Say("Rain.")]]}
        )
        with MistralServer(model, inputs_visible_at_once=visible) as server:
            looked_up.clear()
            stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
            try:
                died = await _run_and_die(stage, server.url, dies_at, dies_after_effect=dies_after_effect)
            finally:
                await stage.close()
            server.raise_errors()
            (conversation,) = server.conversations.values()
            assert [entry["type"] for entry in conversation.entries] == [
                "message.input",
                "function.call",
                "function.result",
                "agent.handoff",
                "message.output",
            ]
            assert len(model.calls) == 3
            assert len(server.agents) == 2
        deaths += died
        if not died:
            break
    return deaths


async def _run_and_die(stage: Stage, url: str, dies_at: int, *, dies_after_effect: bool) -> bool:
    """Run the errand with a worker that dies at a call of its store, then another; return whether it died."""
    assert isinstance(stage.storage, InStore)
    execution, _ = await stage.start(Errand, url)
    ended = asyncio.ensure_future(execution.result())
    lifeline = Lifeline(stage.storage.storage.open(), dies_at=dies_at, dies_after_effect=dies_after_effect)
    first = await stage.worker(Errand, backend=await stage.enter(stage.storage.open_on(lifeline)))
    died = asyncio.ensure_future(lifeline.died.wait())
    await asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    died.cancel()
    await first.kill()
    await stage.worker(Errand)
    async with asyncio.timeout(30):
        while not ended.done():
            # Replies take real time, while leases and pauses go by the clock of the stage.
            await stage.pass_time(1)
            await asyncio.wait([ended], timeout=0.01)
    assert await ended == "Rain."
    return lifeline.died.is_set()
