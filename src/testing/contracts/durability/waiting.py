"""The contract's workflows that wait: for time, for signals, and for being cancelled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import pass_gate, record


@workflow.define(name="contract.sleeper")
class Sleeper:
    """Sleeps between two activities; each gets the workflow time."""

    @workflow.entrypoint
    async def run(self, seconds: float) -> list[float]:
        before = workflow.now().timestamp()
        await record("fell asleep")
        slept_from = workflow.now().timestamp()
        await asyncio.sleep(seconds)
        await record("woke up")
        return [before, slept_from, workflow.now().timestamp()]


@workflow.define(name="contract.alarms")
class Alarms:
    """Sleeps for several times at once, and returns the order of waking."""

    @workflow.entrypoint
    async def run(self, all_seconds: list[float]) -> list[float]:
        woken: list[float] = []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(seconds)

        await asyncio.gather(*map(sleep, all_seconds))
        return woken


@workflow.define(name="contract.mailbox")
class Mailbox:
    """Collects signals until one asks it to stop; runs activities between them if asked."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.seen = 0
        self.stopped = False

    @workflow.entrypoint
    async def run(self, busy: bool = False) -> list[Any]:
        while not self.stopped:
            await workflow.wait_condition(lambda: self.stopped or (busy and len(self.got) > self.seen))
            if busy and len(self.got) > self.seen:
                self.seen += 1
                await record(f"letter {self.seen}")
        return self.got

    @workflow.signal
    def put(self, value: Any) -> None:
        self.got.append(value)

    @workflow.signal("put_two")
    async def put_both(self, one: int, other: int = 0) -> None:
        await record(f"both {one} {other}")
        self.got += [one, other]

    @workflow.signal
    def break_down(self) -> None:
        raise ValueError("a handler that fails")

    @workflow.signal
    def stop(self) -> None:
        self.stopped = True

    @workflow.query
    def contents(self) -> list[Any]:
        return self.got

    @workflow.query("count_of")
    def count(self, value: Any, factor: int = 1) -> int:
        return self.got.count(value) * factor


@workflow.define(name="contract.patient")
class Patient:
    """Waits for a signal, but not for ever."""

    def __init__(self) -> None:
        self.ready = False

    @workflow.entrypoint
    async def run(self, seconds: float) -> str:
        try:
            await workflow.wait_condition(lambda: self.ready, timeout=timedelta(seconds=seconds))
        except TimeoutError:
            return "too late"
        return "in time"

    @workflow.signal
    def go(self) -> None:
        self.ready = True


@workflow.define(name="contract.cancellable")
class Cancellable:
    """Waits at a gate in different ways, and cleans up with activities when it is cancelled."""

    @workflow.entrypoint
    async def run(self, how: str) -> str:
        try:
            match how:
                case "activity":
                    await pass_gate("gate")
                case "timer":
                    await asyncio.sleep(1e6)
                case "condition":
                    await workflow.wait_condition(lambda: False)
                case "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(pass_gate("gate"))
                        group.create_task(asyncio.sleep(1e6))
                case "ignore":
                    try:
                        await asyncio.sleep(1e6)
                    except asyncio.CancelledError:
                        return "stayed"
        finally:
            await record("clean-up began")
            await asyncio.sleep(1)
            await record("clean-up ended")
        return "not cancelled"
