"""The workflows and activities of the worker processes.

Each attempt writes a line to the file that `EFFECTS` names, opened for appending, so that the lines of
processes that are killed are kept whole and in order.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import outlast
from outlast.adapters.scripted.session import call
from outlast.ports.clock import Clock

EFFECTS = "OUTLAST_CRASH_EFFECTS"
"""The environment variable with the path of the file of effects; next to it stand the gates."""


def note(word: str, what: str) -> None:
    info = outlast.activity.info()
    line = f"{info.idempotency_key}\t{info.attempt}\t{what}\t{word}\t{os.getpid()}\n".encode()
    descriptor = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class _Looks(threading.local):
    """The time when each thread has looked at the steady clock last."""

    at = 0.0


_looks = _Looks()

STANDSTILL_SECONDS = 0.05


def remember_looks_at_the_clock(clock: type[Clock]) -> None:
    """Remember when a thread looks at the clock, as a worker does at the last moment before an attempt."""

    def steady(self: Clock) -> float:
        _looks.at = time.monotonic()
        return _looks.at

    clock.steady = steady  # type: ignore[method-assign]  # for this process of the tests


def begin(what: str) -> None:
    """Note that an attempt begins, and if its thread stood still since its worker looked at the lease.

    Between a look at the clock and the next thing that a process does, it can always be stopped.
    """
    looked_at = _looks.at
    note("begin", what)
    if looked_at and time.monotonic() - looked_at > STANDSTILL_SECONDS:
        note("stood still", what)


@outlast.activity(retry_policy_max_attempts=100, retry_policy_initial_interval=timedelta(0))
async def work(what: str, seconds: float) -> str:
    """Take a while."""
    note("begin", what)
    await asyncio.sleep(seconds)
    note("end", what)
    return f"{what} done"


@outlast.activity(retry_policy_max_attempts=100, retry_policy_initial_interval=timedelta(0))
def work_in_a_thread(what: str) -> str:
    """Take no time."""
    note("begin", what)
    return f"{what} done"


@outlast.activity(
    name="crash_gate", retry_policy_max_attempts=100, retry_policy_initial_interval=timedelta(0)
)
async def pass_gate(what: str) -> str:
    """Wait until the test makes a file."""
    note("begin", what)
    gate = Path(os.environ[EFFECTS]).with_name(what)
    while not gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    note("end", what)
    return f"{what} done"


@outlast.workflow.define(name="crash.program")
class Program:
    """Some of everything: steps one by one and at once, a timer, a signal."""

    def __init__(self) -> None:
        self.letters: list[int] = []

    @outlast.workflow.entrypoint
    async def run(self, steps: int) -> list[str]:
        done = [await work(f"first {step}", 0.02) for step in range(steps)]
        done += await asyncio.gather(
            *(work(f"at once {step}", 0.03) for step in range(steps)),
            *(work_in_a_thread(f"in a thread {step}") for step in range(steps)),
        )
        await asyncio.sleep(0.05)
        await outlast.workflow.wait_condition(lambda: len(self.letters) == 3)
        return [*done, *map(str, self.letters), await work("last", 0.02)]

    @outlast.workflow.signal
    def put(self, letter: int) -> None:
        self.letters.append(letter)


@outlast.workflow.define(name="crash.gated")
class Gated:
    """Waits at a gate between two deeds."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        return [await work("before", 0.0), await pass_gate("gate"), await work("after", 0.0)]

    @outlast.workflow.update
    async def pass_another(self, gate: str) -> str:
        return await pass_gate(gate)


@outlast.activity(
    name="crash_count", retry_policy_max_attempts=100, retry_policy_initial_interval=timedelta(0)
)
async def count(what: str, seconds: float) -> int:
    """Take a while, and return which attempt this is."""
    begin(what)
    await asyncio.sleep(seconds)
    return outlast.activity.info().attempt


@outlast.activity(
    name="crash_count_in_a_thread",
    retry_policy_max_attempts=100,
    retry_policy_initial_interval=timedelta(0),
)
def count_in_a_thread(what: str) -> int:
    """Return which attempt this is."""
    begin(what)
    return outlast.activity.info().attempt


@outlast.activity(name="crash_count_once", effect="once")
async def count_once(what: str, seconds: float) -> int:
    """Have a side effect that must not happen twice."""
    begin(what)
    await asyncio.sleep(seconds)
    return outlast.activity.info().attempt


UNKNOWN = 0
"""Stands for the attempt of a step whose outcome is unknown."""


@outlast.workflow.define(name="crash.brief")
class Brief:
    """A little of everything; thousands of it can be run.

    It returns, by step, the number of the attempt whose result it got.
    """

    def __init__(self) -> None:
        self.is_released = False

    @outlast.workflow.entrypoint
    async def run(self) -> dict[str, int]:
        got = {"first": await count("first", 0.0)}
        got["second"], got["third"] = await asyncio.gather(count("second", 0.01), count_in_a_thread("third"))
        await asyncio.sleep(0.02)
        await outlast.workflow.wait_condition(lambda: self.is_released)
        try:
            got["once"] = await count_once("once", 0.01)
        except outlast.OutcomeUnknown:
            got["once"] = UNKNOWN
            got["unknown"] = await count("unknown", 0.0)
        return {**got, "last": await count("last", 0.0)}

    @outlast.workflow.signal
    def release(self) -> None:
        self.is_released = True


@outlast.activity(
    name="crash_pay",
    retry_policy_max_attempts=100,
    retry_policy_initial_interval=timedelta(0),
    requires_approval=True,
)
async def pay(what: str) -> str:
    """Do something that a person must allow."""
    note("begin", what)
    gate = Path(os.environ[EFFECTS]).with_name("gate")
    while not gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    note("end", what)
    return f"{what} done"


@outlast.workflow.define(name="crash.asking")
class Asking:
    """An agent that twice calls a tool that needs approval."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        calls = [call("crash_pay", {"what": what}) for what in ("one", "other")]
        session = outlast.ScriptedSession({"clerk": [calls, "Done."]})
        result = await outlast.Runner.run(outlast.Agent(model="m", name="clerk", tools=[pay]), "Go.", session)
        return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]


@outlast.workflow.define(name="crash.talk")
class Talk:
    """A conversation that a server keeps, with a tool of ours and a handoff of the server's."""

    @outlast.workflow.entrypoint
    async def run(self, server_url: str) -> str:
        poet = outlast.Agent(model="m", name="poet", instructions="Rhyme.")
        front = outlast.Agent(model="m", name="front", instructions="Ask.", tools=[work], handoffs=[poet])
        session = outlast.RemoteSession(api_key="test-key", server_url=server_url, stream=True)
        return (await outlast.Runner.run(front, "Go.", session)).text


@outlast.activity(name="crash_end_process", retry_policy_initial_interval=timedelta(0))
def end_process(how: str) -> str:
    """End the process, unless the test has made a file that says that it is mended."""
    note("begin", how)
    if not Path(os.environ[EFFECTS]).with_name("mended").exists():
        if how == "exit":
            os._exit(3)
        faulthandler.disable()
        ctypes.string_at(0)
    return f"{how} done"


@outlast.workflow.define(name="crash.poison")
class Poison:
    """Does what ends its process, between two deeds."""

    @outlast.workflow.entrypoint
    async def run(self, how: str) -> list[str]:
        return [await work("before", 0.0), await end_process(how), await work("after", 0.0)]


@outlast.workflow.define(name="crash.flood")
class Flood:
    """One of very many."""

    @outlast.workflow.entrypoint
    async def run(self, name: str) -> str:
        return await work(name, 0.01)


@outlast.workflow.define(name="crash.late")
class Late:
    """One of a few that come later."""

    @outlast.workflow.entrypoint
    async def run(self, name: str) -> str:
        return await work(name, 0.01)
