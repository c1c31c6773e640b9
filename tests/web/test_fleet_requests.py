"""The requests of the fleet view, on real backends: filters, figures, tags, decisions, what runs again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.ports.durability.backend import Backend
from tests.web.desk import WORKFLOWS, Echo, Idle, Trip
from tests.web.site import IN_THIS_PROCESS, SERVERS, Site, inspected, url_of

PATIENCE_SECONDS = 60


@pytest.fixture(
    params=[*IN_THIS_PROCESS, *(pytest.param(kind, marks=pytest.mark.server) for kind in SERVERS)]
)
async def backend(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Backend]:
    """A backend of each kind, with a worker."""
    async with outlast.connect(await url_of(request.param, folder)) as opened, opened.worker(WORKFLOWS):
        yield opened


@pytest.fixture
async def in_memory() -> AsyncIterator[Backend]:
    """A backend in this process, with a worker: for what is the same on every backend."""
    async with outlast.connect("memory:") as opened, opened.worker(WORKFLOWS):
        yield opened


@pytest.fixture
async def quick(in_memory: Backend) -> AsyncIterator[Site]:
    """An inspector of it."""
    async with inspected(in_memory) as site:
        yield site


async def waiting_call(site: Site, id: str) -> dict[str, Any]:
    """Return the call of an execution that waits for a person, once there is one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            waiting = [one for one in (await site.read("inbox"))["approvals"] if one["id"] == id]
            if waiting:
                return dict(waiting[0])
            await asyncio.sleep(0.01)


async def found(site: Site, **filters: Any) -> list[str]:
    """Return the ids that the filters find, sorted."""
    return sorted(one["id"] for one in (await site.read("fleet", **filters))["executions"])


async def test_every_filter_of_a_list_is_one_of_the_page(quick: Site, in_memory: Backend) -> None:
    before = datetime.now(UTC)
    await (await in_memory.start(Echo, 1, id="e-1", tags={"team": "red", "note": ""})).result()
    await (await in_memory.start(Echo, 2, id="e-2", tags={"team": "blue"})).result()
    idle = await in_memory.start(Idle, id="i-1", tags={"team": "red"})
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await idle.describe()).waiting_for[0].kind != "condition":  # noqa: ASYNC110 - a worker writes it
            await asyncio.sleep(0.01)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await found(quick) == ["e-1", "e-2", "i-1"]
    assert await found(quick, workflow="echo") == ["e-1", "e-2"]
    assert await found(quick, status="running") == ["i-1"]
    assert await found(quick, id_prefix="e-") == ["e-1", "e-2"]
    assert await found(quick, waiting_for="condition") == ["i-1"]
    assert await found(quick, **{"tag.team": "red"}) == ["e-1", "i-1"]
    assert await found(quick, **{"tag.team": "red", "tag.note": ""}) == ["e-1"]
    assert await found(quick, created_after=before.isoformat()) == ["e-1", "e-2", "i-1"]
    assert await found(quick, created_before=before.isoformat()) == []
    assert await found(quick, created_after=later.isoformat().replace("+00:00", "Z")) == []
    assert await found(quick, workflow="", status="", id_prefix="", created_after="") == ["e-1", "e-2", "i-1"]


@pytest.mark.parametrize(
    "filters",
    [
        {"created_after": "yesterday"},
        {"created_after": "2026-11-29T10:00"},
        {"created_before": "9" * 400},
        {"status": "held"},
        {"tag.": "x"},
        {"tag.team": "x" * 201},
        {"tag.team\n": "x"},
        {f"tag.{number}": "x" for number in range(41)},
    ],
    ids=str,
)
async def test_a_filter_that_can_find_nothing_says_so(quick: Site, filters: dict[str, str]) -> None:
    answer = await quick.client.get("api/fleet", params=filters)
    assert answer.status_code == 422
    assert answer.json()["error"]["kind"] == "DefinitionError"
    assert answer.json()["error"]["message"]


async def _listed(site: Site) -> list[dict[str, Any]]:
    executions: list[dict[str, Any]] = (await site.read("fleet", id_prefix="t-"))["executions"]
    return executions


async def test_a_list_shows_what_is_going_on(site: Site, backend: Backend, folder: Path) -> None:
    (folder / "open").touch()
    await backend.start(Trip, "Ada", id="t-1")
    await waiting_call(site, "t-1")
    async with asyncio.timeout(PATIENCE_SECONDS):
        # On Temporal a worker is asked what it waits for; one that is busy answers the next time.
        while not (listed := await _listed(site)) or listed[0]["agent"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    [one] = listed
    shown = await site.read("execution", id="t-1")
    assert (shown["agent"], shown["turns"], shown["tokens"], shown["cost"]) == ("cashier", 4, 440, "$0.0004")
    # On a busy machine a worker may be late to say that it is alive; then that comes first.
    [approval] = [wait for wait in shown["waiting_for"] if wait["kind"] == "approval"]
    assert "pay" in approval["text"]
    for fact in ("agent", "turns", "tokens", "waiting_for"):
        assert one[fact] == shown[fact], fact


async def test_a_decision_says_who_made_it(site: Site, backend: Backend, folder: Path) -> None:
    for name in ("open", "paper"):
        (folder / name).touch()
    for id, verb in (("t-1", "allow"), ("t-2", "deny")):
        execution = await backend.start(Trip, "Ada", id=id)
        waiting = await waiting_call(site, id)
        decided = await site.act(verb, id=id, call=waiting["key"], reason="so be it", by="Grace")
        assert decided.status_code == 200, decided.text
        await execution.result()
        [decision] = [event for event in await site.events(id) if event["kind"].startswith("approval_")][1:]
        assert (decision["data"]["by"], decision["data"]["reason"]) == ("Grace", "so be it")
    assert (folder / "paid").read_text() == "40 rail\n"


async def test_tags_are_added_and_removed(site: Site, backend: Backend) -> None:
    execution = await backend.start(Idle, id="i-1")
    tagged = await site.act("tag", id="i-1", tags={"team": "red", "note": ""})
    if tagged.status_code == 501:
        assert "outlast temporal setup" in tagged.json()["error"]["message"]
        return
    assert tagged.status_code == 200, tagged.text
    assert (await execution.describe()).tags == {"team": "red", "note": ""}
    assert (await site.act("tag", id="i-1", tags={"team": None})).status_code == 200
    assert (await site.read("execution", id="i-1"))["tags"] == {"note": ""}
    for wrong in ({}, {"": "x"}, {"a": "x" * 201}, {"a": "\x00"}):
        refused = await site.act("tag", id="i-1", tags=wrong)
        assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "DefinitionError")
    assert (await execution.describe()).tags == {"note": ""}


async def test_what_a_retry_would_run_again_is_what_it_runs_again(
    site: Site, backend: Backend, folder: Path
) -> None:
    (folder / "open").touch()
    execution = await backend.start(Trip, "Ada", id="t-1")
    waiting = await waiting_call(site, "t-1")
    refusal = (await site.read("rerun", id="t-1"))["refusal"]
    assert "has not ended" in refusal
    await execution.decide(waiting["key"], "allow")
    with pytest.raises(outlast.ExecutionFailed):
        await execution.result()
    assert await site.read("rerun", id="t-1") == {
        "refusal": None,
        "anew": ["print_ticket"],
        "again": [],
        "once": [],
    }
    (folder / "paper").touch()
    last = (await site.events("t-1"))[-1]["position"]
    assert (await site.act("retry", id="t-1")).status_code == 200
    await execution.result()
    assert (folder / "paid").read_text() == "40 rail\n"
    after = [event for event in await site.events("t-1") if event["position"] > last]
    assert "activity_completed" in [event["kind"] for event in after]
    assert "has completed" in (await site.read("rerun", id="t-1"))["refusal"]


async def test_what_was_under_way_at_the_end_would_run_again(
    quick: Site, in_memory: Backend, folder: Path
) -> None:
    execution = await in_memory.start(Trip, "Ada", id="t-1")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (folder / "held").exists():  # noqa: ASYNC110 - the activity makes it
            await asyncio.sleep(0.01)
    await execution.terminate("enough")
    assert (await quick.read("rerun", id="t-1"))["again"] == ["hold_seat"]


async def test_the_inbox_finds_a_call_among_many_that_wait_for_other_things(
    quick: Site, in_memory: Backend, folder: Path
) -> None:
    (folder / "open").touch()
    await in_memory.start(Trip, "Ada", id="t-1")
    await waiting_call(quick, "t-1")
    for number in range(250):
        await in_memory.start(Idle, id=f"i-{number}")
    inbox = await quick.read("inbox")
    assert [one["id"] for one in inbox["approvals"]] == ["t-1"]
    assert inbox["is_all"] is True
    paused = await in_memory.get("t-1")
    await paused.pause("a moment")
    assert [one["id"] for one in (await quick.read("inbox"))["approvals"]] == ["t-1"]


async def test_a_list_stays_small_whatever_it_shows(quick: Site, in_memory: Backend) -> None:
    execution = await in_memory.start(Idle, id="i-1")
    await execution.terminate("x" * 1_000_000)
    answer = await quick.client.get("api/fleet")
    assert len(answer.content) < 10_000
    assert "… (cut: " in json.loads(answer.content)["executions"][0]["error"]
