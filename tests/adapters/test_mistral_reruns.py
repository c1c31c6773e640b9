"""Conversations that the server keeps, when their executions are retried and forked (D22, D23).

A retry goes on with the conversation of the original, each turn of which the server has once. A fork never
touches it: it begins one of its own, with all entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from outlast import Agent, RemoteSession, Runner, activity, workflow
from outlast.core.errors import ExecutionFailed, ExecutionTerminated
from outlast.core.records import StepCompleted, StepKind, StepScheduled
from outlast.ports.durability.execution import Execution
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Drop,
    Fault,
    Hang,
    MistralServer,
    Say,
    ScriptedModel,
)
from tests.adapters.test_mistral_remote import APPEND, START, posts

pytestmark = pytest.mark.server

KEY = "test-key"
REFUSAL = {"object": "Error", "message": "no", "type": "invalid_request_error", "code": 3001}
broken: set[str] = set()
"""The executions whose tool fails."""


@activity(name="reruns_look_up", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=1)
async def look_up(city: str) -> str:
    if activity.info().execution_id in broken:
        raise ConnectionError("no weather today")
    return f"weather of {city}"


@workflow.define(name="reruns_errand")
class Errand:
    """A run with a tool. If that fails, another run in the same conversation apologises."""

    @workflow.entrypoint
    async def run(self, server_url: str, apologise: bool) -> str:
        front = Agent(model="m", name="front", instructions="Ask.", tools=[look_up])
        session = RemoteSession(api_key=KEY, server_url=server_url, raise_on_tool_fail=True)
        try:
            return (await Runner.run(front, "Go.", session)).text
        except Exception:
            if apologise:
                await Runner.run(front, "Apologise.", session)
            raise


@asynccontextmanager
async def stages() -> AsyncIterator[Stage]:
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
    try:
        await stage.worker(Errand)
        yield stage
    finally:
        await stage.close()


async def ended(stage: Stage, execution: Execution) -> Any:
    """Return the result; replies take real time, while pauses go by the clock of the stage."""
    result = asyncio.ensure_future(execution.result())
    async with asyncio.timeout(30):
        while not result.done():
            await stage.pass_time(1)
            await asyncio.wait([result], timeout=0.01)
    return await result


def types(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [str(entry["type"]) for entry in entries]


WHOLE = ["message.input", "function.call", "function.result", "message.output"]
CITY = [Call("reruns_look_up", {"city": "Lyon"})]


def appends(server: MistralServer) -> int:
    return sum(one.method == "POST" and one.path.startswith(f"{START}/") for one in server.requests)


def server_with(*last: str) -> MistralServer:
    return MistralServer(ScriptedModel([CITY, *([Say(text)] for text in last)]), api_key=KEY)


async def test_d23_a_fork_begins_a_conversation_of_its_own_with_all_entries() -> None:
    with server_with("Rain.", *["Rain again."] * 20) as server:
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, False)
            assert await ended(stage, execution) == "Rain."
            (original,) = server.conversations.values()
            before = [dict(entry) for entry in original.entries]
            records = [record async for record in execution.records()]
            models = {
                one.key for one in records if isinstance(one, StepScheduled) and one.kind is StepKind.MODEL
            }
            for position in range(1, len(records) + 1):
                before_fork, known = appends(server), len(server.conversations)
                server_appends = [one.path for one in server.requests if original.id in one.path]
                replied = [
                    one for one in records[:position] if isinstance(one, StepCompleted) and one.key in models
                ]
                if not replied:
                    continue  # Then the script of the model would begin anew, too.
                fork = await execution.fork(at=position)
                assert await ended(stage, fork) == ("Rain." if len(replied) == 2 else "Rain again.")
                assert [one.path for one in server.requests if original.id in one.path] == server_appends
                assert appends(server) == before_fork
                new = list(server.conversations.values())[known:]
                assert [types(one.entries) for one in new] == [WHOLE] * (2 - len(replied))
            assert [*original.entries] == before
        server.raise_errors()


async def test_d22_a_reply_that_was_lost_before_the_end_is_found_by_a_retry() -> None:
    with server_with("Rain.", "Rain again.") as server:
        server.faults.add(Fault(Drop("answer"), method="POST", path=APPEND))
        server.faults.add(Fault(AnswerWith(400, REFUSAL), method="GET", path=f"{APPEND}/history"))
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, False)
            with pytest.raises(ExecutionFailed):
                await ended(stage, execution)
            await execution.retry()
            assert await ended(stage, execution) == "Rain."
        (conversation,) = server.conversations.values()
        assert types(conversation.entries) == WHOLE
        assert (posts(server, START), appends(server)) == (1, 1)
        server.raise_errors()


async def test_d22_a_conversation_that_was_started_and_lost_before_the_end_is_found_by_a_retry() -> None:
    with server_with("Rain.", "Rain again.") as server:
        server.faults.add(Fault(Drop("answer"), method="POST", path=START))
        server.faults.add(Fault(AnswerWith(400, REFUSAL), method="GET", path=START))
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, False)
            with pytest.raises(ExecutionFailed):
                await ended(stage, execution)
            await execution.retry()
            assert await ended(stage, execution) == "Rain."
        (conversation,) = server.conversations.values()
        assert types(conversation.entries) == WHOLE
        server.raise_errors()


async def test_d22_a_retry_goes_on_with_the_conversation_of_before() -> None:
    with server_with("Rain.") as server:
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, False)
            broken.add(execution.id)
            with pytest.raises(ExecutionFailed):
                await ended(stage, execution)
            broken.discard(execution.id)
            await execution.retry()
            assert await ended(stage, execution) == "Rain."
        (conversation,) = server.conversations.values()
        assert types(conversation.entries) == WHOLE
        server.raise_errors()


async def test_d22_what_a_void_run_said_in_the_conversation_is_not_part_of_it_after_a_retry() -> None:
    with server_with("Sorry.", "Rain.") as server:
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, True)
            broken.add(execution.id)
            with pytest.raises(ExecutionFailed):
                await ended(stage, execution)
            broken.discard(execution.id)
            await execution.retry()
            assert await ended(stage, execution) == "Rain."
        old, new = server.conversations.values()
        assert types(old.entries) == [*WHOLE[:3], "message.input", "message.output"]
        assert types(new.entries) == WHOLE
        server.raise_errors()


async def test_d22_a_request_under_way_at_a_termination_is_in_the_conversation_once() -> None:
    with server_with("Rain.", "Rain again.") as server:
        hang = Hang("answer")
        server.faults.add(Fault(hang, Drop("answer"), method="POST", path=APPEND))
        async with stages() as stage:
            execution, _ = await stage.start(Errand, server.url, False)
            async with asyncio.timeout(30):
                await hang.reached()
            await execution.terminate("at once")
            with pytest.raises(ExecutionTerminated):
                await ended(stage, execution)
            hang.release()
            await execution.retry()
            assert await ended(stage, execution) == "Rain."
        (conversation,) = server.conversations.values()
        assert types(conversation.entries) == WHOLE
        server.raise_errors()
