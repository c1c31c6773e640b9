"""The base of both sessions: settings, credentials, and the translation of errors."""

from __future__ import annotations

import asyncio
import math
import os
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlsplit

from pydantic import SecretStr

from outlast.adapters.mistral.api_errors import hiding, translated
from outlast.adapters.mistral.redaction import SecretRemover
from outlast.core.agents import AgentSpec
from outlast.core.errors import (
    ConfigurationError,
    MissingCredentials,
    ModelUnreachable,
    OutlastError,
)
from outlast.ports.deltas import Publish, publish_nothing
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources

MISTRAL_URL = "https://api.mistral.ai"
API_KEY = "MISTRAL_API_KEY"
SERVER_URL = "MISTRAL_SERVER_URL"
TIMEOUT_SECONDS = 300.0


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


@dataclass(frozen=True, kw_only=True)
class ApiSession(Session):
    """A session that calls an HTTP server through Mistral's SDK.

    A session is a value: two sessions with the same settings are equal, and a session keeps no conversation.
    `timeout` is the time for one whole reply, in seconds. If the API key or the address of the server is not
    given, the worker that makes the call reads it from its environment (`MISTRAL_API_KEY`,
    `MISTRAL_SERVER_URL`). So workflow code need not know them.

    Raises:
        ConfigurationError: a setting is not valid.
    """

    api_key: SecretStr | str | None = None
    server_url: str | None = None
    timeout: float | timedelta | None = None
    raise_on_tool_fail: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(self.api_key))
        if isinstance(self.api_key, SecretStr):
            _checked_key(self.api_key.get_secret_value(), "api_key")
        if self.server_url is not None:
            _checked_url(self.server_url, "server_url")
        if not (math.isfinite(self.timeout_seconds) and self.timeout_seconds > 0):
            raise ConfigurationError(f"timeout is {self.timeout!r}; give a positive number of seconds")

    @property
    def timeout_seconds(self) -> float:
        """The timeout of one reply."""
        if isinstance(self.timeout, timedelta):
            return self.timeout.total_seconds()
        return TIMEOUT_SECONDS if self.timeout is None else float(self.timeout)

    def seconds_max(self, agent: AgentSpec) -> float:
        return self.timeout_seconds

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

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        endpoint = self.endpoint()
        if self.stream:
            publish = publish or publish_nothing
        remover = SecretRemover({endpoint.secret or ""})
        cleaned = remover.text(publish)
        async with self.guarded(endpoint):
            reply = remover.reply(await self._reply(endpoint, request, resources, cleaned))
        if cleaned is not None:
            cleaned.end()
        return reply

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
