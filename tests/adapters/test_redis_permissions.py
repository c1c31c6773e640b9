"""The permissions of the documented user are enough, and none of them can be left out."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import outlast
from tests.adapters.redis_cluster import cluster
from tests.adapters.redis_servers import KINDS, REDIS, VALKEY, Kind, ServerOptions, temporary_server

pytestmark = pytest.mark.server

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"


@outlast.activity()
async def permitted(text: str) -> str:
    """Return the text."""
    return text


@outlast.workflow.define(name="redis_permissions")
class Permitted:
    """Uses messages, activities and waiting."""

    def __init__(self) -> None:
        self.may_end = False

    @outlast.workflow.signal
    def end(self) -> None:
        self.may_end = True

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        result: str = await permitted("done")
        await outlast.workflow.wait_condition(lambda: self.may_end)
        return result


def documented_user(kind: Kind, *, on_cluster: bool = False) -> str:
    text = DOCUMENTATION.read_text()
    [rules] = re.findall(r"ACL SETUSER agents (.*?)```", text, re.DOTALL)
    words = rules.split()
    if on_cluster:
        [more] = re.findall(r"A cluster also needs (.*)", text)
        words += re.findall(r"`(.*?)`", more)
    return " ".join(
        ["agents", *(word for word in words if kind is VALKEY or word not in ("+waitaof", "+client|setinfo"))]
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_the_documented_user_may_do_all_that_is_needed(kind: Kind) -> None:
    options = ServerOptions(append_only=True, users=(documented_user(kind),))
    with temporary_server(kind, options) as server:
        url = server.url(user="agents", password="PASSWORD", require_durable="1")
        if kind is VALKEY:
            url += "&wait_aof=local"
        await does_everything(url)
        assert server.ask("ACL", "LOG") == []


@pytest.mark.parametrize("kind", [VALKEY, pytest.param(REDIS, marks=pytest.mark.nightly)])
async def test_the_documented_user_of_a_cluster_may_do_all_that_is_needed(kind: Kind) -> None:
    options = ServerOptions(append_only=True, users=(documented_user(kind, on_cluster=True),))
    with cluster(kind, options) as nodes:
        url = nodes[0].url(user="agents", password="PASSWORD", require_durable="1")
        if kind is VALKEY:
            url += "&wait_aof=local"
        await does_everything(url)
        assert [node.ask("ACL", "LOG") for node in nodes] == [[]] * len(nodes)


async def does_everything(url: str) -> None:
    """Check that all that a backend does can be done at this URL."""
    async with outlast.connect(url) as backend, backend.worker([Permitted]):
        execution = await backend.start(Permitted)
        async for event in execution.events():
            if event.kind == "activity_completed":
                break
        await execution.signal("end")
        assert await execution.result() == "done"
        assert len(await backend.workers()) == 1
        assert [one.id for one in await backend.list()] == [execution.id]
        assert await backend.prune(timedelta(0)) == 1
