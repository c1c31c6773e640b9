"""The workflows of the crash suite. Each attempt writes a line to the file of effects."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
from datetime import timedelta

from outlast.adapters.scripted import ScriptedSession, call
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.crash.effects import gate_path, note

AT_ONCE = timedelta(0)


@activity(retry_policy_max_attempts=100, retry_policy_initial_interval=AT_ONCE)
async def work(what: str, seconds: float) -> str:
    """Take a while."""
    note("begin", what)
    await asyncio.sleep(seconds)
    note("end", what)
    return f"{what} done"


@activity(retry_policy_max_attempts=100, retry_policy_initial_interval=AT_ONCE)
def work_in_a_thread(what: str) -> str:
    """Take no time."""
    note("begin", what)
    return f"{what} done"


@activity(name="crash_gate", retry_policy_max_attempts=100, retry_policy_initial_interval=AT_ONCE)
async def pass_gate(what: str) -> str:
    """Wait until the test makes a file."""
    note("begin", what)
    gate = gate_path(what)
    try:
        while not gate.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note("cancelled", what)
        raise
    note("end", what)
    return f"{what} done"


@workflow.define(name="crash.program")
class Program:
    """Some of everything: steps one by one and at once, a timer, a signal."""

    def __init__(self) -> None:
        self.letters: list[int] = []

    @workflow.entrypoint
    async def run(self, steps: int) -> list[str]:
        done = [await work(f"first {step}", 0.02) for step in range(steps)]
        done += await asyncio.gather(
            *(work(f"at once {step}", 0.03) for step in range(steps)),
            *(work_in_a_thread(f"in a thread {step}") for step in range(steps)),
        )
        await asyncio.sleep(0.05)
        await workflow.wait_condition(lambda: len(self.letters) == 3)
        return [*done, *map(str, self.letters), await work("last", 0.02)]

    @workflow.signal
    def put(self, letter: int) -> None:
        self.letters.append(letter)


def result_of_program(steps: int) -> list[str]:
    """Return what `Program` returns once it has had the letters 0, 1 and 2."""
    return [
        *(f"first {step} done" for step in range(steps)),
        *(f"at once {step} done" for step in range(steps)),
        *(f"in a thread {step} done" for step in range(steps)),
        *("0", "1", "2", "last done"),
    ]


@workflow.define(name="crash.gated")
class GatedProgram:
    """Waits at a gate between two deeds."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        return [await work("before", 0.0), await pass_gate("gate"), await work("after", 0.0)]

    @workflow.update
    async def pass_another(self, gate: str) -> str:
        return await pass_gate(gate)


@activity(
    name="crash_pay",
    retry_policy_max_attempts=100,
    retry_policy_initial_interval=AT_ONCE,
    requires_approval=True,
)
async def pay(what: str) -> str:
    """Do something that a person must allow."""
    note("begin", what)
    gate = gate_path("gate")
    while not gate.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    note("end", what)
    return f"{what} done"


@workflow.define(name="crash.asking")
class Asking:
    """An agent that twice calls a tool that needs approval."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        calls = [call("crash_pay", {"what": what}) for what in ("one", "other")]
        session = ScriptedSession({"clerk": [calls, "Done."]})
        result = await Runner.run(Agent(model="m", name="clerk", tools=[pay]), "Go.", session)
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


@activity(name="crash_end_process", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=100)
def end_process(how: str) -> str:
    """End the process, unless the test has made a file that says that it is mended."""
    note("begin", how)
    if not gate_path("mended").exists():
        if how == "exit":
            os._exit(3)
        faulthandler.disable()
        ctypes.string_at(0)
    return f"{how} done"


@workflow.define(name="crash.poison")
class PoisonProgram:
    """Does what ends its process, between two deeds."""

    @workflow.entrypoint
    async def run(self, how: str) -> list[str]:
        return [await work("before", 0.0), await end_process(how), await work("after", 0.0)]


@activity(name="crash_echo")
async def echo(text: str) -> str:
    """Return the text."""
    return text


@workflow.define(name="crash.turns")
class Turns:
    """An agent that calls one tool in each turn."""

    @workflow.entrypoint
    async def run(self, turns: int) -> int:
        replies = [call("crash_echo", {"text": "x" * 200})] * (turns - 1)
        session = ScriptedSession({"caller": [*replies, "Done."]})
        agent = Agent(model="m", name="caller", tools=[echo])
        return (await Runner.run(agent, "Go.", session, max_turns=turns)).turns


PROGRAMS = (Program, GatedProgram, Asking, PoisonProgram, Turns)
