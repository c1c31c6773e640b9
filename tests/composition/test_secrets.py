"""D14: the key of a session is in no stored byte, log or error."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.testing.mistral_server import Call, MistralServer, ModelPrompt, Say

KEY = "key-that-nobody-may-see-7b1f"


@outlast.activity(name="secrets_look_up")
async def look_up(city: str) -> str:
    """Look a city up."""
    return f"{city} is fine"


def model(asked: ModelPrompt) -> Any:
    return [Say("Fine.")] if asked.results else [Call("secrets_look_up", {"city": "Lyon"})]


agent = outlast.Agent(model="mistral-medium-latest", name="guide", tools=[look_up])


def stored_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


@pytest.mark.parametrize("session_type", [outlast.RemoteSession, outlast.LocalSession])
@pytest.mark.parametrize("given_key", [KEY, f"wrong-{KEY}"], ids=["accepted", "refused"])
async def test_a_sessions_key_is_in_no_stored_byte_and_in_nothing_said(
    session_type: Any, given_key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"sqlite:///{tmp_path}/runs.db"
    said: list[str] = []
    with MistralServer(model, api_key=KEY) as server:
        session = session_type(api_key=given_key, server_url=server.url)
        try:
            result = await outlast.Runner.run(agent, "How is Lyon?", session, id="s", backend=url)
            said.append(repr(result))
        except outlast.ModelError as error:
            said += [str(error), repr(error)]
        said.append(repr(session))
        # A reader keeps the file and its journal of writes from being tidied away on closing.
        async with outlast.connect(url) as backend:
            events = [event async for event in (await backend.get("s")).events()]
            said += [repr(events), repr(await backend.list())]
            stored = stored_in(tmp_path)
    kinds = [event.kind for event in events]
    assert ("tool_returned" in kinds) == (given_key == KEY)
    assert ("model_failed" in kinds) == (given_key != KEY)
    assert b"guide" in stored
    assert KEY.encode() not in stored
    assert KEY not in "".join([*said, caplog.text])
