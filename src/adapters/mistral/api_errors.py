"""What the SDK and the network raise, as our errors."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import ValidationError

from outlast.core.errors import (
    MalformedReply,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    OutlastError,
)
from outlast.core.json import decode
from outlast.core.values import faults

_MESSAGE_MAX = 500
_COME_BACK = frozenset({408, 409, 425, 429})
_REFUSED_IN_STREAM = frozenset({3001, *range(400, 500)}) - _COME_BACK
BUSY_SECONDS = 15.0
"""How long to leave a conversation alone that the server says it is still working on."""


def translated(error: Exception, secret: str | None) -> OutlastError | None:
    """Return our error for one of the SDK's, of httpx2's or of pydantic's; None for any other.

    Afterwards neither holds `secret` in what it prints, even if the server sent it back.
    """
    import httpx2
    from mistralai.client.errors import MistralError, NoResponseError

    if isinstance(error, MistralError):
        hide(error, {secret or ""})
        return of_status(error.status_code, told_by(error.body, secret), error.headers)
    network = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, NoResponseError)
    # What cannot be decoded was cut; what cannot be encoded is half a character in an id of the server's own.
    if isinstance(error, (*network, UnicodeError)):
        return ModelUnreachable(_bounded(f"{type(error).__name__} {error}".strip(), secret))
    if isinstance(error, ValidationError):
        # The SDK checks a request before it sends it: the API would say the same.
        return ModelRefused(422, _bounded("; ".join(faults(error)), secret))
    return None


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Read JSON of a server's inside, without trust: where it has another shape than described, say so.

    Raises:
        MalformedReply: it could not be read.
    """
    try:
        yield
    except ValidationError as error:
        raise MalformedReply("; ".join(faults(error)[:3])) from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedReply(f"{what} is not as the API describes it") from error


@contextmanager
def hiding(secrets: Collection[str]) -> Iterator[None]:
    """Let no error out of the block that repeats one of these: a server may send back what it was sent."""
    try:
        yield
    except OutlastError as error:
        told = {name: _clean(value, secrets) for name, value in error.details().items()}
        if told == error.details():
            raise
        raise type(error)(**told) from None  # What it came from holds the secret as well.
    except Exception as error:
        hide(error, secrets)
        raise


def _clean(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        for secret in filter(None, secrets):
            value = value.replace(secret, "***")
    return value


def of_status(status: int, message: str, headers: Mapping[str, str]) -> OutlastError:
    """Return the error that an answer with this status is."""
    if status in _COME_BACK or status >= 500:
        wait = _retry_after(headers)
        if status == 409:
            wait = max(wait or 0.0, BUSY_SECONDS)
        return ModelOverloaded(status, message, wait)
    if status in (401, 403):
        message = f"{message}; check the session's api_key, or MISTRAL_API_KEY where the worker runs"
    if status >= 400:
        return ModelRefused(status, message)
    return MalformedReply(f"status {status} with {message!r}")


def of_event(code: int, message: str) -> OutlastError:
    """Return the error that a stream ended with."""
    if code in _REFUSED_IN_STREAM:
        return ModelRefused(code, _bounded(message, None))
    return ModelOverloaded(code, _bounded(message, None))


def told_by(body: str, secret: str | None) -> str:
    """Return what an error body says to a reader: bounded, on one line, without the offending input."""
    try:
        return _bounded(_said_in(decode(body)), secret) or "no message"
    except (ValueError, RecursionError):
        return _bounded(body, secret) or "no message"


def _said_in(said: Any) -> str:
    if isinstance(said, Mapping):
        said = said.get("message") or said.get("detail") or said.get("error") or said
    if isinstance(said, Mapping):
        said = said.get("detail") or said.get("message") or said
    if isinstance(said, list):
        said = "; ".join(_fault(item) for item in said)
    return said if isinstance(said, str) else json.dumps(said)


def _fault(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    loc = item.get("loc")
    place = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    return f"{place}: {item.get('msg')}" if place else str(item.get("msg"))


def _bounded(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_MAX else f"{text[:_MESSAGE_MAX]}..."


def hide(error: Exception, secrets: Collection[str]) -> None:
    """Take these secrets out of what an error of the SDK's prints; leave any other error as it is."""
    from mistralai.client.errors import MistralError

    if not isinstance(error, MistralError):
        return
    for secret in secrets:
        if secret and (secret in error.message or secret in error.body):
            for name in ("message", "body"):
                object.__setattr__(error, name, getattr(error, name).replace(secret, "***"))
            error.args = (error.message,)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the server asks for, in any of the ways it may ask."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
