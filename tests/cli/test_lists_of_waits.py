"""`outlast list` shows what executions wait for also where the list of the backend does not have it."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

import outlast
from outlast.adapters.scripted import call
from outlast.cli import finding
from outlast.core.events import EventKind
from outlast.core.waiting import WaitingFor, WaitingKind
from outlast.ports.durability.backend import ExecutionPage
from outlast.ports.durability.execution import ExecutionDescription
from tests.adapters.temporal_server import shared_server
from tests.cli.test_lists import BUSY

BARE = replace(BUSY, waiting_for=(), turns=None, usage=None, agent=None)


class Place:
    """A backend that reads what executions wait for only when it is asked to."""

    def __init__(self, rows: Sequence[ExecutionDescription]) -> None:
        self.rows = rows
        self.read: list[str] = []

    async def list(self, where: Any, *, limit: int, cursor: str | None) -> ExecutionPage:
        begin = int(cursor or 0)
        end = begin + limit
        return ExecutionPage(tuple(self.rows[begin:end]), str(end) if end < len(self.rows) else None)

    async def with_overviews(self, executions: Sequence[ExecutionDescription]) -> Any:
        self.read += [one.id for one in executions]
        waits = (WaitingFor(WaitingKind.TIMER),)
        return [replace(one, waiting_for=waits, turns=3) for one in executions]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    shown = Place([replace(BARE, id=f"e-{number}") for number in range(1_000)])

    @asynccontextmanager
    async def opened(url: str | None) -> AsyncIterator[Place]:
        yield shown

    monkeypatch.setattr(finding, "opened", opened)
    return shown


def test_the_rows_that_are_shown_are_read_and_no_others(place: Place) -> None:
    shown = CliRunner().invoke(finding.app, ["list", "--limit", "3", "--json"])
    assert shown.exit_code == 0, shown.output
    documents = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [one["id"] for one in documents] == place.read == ["e-0", "e-1", "e-2"]
    assert [one["waiting_for"][0]["kind"] for one in documents] == ["timer"] * 3
    assert "show what they wait for" not in shown.stderr


def test_a_long_list_reads_its_beginning_and_says_so(place: Place) -> None:
    shown = CliRunner().invoke(finding.app, ["list", "--limit", "900", "--json"])
    assert len(place.read) == finding.OVERVIEWS_MAX
    documents = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [one["id"] for one in documents] == [one.id for one in place.rows[:900]]
    assert sum(bool(one["waiting_for"]) for one in documents) == finding.OVERVIEWS_MAX
    assert f"only the first {finding.OVERVIEWS_MAX} show what they wait for" in shown.stderr


def test_a_long_list_that_lacks_nothing_says_nothing(place: Place) -> None:
    place.rows = [replace(BUSY, id=one.id) for one in place.rows]
    shown = CliRunner().invoke(finding.app, ["list", "--limit", "900", "--json"])
    assert "show what they wait for" not in shown.stderr


@outlast.activity(name="lists_of_waits_pay", requires_approval=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"{amount} paid"


@outlast.workflow.define(name="lists_of_waits_payment")
class Payment:
    """Waits for a person's decision."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        agent = outlast.Agent(model="m", name="clerk", tools=[pay])
        asked = call("lists_of_waits_pay", {"amount": 7})
        session = outlast.ScriptedSession({"clerk": [asked, "Done."]})
        return (await outlast.Runner.run(agent, "Pay.", session)).text


@pytest.mark.server
async def test_on_temporal_the_list_shows_the_approval_the_agent_and_the_turns() -> None:
    url, queue = f"temporal://{shared_server()}", uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Payment], task_queue=queue):
        execution = await backend.start(Payment, task_queue=queue)
        async for event in execution.events():
            if event.kind == EventKind.APPROVAL_REQUESTED:
                break
        while not await backend.list(outlast.Where(id_prefix=execution.id)):  # noqa: ASYNC110 - it is late
            await asyncio.sleep(0.05)
        command = ["-m", "outlast.cli", "list", "--id-prefix", execution.id, "--backend", url]
        documents, table = await said(*command, "--json"), await said(*command, "--full")
        [one] = [json.loads(line) for line in documents.splitlines()]
        assert (one["agent"], one["turns"]) == ("clerk", 1)
        assert [wait["kind"] for wait in one["waiting_for"]] == ["approval"]
        assert "clerk" in table
        assert "approval" in table
        await execution.terminate("over")


async def said(*arguments: str) -> str:
    """Return what a command prints that runs without the code of the workflow."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return printed.decode()
