"""Runs of agents from scripts without an event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.errors import DefinitionError

made: list[int] = []


@outlast.activity(name="run_sync_double")
async def double(number: int) -> int:
    """Double a number."""
    made.append(number)
    return 2 * number


AGENT = outlast.Agent(model="m", name="sync", tools=[double])


def test_a_script_gets_the_result_without_await() -> None:
    session = outlast.ScriptedSession(
        {"sync": [call("run_sync_double", {"number": 4}), say("It is 8."), say("Yes, 8.")]}
    )
    assert outlast.Runner.run_sync(AGENT, "Double 4.", session).text == "It is 8."
    assert outlast.Runner.run_sync(AGENT, "Really?", session).text == "Yes, 8."
    assert len(outlast.Runner.messages(session)) == 6


def test_a_durable_run_of_a_script_is_done_once(tmp_path: Path) -> None:
    made.clear()
    for _ in range(2):
        session = outlast.ScriptedSession({"sync": [call("run_sync_double", {"number": 4}), say("It is 8.")]})
        result = outlast.Runner.run_sync(
            AGENT, "Double 4.", session, id="double-4", backend=f"sqlite:///{tmp_path}/runs.db"
        )
        assert result.text == "It is 8."
    assert made == [4]


def test_errors_of_the_run_are_those_of_run() -> None:
    session = outlast.ScriptedSession({"sync": [call("run_sync_double", {"number": 4})] * 3})
    with pytest.raises(outlast.MaxTurnsExceeded):
        outlast.Runner.run_sync(AGENT, "Double 4.", session, 2)


async def test_where_a_loop_is_running_the_error_says_what_to_write() -> None:
    with pytest.raises(DefinitionError, match=r"an event loop is running here; write `await Runner\.run"):
        outlast.Runner.run_sync(AGENT, "Double 4.", outlast.ScriptedSession({"sync": []}))


@outlast.workflow.define(name="run_sync.workflow")
class Waits:
    @outlast.workflow.entrypoint
    async def run(self) -> str:
        session: Any = outlast.ScriptedSession({"sync": []})
        try:
            return outlast.Runner.run_sync(AGENT, "Double 4.", session).text
        except DefinitionError as error:
            return str(error)


async def test_workflow_code_must_await_its_runs() -> None:
    said = await outlast.execute_workflow(Waits.run, backend="memory:")
    assert said.endswith("write `await Runner.run(...)`")
