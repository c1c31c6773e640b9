"""Any body of a server, to any request, becomes a reply or an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.adapters.mistral import LocalSession, RemoteSession
from outlast.adapters.mistral.housekeeping import open_account
from outlast.adapters.scripted import call, handoff, say
from outlast.core.errors import ModelError, OutlastError
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.session.programs import ConversationDriver, SessionProgram
from outlast.testing.mistral_server import Fault, Rewrite
from tests.adapters.mistral_worlds import Cloud, mistral_world
from tests.spoiling import Spoiler, spoilers

pytestmark = pytest.mark.server

ERRAND = SessionProgram(
    ((say("Let me see."), call("look_up", {"city": "Lyon"})), (handoff("poet"),), (say("It rains."),))
)
SESSIONS: dict[str, Callable[..., Any]] = {
    "remote": partial(RemoteSession, stream=False),
    "remote, streamed": partial(RemoteSession, stream=True),
    "local": partial(LocalSession, stream=False),
    "local, streamed": partial(LocalSession, stream=True),
}


def fault(spoiler: Spoiler) -> Fault:
    return Fault(Rewrite(spoiler.spoil), skip=spoiler.skip)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    with cloud.server:
        yield cloud


@pytest.mark.parametrize("kind", SESSIONS)
@given(drawn=st.lists(spoilers(7), min_size=1, max_size=3))
@few_examples(25, in_one_place=True)
async def test_any_body_for_a_session_is_a_reply_or_an_error_of_ours(
    cloud: Cloud, kind: str, drawn: list[Spoiler]
) -> None:
    with mistral_world(cloud, ERRAND, SESSIONS[kind]) as world:
        for spoiler in drawn:
            cloud.server.faults.add(fault(spoiler))
        async with SharedResources() as resources:
            conversation = ConversationDriver(world, resources)
            try:
                await conversation.run("Go.")
            except OutlastError as error:
                event(type(error).__name__)
            else:
                event("a reply")


@given(drawn=spoilers(7))
@few_examples(25, in_one_place=True)
async def test_any_body_for_the_account_is_an_answer_or_an_error_of_ours(
    cloud: Cloud, drawn: Spoiler
) -> None:
    with mistral_world(cloud, ERRAND, SESSIONS["remote"]) as world:
        async with SharedResources() as resources:
            await ConversationDriver(world, resources).run("Go.")
        cloud.server.faults.add(fault(drawn))
        try:
            async with open_account(world.session) as account:
                found = await account.agents(datetime.now(UTC) - timedelta(days=1))
        except ModelError as error:
            event(type(error).__name__)
        else:
            event("a list")
            assert {agent.name for agent in found} <= {"front", "poet"}
