"""The scripted session keeps the session contract, and plays its script as it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from outlast.adapters.scripted.session import ScriptedSession, call, handoff, say
from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry, FunctionCall, MessageInput
from outlast.core.errors import DefinitionError, ModelRefused
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.session.contract import SessionContract
from outlast.testing.contracts.session.programs import (
    Hanging,
    SessionProgram,
    SessionWorld,
    Trouble,
    graph_for,
)


@dataclass
class ScriptedWorld:
    session: ScriptedSession
    graph: AgentGraph
    secret: str = "a scripted session has no key"

    def asked(self) -> int:
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


def request(handle: object = None, agent: str = "front") -> ModelRequest:
    return ModelRequest.model_validate(
        {
            "graph": graph_for("scripted"),
            "agent": agent,
            "turn": 1,
            "history": (),
            "new": (MessageInput(content="Go."),),
            "handle": handle,
            "idempotency_key": "k",
        }
    )


async def ask(session: ScriptedSession, handle: object = None, agent: str = "front") -> ModelReply:
    async with SharedResources() as resources:
        return await session.reply(request(handle, agent), resources)


async def test_a_text_is_something_said_and_a_reply_may_be_one_output() -> None:
    session = ScriptedSession({"front": ["Hello.", call("look_up"), ["One.", handoff("poet")]]})
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
        session = ScriptedSession(script)
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
    with pytest.raises(ModelRefused, match="1 replies for agent 'front', but this is request 2"):
        await ask(session, first.handle)
    with pytest.raises(ModelRefused, match="0 replies for agent 'poet'"):
        await ask(session, agent="poet")


async def test_the_handle_of_another_session_is_refused() -> None:
    with pytest.raises(DefinitionError, match="another kind of session"):
        await ask(ScriptedSession({"front": ["Hello."]}), {"conversation_id": "conv_1"})


def test_replies_without_outputs_and_scripts_without_replies_are_refused_at_once() -> None:
    with pytest.raises(DefinitionError, match="reply 2 in the script of agent 'front' is empty"):
        ScriptedSession({"front": ["Hello.", []]})
    with pytest.raises(DefinitionError, match="give a list of replies"):
        ScriptedSession({"front": "Hello."})
