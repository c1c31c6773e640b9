"""Faults on demand: which request a fault happens to, at which point, and what happens there.

A request passes five points:

- "request": it has arrived, and nothing has happened yet;
- "work": its inputs are accepted, and the model will be called next;
- "answer": the work is done, and no byte of the answer has been sent;
- "headers": a part of the headers has been sent;
- "body": a part of the body has been sent.

A `Fault` is a sequence of actions for one request. Each request takes the first queued fault that matches it,
so two faults for the same path happen to two requests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from outlast.testing.mistral_server.errors import rate_limited_body

Point = Literal["request", "work", "answer"]
Body = Mapping[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class AnswerWith:
    """Answers with this status and body. With `applied`, the request is applied first.

    A mapping is sent as JSON, and a string as plain text unless the headers say otherwise.
    """

    status: int
    body: Body = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    applied: bool = False

    @property
    def at(self) -> Point:
        return "answer" if self.applied else "request"


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits for this time."""

    seconds: float
    at: Point = "request"


class Hang:
    """Waits until `release` is called."""

    def __init__(self, at: Point = "request") -> None:
        self.at = at
        self._reached: Future[None] = Future()
        self._released: Future[None] = Future()

    def release(self) -> None:
        """Let the request go on. This may be called at any time, more than once, and from any thread."""
        _settle(self._released)

    async def reached(self) -> None:
        """Return once a request hangs here."""
        await asyncio.shield(asyncio.wrap_future(self._reached))

    def wait_reached(self, timeout: float) -> None:
        """Return once a request hangs here; raise TimeoutError after this many seconds."""
        self._reached.result(timeout)

    async def hold(self) -> None:
        _settle(self._reached)
        await asyncio.shield(asyncio.wrap_future(self._released))


@dataclass(frozen=True, slots=True)
class Drop:
    """Cuts the connection.

    At "request", "work" and "answer", the client gets no byte. At "work", the server goes on with its work.
    At "body", the client gets the headers and `after_bytes` bytes of the body, or this `fraction` of it; the
    server waits for the complete answer before it sends that part. With `reset`, the connection is reset
    (RST) and not closed (FIN).
    """

    at: Literal["request", "work", "answer", "headers", "body"] = "request"
    after_bytes: int | None = None
    fraction: float = 0.5
    reset: bool = False

    def kept(self, body: bytes) -> bytes:
        """Return the part of the body that the client gets; it is never all of it."""
        wanted = int(len(body) * self.fraction) if self.after_bytes is None else self.after_bytes
        return body[: max(0, min(wanted, len(body) - 1))]


@dataclass(frozen=True, slots=True)
class EndStream:
    """Ends a stream normally but too early."""

    after_events: int = -1
    """The number of events that are sent. A negative number -n means: all events but the last n."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Sends `made_of(body)` in place of the body. `made_of` is called in the thread of the server."""

    made_of: Callable[[bytes], bytes]
    at: ClassVar[Literal["body"]] = "body"


Action = AnswerWith | Delay | Hang | Drop | EndStream | Rewrite


class Fault:
    """Actions for `count` requests with this method and path (None: for all), after the first `skip` of them.

    In a path, `*` matches anything inside one segment; the path "*" matches every path. So
    "/v1/conversations/*" is an append (or a get), and "/v1/conversations/*/restart" is a restart.
    """

    def __init__(
        self, *actions: Action, method: str = "*", path: str = "*", skip: int = 0, count: int | None = 1
    ) -> None:
        if not actions:
            raise ValueError("a Fault needs at least one action; give one, such as Drop()")
        self.actions = actions
        self.method = method
        self.path = path
        self.skip = skip
        self.left = count

    def matches(self, method: str, path: str) -> bool:
        if not fnmatchcase(method, self.method):
            return False
        if self.path == "*":
            return True
        have, wanted = path.split("/"), self.path.split("/")
        return len(have) == len(wanted) and all(map(fnmatchcase, have, wanted))

    def __repr__(self) -> str:
        return f"Fault{self.actions!r} for {self.method} {self.path}"


class Faults:
    """The queue of faults. It can be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Queue a fault and return it."""
        with self._lock:
            self._queue.append(fault)
        return fault

    def clear(self) -> None:
        """Remove every queued fault."""
        with self._lock:
            self._queue.clear()

    @property
    def pending(self) -> list[Fault]:
        """The faults that have not happened as often as they should."""
        with self._lock:
            return list(self._queue)

    def take(self, method: str, path: str) -> tuple[Action, ...]:
        """Return the actions for a request that has just arrived."""
        taken: Fault | None = None
        with self._lock:
            for fault in list(self._queue):
                if not fault.matches(method, path):
                    continue
                if fault.skip:
                    fault.skip -= 1
                elif taken is None:
                    taken = fault
                    if fault.left is not None:
                        fault.left -= 1
                        if fault.left == 0:
                            self._queue.remove(fault)
        return taken.actions if taken else ()


def rate_limited(retry_after: float | str = 1) -> AnswerWith:
    """Return an answer 429 with a Retry-After header, in seconds or as a date. The request is not applied."""
    return AnswerWith(429, rate_limited_body(), {"Retry-After": str(retry_after)})


def unavailable(status: int = 503, *, applied: bool = False) -> AnswerWith:
    """Return an error of the server; with `applied`, it comes after the request was applied."""
    body = {
        "object": "Error",
        "message": "Service unavailable",
        "type": "internal_server_error",
        "code": 3000,
    }
    return AnswerWith(status, body, applied=applied)


def not_json() -> AnswerWith:
    """Return an answer 200 whose body should be JSON but is not. The request is applied."""
    return AnswerWith(200, b"<html>upstream</html>", {"content-type": "application/json"}, applied=True)


def not_the_schema() -> AnswerWith:
    """Return an answer 200 with JSON that does not match the API. The request is applied."""
    return AnswerWith(200, {"unexpected": True}, applied=True)


def _settle(future: Future[None]) -> None:
    try:
        future.set_result(None)
    except InvalidStateError:
        return
