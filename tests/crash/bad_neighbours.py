"""Executions that misbehave in every way that we know, each with the end that it must have.

Each kind is one way. What it harms says where it can be tried: an execution that ends or blocks its process
needs worker processes that are started anew, and one that blocks them needs somebody who ends such a process.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import re
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, NoReturn

import outlast
from outlast.adapters.scripted import call
from outlast.core.errors import StorageCorrupt

AT_ONCE = timedelta(0)


class Harm(Enum):
    """The harm that an execution does, unless it is isolated."""

    ITSELF = "nothing else"
    HOLDS_LOOP = "its worker does nothing else, until the watchdog interrupts it"
    ENDS_PROCESS = "it ends its process"
    BLOCKS_PROCESS = "its process does nothing else any more"


class OwnBaseException(BaseException):
    """An exception of a user's that is not an `Exception`."""


HOWS = ("SystemExit", "KeyboardInterrupt", "OwnBaseException", "CancelledError")


def leave(how: str) -> NoReturn:
    """Raise an exception that `except Exception` does not catch."""
    match how:
        case "SystemExit":
            raise SystemExit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
    raise OwnBaseException("no more of this")


async def leave_later(how: str) -> NoReturn:
    await asyncio.sleep(0)
    leave(how)


def leave_tool(how: str) -> str:
    """Leave.

    Args:
        how: By what
    """
    leave(how)


@outlast.activity(name="bad_leave", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
async def leave_activity(how: str) -> None:
    """Leave an activity."""
    leave(how)


@outlast.activity(name="bad_thread", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
def leave_thread(how: str) -> None:
    """Leave an activity that runs in a thread."""
    leave(how)


@outlast.activity(name="bad_end", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
def end_process(how: str) -> None:
    """End the process."""
    if how == "exit":
        os._exit(3)
    faulthandler.disable()
    ctypes.string_at(0)


@outlast.activity(name="bad_result", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
async def return_badly(size: int) -> Any:
    """Return a value that cannot be kept: a text of that size, or a value that is not JSON."""
    return "x" * size if size else object()


@outlast.activity(
    name="bad_request",
    retry_policy_initial_interval=AT_ONCE,
    retry_policy_max_attempts=5,
    start_to_close_timeout=timedelta(seconds=0.5),
)
def request(url: str) -> str:
    """Ask a server, without a time limit."""
    with urllib.request.urlopen(url) as answer:
        return str(answer.read())


@outlast.activity(name="bad_block", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
async def block_the_loop() -> None:
    """Wait where nothing else can go on."""
    while True:
        time.sleep(0.01)  # noqa: ASYNC251  # This is what it is for.


@outlast.activity(name="bad_regex", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5)
def match_for_ever() -> bool:
    """Try a pattern that takes longer than anybody lives, and lets no other thread run."""
    return re.match(r"(a+)+$", "a" * 64 + "b") is not None


@outlast.activity(
    name="bad_regex_on_loop", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=5
)
async def match_on_the_loop() -> bool:
    """Do the same on the event loop."""
    return re.match(r"(a+)+$", "a" * 64 + "b") is not None


@outlast.workflow.define(name="bad_neighbour")
class BadNeighbour:
    """Misbehaves in the way that it is asked for."""

    def __init__(self) -> None:
        self.signals = 0
        self.how: str | None = None

    @outlast.workflow.entrypoint
    async def run(self, deed: str, detail: str) -> None:
        match deed:
            case "leave entrypoint":
                leave(detail)
            case "leave task":
                await asyncio.gather(asyncio.create_task(leave_later(detail)), asyncio.sleep(3600))
            case "leave activity":
                await leave_activity(detail)
            case "leave thread":
                await leave_thread(detail)
            case "leave tool":
                agent = outlast.Agent(model="m", name="leaver", tools=[leave_tool])
                session = outlast.ScriptedSession(
                    {"leaver": [call("leave_tool", {"how": detail})]}, raise_on_tool_fail=True
                )
                await outlast.Runner.run(agent, "Go.", session)
            case "leave handler":
                await outlast.workflow.wait_condition(lambda: False)
            case "wait":
                await outlast.workflow.wait_condition(lambda: self.signals > 0)
                await leave_activity("OwnBaseException")
            case "catch all":
                await self.catch_all()
            case "flood":
                await outlast.workflow.wait_condition(lambda: self.signals >= int(detail))
                raise RuntimeError(f"flooded by {self.signals} signals")
            case "busy":
                while True:  # noqa: ASYNC110  # This is what it is for.
                    await asyncio.sleep(0)
            case "busy with conditions":
                await asyncio.gather(self.play(0), self.play(1))
            case "busy without awaits":
                while True:
                    self.signals += 1
            case "return badly":
                await return_badly(int(detail))
            case "end process":
                await end_process(detail)
            case "block the loop":
                await block_the_loop()
            case "match":
                await match_for_ever()
            case "match on the loop":
                await match_on_the_loop()
            case "request":
                await request(detail)
            case "MCP":
                config = outlast.MCPStreamableHTTPConfig(name="hanging", url=detail, timeout=0.5)
                agent = outlast.Agent(model="m", name="asker", mcp_clients=[config])
                await outlast.Runner.run(agent, "Go.", outlast.ScriptedSession({"asker": ["Done."]}))
            case "model":
                agent = outlast.Agent(model="m", name="asker")
                model = outlast.LocalSession(server_url=detail, api_key="none", timeout=0.5)
                async with asyncio.timeout(3):
                    await outlast.Runner.run(agent, "Go.", model)

    async def play(self, mine: int) -> None:
        """Take turns without end."""
        while True:
            await outlast.workflow.wait_condition(lambda: self.signals == mine)
            self.signals = 1 - mine

    async def catch_all(self) -> None:
        """Sleep, and catch everything; also what is thrown in when the execution must leave memory."""
        slept = 0
        while slept < 3:
            try:
                await asyncio.sleep(1.2)
                slept += 1
            except:  # noqa: E722  # This is what it is for.
                continue
        raise RuntimeError("caught everything")

    @outlast.workflow.signal
    def put(self) -> None:
        self.signals += 1

    @outlast.workflow.signal
    def leave(self, how: str) -> None:
        leave(how)


SPOILINGS = 4
"""In how many ways the keys of an execution are damaged."""

Backend = outlast.Backend
Start = Callable[[Backend, str, int, "Grounds"], Awaitable[outlast.Execution]]


@dataclass(frozen=True, slots=True)
class Grounds:
    """The surroundings of the executions."""

    hanging_url: str
    """The URL of a server that never answers."""
    signals: int
    """The number of signals that make a flood."""
    limit_bytes: int
    """The size of the longest result that the backend keeps."""
    spoil: Callable[[str, int], Awaitable[None]] | None = None
    """Damages the keys of an execution in the store."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to misbehave."""

    name: str
    start: Start
    says: str
    """A pattern that is found in what `describe()` says once the execution has failed or is held."""
    harm: Harm = Harm.ITSELF
    has_keys: bool = False
    """True if it needs a store whose keys somebody can reach."""
    least: int = 1
    """The number that has every variant of it."""

    def __str__(self) -> str:
        return self.name


def _kind(name: str, deed: str, details: tuple[str, ...], says: str, harm: Harm = Harm.ITSELF) -> Kind:
    async def start(backend: Backend, id: str, number: int, grounds: Grounds) -> outlast.Execution:
        detail = details[number % len(details)].format(
            url=grounds.hanging_url, signals=grounds.signals, too_large=grounds.limit_bytes + 1
        )
        execution = await backend.start(BadNeighbour, deed, detail, id=id)
        if deed == "leave handler":
            await execution.signal("leave", detail)
        for begun in range(0, grounds.signals if deed == "flood" else 0, 100):
            count = min(100, grounds.signals - begun)
            await asyncio.gather(*(execution.signal("put") for _ in range(count)))
        return execution

    return Kind(name, start, says, harm)


async def _start_and_spoil(backend: Backend, id: str, number: int, grounds: Grounds) -> outlast.Execution:
    execution = await backend.start(BadNeighbour, "wait", "", id=id)
    assert grounds.spoil is not None
    await grounds.spoil(id, number)
    with suppress(StorageCorrupt):  # The sender may be the first who sees it.
        await execution.signal("put")
    return execution


_LEFT = "|".join(HOWS)
DIED = "workers in a row ended"
_LOST = "ActivityInterrupted"
"""The last attempt that its policy allows can be one that was lost with its worker."""

_BLOCKED = f"ActivityBlocked|{_LOST}"

KINDS = (
    _kind("leaves its entrypoint", "leave entrypoint", HOWS, _LEFT),
    _kind("leaves a task", "leave task", HOWS, _LEFT),
    _kind("leaves an activity", "leave activity", HOWS, f"{_LEFT}|{_LOST}"),
    _kind("leaves a thread", "leave thread", HOWS, f"{_LEFT}|{_LOST}"),
    _kind("leaves a tool", "leave tool", HOWS, f"{_LEFT}|{_LOST}"),
    _kind("leaves a handler", "leave handler", HOWS, _LEFT),
    _kind("catches everything", "catch all", ("",), "caught everything"),
    _kind("is flooded", "flood", ("{signals}",), "flooded by"),
    _kind("never comes to rest", "busy", ("",), "BusyWorkflow|Potential deadlock"),
    _kind(
        "never lets its conditions rest",
        "busy with conditions",
        ("",),
        "BusyWorkflow|Potential deadlock",
    ),
    _kind("returns too much", "return badly", ("{too_large}",), f"PayloadTooLarge|ActivityBlocked|{_LOST}"),
    _kind("returns what is not JSON", "return badly", ("0",), f"Unserialisable|{_LOST}"),
    _kind("asks a server that hangs", "request", ("{url}",), f"ActivityTimedOut|{_LOST}"),
    _kind("asks an MCP server that hangs", "MCP", ("{url}/mcp",), f"ToolServerUnavailable|{_LOST}"),
    _kind("asks a model that hangs", "model", ("{url}",), f"TimeoutError|{_LOST}"),
    _kind("exits its process", "end process", ("exit",), f"{DIED}|{_LOST}", Harm.ENDS_PROCESS),
    _kind("crashes its process", "end process", ("crash",), f"{DIED}|{_LOST}", Harm.ENDS_PROCESS),
    _kind("loops without awaits", "busy without awaits", ("",), "BusyWorkflow", Harm.HOLDS_LOOP),
    _kind("blocks the loop", "block the loop", ("",), _BLOCKED, Harm.HOLDS_LOOP),
    _kind("matches on the loop", "match on the loop", ("",), _BLOCKED, Harm.HOLDS_LOOP),
    _kind("matches for ever", "match", ("",), f"{DIED}|{_LOST}", Harm.BLOCKS_PROCESS),
    Kind(
        "its keys are spoilt",
        _start_and_spoil,
        "was deleted|was changed|deleted or changed",
        has_keys=True,
        least=SPOILINGS,
    ),
)
"""All kinds. An execution of each ends by itself: it fails, or is held."""
