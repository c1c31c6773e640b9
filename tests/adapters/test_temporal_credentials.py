"""Connecting to Temporal over TLS, with client certificates and with API keys, and being refused."""

from __future__ import annotations

import asyncio
import ssl
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

import outlast
from outlast.adapters.temporal import backend as backend_module
from tests.adapters.certificates import Certificates, make_certificates
from tests.adapters.grpc_gateway import Gateway, gateway
from tests.adapters.tcp_proxy import TcpProxy
from tests.adapters.temporal_programs import LEASE, Steps
from tests.adapters.temporal_server import shared_server, stored_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of the service, and the authority that it trusts."""
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of a stranger."""
    return make_certificates(tmp_path_factory.mktemp("theirs"))


async def finishes(url: str) -> None:
    """Run an execution, with a worker on the same connection."""
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend, backend.worker([Steps], task_queue=queue, lease=LEASE):
        assert await (await backend.start(Steps, ["a"], task_queue=queue)).result() == ["a noted"]


async def refusal(url: str) -> outlast.OutlastError:
    """Return why the service cannot be connected to; it must not take long to say."""
    with pytest.raises(outlast.OutlastError) as refused:
        async with asyncio.timeout(20), outlast.connect(url):
            pass
    return refused.value


# TLS -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def terminator(certificates: Certificates, *, asks_clients: bool = False) -> AsyncIterator[str]:
    """Put TLS in front of the service; with `asks_clients` it wants their certificates. Yield the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.set_alpn_protocols(["h2"])
    if asks_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.authority)
    async with TcpProxy(int(shared_server().rpartition(":")[2]), tls=context) as proxy:
        yield f"temporal://127.0.0.1:{proxy.port}/default"


@pytest.mark.parametrize("name", ["", "&tls_server_name=localhost"])
async def test_executions_run_over_tls(ours: Certificates, name: str) -> None:
    async with terminator(ours) as url:
        await finishes(f"{url}?tls_ca={ours.authority}{name}")


async def test_executions_run_over_mutual_tls(ours: Certificates) -> None:
    async with terminator(ours, asks_clients=True) as url:
        await finishes(f"{url}?tls_ca={ours.authority}&tls_cert={ours.certificate}&tls_key={ours.key}")


async def test_the_error_for_an_untrusted_certificate_names_the_option_that_helps(
    ours: Certificates, theirs: Certificates
) -> None:
    async with terminator(ours) as url:
        for options in ("tls=true", f"tls_ca={theirs.authority}"):
            assert "as tls_ca" in str(await refusal(f"{url}?{options}"))


async def test_the_error_for_a_certificate_of_another_name_names_the_option_that_helps(
    ours: Certificates,
) -> None:
    async with terminator(ours) as url:
        error = await refusal(f"{url}?tls_ca={ours.authority}&tls_server_name=other.example")
    assert "as tls_server_name" in str(error)


async def test_the_error_for_a_missing_or_unknown_client_certificate_names_the_options_that_help(
    ours: Certificates, theirs: Certificates
) -> None:
    async with terminator(ours, asks_clients=True) as url:
        for options in ("", f"&tls_cert={theirs.certificate}&tls_key={theirs.key}"):
            error = await refusal(f"{url}?tls_ca={ours.authority}{options}")
            assert "as tls_cert and tls_key" in str(error)


async def test_the_error_says_that_a_key_does_not_belong_to_its_certificate(
    ours: Certificates, theirs: Certificates
) -> None:
    async with terminator(ours) as url:
        for key in (theirs.key, Path(__file__)):
            error = await refusal(f"{url}?tls_ca={ours.authority}&tls_cert={ours.certificate}&tls_key={key}")
            assert "its own key" in str(error)


async def test_the_error_says_that_the_service_requires_tls(ours: Certificates) -> None:
    async with terminator(ours) as url:
        with pytest.raises(outlast.StorageError, match="tls=true"):
            async with outlast.connect(url):
                pass


async def test_a_service_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend_module, "CONNECT_SECONDS", 0.5)
    async with TcpProxy(int(shared_server().rpartition(":")[2])) as proxy:
        proxy.freeze()
        with pytest.raises(outlast.StorageError, match="no Temporal service answers"):
            async with outlast.connect(f"temporal://127.0.0.1:{proxy.port}"):
                pass


# API keys ------------------------------------------------------------------------------------------------


KEY = "tk-5f0c2a9be81d4736"
WRONG = "tk-0ddba11c0ffee000"


@pytest.fixture
def asking(ours: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gateway, str]]:
    """A gateway that asks for the key, and the URL for it."""
    monkeypatch.setenv("TEMPORAL_TEST_KEY", KEY)
    with gateway(shared_server(), KEY, ours) as serving:
        url = f"temporal://{serving.address}/default?tls_ca={ours.authority}&api_key_env=TEMPORAL_TEST_KEY"
        yield serving, url


async def test_the_api_key_comes_with_every_call_and_is_stored_and_shown_nowhere(
    asking: tuple[Gateway, str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    serving, url = asking
    with caplog.at_level("DEBUG"):
        await finishes(url)
        backend = outlast.connect(url)
        assert KEY not in repr(backend)
    methods = {method for method, _ in serving.brought}
    assert {"StartWorkflowExecution", "PollActivityTaskQueue", "RespondActivityTaskCompleted"} <= methods
    assert {brought for _, brought in serving.brought} == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + "".join(capfd.readouterr())
    assert KEY.encode() not in stored_server().stored_bytes()


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
async def test_the_error_for_a_wrong_api_key_names_the_setting_and_not_the_key(
    asking: tuple[Gateway, str],
    status: grpc.StatusCode,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    serving, url = asking
    serving.status = status
    monkeypatch.setenv("TEMPORAL_TEST_KEY", WRONG)
    with caplog.at_level("DEBUG"):
        error = await refusal(url)
    assert isinstance(error, outlast.MissingCredentials)
    assert "api_key_env" in str(error)
    assert f"Bearer {WRONG}" in {brought for _, brought in serving.brought}
    shown = [*traceback.format_exception(error), repr(error), str(error.__context__), caplog.text]
    assert WRONG not in "".join([*shown, *capfd.readouterr()])


async def test_the_next_call_after_a_key_is_withdrawn_raises(
    asking: tuple[Gateway, str], caplog: pytest.LogCaptureFixture
) -> None:
    serving, url = asking
    queue = uuid.uuid4().hex
    async with outlast.connect(url) as backend:
        execution = await backend.start(Steps, [], task_queue=queue)
        serving.change_key("another")
        calls: list[Awaitable[object]] = [
            *(backend.start(Steps, [], task_queue=queue), backend.list(), backend.workers()),
            *(execution.result(), execution.describe(), execution.cancel(), execution.pending()),
        ]
        for call in calls:
            with pytest.raises(outlast.MissingCredentials, match="api_key_env") as refused:
                await asyncio.wait_for(call, 20)
            assert KEY not in "".join(traceback.format_exception(refused.value))
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAUTHENTICATED,
        # Of this one Temporal's SDK hopes for a minute that it passes.
        pytest.param(grpc.StatusCode.PERMISSION_DENIED, marks=pytest.mark.nightly),
    ],
)
async def test_a_worker_whose_key_is_withdrawn_ends_with_the_reason(
    asking: tuple[Gateway, str], status: grpc.StatusCode
) -> None:
    serving, url = asking
    serving.status = status

    async def work() -> None:
        async with (
            outlast.connect(url) as backend,
            backend.worker([Steps], task_queue=uuid.uuid4().hex) as worker,
        ):
            serving.change_key("another")
            await worker.run()

    with pytest.raises(outlast.MissingCredentials, match="api_key_env"):
        await asyncio.wait_for(work(), 100)


@pytest.mark.parametrize("key", ["key\nwith a line", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(outlast.ConfigurationError, match="API key") as refused:
        outlast.connect("temporal://127.0.0.1:7233", api_key=key)
    assert key not in str(refused.value)
