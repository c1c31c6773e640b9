"""The workflows and activities of the worker processes, beside those of the crash suite."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import outlast
from outlast.ports.clock import Clock
from outlast.testing.contracts.crash.effects import note
from outlast.testing.contracts.crash.programs import work


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
    """Note that an attempt begins, and whether its thread stood still since its worker looked at the lease.

    Between a look at the clock and the next thing that a process does, it can always be stopped. Whoever is
    killed between the two notes has not said whether it stood still.
    """
    looked_at = _looks.at
    note("begin", what)
    stood_still = looked_at and time.monotonic() - looked_at > STANDSTILL_SECONDS
    note("stood still" if stood_still else "in time", what)


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


@outlast.workflow.define(name="crash.talk")
class Talk:
    """A conversation that a server keeps, with a tool of ours and a handoff of the server's."""

    @outlast.workflow.entrypoint
    async def run(self, server_url: str) -> str:
        poet = outlast.Agent(model="m", name="poet", instructions="Rhyme.")
        front = outlast.Agent(model="m", name="front", instructions="Ask.", tools=[work], handoffs=[poet])
        session = outlast.RemoteSession(api_key="test-key", server_url=server_url, stream=True)
        return (await outlast.Runner.run(front, "Go.", session)).text


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
