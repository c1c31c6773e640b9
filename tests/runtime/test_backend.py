"""The journaled backend, where it says more than the durability port."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.memory.store import MemoryStore
from outlast.core.errors import (
    ExecutionNotFound,
    NonDeterminismError,
    PayloadTooLarge,
    UnknownDefinition,
)
from outlast.core.json import JSON
from outlast.ports.journal import Message
from outlast.runtime.definitions import known_workflows, workflow
from outlast.runtime.executions.inbox_messages import SignalMessage, decode_message
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.runtime.executions.journaled_execution import ENVELOPE_BYTES
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.workflows import (
    Gated,
    Steps,
    version,
)
from outlast.testing.contracts.examples import few_examples
from outlast.testing.virtual_clock import VirtualClock
from tests.runtime.stages import in_memory

LIMIT_BYTES = 4096


async def test_executions_that_ended_long_enough_ago_are_forgotten_by_prune() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Steps, ["a"])
        await stage.start(Mailbox)
        backend = await stage.backend()
        assert isinstance(backend, JournaledBackend)
        await stage.worker(Steps, Mailbox)
        await stage.soon(execution.result())
        assert await backend.prune(timedelta(hours=1)) == 0
        await stage.pass_time(2)
        assert await backend.prune(timedelta(seconds=1)) == 1
        assert [one.workflow for one in await backend.list()] == ["contract.mailbox"]
        for ask in (execution.result(), execution.describe(), execution.query("so_far"), execution.cancel()):
            with pytest.raises(ExecutionNotFound):
                await ask


async def test_a_watcher_of_an_execution_that_is_forgotten_gets_an_error() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Gated)
        backend = await stage.backend()
        assert isinstance(backend, JournaledBackend)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        stream = execution.events()
        for _ in range(4):
            await stage.soon(anext(stream))
        world.gate("gate").set()
        await stage.soon(execution.result())
        await stage.pass_time(1)
        assert await backend.prune(timedelta(0)) == 1
        with pytest.raises(ExecutionNotFound):
            await stage.later(anext(stream), 10)


@few_examples(60)
@given(
    size=st.integers(min_value=LIMIT_BYTES - 2 * ENVELOPE_BYTES, max_value=LIMIT_BYTES + 10),
    character=st.sampled_from('x"é🦉'),
)
async def test_a_signal_near_the_limit_is_refused_or_applied(size: int, character: str) -> None:
    clock = VirtualClock()
    async with JournaledBackend(MemoryStore(clock, limit_bytes=LIMIT_BYTES), clock) as backend:
        execution = await backend.start(Mailbox)
        text = "x" * (size - 8) + character
        expected = [text]
        try:
            await execution.signal("put", text)
        except PayloadTooLarge:
            expected = []
        await execution.signal("stop")
        async with backend.worker([Mailbox]), asyncio.timeout(10):
            ended: Any = (await asyncio.gather(execution.result(), return_exceptions=True))[0]
            # The letter may fit where the list that holds it does not.
            assert ended == expected or isinstance(ended.__cause__, PayloadTooLarge)


async def test_a_process_without_the_workflow_may_send_and_watch_but_not_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @workflow.define(name="backend-tests.elsewhere")
    class Elsewhere(Mailbox):
        pass

    async with in_memory() as stage:
        execution, _ = await stage.start(Elsewhere)
        monkeypatch.delitem(known_workflows._defined, "backend-tests.elsewhere")
        await execution.signal("put", {"a": (1, 2)})
        await execution.signal("no such signal", 1)
        await execution.signal("put", 1, 2, 3)
        await execution.signal("stop")
        await stage.worker(Elsewhere)
        assert await stage.soon(execution.result()) == [{"a": [1, 2]}]
        with pytest.raises(UnknownDefinition):
            await execution.query("contents")


async def test_a_query_of_code_that_departs_raises_and_leaves_nothing_behind() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(version(["first", "gate"]))
        await stage.worker(version(["first", "gate"]))
        await stage.soon(world.happened("gate reached"))
        version(["other", "gate"])
        with pytest.raises(NonDeterminismError):
            await execution.query("look")


async def test_bytes_that_are_not_a_message_are_reported_and_do_not_fail_the_execution() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    async with JournaledBackend(store, clock) as backend:
        execution = await backend.start(Mailbox)
        await store.send(execution.id, Message("m", b"not ours"))
        async with backend.worker([Mailbox]):
            async with asyncio.timeout(10):
                while (error := (await execution.describe()).error) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert "not a message of this library" in error
            assert (await execution.describe()).status == "running"


def test_a_signal_is_the_same_after_encoding_and_decoding() -> None:
    values: tuple[JSON, ...] = ("\ud800", "", {"a": [None, 1.5]})
    for value in values:
        message = SignalMessage(name="n", arguments=(value,), named={"x": value})
        assert decode_message(message.to_json()) == message
