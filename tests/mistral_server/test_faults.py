"""Errors and faults: the exception of the SDK for each, and whether the request was applied."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client import Mistral, errors
from mistralai.client.utils import BackoffStrategy, RetryConfig

from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Delay,
    Drop,
    EndStream,
    Fault,
    Faults,
    Hang,
    MistralServer,
    Rewrite,
    Say,
    ScriptedModel,
    ScriptExhausted,
    not_json,
    not_the_schema,
    rate_limited,
    unavailable,
)
from tests.mistral_server.cloud import Cloud, Json, cloud

pytestmark = pytest.mark.server


def yes(_: object) -> list[Say]:
    return [Say("Yes, quite a long answer to be cut.")]


async def start(world: Cloud) -> Any:
    return await world.sdk.beta.conversations.start_async(model="m", inputs="x")


async def test_a_wrong_or_missing_key_is_unauthorized() -> None:
    async with cloud(yes) as world:
        for key in ("wrong", None):
            stranger = Mistral(
                api_key=key,
                server_url=world.server.url,
                async_client=world.sdk.sdk_configuration.async_client,
            )
            with pytest.raises(errors.SDKError) as raised:
                await stranger.models.list_async()
            assert (raised.value.status_code, raised.value.body) == (401, '{"detail":"Unauthorized"}')


async def test_what_does_not_exist_is_not_found() -> None:
    async with cloud(yes) as world:
        with pytest.raises(errors.SDKError, match="Conversation with id conv_0 was not found") as raised:
            await world.sdk.beta.conversations.append_async(conversation_id="conv_0", inputs="x")
        assert raised.value.status_code == 404
        for path in ("/v1/nothing", "/v1/conversations/conv_0/nothing"):
            assert (await world.http.get(path)).status_code == 404
        assert (await world.http.put("/v1/conversations", json={})).status_code == 405


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("/v1/agents", {"handoff_execution": "server"}),
        ("/v1/conversations", {"prompt_mode": "reasoning"}),
        ("/v1/conversations/{id}", {"tools": []}),
        ("/v1/conversations/{id}", {"model": "m"}),
        ("/v1/conversations/{id}", {"metadata": {}}),
        ("/v1/conversations/{id}/restart", {"instructions": "more"}),
    ],
)
async def test_a_field_that_does_not_belong_there_is_extra_forbidden(path: str, extra: Json) -> None:
    bodies: dict[str, Json] = {
        "/v1/agents": {"model": "m", "name": "a"},
        "/v1/conversations": {"model": "m", "inputs": "x"},
        "/v1/conversations/{id}": {"inputs": "x"},
        "/v1/conversations/{id}/restart": {"inputs": [], "from_entry_id": "msg_0"},
    }
    async with cloud(yes) as world:
        url = path.format(id=(await start(world)).conversation_id)
        response = await world.http.post(url, json=bodies[path] | extra)
        [name] = extra
        assert response.status_code == 422
        assert response.json() == {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", name],
                    "msg": "Extra inputs are not permitted",
                    "input": extra[name],
                }
            ]
        }


async def test_the_sdk_shows_the_details_of_an_invalid_body() -> None:
    async with cloud(yes) as world:
        with pytest.raises(errors.HTTPValidationError) as raised:
            await world.sdk.beta.agents.create_async(
                model="m",
                name="a",
                tools=[{"type": "document_library", "library_ids": []}],
            )
        assert raised.value.data.detail
        assert raised.value.data.detail[0].loc[:3] == ["body", "tools", 0]
        with pytest.raises(errors.HTTPValidationError) as raised:
            await world.sdk.chat.complete_async(
                model="m", messages=[{"role": "user", "content": "x"}], temperature=9.0
            )
        assert raised.value.data.detail is None
        assert '"less_than_equal"' in raised.value.body


@pytest.mark.parametrize(
    ("action", "exception", "applied"),
    [
        (
            AnswerWith(400, {"object": "Error", "message": "no", "type": "x", "code": 3001}),
            errors.SDKError,
            False,
        ),
        (
            AnswerWith(409, {"object": "Error", "message": "busy", "type": "x", "code": 3000}),
            errors.SDKError,
            False,
        ),
        (AnswerWith(422, {"detail": "a string"}), errors.ResponseValidationError, False),
        (rate_limited(3), errors.SDKError, False),
        (unavailable(500), errors.SDKError, False),
        (unavailable(504, applied=True), errors.SDKError, True),
        (AnswerWith(502, "Bad gateway"), errors.SDKError, False),
        (not_json(), errors.ResponseValidationError, True),
        (not_the_schema(), errors.ResponseValidationError, True),
        (Drop("request"), httpx2.RemoteProtocolError, False),
        (Drop("work"), httpx2.RemoteProtocolError, True),
        (Drop("answer"), httpx2.RemoteProtocolError, True),
        (Drop("headers"), httpx2.RemoteProtocolError, True),
        (Drop("body", after_bytes=0), httpx2.RemoteProtocolError, True),
        (Drop("body", after_bytes=10_000), httpx2.RemoteProtocolError, True),
        (Drop("body", fraction=0.5), httpx2.RemoteProtocolError, True),
        (Drop("answer", reset=True), httpx2.ReadError, True),
    ],
    ids=repr,
)
async def test_a_fault_raises_what_the_live_cloud_would_and_is_applied_or_not(
    action: Any, exception: type[Exception], applied: bool
) -> None:
    async with cloud(yes) as world:
        world.server.faults.add(Fault(action, method="POST", path="/v1/conversations"))
        with pytest.raises(exception) as raised:
            await start(world)
        await world.server.settled()
        assert [len(conversation.entries) for conversation in world.server.conversations.values()] == [
            2
        ] * applied
        if isinstance(raised.value, errors.MistralError):
            assert raised.value.status_code == action.status
        assert world.server.faults.pending == []
        await start(world)


async def test_a_rate_limit_names_the_time_to_wait_and_the_sdk_can_be_set_to_heed_it() -> None:
    retries = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 10_000), True)
    async with cloud(yes) as world:
        world.server.faults.add(Fault(rate_limited(0)))
        with pytest.raises(errors.SDKError) as raised:
            await world.sdk.models.list_async()
        assert raised.value.headers["retry-after"] == "0"
        assert '"code":"1300"' in raised.value.body
        world.server.faults.add(Fault(rate_limited(0), count=2))
        assert (await world.sdk.models.list_async(retries=retries)).data
        assert len(world.server.requests) == 4


async def test_a_hanging_request_runs_into_the_clients_timeout_and_goes_on_when_released() -> None:
    async with cloud(yes) as world:
        hang = Hang()
        world.server.faults.add(Fault(hang))
        with pytest.raises(httpx2.ReadTimeout):
            await world.sdk.beta.conversations.start_async(model="m", inputs="x", timeout_ms=50)
        await asyncio.to_thread(hang.wait_reached, 5)
        assert world.server.conversations == {}
        hang.release()
        hang.release()
        await start(world)


async def test_a_delay_only_delays() -> None:
    async with cloud(yes) as world:
        world.server.faults.add(Fault(Delay(0.01), Delay(0.01, "work"), Delay(0.01, "answer")))
        await start(world)


async def test_an_answer_can_be_rewritten_on_its_way() -> None:
    async with cloud(yes) as world:
        world.server.faults.add(Fault(Rewrite(lambda body: b"[" + body + b"]"), path="/v1/models"))
        rewritten = (await world.http.get("/v1/models")).json()
        assert rewritten == [(await world.http.get("/v1/models")).json()]


async def test_a_fault_that_cannot_happen_is_an_error_of_the_test() -> None:
    async with cloud(yes, expects_errors=True) as world:
        world.server.faults.add(Fault(Drop("work")))
        await world.sdk.models.list_async()
        world.server.faults.add(Fault(EndStream()))
        await start(world)
        assert [type(error) for error in world.server.errors] == [ValueError, ValueError]
    with pytest.raises(ValueError, match="at least one action"):
        Fault()


async def test_a_script_that_is_used_up_says_so() -> None:
    async with cloud(ScriptedModel({"other": [[Call("f")]]}), expects_errors=True) as world:
        with pytest.raises(errors.SDKError, match="no replies for agent None with model 'm'") as raised:
            await start(world)
        assert raised.value.status_code == 400, "no client tries it again"
        assert [type(error) for error in world.server.errors] == [ScriptExhausted]


async def test_a_restarted_server_has_its_address_and_its_memory() -> None:
    async with cloud(yes) as world:
        conversation_id = (await start(world)).conversation_id
        world.server.stop()
        world.server.stop()
        with pytest.raises(httpx2.ConnectError):
            await world.history(conversation_id)
        world.server.start()
        assert len(await world.history(conversation_id)) == 2
        with pytest.raises(RuntimeError, match="already running"):
            world.server.start()


async def test_stopping_gives_up_what_hangs() -> None:
    async with cloud(yes) as world:
        at_request, at_work = Hang(), Hang("work")
        world.server.faults.add(Fault(at_request))
        world.server.faults.add(Fault(at_work))
        requests = [asyncio.create_task(start(world)) for _ in range(2)]
        await at_request.reached()
        await at_work.reached()
        world.server.stop()
        for outcome in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(outcome, httpx2.RemoteProtocolError)
        assert world.server.conversations == {}


def test_a_process_of_its_own_prints_where_it_serves() -> None:
    program = "from outlast.testing.mistral_server import Say, serve; serve(lambda call: [Say('hi')])"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url, _, _, key = process.stdout.readline().rstrip(")\n").split()
            with httpx2.Client(trust_env=False, verify=False) as http:
                listed = http.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
            assert len(listed.json()["data"]) == 3
        finally:
            process.kill()


def test_a_server_that_was_not_started_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="no address yet"):
        _ = MistralServer(yes).url


PATHS = ["/v1/conversations", "/v1/conversations/conv_1", "/v1/conversations/conv_1/restart", "/v1/agents"]
PATTERNS: dict[str, Callable[[str], bool]] = {
    "*": lambda path: True,
    "/v1/conversations": lambda path: path == "/v1/conversations",
    "/v1/conversations/*": lambda path: path == "/v1/conversations/conv_1",
    "/v1/conversations/*/restart": lambda path: path.endswith("restart"),
    "/v1/*": lambda path: path in ("/v1/conversations", "/v1/agents"),
}


@given(
    queued=st.lists(
        st.tuples(st.sampled_from(sorted(PATTERNS)), st.integers(0, 2), st.integers(1, 3)), max_size=4
    ),
    paths=st.lists(st.sampled_from(PATHS), max_size=20),
)
def test_each_fault_happens_count_times_after_skip_and_one_request_has_one_fault(
    queued: list[tuple[str, int, int]], paths: list[str]
) -> None:
    faults = Faults()
    added = [faults.add(Fault(Delay(n), path=path, skip=s, count=c)) for n, (path, s, c) in enumerate(queued)]
    happened = [faults.take("POST", path) for path in paths]
    assert all(len(actions) <= 1 for actions in happened)
    for number, (pattern, skip, count) in enumerate(queued):
        hits = [i for i, actions in enumerate(happened) if actions == (Delay(number),)]
        matching = [i for i, path in enumerate(paths) if PATTERNS[pattern](path)]
        assert len(hits) <= count
        assert set(hits) <= set(matching[skip:])
        assert (added[number] in faults.pending) == (len(hits) < count)
        free = [i for i in matching[skip:] if not happened[i]]
        assert not free or len(hits) == count
