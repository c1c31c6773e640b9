"""`outlast agents` lists and removes the agents that this library made in an account, and no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mistralai.client import Mistral
from typer.testing import CliRunner, Result

from outlast.adapters.mistral import RemoteSession
from outlast.adapters.mistral.housekeeping import open_account
from outlast.cli.commands import app
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import MessageInput
from outlast.ports.llm import ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.mistral_server import MistralServer, Say

pytestmark = pytest.mark.server

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MistralServer]:
    with MistralServer(lambda _: [Say("Hello.")]) as server:
        monkeypatch.setenv("MISTRAL_API_KEY", server.api_key)
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        yield server
        server.raise_errors()


def graph(instructions: str) -> AgentGraph:
    front = AgentSpec(name="front", model="m", handoffs=("poet",))
    poet = AgentSpec(name="poet", model="m", instructions=instructions)
    return AgentGraph(start="front", agents={"front": front, "poet": poet})


async def converse(*graphs: AgentGraph) -> None:
    async with SharedResources() as worker:
        for number, one in enumerate(graphs):
            request = ModelRequest(
                graph=one,
                agent=one.start,
                turn=1,
                history=(),
                new=(MessageInput(content="Go."),),
                idempotency_key=str(number),
            )
            await RemoteSession().reply(request, worker)


async def agents(*words: str, answer: str | None = None) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["agents", *words], input=answer)


async def their_agent(server: MistralServer, **fields: Any) -> str:
    async with Mistral(api_key=server.api_key, server_url=server.url) as client:
        return str((await client.beta.agents.create_async(model="m", name="theirs", **fields)).id)


async def test_only_our_agents_are_shown(server: MistralServer) -> None:
    await their_agent(server)
    await converse(graph("Rhyme."))
    as_json = await agents("list", "--json")
    listed = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [(agent["name"], agent["versions"]) for agent in listed] == [("poet", 1), ("front", 1)]
    shown = (await agents("list")).stdout
    assert all(agent["id"] in shown for agent in listed)


async def test_only_unused_agents_are_removed(server: MistralServer) -> None:
    theirs = await their_agent(server)
    await converse(graph("Rhyme."))
    removed = await agents("gc", "--yes", "--unused-for", "0")
    assert removed.exit_code == 0, removed.output
    assert len(removed.stdout.split()) == 2
    assert list(server.agents) == [theirs]
    await converse(graph("Rhyme."))
    assert len(server.agents) == 3


async def test_a_used_agent_is_kept_with_every_agent_that_it_reaches(server: MistralServer) -> None:
    """The poet of the old version is reached by a conversation alone, which is pinned to that version."""
    await converse(graph("Rhyme."), graph("Do not rhyme."))
    assert len(server.agents) == 3
    async with open_account(RemoteSession()) as account:
        assert all(agent.is_needed for agent in await account.agents(LONG_AGO))
        assert not any(agent.is_needed for agent in await account.agents(datetime.now(UTC)))
    conversations = list(server.conversations.values())
    since = datetime.fromisoformat(conversations[0].updated_at) + timedelta(milliseconds=1)
    async with open_account(RemoteSession()) as account:
        kept = [(agent.name, agent.is_needed) for agent in await account.agents(since)]
    assert kept == [("poet", False), ("front", True), ("poet", True)]


async def test_agents_that_an_agent_of_somebody_else_hands_off_to_are_kept(server: MistralServer) -> None:
    await converse(graph("Rhyme."))
    (poet,) = [agent["id"] for agent in server.agents.values() if agent["name"] == "poet"]
    theirs = await their_agent(server, handoffs=[poet])
    await agents("gc", "--yes", "--unused-for", "0")
    assert set(server.agents) == {poet, theirs}


@pytest.mark.parametrize(("options", "answer"), [(["--dry-run"], None), ([], "n\n")], ids=["dry run", "no"])
async def test_nothing_is_removed_unasked(
    server: MistralServer, options: list[str], answer: str | None
) -> None:
    await converse(graph("Rhyme."))
    shown = await agents("gc", "--unused-for", "0", *options, answer=answer)
    assert len(server.agents) == 2
    assert all(agent in shown.stdout for agent in server.agents)


async def test_the_error_for_a_wrong_key_does_not_have_the_key(
    server: MistralServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "wrong-key-0123")
    shown = await agents("gc", "--yes")
    assert shown.exit_code == 1
    assert "401" in shown.stderr
    assert "wrong-key-0123" not in shown.output
