"""The reference server "everything", which nobody here wrote, over every transport."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import outlast
from outlast.adapters.mcp.config import ServerConfig
from outlast.core.chunks import text_of
from outlast.ports.tools import ToolOutput
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.mistral_server import Call, MistralServer, ModelPrompt, Reply, Say
from tests.adapters.mcp.calling import WAYS
from tests.ports import free_port

SERVER = Path(__file__).parents[3] / ".tools/mcp-servers/node_modules/.bin/mcp-server-everything"

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not SERVER.exists(), reason="npm has not installed the server: make test does"),
]

ALWAYS_THERE = {
    "ev_echo",
    "ev_get-annotated-message",
    "ev_get-env",
    "ev_get-resource-links",
    "ev_get-resource-reference",
    "ev_get-structured-content",
    "ev_get-sum",
    "ev_get-tiny-image",
    "ev_trigger-long-running-operation",
}


@contextmanager
def everything(way: str) -> Iterator[ServerConfig]:
    """Yield the server's configuration; over HTTP it runs for the time of the block."""
    if way == "stdio":
        yield outlast.MCPStdioConfig(command=str(SERVER), name="ev", env={"TOKEN": "env:EVERYTHING_TOKEN"})
        return
    port = free_port()
    process = subprocess.Popen(
        [SERVER, "sse" if way == "sse" else "streamableHttp"],
        env={"PATH": os.environ["PATH"], "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if str(port).encode() in line:
                break
        if way == "sse":
            yield outlast.MCPSSEConfig(url=f"http://127.0.0.1:{port}/sse", name="ev")
        else:
            yield outlast.MCPStreamableHTTPConfig(url=f"http://127.0.0.1:{port}/mcp", name="ev")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("way", WAYS)
async def test_the_tools_of_the_reference_server_are_listed_and_called(
    way: str, resources: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERYTHING_TOKEN", "tok-81d7")
    with everything(way) as server:

        async def call(tool: str, **arguments: object) -> ToolOutput:
            return await server.call(f"ev_{tool}", arguments, resources)  # type: ignore[arg-type]  # they are JSON

        listed = {tool.name: tool for tool in await server.list_tools(resources)}
        assert set(listed) >= ALWAYS_THERE
        assert listed["ev_echo"].effect == "read"
        assert await call("echo", message="¡hola!") == ToolOutput(content="Echo: ¡hola!")
        assert "5" in text_of((await call("get-sum", a=2, b=3)).content)
        weather = await call("get-structured-content", location="Chicago")
        assert isinstance(weather.structured, dict)
        assert set(weather.structured) >= {"temperature", "conditions"}
        image = await call("get-tiny-image")
        assert [type(chunk).__name__ for chunk in image.content][:2] == ["TextChunk", "ImageURLChunk"]
        links = await call("get-resource-links", count=2)
        assert sum(isinstance(chunk, outlast.DocumentURLChunk) for chunk in links.content) == 2
        with pytest.raises(outlast.InvalidArguments, match="'message' is a required property"):
            await call("echo")
        if way == "stdio":
            said = text_of((await call("get-env")).content)
            assert "tok-81d7" not in said
            assert '"TOKEN": "***"' in said


def model(asked: ModelPrompt) -> Reply:
    if asked.results:
        return [Say("It is done.")]
    return [Call("ev_echo", {"message": "hi"}), Call("ev_get-tiny-image", {})]


@pytest.mark.parametrize("session_type", [outlast.RemoteSession, outlast.LocalSession])
async def test_an_agent_uses_it_with_both_sessions(
    session_type: type[outlast.RemoteSession] | type[outlast.LocalSession],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERYTHING_TOKEN", "tok-81d7")
    with everything("stdio") as server, MistralServer(model) as api:
        agent = outlast.Agent(model="m", name="caller", mcp_clients=[server])
        session = session_type(api_key=api.api_key, server_url=api.url)
        result = await outlast.Runner.run(
            agent, "Go.", session, id="x", backend=f"sqlite:///{tmp_path}/runs.db"
        )
        assert result.text == "It is done."
        results = {entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)}
        assert "Echo: hi" in results
        api.raise_errors()
