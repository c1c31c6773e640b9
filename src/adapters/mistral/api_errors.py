"""Translates errors of the SDK and the network into those of `core.errors`."""

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
_RETRYABLE = frozenset({408, 409, 425, 429})
_REFUSED_IN_STREAM = frozenset({3001, *range(400, 500)}) - _RETRYABLE
BUSY_SECONDS = 15.0
"""The time to wait before the next request to a conversation that the server is still working on."""


def translated(error: Exception, secret: str | None) -> OutlastError | None:
    """Return our error for an error of the SDK, of httpx2 or of pydantic; None for any other error.

    Afterwards neither error shows `secret`, even if the server sent it back.
    """
    import httpx2
    from mistralai.client.errors import MistralError, NoResponseError

    if isinstance(error, MistralError):
        hide(error, {secret or ""})
        return of_status(error.status_code, message_in(error.body, secret), error.headers)
    network = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, NoResponseError)
    # A UnicodeError means that a body was cut, or that an id made by the server has half a character in it.
    if isinstance(error, (*network, UnicodeError)):
        return ModelUnreachable(_bounded(f"{type(error).__name__} {error}".strip(), secret))
    if isinstance(error, ValidationError):
        # The SDK checks a request before it sends it. The API would refuse it, too.
        return ModelRefused(422, _bounded("; ".join(faults(error)), secret))
    return None


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Read untrusted JSON of a server inside this block; `what` names it in errors.

    Raises:
        MalformedReply: the JSON does not have the shape that the code in the block expects.
    """
    try:
        yield
    except ValidationError as error:
        raise MalformedReply("; ".join(faults(error)[:3])) from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedReply(f"{what} does not match the description of the API") from error


@contextmanager
def hiding(secrets: Collection[str]) -> Iterator[None]:
    """Remove these secrets from errors that leave the block: a server may send back what it received."""
    try:
        yield
    except OutlastError as error:
        cleaned = {name: _clean(value, secrets) for name, value in error.details().items()}
        if cleaned == error.details():
            raise
        raise type(error)(**cleaned) from None  # The cause would show the secret as well.
    except Exception as error:
        hide(error, secrets)
        raise


def _clean(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        for secret in filter(None, secrets):
            value = value.replace(secret, "***")
    return value


def of_status(status: int, message: str, headers: Mapping[str, str]) -> OutlastError:
    """Return the error for an HTTP answer with this status."""
    if status in _RETRYABLE or status >= 500:
        wait = _retry_after(headers)
        if status == 409:
            wait = max(wait or 0.0, BUSY_SECONDS)
        return ModelOverloaded(status, message, wait)
    if status in (401, 403):
        message = f"{message}; check the session's api_key, or MISTRAL_API_KEY where the worker runs"
    if status >= 400:
        return ModelRefused(status, message)
    return MalformedReply(f"the server answered with status {status} and {message!r}")


def of_event(code: int, message: str) -> OutlastError:
    """Return the error for an error event in a stream."""
    if code in _REFUSED_IN_STREAM:
        return ModelRefused(code, _bounded(message, None))
    return ModelOverloaded(code, _bounded(message, None))


def message_in(body: str, secret: str | None) -> str:
    """Return the message in the body of an error: shortened, on one line, without the refused input."""
    try:
        return _bounded(_text_in(decode(body)), secret) or "no message"
    except (ValueError, RecursionError):
        return _bounded(body, secret) or "no message"


def _text_in(body: Any) -> str:
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body.get("error") or body
    if isinstance(body, Mapping):
        body = body.get("detail") or body.get("message") or body
    if isinstance(body, list):
        body = "; ".join(_fault(item) for item in body)
    return body if isinstance(body, str) else json.dumps(body)


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
    """Remove these secrets from the message of an SDK error; leave any other error unchanged."""
    from mistralai.client.errors import MistralError

    if not isinstance(error, MistralError):
        return
    for secret in secrets:
        if secret and (secret in error.message or secret in error.body):
            for name in ("message", "body"):
                object.__setattr__(error, name, getattr(error, name).replace(secret, "***"))
            error.args = (error.message,)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, from any of the headers that it may use."""
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
