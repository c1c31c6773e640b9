"""Deadlines of runs in plain scripts, and as users give them; the contract has those in workflows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.core.errors import DeadlineExceeded, DefinitionError
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.runtime.runs.bounds import Bounds

AGENT = outlast.Agent(model="m", name="solo")
SOON = timedelta(milliseconds=20)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Silent(outlast.ScriptedSession):
    """A model that never answers."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("durably", [False, True])
async def test_a_run_of_a_script_ends_at_its_deadline(durably: bool, tmp_path: Path) -> None:
    where: dict[str, Any] = {"id": "r", "backend": f"sqlite:///{tmp_path}/r.db"} if durably else {}
    for _ in range(1 + durably):  # A durable run ends once.
        with pytest.raises(DeadlineExceeded, match="before the deadline of the run, 20") as exceeded:
            await outlast.Runner.run(AGENT, "Go.", Silent({}), deadline=SOON, **where)
        assert exceeded.value.agent == "solo"
        assert exceeded.value.usage == outlast.Usage()


async def test_a_run_that_is_cancelled_is_not_late() -> None:
    running = asyncio.create_task(outlast.Runner.run(AGENT, "Go.", Silent({}), deadline=timedelta(hours=1)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_time_out_of_the_run_itself_is_not_its_deadline() -> None:
    def instructions(run: outlast.RunContext[None]) -> str:
        raise TimeoutError("of the function")

    agent = outlast.Agent(model="m", name="solo", instructions=instructions)
    with pytest.raises(Exception, match="of the function") as raised:
        await outlast.Runner.run(agent, "Go.", Silent({}), deadline=timedelta(hours=1))
    assert not isinstance(raised.value, DeadlineExceeded)


@pytest.mark.parametrize(
    "deadline", [datetime(2030, 1, 1), timedelta(0), timedelta(seconds=-1), timedelta.max, "soon"]
)
async def test_a_deadline_that_a_run_cannot_keep_is_refused(deadline: Any) -> None:
    with pytest.raises(DefinitionError, match="deadline"):
        await outlast.Runner.run(AGENT, "Go.", Silent({}), deadline=deadline)


def test_a_deadline_is_a_date_or_counts_from_the_start() -> None:
    assert Bounds().due_at(NOON) is None
    assert Bounds.of(deadline=NOON).due_at(NOON - SOON) == NOON.timestamp()
    assert Bounds.of(deadline=timedelta(hours=1)).due_at(NOON) == NOON.timestamp() + 3600


def test_bounds_without_a_deadline_are_written_as_before_there_were_any() -> None:
    assert not any("deadline" in name for name in Bounds().model_dump(mode="json"))
    for bounds in (Bounds.of(deadline=NOON), Bounds.of(deadline=timedelta(hours=1))):
        assert Bounds.model_validate(bounds.model_dump(mode="json")) == bounds
