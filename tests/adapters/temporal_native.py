"""Workflows written for Temporal itself, in which agents run. Its sandbox imports this module again."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

from temporalio import workflow

import outlast
from outlast.adapters.scripted import call, fail, handoff, say

performed: list[str] = []
"""The keys of the attempts that this copy of the module has made."""


@outlast.activity(name="native_look_up", retry_policy_initial_interval=timedelta(0))
async def look_up(city: str) -> str:
    """Look up the weather."""
    performed.append(outlast.activity.info().idempotency_key)
    return f"rain in {city}"


@outlast.activity(name="native_pay", requires_approval=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@outlast.activity(
    name="native_refuse", retry_policy_max_attempts=2, retry_policy_initial_interval=timedelta(0)
)
def refuse() -> str:
    """Never succeed, in a thread."""
    raise LookupError("never")


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def poets() -> outlast.Agent:
    poet = outlast.Agent(model="m", name="poet", description="Writes poems", tools=[shout])
    return outlast.Agent(
        model="m", name="front", instructions="Look it up.", tools=[look_up], handoffs=[poet]
    )


SCRIPT: dict[str, list[Any]] = {
    "front": [[call("native_look_up", {"city": "Lyon"})], [say("It rains."), handoff("poet")]],
    "poet": [[call("shout", {"text": "rain"}), call("unknown")], say("RAIN, it goes to Spain.")],
}


async def poem() -> list[str]:
    """Run the agents; return the answer and what the tools gave."""
    session = outlast.ScriptedSession(SCRIPT, may_call_unknown_tools=True)
    result = await outlast.Runner.run(poets(), "How is the weather in Lyon?", session)
    results = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    again = await asyncio.gather(look_up("Nice"), look_up("Metz"))
    return [result.text, *results, *again]


@workflow.defn(name="native_poem")
class Poem:
    """Runs agents, and can be asked how far it is."""

    def __init__(self) -> None:
        self.stage = "new"

    @workflow.run
    async def run(self, waits: bool) -> list[str]:
        self.stage = "begun"
        if waits:
            await workflow.wait_condition(lambda: self.stage == "released")
        lines = await poem()
        loaded = [name for name in ("mistralai", "mcp", "redis") if name in sys.modules]
        return [*lines, *loaded]

    @workflow.signal
    async def release(self) -> None:
        assert await look_up("Brest") == "rain in Brest"
        self.stage = "released"

    @workflow.query
    def reached(self) -> str:
        return self.stage

    @workflow.update
    async def ask(self, city: str) -> str:
        return await look_up(city)


@outlast.workflow.define(name="native_poem_here")
class PoemHere:
    """The same, on every other backend."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        return await poem()


@workflow.defn(name="native_failure")
class Failing:
    """Fails with an error of the library."""

    @workflow.run
    async def run(self, how: str) -> str:
        match how:
            case "turns":
                session = outlast.ScriptedSession(lambda request: call("native_look_up", {"city": "Lyon"}))
                await outlast.Runner.run(poets(), "Go.", session, max_turns=2)
            case "refused":
                await outlast.Runner.run(poets(), "Go.", outlast.ScriptedSession({"front": [fail(404)]}))
            case "tool":
                agent = outlast.Agent(model="m", name="front", tools=[refuse])
                script = outlast.ScriptedSession({"front": [call("native_refuse")]}, raise_on_tool_fail=True)
                await outlast.Runner.run(agent, "Go.", script)
            case "unknown":
                script = outlast.ScriptedSession(
                    {"front": [call("nonsense")]}, raise_on_tool_fail=True, may_call_unknown_tools=True
                )
                await outlast.Runner.run(poets(), "Go.", script)
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(3600))
                    group.create_task(_refused())
            case "unserialisable":
                await look_up(object())  # type: ignore[arg-type]  # what users may do
        return "no failure"


async def _refused() -> None:
    await refuse()


@workflow.defn(name="native_payment")
class Payment:
    """Asks a person."""

    @workflow.run
    async def run(self) -> str:
        agent = outlast.Agent(model="m", name="payer", tools=[pay])
        script = outlast.ScriptedSession({"payer": [call("native_pay", {"amount": 70}), say("Done.")]})
        return (await outlast.Runner.run(agent, "Pay.", script)).text


@workflow.defn(name="native_remote")
class Remote:
    """Talks to a model behind HTTP; address and key are those of the process."""

    @workflow.run
    async def run(self) -> str:
        return (await outlast.Runner.run(poets(), "Go.", outlast.LocalSession())).text


@workflow.defn(name="native_box")
class Box:
    """Uses the tools of an MCP server."""

    @workflow.run
    async def run(self, url: str) -> list[str]:
        box = outlast.MCPStreamableHTTPConfig(url=url, name="box")
        agent = outlast.Agent(model="m", name="counter", mcp_clients=[box])
        script = outlast.ScriptedSession(
            {"counter": [call("box_add", {"left": 2, "right": 3}), say("Five.")]}
        )
        result = await outlast.Runner.run(agent, "Count.", script)
        results = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
        return [result.text, *results]


WORKFLOWS: list[type[Any]] = [Poem, Failing, Payment, Remote, Box]
