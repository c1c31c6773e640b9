"""A durable run of a plain script, as a shell shows it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import say
from tests.cli.test_commands import call

PLAIN = outlast.Agent(model="m", name="poet")
TYPED = outlast.Agent(model="m", name="counter", output_type=dict[str, int])


def run(agent: outlast.Agent[Any, Any], answer: str) -> None:
    """Run an agent durably, as `r-1`."""
    session = outlast.ScriptedSession({agent.name: [say(answer)]})
    asyncio.run(outlast.Runner.run(agent, "Go.", session, id="r-1"))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("agent", "said", "answer"),
    [(PLAIN, "Tides turn.", "Tides turn."), (TYPED, '{"tides": 2}', {"tides": 2})],
)
def test_its_result_is_its_answer(agent: outlast.Agent[Any, Any], said: str, answer: Any) -> None:
    run(agent, said)
    assert json.loads(call("result", "r-1").stdout) == answer
    [shown] = [line for line in call("show", "r-1").stdout.splitlines() if line.startswith("result ")]
    assert json.loads(shown.removeprefix("result ")) == answer


@pytest.mark.usefixtures("shop")
def test_an_answer_around_its_json_is_shown_as_text() -> None:
    said = '```json\n{"tides": 2}\n```'
    run(TYPED, said)
    assert json.loads(call("result", "r-1").stdout) == said
