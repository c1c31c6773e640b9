"""A durable run of a plain script, as a shell shows it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

import outlast
from outlast.adapters.scripted import say
from tests.cli.test_commands import call

PLAIN = outlast.Agent(model="m", name="poet")
TYPED = outlast.Agent(model="m", name="counter", output_type=dict[str, int])


def fail(_: object) -> NoReturn:
    """Answer as a session does that cannot ask any model."""
    raise ValueError("no key")


def run(agent: outlast.Agent[Any, Any], answer: str | Callable[[object], NoReturn]) -> None:
    """Run an agent durably, as `r-1`."""
    session = outlast.ScriptedSession({agent.name: [say(answer)]} if isinstance(answer, str) else answer)
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


@pytest.mark.usefixtures("shop")
def test_a_failure_from_the_store_says_since_when_and_how_to_go_on() -> None:
    with pytest.raises(outlast.ActivityFailed, match="no key") as first:
        run(PLAIN, fail)
    assert not any("outlast retry" in note for note in first.value.__notes__)
    with pytest.raises(outlast.ActivityFailed, match="no key") as again:
        run(PLAIN, "Tides turn.")
    assert re.match(
        r"execution 'r-1' failed with this at \d{4}-\d\d-\d\d \d\d:\d\d UTC, and nothing was run now: "
        r"`outlast retry r-1` opens it again",
        again.value.__notes__[-1],
    )
    assert call("retry", "r-1").exit_code == 0
    run(PLAIN, "Tides turn.")
    assert json.loads(call("result", "r-1").stdout) == "Tides turn."
