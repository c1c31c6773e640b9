"""Connecting to Temporal: options that are passed on, and errors that say what to change."""

from __future__ import annotations

import asyncio
import uuid
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.converter import (
    ExternalStorage,
    PayloadCodec,
    StorageDriver,
    StorageDriverClaim,
)
from temporalio.service import TLSConfig

import outlast
from outlast.adapters.temporal import (
    TemporalBackend,
    connection_options,
    data_converter,
)
from outlast.core.events import ActivityCompletedData
from outlast.testing.contracts.durability.stage import data_of
from tests.adapters.temporal_programs import LEASE, Large, Steps
from tests.adapters.temporal_server import new_namespace, obstacle_of, shared_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def url() -> str:
    """Return where these tests leave histories behind that no other test can replay."""
    return f"temporal://{shared_server()}/{asyncio.run(new_namespace(shared_server()))}"


class Scrambling(PayloadCodec):
    """Encrypts, in the way of a toy, with a key of one byte."""

    def __init__(self, key: int) -> None:
        self.key = key

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"binary/scrambled"}, data=self._scrambled(one.SerializeToString()))
            for one in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(self._scrambled(one.data)) for one in payloads]

    def _scrambled(self, data: bytes) -> bytes:
        return bytes(byte ^ self.key for byte in data)


# The URL and the options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("temporal:", "temporal:///default", "temporal://a:7233/b/c", "temporal://a?b=c"),
        *("temporal://a?tls=perhaps", "temporal://a?tls_cert=b", "temporal://a?tls_ca=/no/such/file"),
        *("temporal://a?tls=false&tls_server_name=b", "temporal://a?api_key_env=NO_SUCH_VARIABLE"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(outlast.ConfigurationError, match="Temporal URL"):
        outlast.connect(url)


def test_credentials_come_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setenv("TEMPORAL_TEST_KEY", "the key")
    query = {f"tls_{name}": str(tmp_path / name) for name in ("ca", "cert", "key")}
    options = connection_options({**query, "tls_server_name": "a.b", "api_key_env": "TEMPORAL_TEST_KEY"})
    assert options == {
        "tls": TLSConfig(
            server_root_ca_cert=b"ca", client_cert=b"cert", client_private_key=b"key", domain="a.b"
        ),
        "api_key": "the key",
    }
    assert connection_options({"tls": "true"}) == {"tls": True}
    assert connection_options({}) == {}


def test_options_that_nobody_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(outlast.ConfigurationError, match="colour"):
        outlast.connect("temporal://localhost:7233", colour="red")
    for url in ("memory:", f"sqlite:///{tmp_path}/runs.db"):
        with pytest.raises(outlast.ConfigurationError, match="api_key"):
            outlast.connect(url, api_key="x")


async def test_an_interceptor_of_the_user_sees_what_is_started(url: str) -> None:
    seen: list[str] = []

    class Seeing(Interceptor):
        def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
            class Outbound(OutboundInterceptor):
                async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                    seen.append(input.workflow)
                    return await super().start_workflow(input)

            return Outbound(next)

    async with outlast.connect(url, interceptors=[Seeing()]) as backend:
        await backend.start(Steps, [], task_queue=uuid.uuid4().hex)
    assert seen == ["temporal_steps"]


# What cannot be reached ----------------------------------------------------------------------------------


async def test_the_error_says_that_the_service_does_not_answer() -> None:
    with pytest.raises(outlast.StorageError, match=r"127\.0\.0\.1:1;"):
        async with outlast.connect("temporal://127.0.0.1:1/default"):
            pass


async def test_the_error_for_a_missing_namespace_names_the_command_that_creates_it() -> None:
    with pytest.raises(outlast.ConfigurationError, match="namespace create --namespace nowhere"):
        async with outlast.connect(f"temporal://{shared_server()}/nowhere"):
            pass


async def test_the_error_says_that_the_service_has_no_tls(url: str) -> None:
    with pytest.raises(outlast.ConfigurationError, match="tls=false"):
        async with outlast.connect(f"{url}?tls=true"):
            pass


# Codecs --------------------------------------------------------------------------------------------------


async def test_a_codec_keeps_plain_text_out_of_what_temporal_stores() -> None:
    address, queue = shared_server(), uuid.uuid4().hex
    url = f"temporal://{address}/{await new_namespace(address)}"
    async with (
        outlast.connect(url, payload_codec=Scrambling(7)) as backend,
        backend.worker([Steps], task_queue=queue, lease=LEASE),
    ):
        execution = await backend.start(Steps, ["my secret"], task_queue=queue)
        assert await execution.result() == ["my secret noted"]
        assert isinstance(backend, TemporalBackend)
        history = await backend.client.get_workflow_handle(execution.id).fetch_history()
    assert b"my secret" not in b"".join(event.SerializeToString() for event in history.events)
    for options in ({}, {"payload_codec": Scrambling(8)}):
        async with outlast.connect(url, **options) as stranger:
            with pytest.raises(outlast.ConfigurationError, match="codec"):
                await (await stranger.get(execution.id)).result()


async def test_a_worker_without_the_codec_keeps_the_execution_and_says_why(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url, payload_codec=Scrambling(7)) as backend, outlast.connect(url) as stranger:
        execution = await backend.start(Steps, ["a"], task_queue=queue)
        async with stranger.worker([Steps], task_queue=queue):
            assert "codec" in await obstacle_of(execution)
        assert (await execution.describe()).status == "running"


# Large values --------------------------------------------------------------------------------------------


async def test_a_result_that_is_too_large_is_reported_once_with_its_tool_and_size(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Large], task_queue=queue):
        execution = await backend.start(Large, 3_000_000, task_queue=queue)
        with pytest.raises(outlast.ExecutionFailed) as failed:
            await execution.result()
    cause = failed.value.__cause__
    assert isinstance(cause, outlast.PayloadTooLarge)
    assert "'temporal_inflate'" in cause.what
    assert cause.size_bytes == 3_000_002
    assert Large.attempts[execution.id] == 1


class Wrapping(PayloadCodec):
    """Makes payloads larger, as codecs that encrypt into text do."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"text/wrapped"}, data=b64encode(one.SerializeToString()))
            for one in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(b64decode(one.data)) for one in payloads]


@pytest.mark.parametrize(("size", "fits"), [(700_000, True), (850_000, False)])
async def test_with_a_codec_the_limit_leaves_room_for_what_it_adds(url: str, size: int, fits: bool) -> None:
    queue = uuid.uuid4().hex
    async with (
        outlast.connect(url, payload_codec=Wrapping()) as backend,
        backend.worker([Large], task_queue=queue),
    ):
        execution = await backend.start(Large, size, task_queue=queue)
        if fits:
            assert await execution.result() == size
            return
        with pytest.raises(outlast.ExecutionFailed) as failed:
            await execution.result()
        assert isinstance(failed.value.__cause__, outlast.PayloadTooLarge)
        assert Large.attempts[execution.id] == 1


async def test_a_result_that_is_just_small_enough_is_in_the_event_stream(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Large], task_queue=queue):
        execution = await backend.start(Large, 1_020_000, task_queue=queue)
        assert await execution.result() == 1_020_000
        [done] = data_of([event async for event in execution.events()], ActivityCompletedData)
    assert done.result == '"' * 1_020_000


async def test_a_reader_that_does_not_follow_needs_no_worker(url: str) -> None:
    async with outlast.connect(url) as backend:
        execution = await backend.start(Large, 1, task_queue=uuid.uuid4().hex)
        assert not await execution.pending()
        first, *_ = [event.kind async for event in execution.events(follow=False)]
    assert first is outlast.EventKind.EXECUTION_STARTED


class InMemory(StorageDriver):
    """Keeps large payloads in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def name(self) -> str:
        return "in memory"

    async def store(self, context: Any, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        claims = []
        for payload in payloads:
            key = uuid.uuid4().hex
            self.kept[key] = payload.SerializeToString()
            claims.append(StorageDriverClaim({"key": key}))
        return claims

    async def retrieve(self, context: Any, claims: Sequence[StorageDriverClaim]) -> list[Payload]:
        return [Payload.FromString(self.kept[claim.claim_data["key"]]) for claim in claims]


async def test_with_external_storage_a_result_may_be_of_any_size(url: str) -> None:
    queue, driver = uuid.uuid4().hex, InMemory()
    converter = replace(data_converter, external_storage=ExternalStorage(drivers=[driver]))
    async with (
        outlast.connect(url, data_converter=converter) as backend,
        backend.worker([Large], task_queue=queue),
    ):
        execution = await backend.start(Large, 3_000_000, task_queue=queue)
        assert await execution.result() == 3_000_000
    assert any(len(kept) > 3_000_000 for kept in driver.kept.values())


@pytest.mark.parametrize("given", [["a text"], [1, 2], [{"steps": 5}]])
async def test_an_input_of_another_client_that_does_not_fit_fails_the_execution(
    url: str, given: list[Any]
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Steps], task_queue=queue):
        assert isinstance(backend, TemporalBackend)
        start = backend.client.start_workflow("temporal_steps", args=given, id=queue, task_queue=queue)
        execution = await backend.get((await start).id)
        with pytest.raises(outlast.ExecutionFailed, match="steps"):
            await execution.result()


# Workers that cannot work --------------------------------------------------------------------------------


async def test_a_worker_without_the_workflow_keeps_the_execution_and_says_which(url: str) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend:
        execution = await backend.start(Steps, ["a"], task_queue=queue)
        async with backend.worker([Large], task_queue=queue):
            assert "'temporal_steps'" in await obstacle_of(execution)
