"""The scripted session keeps the session contract, and plays its script as it says."""

from __future__ import annotations

import dataclasses
import datetime
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

import outlast
from outlast.adapters.scripted import (
    ModelCall,
    Reply,
    ScriptedSession,
    ScriptExhausted,
    WrongReply,
    call,
    calls,
    fail,
    handoff,
    say,
)
from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry, FunctionCall, MessageInput
from outlast.core.errors import DefinitionError, ModelOverloaded, ModelRefused, ModelUnreachable
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.session.contract import SessionContract
from outlast.testing.contracts.session.programs import (
    Hanging,
    Offer,
    SessionProgram,
    SessionWorld,
    Trouble,
    graph_for,
)
from outlast.testing.mistral_server import MistralServer


@dataclass
class ScriptedWorld:
    session: ScriptedSession
    graph: AgentGraph
    secret: str = "a scripted session has no key"

    def asked(self) -> int:
        raise NotImplementedError("a scripted session has no server")

    def offered(self) -> list[Offer]:
        raise NotImplementedError("a scripted session has no server")

    def trouble(self, trouble: Trouble, request: ModelRequest) -> None:
        raise NotImplementedError("a scripted session has no server")

    def hang(self, request: ModelRequest) -> Hanging:
        raise NotImplementedError("a scripted session has no server")


class TestScriptedSession(SessionContract):
    @contextmanager
    def open(self, program: SessionProgram) -> Iterator[SessionWorld]:
        script: dict[str, list[tuple[Entry, ...]]] = {}
        for speaker, reply in zip(program.speakers, program.replies, strict=True):
            script.setdefault(speaker, []).append(reply)
        yield ScriptedWorld(ScriptedSession(script), graph_for("scripted"))


def request(handle: object = None, agent: str = "front", attempt: int = 1) -> ModelRequest:
    return ModelRequest.model_validate(
        {
            "graph": graph_for("scripted"),
            "agent": agent,
            "turn": 1,
            "history": (),
            "new": (MessageInput(content="Go."),),
            "handle": handle,
            "idempotency_key": "k",
            "attempt": attempt,
        }
    )


async def ask(
    session: ScriptedSession, handle: object = None, agent: str = "front", attempt: int = 1
) -> ModelReply:
    async with SharedResources() as resources:
        return await session.reply(request(handle, agent, attempt), resources)


async def test_a_text_is_something_said_and_a_reply_may_be_one_output() -> None:
    session = ScriptedSession(
        {"front": ["Hello.", call("look_up"), ["One.", handoff("poet")]]}, may_call_unknown_tools=True
    )
    first = await ask(session)
    second = await ask(session, first.handle)
    third = await ask(session, second.handle)
    assert first.entries == (say("Hello."),)
    assert [entry.name for entry in second.entries if isinstance(entry, FunctionCall)] == ["look_up"]
    assert [entry.to_wire()["type"] for entry in third.entries] == ["message.output", "function.call"]


async def test_every_agent_has_its_own_place_in_the_script() -> None:
    session = ScriptedSession({"front": ["1", "2"], "poet": ["A"]})
    first = await ask(session)
    poem = await ask(session, first.handle, "poet")
    second = await ask(session, poem.handle)
    assert (first.entries, poem.entries, second.entries) == ((say("1"),), (say("A"),), (say("2"),))


async def test_a_function_of_the_request_may_be_the_script() -> None:
    def echo(asked: ModelRequest) -> str:
        return f"{asked.agent} got {len(asked.new)}"

    assert (await ask(ScriptedSession(echo))).entries == (say("front got 1"),)


async def test_calls_get_ids_that_are_the_same_in_every_run_and_differ_in_one() -> None:
    script: Mapping[str, list[list[FunctionCall]]] = {"front": [[call("a"), call("b")], [call("c")]]}
    ids = []
    for _ in range(2):
        session = ScriptedSession(script, may_call_unknown_tools=True)
        first = await ask(session)
        second = await ask(session, first.handle)
        made = (*first.entries, *second.entries)
        ids.append([entry.tool_call_id for entry in made if isinstance(entry, FunctionCall)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert all(len(one) == 9 and one.isalnum() for one in ids[0])


async def test_a_script_that_is_used_up_says_so() -> None:
    session = ScriptedSession({"front": ["Hello."]})
    first = await ask(session)
    with pytest.raises(ScriptExhausted, match="1 replies for agent 'front', but this is request 2"):
        await ask(session, first.handle)
    with pytest.raises(ScriptExhausted, match="0 replies for agent 'poet'"):
        await ask(session, agent="poet")


async def test_the_handle_of_another_session_is_refused() -> None:
    with pytest.raises(DefinitionError, match="another kind of session"):
        await ask(ScriptedSession({"front": ["Hello."]}), {"conversation_id": "conv_1"})


def test_replies_without_outputs_and_scripts_without_replies_are_refused_at_once() -> None:
    with pytest.raises(DefinitionError, match="reply 2 in the script of agent 'front' is empty"):
        ScriptedSession({"front": ["Hello.", []]})
    with pytest.raises(DefinitionError, match="must be a list, not 'Hello"):
        ScriptedSession({"front": "Hello."})


async def test_each_failure_of_a_script_fails_one_attempt() -> None:
    session = ScriptedSession(
        {"front": [fail(429, retry_after_seconds=3), fail(0), "Hello.", fail(400), "Bye."]}
    )
    with pytest.raises(ModelOverloaded) as overloaded:
        await ask(session)
    assert overloaded.value.retry_after_seconds == 3
    with pytest.raises(ModelUnreachable):
        await ask(session, attempt=2)
    hello = await ask(session, attempt=3)
    assert hello == await ask(session, attempt=4)
    assert hello.entries == (say("Hello."),)
    with pytest.raises(ModelRefused, match="status 400"):
        await ask(session, hello.handle)
    assert (await ask(session, hello.handle, attempt=2)).entries == (say("Bye."),)


async def test_a_failure_at_the_end_of_a_script_stays() -> None:
    session = ScriptedSession({"front": ["Hello.", fail()]})
    hello = await ask(session)
    for attempt in (1, 2, 9):
        with pytest.raises(ModelOverloaded, match="503"):
            await ask(session, hello.handle, attempt=attempt)


async def test_a_call_of_a_tool_that_the_agent_does_not_have_is_a_mistake_of_the_script() -> None:
    with pytest.raises(
        WrongReply, match="'look_down', and agent 'front' has no tool or handoff of that name"
    ):
        await ask(ScriptedSession({"front": [call("look_down")]}))


class Resolution(BaseModel):
    order: str
    refund: int = Field(alias="sum")


@dataclasses.dataclass
class Deal:
    company: str
    due: datetime.date


VALUES = [Resolution(order="o-1", sum=7), Deal("ACME", datetime.date(2030, 1, 2))]


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_of_the_output_type_is_an_answer(value: Any) -> None:
    agent = outlast.Agent(model="m", name="front", output_type=type(value))
    scripts: list[Any] = [{"front": [value]}, {"front": [say(value)]}, lambda asked: value]
    for script in scripts:
        assert (await outlast.Runner.run(agent, "Go.", ScriptedSession(script))).output == value
    with MistralServer(lambda asked: value, models=("m",)) as server:
        session = outlast.LocalSession(api_key=server.api_key, server_url=server.url)
        assert (await outlast.Runner.run(agent, "Go.", session)).output == value
        server.raise_errors()


@pytest.mark.parametrize("wrong", [None, 7, [7], Resolution, outlast.TextChunk(text="so")])
def test_say_says_what_it_takes(wrong: Any) -> None:
    with pytest.raises(WrongReply, match=r"say takes a text, a list of chunks, or an object of .* dataclass"):
        say(wrong)


@pytest.mark.parametrize("wrong", [None, 7, ["Hello.", 7], {"text": "Hello."}])
async def test_a_reply_of_a_wrong_type_says_what_a_reply_is(wrong: Any) -> None:
    with pytest.raises(WrongReply, match="a reply is text, or what say, call"):
        await ask(ScriptedSession(lambda asked: wrong))
    with pytest.raises(DefinitionError, match=r"reply 1 in the script of agent 'front'.*a reply is text"):
        ScriptedSession({"front": [wrong]})


def test_several_calls_may_be_written_as_names_with_arguments() -> None:
    assert calls("a", ("b", {"c": 1}), call("d")) == [call("a"), call("b", {"c": 1}), call("d")]


@pytest.mark.parametrize("run_id", [None, "q-1"])
async def test_a_mistake_of_a_script_is_the_cause_of_the_error_with_its_own_traceback(
    run_id: str | None,
) -> None:
    def model(asked: ModelCall) -> str:
        raise KeyError("no such city")

    agent = outlast.Agent(model="m", name="front")
    with pytest.raises(outlast.ActivityFailed, match="no such city") as failed:
        await outlast.Runner.run(
            agent, "Go.", ScriptedSession(model), id=run_id, backend=run_id and "memory:"
        )
    causes, error = [], failed.value.__cause__
    while error is not None:
        causes.append(error)
        error = error.__cause__
    if run_id is None:
        assert any(traceback.extract_tb(one.__traceback__)[-1].name == "model" for one in causes)
    else:
        assert failed.value.__notes__ is not None


async def test_one_function_plays_in_a_session_and_behind_a_server() -> None:
    def weather(asked: ModelCall) -> Reply:
        if asked.results:
            assert asked.replies == 1
            return f"It is {[*asked.results.values()][-1]} in {asked.text}."
        assert (asked.model, asked.replies, asked.all_instructions) == ("m", 0, "Be brief.")
        assert [*asked.tool_names] == ["look_up"]
        return call("look_up", {"city": asked.text})

    def look_up(city: str) -> str:
        """Look the weather up."""
        return "sunny"

    agent = outlast.Agent(model="m", name="front", instructions="Be brief.", tools=[look_up])
    texts = [(await outlast.Runner.run(agent, "Lyon", ScriptedSession(weather))).text]
    with MistralServer(weather, models=("m",)) as server:
        for session in (
            outlast.LocalSession(api_key=server.api_key, server_url=server.url),
            outlast.RemoteSession(api_key=server.api_key, server_url=server.url),
        ):
            texts.append((await outlast.Runner.run(agent, "Lyon", session)).text)
        server.raise_errors()
    assert texts == ["It is sunny in Lyon."] * 3


async def test_the_same_script_plays_in_a_session_and_behind_a_server() -> None:
    script: dict[str, list[Reply]] = {
        "front": [fail(429), handoff("poet")],
        "poet": ["Rain, rain, go to Spain."],
    }
    poet = outlast.Agent(model="m", name="poet")
    front = outlast.Agent(model="m", name="front", handoffs=[poet])
    plain = await outlast.Runner.run(front, "Go.", ScriptedSession(script))
    with MistralServer(script, models=("m",)) as server:
        session = outlast.RemoteSession(api_key=server.api_key, server_url=server.url)
        remote = await outlast.Runner.run(front, "Go.", session)
        server.raise_errors()
    assert plain.text == remote.text == "Rain, rain, go to Spain."
