"""Whatever body a server sends, to whatever request: what comes of it is a reply, or an error of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from durable_agents.adapters.mistral import LocalSession, RemoteSession
from durable_agents.adapters.mistral.housekeeping import open_account
from durable_agents.adapters.scripted import call, handoff, say
from durable_agents.core.errors import DurableAgentsError, ModelError
from durable_agents.runtime.resources import SharedResources
from durable_agents.testing.examples import few_examples
from durable_agents.testing.mistral_server import Fault, Rewrite
from durable_agents.testing.session_programs import Conversation, Program
from tests.adapters.mistral_worlds import Cloud, mistral_world

pytestmark = pytest.mark.server

ERRAND = Program(
    ((say("Let me see."), call("look_up", {"city": "Lyon"})), (handoff("poet"),), (say("It rains."),))
)
SESSIONS: dict[str, Callable[..., Any]] = {
    "remote": partial(RemoteSession, stream=False),
    "remote, streamed": partial(RemoteSession, stream=True),
    "local": partial(LocalSession, stream=False),
    "local, streamed": partial(LocalSession, stream=True),
}
HERE = "what is drawn goes here"

SHORT_TEXTS = (
    *("null", "true", "0", "-1", "7.5", "1e999", "-Infinity", "NaN", '""', '"x"', '"\\ud800"'),
    *("[]", "{}", "[null]", "[7]", '["x"]', '{"x": null}', '{"id": 7}'),
    *("", "{", "<html>", "\ud800"),
)
TEXTS = {
    **{text: text for text in SHORT_TEXTS},
    **{f"{levels} lists": "[" * levels + "]" * levels for levels in (90, 130, 400, 900, 100_000)},
    "5000 digits": "9" * 5000,
}


def spoilt(whole: Any, path: Sequence[int]) -> Any:
    """Return a JSON value with `HERE` in the place that `path` leads to: the one after the other inside."""
    if not path or not isinstance(whole, (dict, list)) or not whole:
        return HERE
    if isinstance(whole, dict):
        name = sorted(whole)[path[0] % len(whole)]
        return {**whole, name: spoilt(whole[name], path[1:])}
    place = path[0] % len(whole)
    return [*whole[:place], spoilt(whole[place], path[1:]), *whole[place + 1 :]]


def rewritten(body: bytes, path: Sequence[int], text: str) -> bytes:
    """Return a body, JSON or events, with the text in the place of something in it."""
    new = text.encode("utf-8", "surrogatepass")
    try:
        found = json.dumps(spoilt(json.loads(body), path)).encode()
    except ValueError:
        lines = body.split(b"\n")
        data = [place for place, line in enumerate(lines) if line.startswith(b"data: {")]
        if not data:
            return new
        place = data[path[0] % len(data)] if path else data[0]
        lines[place] = b"data: " + json.dumps(spoilt(json.loads(lines[place][6:]), path[1:])).encode()
        found = b"\n".join(lines)
    return found.replace(json.dumps(HERE).encode(), new)


@dataclass(frozen=True)
class Spoiler:
    """Puts one of the `TEXTS` into the answer to the request that comes after `skip` others."""

    skip: int
    path: tuple[int, ...]
    text: str

    def fault(self) -> Fault:
        return Fault(Rewrite(partial(rewritten, path=self.path, text=TEXTS[self.text])), skip=self.skip)


paths = st.lists(st.integers(0, 11), max_size=6).map(tuple)
spoilers = st.builds(Spoiler, st.integers(0, 7), paths, st.sampled_from(sorted(TEXTS)))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    with cloud.server:
        yield cloud


@pytest.mark.parametrize("kind", SESSIONS)
@given(drawn=st.lists(spoilers, min_size=1, max_size=3))
@few_examples(25, in_one_place=True)
async def test_of_a_session(cloud: Cloud, kind: str, drawn: list[Spoiler]) -> None:
    with mistral_world(cloud, ERRAND, SESSIONS[kind]) as world:
        for spoiler in drawn:
            cloud.server.faults.add(spoiler.fault())
        async with SharedResources() as resources:
            conversation = Conversation(world, resources)
            try:
                await conversation.run("Go.")
            except DurableAgentsError as error:
                event(type(error).__name__)
            else:
                event("a reply")


@given(drawn=spoilers)
@few_examples(25, in_one_place=True)
async def test_of_the_account(cloud: Cloud, drawn: Spoiler) -> None:
    with mistral_world(cloud, ERRAND, SESSIONS["remote"]) as world:
        async with SharedResources() as resources:
            await Conversation(world, resources).run("Go.")
        cloud.server.faults.add(drawn.fault())
        try:
            async with open_account(world.session) as account:
                found = await account.agents(datetime.now(UTC) - timedelta(days=1))
        except ModelError as error:
            event(type(error).__name__)
        else:
            event("a list")
            assert {agent.name for agent in found} <= {"front", "poet"}
