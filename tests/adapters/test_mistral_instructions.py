"""Instructions that a function makes for each turn: what the two sessions send of them."""

from __future__ import annotations

from typing import Any

import pytest

import outlast
from outlast.core.json import decode
from outlast.testing.mistral_server import Call, MistralServer, Say, ScriptedModel

pytestmark = pytest.mark.server


def look() -> str:
    """Look."""
    return "seen"


def by_turn(run: outlast.RunContext[list[str]]) -> str:
    return f"Be {run.context[run.turn - 1]}."


CLERK = outlast.Agent(model="mistral-small-latest", name="clerk", instructions=by_turn, tools=[look])
MOODS = ["kind", "kind", "brief"]


def server_of(turns: int) -> MistralServer:
    return MistralServer(ScriptedModel([[Call("look", {})]] * (turns - 1) + [[Say("Done.")]]))


def bodies(server: MistralServer, path: str) -> list[Any]:
    sent = [one for one in server.requests if one.method == "POST" and one.path.startswith(path)]
    return [decode(one.body) for one in sent]


async def test_a_server_is_sent_instructions_as_a_message_when_they_have_changed() -> None:
    with server_of(3) as server:
        session = outlast.RemoteSession(api_key=server.api_key, server_url=server.url)
        result = await outlast.Runner.run(CLERK, "Go.", session, context=MOODS)
        assert result.text == "Done."
        server.raise_errors()
        assert len(server.agents) == 1
        sent = [
            [(entry["type"], entry.get("content", entry.get("result"))) for entry in body["inputs"]]
            for body in bodies(server, "/v1/conversations")
        ]
    first, second, third = sent
    assert [kind for kind, _ in first] == ["message.input", "message.input"]
    assert first[0][1].endswith("Be kind.")
    assert first[1][1] == "Go."
    assert second == [("function.result", "seen")]
    assert third[0] == ("function.result", "seen")
    assert third[1][1].endswith("Be brief.")


async def test_an_endpoint_is_sent_them_as_the_system_prompt_of_the_turn() -> None:
    with server_of(3) as server:
        session = outlast.LocalSession(api_key=server.api_key, server_url=server.url)
        result = await outlast.Runner.run(CLERK, "Go.", session, context=MOODS)
        assert result.text == "Done."
        prompts = [body["messages"][0] for body in bodies(server, "/v1/chat")]
    assert prompts == [{"role": "system", "content": f"Be {mood}."} for mood in MOODS]
