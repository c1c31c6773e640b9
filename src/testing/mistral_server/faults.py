"""Faults on demand: what goes wrong, where in a request's life, and which request it happens to.

A request passes five points: "request" (it has arrived, and nothing has happened yet), "work" (its inputs are
taken over and the model is about to be asked), "answer" (all is done, no byte has been sent), "headers" (part
of the head has been sent) and "body". A `Fault` is a sequence of actions for one request. Each request takes
the first fault that is queued for it, so that two faults for the same path happen to two requests.
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
    """Answers with this status and body. With `applied` the request is worked on first.

    A mapping is sent as JSON, a string as plain text unless the headers say otherwise.
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
    """Waits this long."""

    seconds: float
    at: Point = "request"


class Hang:
    """Waits until `release` is called."""

    def __init__(self, at: Point = "request") -> None:
        self.at = at
        self._reached: Future[None] = Future()
        self._released: Future[None] = Future()

    def release(self) -> None:
        """Let the request go on. May be called before it comes, more than once and from any thread."""
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

    Until "answer", the client sees no byte. At "work" the server goes on with its work all the same. At
    "body" the client gets the head and this many bytes of the body, or this fraction of it; an answer to be
    cut there is held back until it is complete. With `reset` the client sees a reset connection (RST) and not
    a closed one (FIN).
    """

    at: Literal["request", "work", "answer", "headers", "body"] = "request"
    after_bytes: int | None = None
    fraction: float = 0.5
    reset: bool = False

    def kept(self, body: bytes) -> bytes:
        """Return what of the body still reaches the client; never all of it."""
        wanted = int(len(body) * self.fraction) if self.after_bytes is None else self.after_bytes
        return body[: max(0, min(wanted, len(body) - 1))]


@dataclass(frozen=True, slots=True)
class EndStream:
    """Ends a stream cleanly but too early: after this many events, or if negative, all but as many."""

    after_events: int = -1


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Answers with what `made_of`, called in the server's thread, makes of the body that would be sent."""

    made_of: Callable[[bytes], bytes]
    at: ClassVar[Literal["body"]] = "body"


Action = AnswerWith | Delay | Hang | Drop | EndStream | Rewrite


class Fault:
    """Actions for `count` requests of a method to a path (None: for all), after the first `skip` of them.

    In a path, `*` stands for anything within a segment; a path of "*" alone matches every path. So
    "/v1/conversations/*" is an append (or a get), "/v1/conversations/*/restart" a restart.
    """

    def __init__(
        self, *actions: Action, method: str = "*", path: str = "*", skip: int = 0, count: int | None = 1
    ) -> None:
        if not actions:
            raise ValueError("a fault needs at least one action, such as Drop()")
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
    """The queue of faults. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Queue a fault and return it."""
        with self._lock:
            self._queue.append(fault)
        return fault

    def clear(self) -> None:
        """Forget every queued fault."""
        with self._lock:
            self._queue.clear()

    @property
    def pending(self) -> list[Fault]:
        """Faults that have not happened as often as they should."""
        with self._lock:
            return list(self._queue)

    def take(self, method: str, path: str) -> tuple[Action, ...]:
        """Return the actions for a request that has just come."""
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
    """429 with a Retry-After header, in seconds or as a date. Nothing is applied."""
    return AnswerWith(429, rate_limited_body(), {"Retry-After": str(retry_after)})


def unavailable(status: int = 503, *, applied: bool = False) -> AnswerWith:
    """A failure of the server, applied before it failed or not."""
    body = {
        "object": "Error",
        "message": "Service unavailable",
        "type": "internal_server_error",
        "code": 3000,
    }
    return AnswerWith(status, body, applied=applied)


def not_json() -> AnswerWith:
    """200 with a body that claims to be JSON and is not. The request was applied."""
    return AnswerWith(200, b"<html>upstream</html>", {"content-type": "application/json"}, applied=True)


def not_the_schema() -> AnswerWith:
    """200 with JSON that is no answer of this API. The request was applied."""
    return AnswerWith(200, {"unexpected": True}, applied=True)


def _settle(future: Future[None]) -> None:
    try:
        future.set_result(None)
    except InvalidStateError:
        return
