"""The client of Mistral's SDK, and the JSON of the server's answers.

The SDK builds, signs and sends our requests, but its response types are not used, because they are closed:
one chunk of an unknown type makes a whole reply fail, although it was made and paid for, and unknown fields
are dropped. So answers are read from the HTTP response itself (`json_of`, `events_of`).
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.adapters.mistral.api_errors import message_in
from outlast.core.errors import MalformedReply, MissingExtra, ModelUnreachable

if TYPE_CHECKING:
    import httpx2
    from mistralai.client import Mistral

    from outlast.adapters.mistral.session import Endpoint

T = TypeVar("T")

_KEEPALIVE_CONNECTIONS = 100
_responses: ContextVar[list[httpx2.Response]] = ContextVar("responses")


@dataclass(frozen=True, slots=True)
class Client:
    """An open SDK client, with the parts of it that were asked for."""

    sdk: Mistral
    parts: Sequence[Any]
    asynchronous: httpx2.AsyncClient
    synchronous: httpx2.Client

    async def aclose(self) -> None:
        await self.asynchronous.aclose()
        self.synchronous.close()


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
        event_hooks={"response": [_keep]},
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
    return Client(sdk, loaded, asynchronous, synchronous)


async def _keep(response: httpx2.Response) -> None:
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
    answer = kept[-1]
    try:
        return answer.json()
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"the answer is not JSON: {message_in(answer.text, None)!r}") from error


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


async def events_of(call: Awaitable[Any]) -> AsyncGenerator[Any, None]:
    """Yield the data of each event of a stream: parsed JSON, or text if it is not JSON.

    Raises:
        MalformedReply: the server applied the request, but its answer is not a stream or cannot be read.
        MistralError: the server refused the request.
    """
    from mistralai.client.errors import MistralError
    from mistralai.client.utils.eventstreaming import stream_events_async

    try:
        opened = await call
    except MistralError as error:
        if not error.raw_response.is_success:
            raise
        raise MalformedReply(f"the answer is not a stream: {message_in(error.body, None)!r}") from error
    try:
        async with opened as stream:
            async for event in stream_events_async(stream.response, json.loads):
                data = event.get("data")
                yield {"error": data or "no message"} if event.get("event") == "error" else data
    except UnicodeDecodeError:  # The stream was cut inside a character.
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedReply("an event of the stream cannot be read") from error
