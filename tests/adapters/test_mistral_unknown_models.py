"""A model that the server does not have: the error has its words, nothing is retried or left half done."""

from __future__ import annotations

from typing import Any

import pytest

from outlast import Agent, RemoteSession, Runner, connect
from outlast.core.errors import ModelRefused
from outlast.testing.mistral_server import MistralServer, Say, ScriptedModel
from tests.mistral_server.openapi import OpenApiJudge

pytestmark = pytest.mark.server


def front(model: str) -> Agent:
    poet = Agent(model="mistral-small-latest", name="poet")
    return Agent(model=model, name="front", handoffs=[poet])


@pytest.mark.parametrize("when", ["when an agent is made", "when it is asked"])
async def test_an_unknown_model_is_refused_in_the_servers_words_and_nothing_is_said_or_changed(
    when: Any,
) -> None:
    judge = OpenApiJudge()
    model = ScriptedModel({"front": [[Say("Yes.")]]})
    with MistralServer(model, on_exchange=judge, refuses_unknown_models=when) as server:
        session = RemoteSession(api_key=server.api_key, server_url=server.url)

        # The same the first time, and where there is an agent already that would be changed.
        for number in range(2):
            before = len(server.requests)
            async with connect("memory:") as backend:
                with pytest.raises(ModelRefused, match="Invalid model: mistral-medum") as refused:
                    await Runner.run(front("mistral-medum"), "Go.", session, id="x-1", backend=backend)
                kinds = [event.kind async for event in (await backend.get("x-1")).events()]
            assert refused.value.status == (422 if when == "when an agent is made" else 400)
            assert kinds[-3:] == ["turn_started", "model_failed", "execution_failed"]
            last = server.requests[-1]
            if when == "when it is asked":
                assert (last.method, last.path) == ("POST", "/v1/conversations")
            else:
                assert last.method == ("PATCH" if number else "POST")
                assert last.path.startswith("/v1/agents")
            # A retry could not help, so there was none.
            asked = [(one.method, one.path, one.body) for one in server.requests[before:]]
            assert asked.count((last.method, last.path, last.body)) == 1
            assert len(server.conversations) == number
            if number == 0:
                result = await Runner.run(front("mistral-medium-latest"), "Go.", session)
                assert result.text == "Yes."
        (known,) = [agent for agent in server.agents.values() if agent["name"] == "front"]
        assert known["model"] == "mistral-medium-latest"
    judge.raise_problems()
