"""Servers that cannot be used: each way of failing has an error that names the server and says what to do."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import outlast
from outlast.adapters.mcp.config import ServerConfig
from outlast.adapters.mcp.tool_names import tool_name
from outlast.core.agents import TOOL_NAME
from outlast.runtime.attempts.shared_resources import SharedResources
from tests.adapters.mcp.answers import answering
from tests.ports import free_port

OVER_HTTP = [outlast.MCPSSEConfig, outlast.MCPStreamableHTTPConfig]


async def failure_of(config: ServerConfig) -> outlast.ToolServerError:
    """Return what opening the connection fails with."""
    async with SharedResources() as resources:
        with pytest.raises(outlast.ToolServerError) as failed:
            await config.list_tools(resources)
    assert f"MCP server {config.name!r}: " in str(failed.value)
    return failed.value


# stdio


async def test_a_command_that_does_not_exist_is_not_tried_again() -> None:
    error = await failure_of(outlast.MCPStdioConfig(command="no-such-command", name="files"))
    assert "command 'no-such-command' was not found; install it" in str(error)
    assert not error.retryable


async def test_a_directory_that_does_not_exist_is_not_tried_again() -> None:
    error = await failure_of(outlast.MCPStdioConfig(command="cat", name="files", cwd="/no/such/place"))
    assert "'/no/such/place' does not exist; correct cwd" in str(error)
    assert not error.retryable


async def test_a_command_runs_in_its_directory_to_which_it_may_be_relative(tmp_path: Any) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho I am in $(pwd) >&2\n")
    program.chmod(0o755)
    error = await failure_of(outlast.MCPStdioConfig(command="./server", name="files", cwd=tmp_path))
    assert f"its last output was: I am in {tmp_path}" in str(error)


async def test_a_command_that_exits_at_once_is_reported_with_its_last_output() -> None:
    script = "echo loading >&2; echo no config for $TOKEN >&2; exit 3"
    config = outlast.MCPStdioConfig(
        command="sh", args=["-c", script], name="files", env={"TOKEN": SecretStr("tok-81d7")}
    )
    error = await failure_of(config)
    assert "the command 'sh' closed the connection before it was ready" in str(error)
    assert "its last output was: loading / no config for *** / " in str(error)
    assert "ended with exit code 3" in str(error)
    assert error.retryable


async def test_a_file_that_is_not_a_program_is_reported(tmp_path: Any) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    error = await failure_of(outlast.MCPStdioConfig(command=str(program), name="files"))
    assert "Exec format error" in str(error)


@pytest.mark.parametrize("script", ["cat >/dev/null", "while :; do echo noise; sleep 0.01; done"])
async def test_a_command_that_never_answers_is_given_up(script: str) -> None:
    began = time.perf_counter()
    config = outlast.MCPStdioConfig(command="sh", args=["-c", script], name="files", timeout=0.5)
    error = await failure_of(config)
    assert "did not answer within 0.5 s" in str(error)
    assert error.retryable
    assert time.perf_counter() - began < 10


SILENT = outlast.MCPStdioConfig(command="sh", args=["-c", "cat >/dev/null"], name="files")


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.01])
async def test_a_command_that_is_given_up_as_it_starts_leaves_nothing_open(seconds: float) -> None:
    for _ in range(3):
        error = await failure_of(replace(SILENT, timeout=seconds))
        assert "did not answer within" in str(error)
    gc.collect()  # what is still open warns of it, which is an error


@pytest.mark.parametrize("rounds", [1, 3, 10, 30, 100])
async def test_a_worker_that_stops_as_a_command_starts_leaves_nothing_open(rounds: int) -> None:
    async with SharedResources() as resources:
        opening = asyncio.create_task(SILENT.list_tools(resources))
        for _ in range(rounds):
            await asyncio.sleep(0)
    with pytest.raises((outlast.ToolServerUnavailable, asyncio.CancelledError)):
        await opening
    gc.collect()


async def test_a_command_that_never_ends_a_line_is_reported_with_the_limit() -> None:
    script = "head -c 9000000 /dev/zero; cat >/dev/null"
    error = await failure_of(outlast.MCPStdioConfig(command="sh", args=["-c", script], name="files"))
    assert "it wrote more than 8 MiB to stdout without a message" in str(error)
    assert not error.retryable


async def test_a_variable_that_is_not_set_is_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_TOKEN", raising=False)
    error = await failure_of(
        outlast.MCPStdioConfig(command="cat", name="files", env={"TOKEN": "env:MCP_TOKEN"})
    )
    assert "MCP_TOKEN is not set where the worker runs" in str(error)


# HTTP


@pytest.mark.parametrize("make", OVER_HTTP)
@pytest.mark.parametrize(
    ("head", "message", "retryable"),
    [
        ("401 Unauthorized", "refused the request with status 401; check its headers", False),
        ("403 Forbidden", "refused the request with status 403; check its headers", False),
        ("404 Not Found", "answered with status 404; check its url", False),
        ("418 I'm a teapot", "answered with status 418", False),
        ("429 Too Many Requests", "answered with status 429", True),
        ("500 Internal Server Error", "answered with status 500", True),
        ("503 Service Unavailable", "answered with status 503", True),
    ],
)
async def test_a_status_is_reported(make: Any, head: str, message: str, retryable: bool) -> None:
    async with answering(head) as answers:
        error = await failure_of(make(url=f"{answers.url}/mcp?key=seen", name="web"))
    assert f"{answers.url}/mcp {message}" in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize("make", OVER_HTTP)
async def test_a_port_that_refuses_connections_is_reported(make: Any) -> None:
    error = await failure_of(make(url=f"http://127.0.0.1:{free_port()}/mcp", name="web"))
    assert "cannot be reached" in str(error)
    assert error.retryable


@pytest.mark.parametrize("make", OVER_HTTP)
async def test_a_server_that_never_answers_is_given_up(make: Any) -> None:
    async with answering(None) as answers:
        error = await failure_of(make(url=f"{answers.url}/mcp", name="web", timeout=0.3))
    assert error.retryable
    assert "did not answer within 0.3 s" in str(error) or "Timeout" in str(error)


@pytest.mark.parametrize("make", OVER_HTTP)
@pytest.mark.parametrize("body", ["text/html", "application/json", "text/event-stream"])
async def test_an_http_page_that_is_not_an_mcp_server_is_reported(make: Any, body: str) -> None:
    async with answering(f"200 OK\r\nContent-Type: {body}") as answers:
        error = await failure_of(make(url=f"{answers.url}/mcp", name="web", timeout=0.5))
    assert answers.url in str(error)


@pytest.mark.parametrize("make", OVER_HTTP)
async def test_headers_do_not_follow_a_redirect_to_another_host(make: Any) -> None:
    async with answering("500 Internal Server Error") as other:
        async with answering(f"307 Temporary Redirect\r\nLocation: {other.url}/mcp") as answers:
            headers = {"Authorization": "Bearer tok-81d7"}
            error = await failure_of(make(url=f"{answers.url}/mcp", name="web", headers=headers))
        assert b"tok-81d7" in answers.requests[0]
        assert other.requests == []
    assert "redirects to another address (status 307); use that address as url" in str(error)
    assert not error.retryable


async def test_an_sse_server_whose_endpoint_is_on_another_host_is_refused() -> None:
    async with answering("202 Accepted") as other:
        body = f"event: endpoint\ndata: {other.url}/messages\n\n"
        async with answering("200 OK\r\nContent-Type: text/event-stream", body) as answers:
            headers = {"Authorization": "Bearer tok-81d7"}
            error = await failure_of(
                outlast.MCPSSEConfig(url=f"{answers.url}/sse", name="web", headers=headers)
            )
        assert other.requests == []
    assert "its endpoint for requests is on another host, and headers must not go there" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("make", OVER_HTTP)
async def test_a_reference_to_a_secret_is_read_whenever_it_is_used(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering("401 Unauthorized") as answers:
        config = make(url=f"{answers.url}/mcp", name="web", headers={"Authorization": "Bearer env:MCP_TOKEN"})
        for token in ("tok-old", "tok-new"):
            monkeypatch.setenv("MCP_TOKEN", token)
            await failure_of(config)
            assert f"Bearer {token}".encode() in answers.requests[-1]


# Configurations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "1 to 32 letters"),
        ({"name": "a b"}, "1 to 32 letters"),
        ({"name": "x" * 33}, "1 to 32 letters"),
        ({"name": None}, "1 to 32 letters"),
        ({"command": " "}, "command must be"),
        ({"args": "one two"}, "args must be a list of strings"),
        ({"args": [1]}, "args must be a list of strings"),
        ({"include": "echo"}, "include must be a list of strings"),
        ({"timeout": 0}, "timeout is 0; give a positive number of seconds"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"call_timeout": timedelta(0)}, "call_timeout"),
        (
            {"effects": {"echo": "often"}},
            "effects has 'often' for tool 'echo'; use one of read, idempotent, once",
        ),
        ({"env": {"A=B": "c"}}, "env has a name that is not valid: 'A=B'"),
        ({"env": {"A": "tok-81d7\nmore"}}, "the value of A in env must be a string on one line"),
        ({"env": {"A": SecretStr("tok-81d7\0")}}, "the value of A in env must be a string on one line"),
        ({"env": {"A": 1}}, "the value of A in env must be a string on one line"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_without_its_secrets(
    options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(outlast.ConfigurationError) as refused:
        outlast.MCPStdioConfig(**{"command": "npx", "name": "files", **options})
    assert message in str(refused.value)
    assert "tok-81d7" not in str(refused.value)


@pytest.mark.parametrize("make", OVER_HTTP)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "example.org/mcp"}, "url must look like https://host/path"),
        ({"url": "ftp://example.org/mcp"}, "url must look like"),
        ({"url": "https://"}, "url must look like"),
        ({"url": "http://[::1/mcp"}, "url is not a valid URL"),
        ({"url": "http://host:port/mcp"}, "url is not a valid URL"),
        ({"url": None}, "url"),
        ({"url": "https://me:tok-81d7@example.org/mcp"}, "url has credentials in it; give them in headers"),
        ({"headers": {"Bad Name": "x"}}, "headers has a name that is not valid: 'Bad Name'"),
        ({"headers": {"Authorization": "tok-81d7\r\nHost: x"}}, "must be a string on one line"),
    ],
)
def test_a_setting_over_http_that_cannot_work_is_refused(
    make: Any, options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(outlast.ConfigurationError) as refused:
        make(**{"url": "https://example.org/mcp", "name": "web", **options})
    assert message in str(refused.value)
    assert "tok-81d7" not in str(refused.value)


def test_a_configuration_is_a_value_that_shows_no_secret() -> None:
    def make(token: str) -> outlast.MCPStreamableHTTPConfig:
        return outlast.MCPStreamableHTTPConfig(
            url="https://example.org/mcp", name="web", headers={"Authorization": token}
        )

    assert make("Bearer tok-81d7") == make("Bearer tok-81d7")
    assert hash(make("Bearer tok-81d7")) == hash(make("Bearer tok-81d7"))
    assert make("Bearer tok-81d7") != make("Bearer tok-0000")
    assert "tok-81d7" not in repr(make("Bearer tok-81d7"))
    stdio = outlast.MCPStdioConfig(command="npx", args=["-y"], name="files", env={"A": "tok-81d7"})
    assert "tok-81d7" not in repr(stdio)
    assert "args=('-y',)" in repr(stdio)


# Names


@given(server=st.from_regex(r"[a-zA-Z0-9_-]{1,32}", fullmatch=True), tool=st.text())
def test_the_name_of_a_tool_is_one_that_every_model_api_takes(server: str, tool: str) -> None:
    name = tool_name(server, tool)
    assert TOOL_NAME.match(name)
    assert name.startswith(f"{server}_")


@given(tools=st.lists(st.from_regex(r"[a-z]{60,70}", fullmatch=True), unique=True, min_size=2))
def test_long_names_stay_different(tools: list[str]) -> None:
    assert len({tool_name("server", tool) for tool in tools}) == len(tools)
