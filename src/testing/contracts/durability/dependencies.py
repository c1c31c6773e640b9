"""Dependencies of activities: opened once a worker, closed when it stops, and in no journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from outlast.core.events import ActivityStartedData
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.depends import Depends
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.world import here


@dataclass(eq=False)
class Line:
    """A connection to the outside, which no JSON can hold."""

    sent: list[str] = field(default_factory=list)
    is_open: bool = True


lines: list[Line] = []
"""All that were opened."""


async def line() -> AsyncIterator[Line]:
    """Open a line."""
    opened = Line()
    lines.append(opened)
    yield opened
    opened.is_open = False


@activity(name="contract_send", retry_policy_initial_interval=AT_ONCE)
async def send(text: str, over: Line = Depends(line)) -> int:
    """Send a text over the worker's line."""
    assert over.is_open
    over.sent.append(text)
    here().happen(text)
    if text == "twice" and activity.info().attempt == 1:
        raise ConnectionError("once more")
    return len(over.sent)


@workflow.define(name="contract.sender")
class Sender:
    """Sends some texts at the same time, and then one that fails at first."""

    @workflow.entrypoint
    async def run(self, texts: list[str]) -> int:
        await asyncio.gather(*(send(text) for text in texts))
        return await send("twice")


class DependencyContract(DurabilityContractBase):
    """Things that activities depend on, which live in their worker."""

    async def test_a_dependency_is_opened_once_a_worker_and_closed_when_it_stops(self, stage: Stage) -> None:
        texts = [f"text {n}" for n in range(5)]
        before = len(lines)
        execution, world = await stage.start(Sender, texts)
        process = await stage.worker(Sender)
        assert await stage.later(execution.result(), 5) == len(texts) + 2
        [opened] = lines[before:]
        assert sorted(opened.sent) == sorted([*texts, "twice", "twice"])
        assert world.attempts("twice") == [1, 2]
        assert opened.is_open
        await process.stop()
        assert not opened.is_open
        started = data_of(await stage.soon(all_events(execution)), ActivityStartedData)
        arguments: list[Any] = [data.arguments for data in started]
        assert arguments == [{"text": text} for text in [*texts, "twice"]]
