"""The SDK, opened once a worker, and the JSON that servers really sent.

The SDK's response types are closed: one chunk of a type they do not know fails a whole reply that was made
and paid for, and extra fields are dropped. So the SDK builds, signs and sends our requests, while what came
back is read from the HTTP response itself (`json_of`, `events_of`).
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

from outlast.adapters.mistral.api_errors import told_by
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
    """An open SDK client, with those of its parts that were asked for."""

    sdk: Mistral
    parts: Sequence[Any]
    asynchronous: httpx2.AsyncClient
    synchronous: httpx2.Client

    async def aclose(self) -> None:
        await self.asynchronous.aclose()
        self.synchronous.close()


@asynccontextmanager
async def open_client(endpoint: Endpoint, *parts: tuple[str, str]) -> AsyncIterator[Client]:
    """Open the SDK with `parts` of it, each a module of `mistralai.client` and a class in it.

    The rest of the SDK is never loaded, and all of this happens in a thread, for importing takes a second
    in which a worker has leases to renew.

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
    # One idle limit for every socket; how many calls run at a time is the worker's to say, not the pool's.
    asynchronous = httpx2.AsyncClient(
        verify=tls,
        follow_redirects=True,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=_KEEPALIVE_CONNECTIONS),
        event_hooks={"response": [_keep]},
    )
    # Never used, but the SDK would build one of its own, with a second TLS context.
    synchronous = httpx2.Client(verify=tls)
    # A function, because for None the SDK would look for a key in places of its own.
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
    """Await a call of the SDK, and return the JSON that the server answered with.

    Raises:
        MalformedReply: a success that is not JSON. The request was applied.
        MistralError: the server refused.
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
        raise MalformedReply(f"the answer is not JSON: {told_by(answer.text, None)!r}") from error


async def read_json(call: Awaitable[object], kind: type[T], what: str) -> T:
    """Await a call that may be made again, and return the JSON that the server answered with.

    Raises:
        ModelUnreachable: what came is something else; asking again does no harm, and may help.
        MistralError: the server refused.
    """
    try:
        answer = await json_of(call)
    except MalformedReply as error:
        raise ModelUnreachable(f"{what} came garbled") from error
    if not isinstance(answer, kind):
        raise ModelUnreachable(f"{what} came garbled")
    return answer


async def events_of(call: Awaitable[Any]) -> AsyncGenerator[Any, None]:
    """Yield the data of each event of a stream: JSON, or text if it is none.

    Raises:
        MalformedReply: a success that is no stream, or none that can be read. The request was applied.
        MistralError: the server refused.
    """
    from mistralai.client.errors import MistralError
    from mistralai.client.utils.eventstreaming import stream_events_async

    try:
        opened = await call
    except MistralError as error:
        if not error.raw_response.is_success:
            raise
        raise MalformedReply(f"the answer is not a stream: {told_by(error.body, None)!r}") from error
    try:
        async with opened as stream:
            async for event in stream_events_async(stream.response, json.loads):
                yield event.get("data")
    except UnicodeDecodeError:  # It was cut within a character.
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedReply("an event of the stream cannot be read") from error
