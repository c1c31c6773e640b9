"""Agents in a notebook: cells await, and values are shown as HTML. The kernel is a real one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from tests.notebooks.kernel import Kernel, started

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.platform == "win32", reason="a kernel needs another event loop there"),
]

AGENT = """
import outlast

def population(city: str) -> int:
    '''Return how many people live in a city.'''
    return 520_774

agent = outlast.Agent(model="m", name="geographer", tools=[population])
replies = ["<script>alert('Lyon')</script> is large."]
session = outlast.ScriptedSession({"geographer": replies})
"""
ESCAPED = "&lt;script&gt;alert(&#x27;Lyon&#x27;)&lt;/script&gt; is large."


@pytest.fixture(scope="module")
async def kernel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kernel]:
    async with started(tmp_path_factory.mktemp("notebook")) as kernel:
        begun = await kernel.run(AGENT)
        assert begun.error == ""
        yield kernel


async def test_a_cell_awaits_a_run_and_shows_its_answer_escaped(kernel: Kernel) -> None:
    cell = await kernel.run("await outlast.Runner.run(agent, 'Is Lyon large?', session)")
    assert cell.error == ""
    assert ESCAPED in cell.shown["text/html"]
    assert "<script" not in cell.shown["text/html"]
    assert "geographer, 1 turns" in cell.shown["text/html"]


async def test_a_durable_run_survives_from_cell_to_cell(kernel: Kernel) -> None:
    line = "await outlast.Runner.run(agent, 'Is Lyon large?', session, id='q-1', backend='sqlite:///runs.db')"
    first, second = await kernel.run(line), await kernel.run(line)
    assert first.error == second.error == ""
    assert first.shown["text/html"] == second.shown["text/html"]


async def test_a_backend_stays_open_and_shows_executions_and_events(kernel: Kernel) -> None:
    await kernel.run("stack = outlast.connect('sqlite:///runs.db')\nbackend = await stack.__aenter__()")
    cell = await kernel.run("await backend.list()")
    assert "q-1" in cell.shown["text/html"]
    cell = await kernel.run("execution = await backend.get('q-1')\nexecution")
    assert "execution q-1" in cell.shown["text/html"]
    cell = await kernel.run("await execution.describe()")
    assert "completed" in cell.shown["text/html"]
    cell = await kernel.run("events = [event async for event in execution.events()]\nevents[-1]")
    assert "run_ended" in cell.shown["text/html"] or "execution_completed" in cell.shown["text/html"]
    cell = await kernel.run("shown = ''.join(event._repr_html_() for event in events)\n'<script' in shown")
    assert cell.shown["text/plain"] == "False"
    assert (await kernel.run("await stack.__aexit__(None, None, None)")).error == ""


async def test_run_sync_says_that_a_cell_can_await(kernel: Kernel) -> None:
    cell = await kernel.run("outlast.Runner.run_sync(agent, 'Is Lyon large?', session)")
    assert "an event loop is running here; write `await Runner.run(...)`" in cell.error
