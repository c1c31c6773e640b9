"""One connection to a server: shared, lost, reopened, closed; over each transport where it matters."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import outlast
from outlast.adapters.mcp.limits import MESSAGE_BYTES_MAX
from outlast.adapters.mcp.sdk.client import GUARDIAN
from outlast.runtime.attempts.shared_resources import SharedResources
from tests.adapters.mcp.calling import PATIENCE_SECONDS, WAYS, Caller, is_alive, port_of, server, until
from tests.adapters.mcp.serving import Nursery

pytestmark = pytest.mark.server


# Sharing


@pytest.mark.parametrize("way", WAYS)
async def test_fifty_calls_at_once_share_one_connection(way: str, calling: Callable[..., Caller]) -> None:
    caller = calling(way)
    await caller.tools()
    began = time.perf_counter()
    assert await asyncio.gather(*(caller.text("sleep", seconds=0.5) for _ in range(50))) == ["slept"] * 50
    assert time.perf_counter() - began < 10  # one after the other they would take 25 s
    assert len(caller.servers.processes()) == 1
    assert await caller.text("count", tool="sleep") == "50"


async def test_the_first_caller_opens_the_connection_for_all(calling: Callable[..., Caller]) -> None:
    caller = calling()
    lists = await asyncio.gather(*(caller.tools() for _ in range(10)))
    assert lists == [lists[0]] * 10
    assert len(caller.servers.processes()) == 1


async def test_a_caller_that_gives_up_while_it_opens_leaves_it_to_the_others(
    calling: Callable[..., Caller],
) -> None:
    caller = calling()
    hasty = asyncio.create_task(caller.tools())
    patient = asyncio.create_task(caller.tools())
    await asyncio.sleep(0)
    hasty.cancel()
    assert "sleep" in await patient
    assert len(caller.servers.processes()) == 1


# Loss


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_dies_in_mid_call_is_reported_to_all_and_used_again(
    way: str, servers: Nursery
) -> None:
    async with SharedResources() as resources:
        with server(servers, way, "troubled") as (config, first):
            caller = Caller(config, first, resources)
            assert await caller.text("sleep", seconds=0) == "slept"
            waiting = [asyncio.create_task(caller.call("sleep", seconds=60)) for _ in range(3)]
            await until_calls(caller, 4)
            first.kill()
            for lost in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(lost, outlast.ToolServerUnavailable), lost
                assert "'t_sleep', which may or may not have taken effect" in str(lost)
            if way == "stdio":
                assert await caller.text("sleep", seconds=0) == "slept"
                assert len(first.processes()) == 2
                return
            with pytest.raises(outlast.ToolServerUnavailable, match="cannot be reached"):
                await caller.call("sleep", seconds=0)
        with server(servers, way, "troubled", port=port_of(config)):
            assert await caller.text("sleep", seconds=0) == "slept"


async def until_calls(caller: Caller, number: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await caller.text("count", tool="sleep") != str(number):
            pass


async def test_a_process_that_ended_while_idle_is_started_again_for_a_call_that_may_be_made_once(
    calling: Callable[..., Caller], caplog: pytest.LogCaptureFixture
) -> None:
    caller = calling()
    assert await caller.text("shout", text="a") == "A"
    assert caller.config.effect("t_shout") == "once"
    caller.servers.kill()
    await until(lambda: "its process has ended" in caplog.text)
    assert await caller.text("shout", text="b") == "B"
    assert len(caller.servers.processes()) == 2


@pytest.mark.parametrize("way", ["sse", "streamable"])
async def test_a_server_that_was_restarted_while_idle_serves_a_call_that_may_be_made_once(
    way: str, servers: Nursery
) -> None:
    async with SharedResources() as resources:
        with server(servers, way, "troubled") as (config, first):
            caller = Caller(config, first, resources)
            assert await caller.text("shout", text="a") == "A"
        with server(servers, way, "troubled", port=port_of(config)):
            assert config.effect("t_shout") == "once"
            assert await caller.text("shout", text="b") == "B"


@pytest.mark.parametrize("way", ["sse", "streamable"])
@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [
        (401, "refused the request with status 401; check its headers", False),
        (503, "answered with status 503", True),
    ],
)
async def test_a_status_that_comes_in_the_middle_is_reported_at_once(
    way: str,
    status: int,
    message: str,
    retryable: bool,
    calling: Callable[..., Caller],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, lists = calling(way), calling(way)
    for caller in (calls, lists):
        assert await caller.text("lock", status=status) == "locked"
    with pytest.raises(outlast.ToolServerError, match=message) as refused:
        await calls.call("shout", text="a")
    assert refused.value.retryable is retryable
    monkeypatch.setattr("outlast.adapters.mcp.sdk.connection_life.LIST_SECONDS", -1.0)
    with pytest.raises(outlast.ToolServerError, match=message) as refused:
        await lists.tools()
    assert refused.value.retryable is retryable


async def test_a_server_that_ends_in_a_call_does_not_end_other_servers(
    calling: Callable[..., Caller],
) -> None:
    dying, other = calling(), calling()
    held = asyncio.create_task(other.text("sleep", seconds=1))
    with pytest.raises(outlast.ToolServerUnavailable, match="may or may not have taken effect"):
        await dying.call("die")
    assert await held == "slept"


async def test_the_starts_of_a_server_that_cannot_start_become_less_frequent(
    calling: Callable[..., Caller],
) -> None:
    caller = calling()
    caller.servers.socket.unlink()  # from now on its command fails at once
    began = time.perf_counter()
    for _ in range(4):
        outcomes = await asyncio.gather(*(caller.tools() for _ in range(10)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {outlast.ToolServerUnavailable}
        assert "FileNotFoundError" in str(outcomes[0])  # its last output
    assert time.perf_counter() - began >= 0.1 + 0.2 + 0.4


async def test_calls_of_a_server_that_has_failed_for_long_fail_at_once(
    tmp_path: Path, resources: SharedResources
) -> None:
    starts = tmp_path / "starts"
    script = f"echo start >> {starts}; echo no licence >&2; exit 1"
    config = outlast.MCPStdioConfig(command="sh", args=["-c", script], name="t")
    for _ in range(5):
        with pytest.raises(outlast.ToolServerUnavailable, match="no licence"):
            await config.list_tools(resources)
    began = time.perf_counter()
    for _ in range(20):
        with pytest.raises(outlast.ToolServerUnavailable, match="no licence"):
            await config.list_tools(resources)
    assert time.perf_counter() - began < 1.0
    assert len(starts.read_text().split()) == 5


# Limits


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_takes_too_long_is_given_up_and_the_connection_stays(
    way: str, calling: Callable[..., Caller]
) -> None:
    caller = calling(way, call_timeout=0.3)
    with pytest.raises(outlast.ActivityTimedOut, match=r"'t_sleep' went over its call_timeout of 0.3 s"):
        await caller.call("sleep", seconds=60)
    assert await caller.text("sleep", seconds=0) == "slept"
    assert len(caller.servers.processes()) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_results_of_a_mebibyte_arrive(way: str, calling: Callable[..., Caller]) -> None:
    caller = calling(way)
    for size in (1 << 20, 5 << 20):
        assert await caller.text("big", size=size) == "x" * size
    assert len(caller.servers.processes()) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_result_that_is_too_large_is_reported_and_not_asked_for_again(
    way: str, calling: Callable[..., Caller]
) -> None:
    caller = calling(way)
    with pytest.raises(
        outlast.ToolServerError, match=r"more than 8 MiB( in one event)?; let the server send less at a time"
    ) as failed:
        await caller.call("big", size=MESSAGE_BYTES_MAX)
    assert "MCP server 't': " in str(failed.value)
    assert "during the call of 't_big', which may or may not have taken effect" in str(failed.value)
    assert not failed.value.retryable
    assert await caller.text("big", size=3) == "xxx"


async def test_a_line_that_does_not_end_ends_the_connection_for_all_and_only_that(
    calling: Callable[..., Caller],
) -> None:
    caller = calling()
    waiting = asyncio.create_task(caller.call("sleep", seconds=60))
    await until_calls(caller, 1)
    with pytest.raises(
        outlast.ToolServerError, match="it wrote more than 8 MiB to stdout without a message"
    ) as failed:
        await caller.call("ramble", size=MESSAGE_BYTES_MAX + 100_000)
    with pytest.raises(outlast.ToolServerError):
        await waiting
    assert not failed.value.retryable
    assert await caller.text("sleep", seconds=0) == "slept"
    assert len(caller.servers.processes()) == 2


async def test_a_line_that_is_not_utf_8_is_read_like_any_other(calling: Callable[..., Caller]) -> None:
    caller = calling()
    assert await caller.text("mumble") == "said"
    assert await caller.text("sleep", seconds=0) == "slept"
    assert len(caller.servers.processes()) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_writes_too_much_can_still_be_called(
    way: str, calling: Callable[..., Caller], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "outlast.mcp")
    caller = calling(way)
    assert await caller.text("flood", lines=2000) == "done"
    assert await caller.text("sleep", seconds=0) == "slept"
    if way == "stdio":
        await until(lambda: "t: noise" in caplog.text)
        assert max(len(record.getMessage()) for record in caplog.records) < 5000


# Stopping


async def test_an_idle_connection_is_closed_and_opened_again_when_it_is_needed(
    calling: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.sdk.connection_life.IDLE_SECONDS", 0.1)
    caller = calling()
    assert await caller.text("sleep", seconds=1.5) == "slept"  # a call is not idleness
    (process,) = caller.servers.processes()
    await until(lambda: not is_alive(process))
    assert await caller.text("sleep", seconds=0) == "slept"
    assert len(caller.servers.processes()) == 2


async def test_stopping_ends_the_server_whatever_is_under_way(servers: Nursery) -> None:
    with server(servers, "stdio", "troubled") as (config, there):
        async with SharedResources() as resources:
            caller = Caller(config, there, resources)
            held = asyncio.create_task(caller.call("sleep", seconds=60))
            await until_calls(caller, 1)
        (process,) = there.processes()
        await until(lambda: not is_alive(process))
        with pytest.raises(outlast.ToolServerUnavailable):
            await held


async def test_stopping_does_not_wait_for_a_server_that_is_still_starting(resources: SharedResources) -> None:
    config = outlast.MCPStdioConfig(command="sleep", args=["60"], name="t")
    async with SharedResources() as shared:
        opening = asyncio.create_task(config.list_tools(shared))
        await until(lambda: bool(children_of(os.getpid(), "sleep")))
        began = time.perf_counter()
    assert time.perf_counter() - began < 10
    with pytest.raises((outlast.ToolServerUnavailable, asyncio.CancelledError)):
        await opening
    assert not children_of(os.getpid(), "sleep")


def children_of(process_id: int, name: str | None = None) -> list[int]:
    """Return the living processes below one, perhaps only those that have `name` as their command."""
    found, waiting = [], [process_id]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # one that ended while we looked
                for child in map(int, task.read_text().split()):
                    waiting.append(child)
                    command = Path(f"/proc/{child}/comm").read_text().strip()
                    if is_alive(child) and name in (None, command):
                        found.append(child)
    return found


STUBBORN = "trap '' TERM HUP INT; echo $$ > $1; sleep 1000 & while :; do wait; done"


@pytest.mark.crash
def test_a_server_that_ignores_signals_and_its_children_do_not_outlive_a_killed_worker(
    tmp_path: Path,
) -> None:
    """The guardian alone, as a worker would start it: its stdin ends when the worker is killed."""
    note = tmp_path / "pid"
    program = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-I", "-S", {str(GUARDIAN)!r}, "0.2", "sh", "-c", {STUBBORN!r}, "sh",
    {str(note)!r}], stdin=subprocess.PIPE, start_new_session=True)
print("started", flush=True)
sys.stdin.read()
"""
    worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdin is not None
    worker.stdout.readline()
    wait_for(lambda: note.exists() and note.read_text().strip() != "")
    stubborn = int(note.read_text())
    wait_for(lambda: bool(children_of(stubborn, "sleep")))
    (below,) = children_of(stubborn, "sleep")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
    wait_for(lambda: not is_alive(stubborn) and not is_alive(below))


WORKER = """
import asyncio, json, sys
import outlast
from outlast.runtime.attempts.shared_resources import SharedResources

async def main():
    command, arguments = json.loads(sys.argv[1])
    config = outlast.MCPStdioConfig(command=command, args=arguments, name="t")
    async with SharedResources() as resources:
        await config.list_tools(resources)
        print("connected", flush=True)
        await config.call("t_sleep", {"seconds": 60}, resources)

asyncio.run(main())
"""


@pytest.mark.crash
def test_a_server_does_not_outlive_a_worker_that_was_killed_in_a_call(servers: Nursery) -> None:
    with servers.stdio("troubled") as stdio:
        command = json.dumps([stdio.command, stdio.args])
        worker = subprocess.Popen([sys.executable, "-c", WORKER, command], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        (process,) = stdio.processes()
        below = children_of(worker.pid)
        assert below
        worker.kill()
        worker.wait()
        worker.stdout.close()
        wait_for(lambda: not any(map(is_alive, (process, *below))))


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
