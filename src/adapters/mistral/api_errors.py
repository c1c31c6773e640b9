"""Translates errors of the SDK and the network into those of `core.errors`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import ValidationError

from outlast.adapters.mistral.redaction import hidden, without_secrets
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
_READ_MAX = 100_000
_RETRYABLE = frozenset({408, 409, 425, 429})
BUSY_SECONDS = 15.0
"""The time to wait before the next request to a conversation that the server is still working on."""


def translated(error: Exception) -> OutlastError | None:
    """Return our error for an error of the SDK, of httpx2 or of pydantic; None for any other error.

    Inside `hiding`, neither error shows the secrets afterwards, even if the server sent them back.
    """
    import httpx2
    from mistralai.client.errors import MistralError, NoResponseError

    if isinstance(error, MistralError):
        hide(error, _secrets.get())
        return of_status(error.status_code, message_in(error.body), error.headers)
    network = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, NoResponseError)
    # A UnicodeError means that a body was cut, or that an id made by the server has half a character in it.
    if isinstance(error, (*network, UnicodeError)):
        return ModelUnreachable(_bounded(f"{type(error).__name__} {error}".strip()))
    if isinstance(error, ValidationError):
        # The SDK checks a request before it sends it. The API would refuse it, too.
        return ModelRefused(422, _bounded("; ".join(faults(error))))
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


_secrets: ContextVar[frozenset[str]] = ContextVar("secrets", default=frozenset())
"""The secrets that messages must not have. Messages are shortened later: half a secret would not be found."""


@contextmanager
def hiding(secrets: Iterable[str]) -> Iterator[None]:
    """Remove these secrets from errors that leave the block: a server may send back what it received."""
    secrets = _secrets.get() | frozenset(filter(None, secrets))
    token = _secrets.set(secrets)
    try:
        yield
    except OutlastError as error:
        details = error.details()
        cleaned = without_secrets(details, secrets)
        if cleaned is details:
            raise
        raise type(error)(**cleaned) from None  # The cause would show the secret as well.
    except Exception as error:
        hide(error, secrets)
        raise
    finally:
        _secrets.reset(token)


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


def error_in(body: Any, *answers: str) -> OutlastError | None:
    """Return the error that a body with status 200, or an event of a stream, reports; None without one.

    Servers report errors in many shapes. A body without a field of `answers` is also an error if it has
    something to say. The error is the one that the same body gives with its own HTTP status; if the body does
    not show a status, it is 500, because the server failed after it had accepted the request.
    """
    if isinstance(body, list):
        return next((error for item in body if (error := error_in(item)) is not None), None)
    if not isinstance(body, Mapping) or not (_is_error(body) or _only_speaks(body, answers)):
        return None
    words = _text_in(body)
    return of_status(_status_in(body) or 500, _bounded(words) or "no message", {})


def _is_error(body: Mapping[str, Any]) -> bool:
    reported = (body.get("error"), body.get("errors"))
    if any(any(one.values()) if isinstance(one, Mapping) else one for one in reported):
        return True
    kinds = (str(body.get("object")).lower(), str(body.get("type")).lower())
    return "error" in kinds or kinds[1].endswith(".error")


def _only_speaks(body: Mapping[str, Any], answers: Collection[str]) -> bool:
    if not answers or any(body.get(name) for name in answers):
        return False
    return any(body.get(name) for name in ("message", "detail", "msg"))


_STATUS_FIELDS = ("status_code", "http_status", "raw_status_code", "statusCode", "status", "code", "type")
"""The fields of an error that can have its status, or a name for it; those that are surest come first."""
_NESTED_FIELDS = ("error", "errors", "message", "detail", "details", "innererror", "inner_error")
_NESTED_MAX = 4
_CODES = {1300: 429, 3000: 500, 3001: 400, 3230: 400, 3240: 400, 3280: 400}
"""Mistral's own numbers for errors."""
_NAMES: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (status, re.compile(words))
    for status, words in (
        (402, "payment|billing|balance|credit"),
        (429, "ratelimit|toomanyrequests|throttl|quota|resourceexhausted"),
        (503, "overloaded|unavailable|busy|capacity"),
        (504, "timeout|timedout|deadlineexceeded"),
        (401, "authentication|unauthori[sz]ed|unauthenticated|apikey"),
        (403, "permission|forbidden|accessdenied"),
        (404, "notfound|nosuch|doesnotexist"),
        (413, "toolarge"),
        (409, "conflict"),
        (400, "contextlength|contextwindow|toolong|abovemax|maxtokens"),
        (400, "invalid|badrequest|unsupported|contentfilter|contentpolicy|unprocessable|validation|missing"),
        (500, "servererror|internal|apierror|engine"),
    )
)
"""The names that servers give to statuses, in lower case, without separators. The first match counts."""


def _status_in(error: Any, depth: int = 0) -> int | None:
    """Return the HTTP status that the JSON of an error shows: as a number, or as a name."""
    if isinstance(error, list):
        return next((found for item in error if (found := _status_in(item, depth + 1))), None)
    if isinstance(error, str):
        return _status_of_name(error)
    if not isinstance(error, Mapping) or depth > _NESTED_MAX:
        return None
    values = [error.get(name) for name in _STATUS_FIELDS]
    nested = [error.get(name) for name in _NESTED_FIELDS]
    statuses = (
        *map(_status_of_number, values),
        *(_status_of_name(value) for value in values if isinstance(value, str)),
        *(_status_in(inner, depth + 1) for inner in nested),
    )
    return next((status for status in statuses if status is not None), None)


def _status_of_number(value: Any) -> int | None:
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"\s*\d{3,4}\s*", value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value in _CODES:
        return _CODES[int(value)]
    return int(value) if 400 <= value < 600 and value == int(value) else None


def _status_of_name(name: str) -> int | None:
    """Return the status that a name such as "rate_limit_exceeded" or "BadRequestError" stands for."""
    if not re.fullmatch(r"[A-Za-z][\w.\-]{0,63}", name, re.ASCII):
        return None  # A sentence: its words may be about anything.
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((status for status, words in _NAMES if words.search(plain)), None)


def message_in(body: str) -> str:
    """Return the message in the body of an error: shortened, on one line, without the refused input."""
    try:
        return _bounded(_text_in(decode(body))) or "no message"
    except (ValueError, RecursionError):
        return _bounded(body) or "no message"


def _text_in(body: Any, depth: int = 0) -> str:
    if isinstance(body, Mapping) and depth <= _NESTED_MAX:
        inner = next((body[name] for name in _WORDS if body.get(name) and body[name] is not True), None)
        if inner is not None:
            return _text_in(inner, depth + 1)
    if isinstance(body, list):
        return "; ".join(_fault(item) for item in body)
    return body if isinstance(body, str) else json.dumps(body)


_WORDS = ("message", "detail", "error", "errors", "msg")
"""The fields with the words of an error, in the order in which they are looked for."""


def _fault(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    loc = item.get("loc")
    place = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    words = _text_in(item)
    return f"{place}: {words}" if place else words


def _bounded(text: str) -> str:
    text = " ".join(hidden(text[:_READ_MAX], _secrets.get()).split())
    return text if len(text) <= _MESSAGE_MAX else f"{text[:_MESSAGE_MAX]}..."


def hide(error: Exception, secrets: Iterable[str]) -> None:
    """Remove these secrets from the message of an SDK error; leave any other error unchanged."""
    from mistralai.client.errors import MistralError

    if not isinstance(error, MistralError):
        return
    for name in ("message", "body"):
        object.__setattr__(error, name, hidden(getattr(error, name), secrets))
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
