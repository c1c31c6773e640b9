"""The client of Mistral's SDK, and the JSON of the server's answers.

The SDK builds, signs and sends requests about agents and conversations, but its response types are not used,
because they are closed: one chunk of an unknown type makes a whole reply fail, although it was made and paid
for, and unknown fields are dropped. So answers are read from the HTTP response itself (`json_of`).

Requests to models are sent by `Client` itself, with the HTTP client of the SDK. They have the whole
conversation in them, and the SDK takes much longer to build them than everything else in a turn.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.adapters.mistral.api_errors import error_in, message_in, of_status, translated
from outlast.adapters.mistral.bodies import StreamReader, bound
from outlast.adapters.mistral.recent_conversations import RecentConversations
from outlast.adapters.mistral.wire import Written
from outlast.core.errors import MalformedReply, MissingExtra, ModelUnreachable, OutlastError
from outlast.ports.observers import attempt_span

if TYPE_CHECKING:
    import httpx2
    from mistralai.client import Mistral

    from outlast.adapters.mistral.session import Endpoint

T = TypeVar("T")
Wire = dict[str, Any]

logger = logging.getLogger("outlast.mistral")

_KEEPALIVE_CONNECTIONS = 100
_responses: ContextVar[list[httpx2.Response]] = ContextVar("responses")


@dataclass(frozen=True, slots=True)
class Client:
    """An open SDK client, with the parts of it that were asked for."""

    sdk: Mistral
    parts: Sequence[Any]
    asynchronous: httpx2.AsyncClient
    synchronous: httpx2.Client
    endpoint: Endpoint
    recent: RecentConversations = field(default_factory=RecentConversations)
    """The conversations that were sent with it."""

    async def post(self, path: str, body: Wire, seconds: float) -> Any:
        """Send a body, and return the JSON of the server's answer.

        Raises:
            MalformedReply: the server applied the request, but its answer is not JSON.
            ModelRefused, ModelOverloaded: the server refused the request.
        """
        response = await self._send(path, {**body, "stream": False}, seconds, "application/json")
        try:
            await response.aread()
        finally:
            await response.aclose()
        return _json_in(response)

    async def events(self, path: str, body: Wire, seconds: float) -> AsyncGenerator[Any, None]:
        """Send a body, and yield the data of each event of the answer: parsed JSON, or text.

        Raises:
            ModelUnreachable: the connection was cut.
            MalformedReply: the server applied the request, but its answer is not a stream or cannot be read.
            ModelRefused, ModelOverloaded: the server refused the request.
        """
        response = await self._send(path, {**body, "stream": True}, seconds, "text/event-stream")
        try:
            if "event-stream" not in response.headers.get("content-type", ""):
                await response.aread()
                if (error := error_in(_json_in(response))) is not None:
                    raise error
                raise MalformedReply(f"the answer is not a stream: {message_in(response.text)!r}")
            reader = StreamReader()
            async for piece in response.aiter_bytes():
                for event in reader.read(piece):
                    yield event
            for event in reader.end():
                yield event
        except (RecursionError, OutlastError):
            raise
        except Exception as error:
            ours = translated(error)
            if ours is None:
                raise
            raise ours from error
        finally:
            await response.aclose()

    async def _send(self, path: str, body: Wire, seconds: float, accept: str) -> httpx2.Response:
        """Send a body with the HTTP client of the SDK, and return the answer to it, still to be read.

        The SDK itself makes classes anew for each request, and walks through every message of it several
        times. This was most of the CPU time of a turn.
        """
        import httpx2

        headers = {"Accept": accept, "User-Agent": _user_agent(self.sdk), "Content-Type": "application/json"}
        if self.endpoint.secret is not None:
            headers["Authorization"] = f"Bearer {self.endpoint.secret}"
        request = self.asynchronous.build_request(
            "POST", f"{self.endpoint.url}{path}", content=encoded(body), headers=headers, timeout=seconds
        )
        response = await self.asynchronous.send(request, stream=True)
        if response.is_success:
            if (until := response.headers.get("x-model-deprecation-timestamp")) is not None:
                logger.warning("model %s is deprecated and will be removed on %s", body.get("model"), until)
            return response
        try:
            await response.aread()
        except MalformedReply:
            text = ""  # Its body is too large. The status says enough.
        else:
            text = response.text
        finally:
            await response.aclose()
        error = httpx2.HTTPStatusError(f"status {response.status_code}", request=request, response=response)
        raise of_status(response.status_code, message_in(text), response.headers) from error

    async def aclose(self) -> None:
        await self.asynchronous.aclose()
        self.synchronous.close()


def encoded(body: Wire) -> bytes:
    """Return the body of a request in the form in which the SDK sends it; it may have `Written` values."""
    items = (
        json.dumps(name).encode() + b":" + (value.data if isinstance(value, Written) else _json(value))
        for name, value in body.items()
    )
    return b"{%b}" % b",".join(items)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _user_agent(sdk: Mistral) -> str:
    return f"mistral-client-python/{sdk.sdk_configuration.sdk_version}"


def _json_in(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"the answer is not JSON: {message_in(response.text)!r}") from error


@asynccontextmanager
async def open_client(endpoint: Endpoint, *parts: tuple[str, str]) -> AsyncIterator[Client]:
    """Open the SDK with `parts` of it. A part is a module of `mistralai.client` and a class in it.

    The rest of the SDK is never loaded. All this happens in a thread: the import takes a second, and the
    worker must go on renewing its leases.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    client = await asyncio.to_thread(_open, endpoint, parts)
    try:
        yield client
    finally:
        await client.aclose()


def _open(endpoint: Endpoint, parts: Sequence[tuple[str, str]]) -> Client:
    try:
        import httpx2
        from mistralai.client import Mistral
    except ModuleNotFoundError as error:
        raise MissingExtra("mistral") from error
    tls = httpx2.create_ssl_context()
    # No limit on open connections: the worker limits how many calls run at a time.
    asynchronous = httpx2.AsyncClient(
        verify=tls,
        follow_redirects=True,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=_KEEPALIVE_CONNECTIONS),
        # Only encodings whose output can be bounded (`bodies.py`).
        headers={"Accept-Encoding": "gzip, deflate"},
        event_hooks={"request": [_traced], "response": [_received]},
    )
    # Never used. Without it, the SDK would make its own client with a second TLS context.
    synchronous = httpx2.Client(verify=tls)
    # A function, because with None the SDK would look for a key elsewhere.
    secret = endpoint.secret
    sdk = Mistral(
        api_key=lambda: secret,
        server_url=endpoint.url,
        async_client=asynchronous,
        client=synchronous,
        retry_config=None,
    )
    loaded = [
        getattr(importlib.import_module(f"mistralai.client.{module}"), name)(
            sdk.sdk_configuration, parent_ref=sdk
        )
        for module, name in parts
    ]
    return Client(sdk, loaded, asynchronous, synchronous, endpoint)


async def _traced(request: httpx2.Request) -> None:
    """Name the span of the attempt, unless whatever instruments the HTTP client does."""
    span = attempt_span.get()
    if span is not None:
        request.headers.setdefault("traceparent", span.traceparent)


async def _received(response: httpx2.Response) -> None:
    bound(response)
    kept = _responses.get(None)
    if kept is not None:
        kept.append(response)


async def json_of(call: Awaitable[object]) -> Any:
    """Await a call of the SDK, and return the JSON of the server's answer.

    Raises:
        MalformedReply: the server applied the request, but its answer is not JSON.
        MistralError: the server refused the request.
    """
    from mistralai.client.errors import MistralError

    kept: list[httpx2.Response] = []
    token = _responses.set(kept)
    try:
        await call
    except MistralError as error:
        if not error.raw_response.is_success:
            raise
    finally:
        _responses.reset(token)
    return _json_in(kept[-1])


async def read_json(call: Awaitable[object], kind: type[T], what: str) -> T:
    """Await a call that may be repeated, and return the JSON of the answer; `what` names it in errors.

    Raises:
        ModelUnreachable: the answer is not JSON of this `kind`. The call may be made again.
        MistralError: the server refused the request.
    """
    try:
        answer = await json_of(call)
    except MalformedReply as error:
        raise ModelUnreachable(f"{what} cannot be read") from error
    if not isinstance(answer, kind):
        raise ModelUnreachable(f"{what} cannot be read")
    return answer
