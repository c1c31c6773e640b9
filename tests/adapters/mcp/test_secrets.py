"""Secrets of a server reach the server, and nothing else."""

from __future__ import annotations

import json
import logging
import traceback
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import outlast
from outlast.adapters.mcp.secrets import HIDDEN, SHORTEST, Redaction
from outlast.core.json import JSON
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.mistral_server import Call, MistralServer, ModelPrompt, Say
from tests.adapters.mcp.calling import OBJECT, Caller, raw
from tests.adapters.mcp.serving import Nursery
from tests.adapters.mcp.stores import storing

SECRET = 'tok-"81d7"\\ä'
PLAIN = "tok-91c3"


@given(
    secret=st.text(min_size=SHORTEST).filter(lambda text: text not in HIDDEN),
    around=st.lists(st.text(), min_size=2, max_size=2),
)
def test_no_text_keeps_a_secret_however_json_spells_it(secret: str, around: list[str]) -> None:
    redaction = Redaction([secret])
    for spelled in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        assert spelled not in redaction.text(HIDDEN.join([around[0], spelled, around[1]])).replace(
            HIDDEN, "\0"
        )


@given(
    value=st.recursive(
        st.text() | st.none() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_value_without_a_secret_stays_as_it_is(value: Any) -> None:
    assert Redaction(["not \0 in there"]).value(value) == value


def test_a_token_is_hidden_without_its_scheme_too() -> None:
    redaction = Redaction(["Bearer tok-81d7"])
    assert redaction.text("you are tok-81d7 by Bearer tok-81d7") == f"you are {HIDDEN} by {HIDDEN}"


def repeating(**options: Any) -> outlast.MCPStdioConfig:
    """Return a server with a tool that says the variables of its process."""
    return raw(None, {"name": "variables", "inputSchema": OBJECT}, **options)


@pytest.mark.server
async def test_a_child_has_its_own_variables_and_none_of_the_workers(
    resources: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOBODYS_BUSINESS", PLAIN)
    monkeypatch.setenv("TOKEN_OF_THE_WORKER", SECRET)
    config = repeating(
        env={"TOKEN": "env:TOKEN_OF_THE_WORKER", "KEY": SecretStr("key-52aa"), "MODE": "reading-only"}
    )
    output = await config.call("t_variables", {}, resources)
    assert isinstance(output.content, str)
    variables = json.loads(output.content)
    assert variables.pop("TOKEN") == variables.pop("KEY") == HIDDEN
    assert variables.pop("MODE") == "reading-only"
    allowed = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}
    # Python adds LC_CTYPE to the environment of a process that has no locale.
    assert set(variables) <= allowed | {"LC_CTYPE"}


@pytest.mark.server
@pytest.mark.parametrize("way", ["sse", "streamable"])
@pytest.mark.parametrize("given", ["env:TOKEN_OF_THE_WORKER", "Bearer env:TOKEN_OF_THE_WORKER", "plain"])
async def test_headers_reach_the_server_and_are_hidden_where_it_says_them(
    way: str,
    given: str,
    calling: Callable[..., Caller],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TOKEN_OF_THE_WORKER", PLAIN)
    value = f"Bearer {PLAIN}" if given == "plain" else given
    said = await calling(way, headers={"Authorization": value, "X-Tenant": SecretStr("tenant-7")}).text(
        "headers"
    )
    headers = json.loads(said)
    assert headers["authorization"] == HIDDEN
    assert headers["x-tenant"] == HIDDEN
    assert PLAIN not in caplog.text


@pytest.mark.server
@pytest.mark.parametrize("way", ["sse", "streamable"])
async def test_headers_follow_a_redirect_on_the_same_host(way: str, calling: Callable[..., Caller]) -> None:
    there = calling(way, headers={"Authorization": f"Bearer {PLAIN}"})
    assert isinstance(there.config, outlast.MCPSSEConfig | outlast.MCPStreamableHTTPConfig)
    parts = urlsplit(there.config.url)
    moved = replace(there.config, url=parts._replace(path=f"/old{parts.path}").geturl())
    headers = json.loads(await Caller(moved, there.servers, there.resources).text("headers"))
    assert headers["authorization"] == HIDDEN


@pytest.mark.server
async def test_output_of_a_server_that_is_not_a_message_is_logged_without_a_secret(
    resources: SharedResources, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script = 'echo "my token is $TOKEN"; echo "and $TOKEN again" >&2; exec "$@"'
    config = repeating(env={"TOKEN": SecretStr(PLAIN)})
    noisy = replace(config, command="sh", args=["-c", script, "sh", config.command, *config.args])
    assert [tool.name for tool in await noisy.list_tools(resources)] == ["t_variables"]
    assert f"my token is {HIDDEN}" in caplog.text
    assert f"and {HIDDEN} again" in caplog.text
    assert PLAIN not in caplog.text


@pytest.mark.server
async def test_a_list_of_tools_that_has_a_secret_is_kept_without_it(
    resources: SharedResources, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    schema: dict[str, JSON] = {**OBJECT, "properties": {"key": {"type": "string", "default": PLAIN}}}
    tools: list[JSON] = [
        {"name": f"use-{PLAIN}", "description": f"Uses {PLAIN}.", "inputSchema": schema},
        {"name": f"odd-{PLAIN}", "inputSchema": {**OBJECT, "properties": {"a": {"type": PLAIN}}}},
    ]
    done: JSON = {"content": [{"type": "text", "text": "done"}]}
    server = raw(done, *tools, env={"TOKEN": SecretStr(PLAIN)})
    (tool,) = await server.list_tools(resources)
    assert (tool.name, tool.description) == ("t_use-___", f"Uses {HIDDEN}.")
    assert (await server.call(tool.name, {"key": "a"}, resources)).content == "done"
    with pytest.raises(outlast.InvalidArguments, match="is not of type 'string'") as refused:
        await server.call(tool.name, {"key": 1}, resources)
    assert "is left out: its schema is not valid" in caplog.text
    for text in (repr(tool), str(refused.value), caplog.text):
        assert PLAIN not in text


@pytest.mark.server
@pytest.mark.parametrize("make", [outlast.MCPSSEConfig, outlast.MCPStreamableHTTPConfig])
async def test_a_header_that_http_cannot_carry_is_reported_without_its_value(
    make: Any, resources: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_THE_WORKER", SECRET)
    config = make(url="http://127.0.0.1:9/mcp", name="t", headers={"X-Token": "env:TOKEN_OF_THE_WORKER"})
    with pytest.raises(
        outlast.ToolServerError, match="the value of X-Token has characters that a header cannot"
    ) as refused:
        await config.list_tools(resources)
    assert "tok-" not in str(refused.value)
    assert not refused.value.retryable


# Durably


def model(asked: ModelPrompt) -> Any:
    tools = [tool["function"]["name"] for tool in asked.tools]
    return [Say("Fine.")] if asked.results else [Call(name, {}) for name in tools if name.endswith("s")]


@pytest.mark.server
@pytest.mark.parametrize(
    ("scheme", "session_type"),
    [
        ("memory", outlast.LocalSession),
        ("sqlite", outlast.RemoteSession),
        ("sqlite", outlast.LocalSession),
        ("redis", outlast.LocalSession),
        ("temporal", outlast.LocalSession),
    ],
)
@pytest.mark.parametrize("outcome", ["used", "refused"])
async def test_a_secret_is_in_no_stored_byte_and_in_nothing_said(
    scheme: str,
    session_type: Any,
    outcome: str,
    servers: Nursery,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    id = f"x-{uuid.uuid4().hex}"
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TOKEN_OF_THE_WORKER", SECRET)
    secrets: dict[str, SecretStr | str] = {"TOKEN": "env:TOKEN_OF_THE_WORKER", "KEY": SecretStr("key-52aa")}
    headers = {"X-Key": secrets["KEY"], "Authorization": f"Bearer {PLAIN}"}
    said: list[str] = []
    with servers.http("streamable", "troubled") as http, MistralServer(model) as api:
        path = "mcp" if outcome == "used" else "nowhere"
        web = outlast.MCPStreamableHTTPConfig(
            url=f"{http.url}/{path}", name="web", headers=headers, include=["headers"]
        )
        local = repeating(env=secrets)
        agent = outlast.Agent(model="m", name="guide", mcp_clients=[web, local])
        session = session_type(api_key=api.api_key, server_url=api.url)
        async with storing(scheme, tmp_path) as (backend, all_kept):
            try:
                result = await outlast.Runner.run(agent, "Go.", session, id=id, backend=backend)
                said.append(repr(result.entries))
            except outlast.ToolServerError as error:
                said += [str(error), repr(error), "".join(traceback.format_exception(error))]
            said += [repr(agent), repr(await backend.list())]
            if scheme != "temporal":  # there, events are derived from the history, by a worker
                said += [repr(event) async for event in (await backend.get(id)).events()]
            places = {place: kept.decode(errors="replace") for place, kept in (await all_kept(id)).items()}
    for text in places.values():  # each keeps values that are not secret
        assert "list tools of web" in text
        assert ("web_headers" in text) == (outcome == "used")
    for text in (*said, *places.values(), caplog.text):
        for secret in (SECRET, json.dumps(SECRET)[1:-1], PLAIN, "key-52aa"):
            assert secret not in text
