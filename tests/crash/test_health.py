"""The health of `outlast worker` while its code blocks, while it stops, and while its store is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import outlast
from outlast.cli.supervised import _answers
from outlast.core.errors import StorageUnavailable
from outlast.ports.durability.execution import Execution
from tests.cli.test_health import ask
from tests.crash.misbehaving import Misbehaving
from tests.crash.test_supervisor import Command, pytestmark, until

__all__ = ["pytestmark"]

SERVED = re.compile(r"health is served on 127\.0\.0\.1 port (\d+)")
Begin = Callable[..., Command]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    begun: list[Command] = []

    def start(processes: int, *options: str) -> Command:
        begun.append(Command(tmp_path, processes, "--health-port", "0", *options))
        return begun[-1]

    yield start
    for command in begun:
        command.process.kill()
        await command.ended()


async def port_of(command: Command) -> int:
    await until(lambda: SERVED.search(command.log) is not None)
    found = SERVED.search(command.log)
    assert found is not None
    return int(found[1])


async def until_status(port: int, path: str, status: int) -> None:
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(ask, port, path))[0] != status:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("processes", [0, 2])
async def test_a_worker_is_ready_and_stops_in_order(begin: Begin, processes: int) -> None:
    command = begin(processes, "--stop-timeout", "5")
    port = await port_of(command)
    await until_status(port, "/readyz", 200)
    _, document = ask(port, "/livez")
    assert len(document["workers"]) == max(processes, 1)
    command.process.terminate()
    assert await command.ended() == 0
    assert "what it cannot finish in 5 s goes on" in command.log


async def test_code_that_lets_nothing_else_run_is_not_ready_and_its_supervisor_answers(
    begin: Begin,
) -> None:
    command = begin(1)
    port = await port_of(command)
    await until_status(port, "/readyz", 200)
    async with outlast.connect(command.url) as backend:
        execution = await backend.start(Misbehaving, "regular expression")
        await until_status(port, "/readyz", 503)
        assert ask(port, "/livez")[0] == 200
        await execution.terminate("it has been seen")
    await until_status(port, "/readyz", 200)
    assert len(command.begun) > 1


class Away:
    """A backend whose store does not answer."""

    async def get(self, execution_id: str) -> Execution:
        raise StorageUnavailable("the disk does not answer")


async def test_a_store_that_does_not_answer_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    assert not await _answers(Away())  # type: ignore[arg-type]  # only this method is called
    assert "not ready: the store does not answer" in caplog.text
    async with outlast.connect("memory:") as backend:
        assert await _answers(backend)
