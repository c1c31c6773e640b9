"""Opening the backend that a command is about."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from outlast.composition.backends import BACKEND_VARIABLE, DEFAULT_BACKEND, connect
from outlast.core.errors import ConfigurationError
from outlast.ports.durability.backend import Backend


@asynccontextmanager
async def opened(url: str | None, *, create: bool = False) -> AsyncIterator[Backend]:
    """Yield the backend at `url`, by default where OUTLAST_BACKEND says.

    An SQLite file that does not exist is created only with `create`: else a wrong path would look like a
    place without executions.

    Raises:
        ConfigurationError: there is no such file, or the backend ends with this process.
    """
    where = _url_of(url)
    scheme = urlsplit(where).scheme
    if scheme == "memory":
        raise ConfigurationError(
            "the in-memory backend ends with its process, so a command cannot use it; give --backend, or set "
            f"{BACKEND_VARIABLE}"
        )
    options = {"create": create} if scheme == "sqlite" else {}
    async with connect(where, **options) as backend:
        yield backend


def place_of(url: str | None) -> str:
    """Return a backend's URL without what may be a password."""
    where = _url_of(url)
    parts = urlsplit(where)
    if parts.password is None:
        return where
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _url_of(url: str | None) -> str:
    return url or os.environ.get(BACKEND_VARIABLE) or DEFAULT_BACKEND
