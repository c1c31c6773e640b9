"""The base of both sessions: settings, credentials, and the translation of errors."""

from __future__ import annotations

import asyncio
import math
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from types import NoneType
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from outlast.adapters.mistral import published_prices
from outlast.adapters.mistral.api_errors import hiding, translated
from outlast.adapters.mistral.redaction import SecretRemover
from outlast.core.agents import AgentSpec
from outlast.core.argument_checks import check_text
from outlast.core.entries import AgentHandoff
from outlast.core.errors import (
    ConfigurationError,
    MissingCredentials,
    ModelOverloaded,
    ModelUnreachable,
    OutlastError,
)
from outlast.core.prices import Price, Prices, priced, without_price
from outlast.ports.deltas import Publish, publish_nothing
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources

MISTRAL_URL = "https://api.mistral.ai"
API_KEY = "MISTRAL_API_KEY"
SERVER_URL = "MISTRAL_SERVER_URL"
TIMEOUT_SECONDS = 300.0
CONFLICT = 409
"""The status of a request that meets another one for the same conversation."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and the API key for it, as they are when a worker makes a call."""

    url: str
    key: SecretStr | None

    @property
    def secret(self) -> str | None:
        return self.key.get_secret_value() if self.key is not None else None

    @property
    def is_mistrals_own(self) -> bool:
        """True if it is a server of Mistral's."""
        return f".{urlsplit(self.url).hostname or ''}".endswith(".mistral.ai")

    @property
    def identity(self) -> tuple[str, str]:
        """A value that is different for different endpoints and does not contain the key."""
        return self.url, sha256((self.secret or "").encode()).hexdigest()

    def asked_for(self, model: str) -> Hashable:
        """Return the name under which a model of this server is held back."""
        return "model", *self.identity, model


@dataclass(frozen=True, kw_only=True)
class ApiSession(Session):
    """A session that calls an HTTP server through Mistral's SDK.

    A session is a value: two sessions with the same settings are equal, and a session keeps no conversation.
    `timeout` is the time for one whole reply, in seconds. `first_token_timeout` is the time until the first
    part of a reply comes: an attempt that waits longer fails, and the next one may find a server that works.
    With it, replies are requested as a stream, also if `stream` is False. If the API key or the address of
    the server is not given, the worker that makes the call reads it from its environment (`MISTRAL_API_KEY`,
    `MISTRAL_SERVER_URL`). So workflow code need not know them.

    A reply costs what `prices` says of its model; else the price that its provider has published, as far as
    this release knows.

    Raises:
        ConfigurationError: a setting is not valid.
    """

    api_key: SecretStr | str | None = None
    server_url: str | None = None
    timeout: float | timedelta | None = None
    first_token_timeout: float | timedelta | None = None
    raise_on_tool_fail: bool = False
    stream: bool = False
    prices: Mapping[str, Price] = Prices()
    """Prices of your own, by the names of models and connectors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prices", Prices(self.prices))
        if not isinstance(self.api_key, (SecretStr, str, NoneType)):
            raise ConfigurationError(f"api_key must be text, not {type(self.api_key).__name__}")
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(self.api_key))
        if isinstance(self.api_key, SecretStr):
            _checked_key(self.api_key.get_secret_value(), "api_key")
        if self.server_url is not None:
            check_text("server_url", self.server_url, ConfigurationError)
            _checked_url(self.server_url, "server_url")
        for name in ("timeout", "first_token_timeout"):
            given = getattr(self, name)
            if given is not None and not _is_positive(given):
                raise ConfigurationError(f"{name} is {given!r}; give a positive number of seconds")

    @property
    def timeout_seconds(self) -> float:
        """The timeout of one reply."""
        return TIMEOUT_SECONDS if self.timeout is None else _seconds(self.timeout)

    @property
    def first_token_seconds(self) -> float | None:
        """The time until the first part of a reply; None if it is not limited."""
        return None if self.first_token_timeout is None else _seconds(self.first_token_timeout)

    def seconds_max(self, agent: AgentSpec) -> float:
        return self.timeout_seconds

    def models_asked(self, agent: AgentSpec) -> Sequence[Hashable]:
        return [self.endpoint().asked_for(agent.model)]

    def endpoint(self) -> Endpoint:
        """Return the server and the API key, from the settings or else from the environment of this process.

        Raises:
            MissingCredentials: there is no API key, but Mistral's own server needs one.
            ConfigurationError: a variable in the environment is not valid.
        """
        if self.server_url is not None:
            url = _checked_url(self.server_url, "server_url")
        else:
            url = _checked_url(os.environ.get(SERVER_URL) or MISTRAL_URL, SERVER_URL)
        key: SecretStr | None = None
        if isinstance(self.api_key, SecretStr):
            key = SecretStr(_checked_key(self.api_key.get_secret_value(), "api_key"))
        elif from_environment := os.environ.get(API_KEY, "").strip():
            key = SecretStr(_checked_key(from_environment, API_KEY))
        if key is None and Endpoint(url, None).is_mistrals_own:
            raise MissingCredentials(
                f"no API key for {url}: give the session an api_key, or set {API_KEY} where the worker runs"
            )
        return Endpoint(url, key)

    async def unpriced(self, models: Collection[str]) -> tuple[str, ...]:
        await self._load_prices(models)
        return without_price(models, Prices(self.prices), published_prices.published_at(self.endpoint().url))

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        endpoint = self.endpoint()
        if self.stream or self.first_token_timeout is not None:
            publish = publish or publish_nothing
        remover = SecretRemover({endpoint.secret or ""})
        cleaned = remover.text(publish)
        loading = asyncio.create_task(self._load_prices(one.model for one in request.graph.agents.values()))
        try:
            async with self.guarded(endpoint):
                reply = remover.reply(await self._reply(endpoint, request, resources, cleaned))
        except ModelOverloaded as error:
            if error.retry_after_seconds and error.status != CONFLICT:
                model = request.graph[request.agent].model
                resources.hold_back(endpoint.asked_for(model), error.retry_after_seconds)
            raise
        if cleaned is not None:
            cleaned.end()
        await loading
        return self._priced(endpoint, request, reply)

    async def _load_prices(self, models: Iterable[str]) -> None:
        """Read the published prices in a thread, if they are needed and nobody has read them."""
        if not published_prices.is_loaded() and not all(model in self.prices for model in models):
            await asyncio.to_thread(published_prices.load)

    def _priced(self, endpoint: Endpoint, request: ModelRequest, reply: ModelReply) -> ModelReply:
        """Return the reply with its cost."""
        models = {request.graph[request.agent].model}
        for entry in reply.entries:
            if isinstance(entry, AgentHandoff) and entry.next_agent_name in request.graph:
                models.add(request.graph[entry.next_agent_name].model)
        published = published_prices.published_at(endpoint.url)
        return reply.with_(usage=priced(reply.usage, models, Prices(self.prices), published))

    @abstractmethod
    async def _reply(
        self, endpoint: Endpoint, request: ModelRequest, resources: Resources, publish: Publish | None
    ) -> ModelReply:
        """Return the reply; it is requested as a stream if `publish` is given."""

    @asynccontextmanager
    async def guarded(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Turn errors of the SDK and the network inside the block into our errors, without the API key."""
        try:
            with hiding({endpoint.secret or ""}):
                async with asyncio.timeout(self.timeout_seconds):
                    yield
        except TimeoutError as error:
            raise ModelUnreachable(
                f"the reply was not complete after {self.timeout_seconds:g} s, the timeout of the session"
            ) from error
        except OutlastError:
            raise
        except Exception as error:
            with hiding({endpoint.secret or ""}):
                ours = translated(error)
            if ours is None:
                raise
            raise ours from error


@asynccontextmanager
async def first_token_in(seconds: float | None) -> AsyncIterator[Callable[[], None]]:
    """Give a function that is to be called in the block when the first part of a reply has come.

    Raises:
        ModelUnreachable: it was not called in time.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield lambda: limit.reschedule(None)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ModelUnreachable(
            f"the reply had not begun after {seconds:g} s, the first_token_timeout of the session"
        ) from error


def _seconds(given: float | timedelta) -> float:
    return given.total_seconds() if isinstance(given, timedelta) else float(given)


def _is_positive(given: Any) -> bool:
    return (
        isinstance(given, (int, float, timedelta)) and math.isfinite(_seconds(given)) and _seconds(given) > 0
    )


def _checked_key(key: str, where: str) -> str:
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            f"{where} is empty or has characters that a key cannot have; copy the key again"
        )
    return key


def _checked_url(url: str, where: str) -> str:
    """Return the URL without a trailing slash or version, because the SDK adds these."""
    # The message must not repeat a URL that may have a secret in it.
    if "@" in url or "?" in url:
        raise ConfigurationError(
            f"{where} has credentials or a query in it; remove them, and give the key as api_key"
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or "#" in url:
        raise ConfigurationError(
            f"{where} is {url!r}, which is not a valid URL; write https://host or http://host:port/path"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
