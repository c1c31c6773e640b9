"""The message of an exception may differ in each process: a replay keeps the first one."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.adapters.memory.store import MemoryStore
from outlast.adapters.scripted import ScriptedSession, call
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import OutlastError
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.guardrails import Reject
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.virtual_clock import VirtualClock

process = 0
"""Stands for the hash seed of a process: each makes other words of the same fault."""


def failing(word: str) -> str:
    """Fail."""
    raise ValueError(f"words of process {process}")


def judge(arguments: Any) -> bool:
    raise ValueError(f"words of process {process}")


@activity(name="words_checked", requires_approval=judge)
async def checked(word: str) -> str:
    """Do nothing."""
    return word


@activity(name="words_repeat")
async def repeat(word: str) -> str:
    """Return the word."""
    return word


def reject(text: str) -> Reject:
    return Reject(f"words of process {process}")


def agent_for(what: str) -> Agent[Any]:
    match what:
        case "tool":
            return Agent(model="m", name="a", tools=[failing])
        case "approval":
            return Agent(model="m", name="a", tools=[checked])
    return Agent(model="m", name="a", input_guardrails=[reject])


@workflow.define(name="words_used")
class Words:
    """Passes the message of a failure to an activity, waits, and returns it."""

    def __init__(self) -> None:
        self.goes_on = False

    @workflow.entrypoint
    async def run(self, what: str) -> list[str]:
        tool = {"tool": "failing", "approval": "words_checked"}.get(what, "none")
        session = ScriptedSession({"a": [call(tool, {"word": "x"}), "done"]})
        try:
            result = await Runner.run(agent_for(what), "go", session)
        except OutlastError as error:
            words = str(error)
        else:
            [words] = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        repeated = await repeat(words)
        await workflow.wait_condition(lambda: self.goes_on)
        return [words, repeated]

    @workflow.signal
    def go_on(self) -> None:
        self.goes_on = True

    @workflow.query
    def look(self) -> bool:
        return self.goes_on


@pytest.mark.parametrize("what", ["tool", "approval", "guardrail"])
async def test_a_replay_goes_on_with_the_message_of_the_first_exception(what: str) -> None:
    global process
    process = 1
    clock = VirtualClock()
    store = MemoryStore(clock)
    async with JournaledBackend(store, clock) as backend:
        execution = await backend.start(Words, what)
        async with backend.worker([Words]):
            async for event in execution.events():
                if event.kind == "activity_completed":
                    break
        process = 2
        assert await execution.query("look") is False
        await execution.signal("go_on")
        async with backend.worker([Words]):
            words, repeated = await execution.result()
        assert words == repeated
        assert "words of process 1" in words
        process = 3
        assert await execution.query("look") is True
