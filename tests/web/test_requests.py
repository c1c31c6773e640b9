"""The requests of the page, on real backends: executions, events as they come, the journal, and actions."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.entries import Entry
from outlast.core.errors import StorageUnavailable
from outlast.core.exports import read_export
from outlast.ports.durability.backend import Backend
from outlast.web import acting
from outlast.web.acting import ACTIONS
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


async def approval_of(site: Site, id: str) -> dict[str, Any]:
    """Return the call of an execution that waits for a person, once there is one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for _, _, events in site.messages(id):
            if any(event["kind"] == "approval_requested" for event in events):
                break
    [waiting] = [one for one in (await site.read("inbox"))["approvals"] if one["id"] == id]
    return dict(waiting)


def open_the_desk(folder: Path) -> None:
    (folder / "open").touch()
    (folder / "paper").touch()


async def test_a_trip_is_followed_allowed_with_other_arguments_and_read(
    site: Site, backend: Backend, folder: Path
) -> None:
    open_the_desk(folder)
    execution = await backend.start(Trip, "Ada", id="trip/1 ?#é")
    waiting = await approval_of(site, execution.id)
    assert (waiting["tool"], json.loads(waiting["arguments"])) == ("pay", {"amount": 40, "payee": "rail"})
    assert waiting["parameters"]["properties"]["amount"]["type"] == "integer"
    wrong = await site.act("allow", id=execution.id, call=waiting["key"], arguments='{"amount": "all"}')
    assert (wrong.status_code, wrong.json()["error"]["kind"]) == (422, "InvalidArguments")
    edited = '{"amount": 12345678901234567890, "payee": "rail"}'
    allowed = await site.act("allow", id=execution.id, call=waiting["key"], arguments=edited)
    assert allowed.status_code == 200, allowed.text
    assert "Bon voyage! ticket of Ada" in await execution.result()
    assert (folder / "paid").read_text() == "12345678901234567890 rail\n"

    shown = await site.read("execution", id=execution.id)
    assert shown["status"] == "completed"
    assert (await site.read("inbox"))["approvals"] == []
    again = await site.act("allow", id=execution.id, call=waiting["key"])
    assert (again.status_code, again.json()["error"]["kind"]) == (409, "ExecutionAlreadyEnded")
    events = await site.events(execution.id)
    assert events[0]["kind"] == "execution_started"
    assert [event["call"] for event in events if event["kind"] == "approval_requested"] == [waiting["key"]]
    assert events[-1]["kind"] == "execution_completed"
    journal = await site.read("records", id=execution.id)
    assert [one["position"] for one in journal["records"]] == list(range(1, journal["length"] + 1))
    exported = await site.client.get("api/export", params={"id": execution.id})
    assert read_export(exported.text.split("\n")).header.id == execution.id


async def test_a_reader_that_was_cut_off_misses_nothing_and_gets_nothing_twice(
    site: Site, backend: Backend, folder: Path
) -> None:
    open_the_desk(folder)
    execution = await backend.start(Trip, "Ada", id="t-1")
    waiting = await approval_of(site, "t-1")
    await execution.decide(waiting["key"], "allow")
    await execution.result()
    whole = [event for event in await site.events("t-1") if event["kind"] != "text_delta"]
    positions = [event["position"] for event in whole]
    assert positions == sorted({*positions})
    for last in (0, *positions):
        again = [event for event in await site.events("t-1", last) if event["kind"] != "text_delta"]
        assert again == [event for event in whole if event["position"] > last]


async def test_a_failure_has_its_frames_and_a_fork_goes_on_with_an_edit(
    site: Site, backend: Backend, folder: Path
) -> None:
    (folder / "open").touch()
    execution = await backend.start(Trip, "Ada", id="t-1")
    waiting = await approval_of(site, "t-1")
    assert (await site.act("allow", id="t-1", call=waiting["key"])).status_code == 200
    with pytest.raises(outlast.ExecutionFailed):
        await execution.result()
    shown = await site.read("execution", id="t-1")
    assert shown["status"] == "failed"
    causes = [shown["failure"]]
    while "cause" in causes[-1]:
        causes.append(causes[-1]["cause"])
    assert {frame["function"] for cause in causes for frame in cause.get("frames", [])} >= {"print_ticket"}
    [failed] = [event for event in await site.events("t-1") if event["kind"] == "activity_failed"]
    forked = await site.act(
        "fork", id="t-1", fork_id="t-2", edits={failed["data"]["key"]: '"ticket by hand"'}
    )
    assert (forked.status_code, forked.json()["id"]) == (200, "t-2")
    assert (await (await backend.get("t-2")).result()).endswith("ticket by hand")
    kinds = [event["kind"] for event in await site.events("t-2")]
    assert "execution_forked" in kinds
    assert (folder / "paid").read_text() == "40 rail\n"
    open_the_desk(folder)
    assert (await site.act("retry", id="t-1")).status_code == 200
    assert (await execution.result()).endswith("ticket of Ada")


async def test_messages_are_sent_and_the_life_of_an_execution_is_ended(site: Site, backend: Backend) -> None:
    await backend.start(Trip, "Ada", id="t-1")
    assert (await site.act("signal", id="t-1", name="wish", arguments='["window"]')).status_code == 200
    updated = await site.act("update", id="t-1", name="add_wish", arguments='{"what": "quiet"}')
    assert updated.json()["result"] == 2
    asked = await site.act("query", id="t-1", name="wished")
    assert asked.json()["result"] == ["window", "quiet"]
    assert (await site.act("cancel", id="t-1")).status_code == 200
    await backend.start(Idle, id="i-1")
    assert (await site.act("terminate", id="i-1", reason="enough")).status_code == 200
    ended = await site.read("execution", id="i-1")
    assert (ended["status"], (await site.act("cancel", id="i-1")).status_code) == ("terminated", 409)


async def test_workers_are_listed_or_a_note_says_why_not(site: Site) -> None:
    answer = await site.read("workers")
    assert answer.get("note") or answer["workers"][0]["workflows"] == [
        "echo",
        "idle",
        "purchase",
        "survey",
        "trip",
    ]


async def test_pages_neither_skip_nor_repeat(site: Site, backend: Backend) -> None:
    ids = [f"e-{number}" for number in range(7)]
    found: list[str] = []
    cursor: str | None = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for id in ids:
            await (await backend.start(Echo, 1, id=id)).result()
        # A list of Temporal's may be a moment behind.
        while len(found) < len(ids):
            found, cursor = [], ""
            while cursor is not None:
                page = await site.read("fleet", limit=3, workflow="echo", cursor=cursor)
                assert len(page["executions"]) <= 3
                found += [one["id"] for one in page["executions"]]
                cursor = page["cursor"]
    assert sorted(found) == ids
    assert (await site.read("fleet", status="running"))["executions"] == []


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("execution?id=nobody", 404, "ExecutionNotFound"),
        ("execution", 404, "ExecutionNotFound"),
        ("execution?id=%00", 404, "ExecutionNotFound"),
        ("events?id=nobody", 404, "ExecutionNotFound"),
        ("records?id=nobody", 404, "ExecutionNotFound"),
        ("fleet?status=asleep", 422, "DefinitionError"),
        ("fleet?limit=-1", 422, "DefinitionError"),
        ("fleet?limit=" + "9" * 5000, 422, "DefinitionError"),
        ("fleet?cursor=x", 422, "DefinitionError"),
        ("fleet?cursor=WzFlMzA4LCAiXHVkODAwIl0", 422, "DefinitionError"),  # [1e308, "\\ud800"]
        ("fleet?cursor=" + "W1tb" * 5_000, 422, "DefinitionError"),  # [[[…
        ("event?id=e-1&position=99", 422, "DefinitionError"),
    ],
)
async def test_a_request_that_cannot_be_met_is_one_clear_error(
    quick: Site, in_memory: Backend, path: str, status: int, kind: str
) -> None:
    await (await in_memory.start(Echo, 1, id="e-1")).result()
    answer = await quick.client.get(f"api/{path}")
    error = answer.json()["error"]
    assert (answer.status_code, error["kind"]) == (status, kind), answer.text
    assert error["message"]


@pytest.mark.parametrize(
    ("verb", "document"),
    [
        ("signal", "[]"),
        ("signal", '{"id": "i-1"}'),
        ("signal", '{"id": "i-1", "name": "wish", "arguments": "[1"}'),
        ("signal", '{"id": "i-1", "name": "wish", "arguments": "3"}'),
        ("signal", '{"id": "i-1", "name": "wish", "other": 1}'),
        ("allow", '{"id": "i-1", "call": "x", "arguments": "[]"}'),
        ("fork", '{"id": "i-1", "at": "x"}'),
        ("fork", '{"id": "i-1", "edits": {"k": "{"}}'),
        ("update", '{"id": "i-1", "name": "x", "arguments": "{\\"id\\": 1}"}'),
        ("cancel", "not json"),
        ("cancel", '{"id": "i-1"'),
        ("cancel", "[" * 10_000),
    ],
)
@pytest.mark.parametrize("backend", ["memory"], indirect=True)
async def test_an_action_that_does_not_fit_is_refused_and_does_nothing(
    site: Site, backend: Backend, verb: str, document: str
) -> None:
    execution = await backend.start(Idle, id="i-1")
    answer = await site.client.post(
        f"api/actions/{verb}", content=document, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"]
    assert (await execution.describe()).ended_at is None


async def test_an_inspector_that_only_reads_refuses_each_action(in_memory: Backend, folder: Path) -> None:
    execution = await in_memory.start(Trip, "Ada", id="t-1")
    async with inspected(in_memory, read_only=True) as site:
        assert (await site.read("about"))["read_only"] is True
        for verb in ACTIONS.keys() - {"query"}:
            answer = await site.act(verb, id="t-1", name="wish", call="x")
            assert (answer.status_code, answer.json()["error"]["kind"]) == (403, "ReadOnly")
        assert (await site.act("query", id="t-1", name="wished")).json()["result"] == []
    assert (await execution.describe()).ended_at is None
    (folder / "open").touch()


HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "\x1b[31mred\x1b[0m \x00 \x7f",
    "\u202egnp.exe\u2066",
    "half \ud83d a character",
    "</script><img src=x onerror=alert(1)>",
    "data: x\n\nevent: end\ndata: {}\n\n",
    {"__proto__": {"polluted": 1}, "constructor": 1},
    [[[[]]]] * 3,
    12345678901234567890123,
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: ascii(value)[:30])
async def test_hostile_values_come_through_as_they_are(quick: Site, in_memory: Backend, hostile: Any) -> None:
    await (await in_memory.start(Echo, hostile, id="e-1")).result()
    events = await quick.events("e-1")
    assert events[-1]["data"]["result"] == hostile
    answer = await quick.client.get("api/records", params={"id": "e-1"})
    assert answer.headers["content-type"] == "application/json"


async def test_a_large_value_is_cut_and_can_be_had_whole(quick: Site, in_memory: Backend) -> None:
    large = "x" * 2_000_000
    await (await in_memory.start(Echo, large, id="e-1")).result()
    events = await quick.events("e-1")
    for event in events:
        assert len(json.dumps(event)) < 50_000
    last = events[-1]
    assert last["bytes"] > 2_000_000
    assert "cut: 2,000,000 characters" in last["data"]["result"]
    whole = await quick.read("event", id="e-1", position=last["position"])
    assert whole["data"]["result"] == large
    cut = await quick.read("records", id="e-1")
    assert len(json.dumps(cut)) < 100_000
    record = await quick.read("records", id="e-1", after=0, limit=1)
    assert record["records"][0]["record"]["arguments"]["what"] == large


@outlast.activity(requires_approval=True)
async def note(text: str) -> str:
    """Note a text."""
    return f"{len(text)} characters are noted"


@workflow.define(name="noting")
class Noting:
    """An agent notes a long text, if somebody allows it."""

    @workflow.entrypoint
    async def run(self, characters: int) -> str:
        replies: list[Entry] = [call("note", {"text": "x" * characters}), say("It is noted.")]
        clerk = outlast.Agent(model="m", name="clerk", tools=[note])
        session = outlast.ScriptedSession({"clerk": replies})
        return (await outlast.Runner.run(clerk, "go", session)).text


@pytest.fixture
async def noting() -> AsyncIterator[tuple[Backend, Site]]:
    """A backend with a worker whose agent asks before it notes, and an inspector of it."""
    async with outlast.connect("memory:") as backend, backend.worker([Noting]), inspected(backend) as site:
        yield backend, site


async def test_large_arguments_are_cut_in_the_inbox_and_can_be_had_whole(
    noting: tuple[Backend, Site],
) -> None:
    backend, site = noting
    execution = await backend.start(Noting, 1_000_000, id="n-1")
    waiting = await approval_of(site, "n-1")
    assert len(json.dumps(waiting)) < 10_000
    assert waiting["bytes"] > 1_000_000
    assert "cut: 1,000,000 characters" in waiting["arguments"]
    whole = await site.read("approval", id="n-1", call=waiting["key"])
    assert json.loads(whole["arguments"]) == {"text": "x" * 1_000_000}
    assert whole["parameters"]["properties"]
    other = await site.client.get("api/approval", params={"id": "n-1", "call": "x"})
    assert (other.status_code, other.json()["error"]["kind"]) == (409, "NotPending")
    assert (await site.act("allow", id="n-1", call=waiting["key"])).status_code == 200
    assert await execution.result() == "It is noted."


async def test_a_decision_about_a_call_that_is_not_the_one_that_was_shown_is_refused(
    noting: tuple[Backend, Site],
) -> None:
    backend, site = noting
    execution = await backend.start(Noting, 1, id="n-1")
    waiting = await approval_of(site, "n-1")
    for verb in ("allow", "deny"):
        refused = await site.act(verb, id="n-1", call=waiting["key"], fingerprint="of another")
        assert refused.status_code == 409
        assert "is not the one that was shown" in refused.json()["error"]["message"]
    shown = {"call": waiting["key"], "fingerprint": waiting["fingerprint"]}
    assert (await site.act("allow", id="n-1", **shown)).status_code == 200
    assert await execution.result() == "It is noted."


async def test_the_journal_is_searched(quick: Site, in_memory: Backend) -> None:
    await (await in_memory.start(Echo, "Needle", id="e-1")).result()
    everything = await quick.read("records", id="e-1")
    found = await quick.read("records", id="e-1", search="STEP_completed")
    assert [one["record"]["type"] for one in found["records"]] == ["step_completed"]
    assert len((await quick.read("records", id="e-1", search="needle"))["records"]) > 1
    assert (await quick.read("records", id="e-1", search="hay"))["records"] == []
    first = await quick.read("records", id="e-1", limit=2)
    assert (len(first["records"]), first["more"]) == (2, True)
    rest = await quick.read("records", id="e-1", after=2)
    assert first["records"] + rest["records"] == everything["records"]


@pytest.mark.parametrize(
    "text", ['She said "yes"', "two\nlines", 'she said \\"yes\\"', '"price":40', "É", "THE END"]
)
async def test_the_journal_is_searched_as_a_whole_and_as_people_write_a_text(
    quick: Site, in_memory: Backend, text: str
) -> None:
    what = {
        "said": 'She said "yes" é \ud83d',
        "lines": "two\nlines",
        "price": 40,
        "long": "x" * 200_000 + "the end",
    }
    await (await in_memory.start(Echo, what, id="e-1")).result()
    found = await quick.read("records", id="e-1", search=text)
    assert "execution_started" in [one["record"]["type"] for one in found["records"]]
    assert len(json.dumps(found)) < 50_000


async def test_an_update_that_no_worker_answers_is_sent_once_and_answered_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acting, "UPDATE_SECONDS", 0.2)
    async with outlast.connect("memory:") as backend, inspected(backend) as site:
        await backend.start(Trip, "Ada", id="t-1")
        sent = (await site.act("update", id="t-1", name="add_wish", arguments='["quiet"]')).json()
        assert "no worker has answered it yet" in sent["done"]
        # Its trip goes on meanwhile, and nobody waits for that.
        async with backend.worker(WORKFLOWS, graceful_shutdown_timeout=timedelta(0)):
            monkeypatch.setattr(acting, "UPDATE_SECONDS", 30)
            again = {"arguments": '["quiet"]', "update_id": sent["update_id"]}
            assert (await site.act("update", id="t-1", name="add_wish", **again)).json()["result"] == 1
            asked = await site.act("query", id="t-1", name="wished")
            assert asked.json()["result"] == ["quiet"]


async def test_a_request_that_is_too_large_is_refused_by_the_inspectors_own_limit(quick: Site) -> None:
    refused = await quick.act("signal", id="i-1", name="wish", arguments="x" * acting.BODY_BYTES_MAX)
    assert refused.status_code == 413
    assert refused.json()["error"]["message"].startswith("A request to the inspector has at most 16,777,216")


class _Away:
    """A backend whose store can be away."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        if self.is_away:
            raise StorageUnavailable("the store does not answer")
        return getattr(self._backend, name)


async def test_a_backend_that_is_away_is_named_and_comes_back(in_memory: Backend) -> None:
    place: Any = _Away(in_memory)
    async with inspected(place) as site:
        await in_memory.start(Idle, id="i-1")
        place.is_away = True
        for path in ("fleet", "workers", "inbox", "execution?id=i-1", "events?id=i-1"):
            answer = await site.client.get(f"api/{path}")
            assert answer.status_code == 503
            assert answer.json()["error"] == {
                "kind": "StorageUnavailable",
                "message": "the store does not answer",
                "retryable": True,
            }
        place.is_away = False
        assert (await site.read("fleet"))["executions"][0]["id"] == "i-1"


async def test_a_browser_asks_for_the_files_of_one_version_only_once(quick: Site) -> None:
    page = await quick.client.get("")
    assert page.headers["cache-control"] == "no-cache"
    [path] = set(re.findall(r'"(static/[0-9a-f]{16}/app\.js)"', page.text))
    module = await quick.client.get(path)
    assert "immutable" in module.headers["cache-control"]
    plain = await quick.client.get("static/app.js")
    assert (plain.headers["cache-control"], plain.text) == ("no-cache", module.text)
    again = await quick.client.get("", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    other = await quick.client.get(path.replace("static/", "static/0"))
    assert other.status_code == 404
