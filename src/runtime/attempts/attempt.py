"""One attempt at a step: performed outside workflow code, with its timeouts and its heartbeat."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

from outlast.core.errors import (
    ActivityTimedOut,
    ForeignError,
    MalformedReply,
    NotSupported,
    OutlastError,
    UnknownPrice,
    Unserialisable,
    check_size,
)
from outlast.core.failure import message_of
from outlast.core.json import (
    DEPTH_MAX,
    ENVELOPE_DEPTH,
    JSON,
    check_json,
    encode,
    kept,
    quickly_encoded,
    whole_characters,
    with_whole_characters,
)
from outlast.core.values import Value
from outlast.ports.clock import Clock
from outlast.ports.definitions import ActivityOptions
from outlast.ports.deltas import Publish
from outlast.ports.durability.steps import (
    AskModel,
    Attempt,
    Call,
    CallSourceTool,
    HeldBack,
    ListTools,
    MessageChild,
    RunActivity,
    StartChild,
)
from outlast.ports.llm import ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolList
from outlast.runtime.attempts.observing import observed_attempt
from outlast.runtime.attempts.threads import called
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tasks import attempt_task

logger = logging.getLogger("outlast.worker")

current_attempt: ContextVar[Attempt | None] = ContextVar("current_attempt", default=None)
"""The attempt that runs in this context; None outside of an attempt."""

current_resources: ContextVar[Resources | None] = ContextVar("current_resources", default=None)
"""The resources of the worker of the activity that runs in this context."""

UNWINDING_SECONDS = 10.0
"""The time that a cancelled attempt may take to clean up before it is left alone."""


class NotBegun(Exception):
    """The attempt must not begin now: nothing of the call has run."""


Begin = Callable[[], None]
"""Called right before the first thing that an attempt does, from the thread that does it.

Raises:
    NotBegun: the attempt must not begin.
"""


def at_any_time() -> None:
    """Let an attempt begin whenever it comes to that."""


AttemptWatcher = Callable[[Call, Attempt, Callable[[], Awaitable[JSON]]], Awaitable[JSON]]
"""Sees an attempt: makes it by the function that it is given, and returns its result or raises its error."""

_watchers: list[AttemptWatcher] = []


def watch_attempts(see: AttemptWatcher) -> Callable[[], None]:
    """Let `see` stand around every attempt of this process; return a function that ends that."""
    _watchers.append(see)
    return functools.partial(_watchers.remove, see)


async def perform(call: Call, attempt: Attempt, resources: Resources, begin: Begin = at_any_time) -> JSON:
    """Make one attempt at `call`, and return its result as JSON. Exceptions of the call are passed on.

    Raises:
        NotBegun: `begin` raised it.
        HeldBack: the models to ask are to be left alone for now.
    """
    if isinstance(call, RunActivity):
        return await _call_activity(call, attempt, resources, begin)
    begin()
    match call:
        case AskModel(session=session, request=request, must_have_price=models):
            try:
                asking = request(attempt)
                _check_held_back(session, asking, resources)
                if models and (unpriced := await session.unpriced(models)):
                    raise UnknownPrice(", ".join(unpriced))
                reply = await session.reply(asking, resources, _publishing(attempt.publish))
            except (OutlastError, HeldBack):
                raise
            except (
                Exception
            ) as error:  # Sessions raise errors of ours (S2), so this one is a mistake in code.
                raise ForeignError(type(error).__name__, message_of(error), final=True) from error
            try:
                return _written(reply, with_whole_characters)
            except ValueError as error:
                raise MalformedReply(str(error)) from error
        case CallSourceTool(source=source, tool=tool, arguments=arguments, known=known):
            token = current_attempt.set(attempt)
            try:
                output = await source.call(tool, arguments, resources, known=known)
            finally:
                current_attempt.reset(token)
            try:
                return _written(output)
            except ValueError as error:
                raise Unserialisable(f"the result of {tool!r}", type(output).__name__, str(error)) from error
        case ListTools(source=source):
            return ToolList.of(await source.list_tools(resources)).written()
        case StartChild() | MessageChild():
            raise NotSupported("only the engine of a backend starts children, and sends them messages")


def _check_held_back(session: Session, request: ModelRequest, resources: Resources) -> None:
    """Raise `HeldBack` if no model that may reply can be asked yet."""
    models = session.models_asked(request.graph[request.agent])
    seconds = min(map(resources.held_back, models), default=0.0)
    if seconds > 0:
        raise HeldBack(seconds)


async def _call_activity(call: RunActivity, attempt: Attempt, resources: Resources, begin: Begin) -> JSON:
    definition = call.definition
    args, kwargs = call.python_arguments()

    def run() -> Any:
        begin()
        return definition.fn(*args, **kwargs)

    token, opened = current_attempt.set(attempt), current_resources.set(resources)
    try:
        result = await called(run, is_async=definition.is_async, name=f"activity {definition.name}")
    finally:
        current_attempt.reset(token)
        current_resources.reset(opened)
    return definition.signature.dump_result(result)


def _publishing(publish: Publish | None) -> Publish | None:
    """Return a function that publishes only whole characters: half a character waits for the other half."""
    if publish is None:
        return None
    held = ""

    def publish_whole(text: str) -> None:
        nonlocal held
        text, held = held + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, held = text[:-1], text[-1]
        if text:
            publish(whole_characters(text))

    return publish_whole


def _written(result: Value, repaired: Callable[[Any], Any] = lambda data: data) -> JSON:
    """Return the result of a server, as JSON; raises ValueError when no record could carry it."""
    data = result.to_data("json")
    # The other half of the envelope is for records, and for their readers.
    depth_max = DEPTH_MAX + ENVELOPE_DEPTH // 2
    if quickly_encoded(data, depth_max=depth_max) is not None:
        return data
    check_json(data, depth_max=depth_max)
    return cast(JSON, repaired(data))


class Heartbeat:
    """The heartbeat of one attempt, called from any thread."""

    def __init__(self, limit_bytes: int = sys.maxsize) -> None:
        self._limit_bytes = limit_bytes // 2  # the record with the last details holds a failure as well
        self._loop = asyncio.get_running_loop()
        self._beaten = asyncio.Event()
        self.details: tuple[JSON, ...] = ()

    def beat(self, details: tuple[JSON, ...]) -> None:
        """Note a sign of life.

        Raises:
            Unserialisable: `details` are not JSON.
            PayloadTooLarge: they are too long to be kept.
        """
        what = "the details of a heartbeat"
        try:
            given = kept(list(details), depth_max=DEPTH_MAX + 1)
        except (TypeError, ValueError) as error:
            raise Unserialisable(what, type(details[-1]).__name__, str(error)) from error
        check_size(what, len(encode(given, depth_max=DEPTH_MAX + 1)), self._limit_bytes)
        self.details = tuple(given)
        self._loop.call_soon_threadsafe(self._beaten.set)

    async def missed(self, timeout: float, clock: Clock) -> None:
        """Return when the last sign of life is `timeout` seconds old."""
        while True:
            self._beaten.clear()
            beat, over = asyncio.create_task(self._beaten.wait()), asyncio.create_task(clock.sleep(timeout))
            try:
                await asyncio.wait({beat, over}, return_when=asyncio.FIRST_COMPLETED)
                if over.done() and not beat.done():
                    return
            finally:
                beat.cancel()
                over.cancel()


async def perform_in_time(
    call: Call,
    attempt: Attempt,
    options: ActivityOptions,
    resources: Resources,
    clock: Clock,
    pulse: Heartbeat,
    begin: Begin = at_any_time,
) -> JSON:
    """Perform `call` within its timeouts.

    Cancelling this cancels the attempt; a result that the attempt returns nevertheless is returned.

    Raises:
        Exception: the exception of the attempt, of any class; see `contained`.
        ActivityBlocked: it held the loop for too long, where attempts are isolated; see `isolated_attempts`.
        ActivityTimedOut: it took longer than `start_to_close_timeout`, or was silent for longer than
            `heartbeat_timeout`; the attempt has been cancelled (a thread cannot be, and is left alone).
        NotBegun: `begin` raised it.
        HeldBack: nothing was begun, because the models to ask are to be left alone for now.
    """
    work = attempt_task(_performed(call, attempt, resources, begin), attempt.activity, attempt.execution_id)
    passed: list[tuple[str, float]] = []
    waking = asyncio.get_running_loop().create_future()

    def wake(_: object = None) -> None:
        if not waking.done():
            waking.set_result(None)

    def end_at(option: str, seconds: float, _: object = None) -> None:
        passed.append((option, seconds))
        wake()

    work.add_done_callback(wake)
    longest = options.start_to_close_timeout
    limit = clock.call_later(longest, functools.partial(end_at, "start_to_close_timeout", longest))
    silence: asyncio.Task[None] | None = None
    if options.heartbeat_timeout is not None:
        silence = asyncio.create_task(pulse.missed(options.heartbeat_timeout, clock))
        silence.add_done_callback(functools.partial(end_at, "heartbeat_timeout", options.heartbeat_timeout))
    try:
        await waking
        if not work.done():
            option, seconds = passed[0]
            await _end(work, clock)
            raise ActivityTimedOut(attempt.activity, option, seconds)
    except asyncio.CancelledError:
        await _end(work, clock)
        if not work.done() or work.cancelled():
            raise
    finally:
        limit.cancel()
        if silence is not None:
            silence.cancel()
    return work.result()


async def _performed(call: Call, attempt: Attempt, resources: Resources, begin: Begin) -> JSON:
    make: Callable[[], Awaitable[JSON]] = functools.partial(perform, call, attempt, resources, begin)
    for see in _watchers:
        make = functools.partial(see, call, attempt, make)
    with contained(), observed_attempt(attempt.trace):
        return await make()


async def _end(work: asyncio.Task[JSON], clock: Clock) -> None:
    """Cancel `work` and wait until it has ended; code that goes on for too long is left alone."""
    work.cancel()
    patience = asyncio.create_task(clock.sleep(UNWINDING_SECONDS))
    try:
        await asyncio.wait({work, patience}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        patience.cancel()
    if not work.done():
        logger.warning("%s was cancelled and goes on all the same", work.get_name())
        work.add_done_callback(_retrieve)
    else:
        _retrieve(work)


def _retrieve(work: asyncio.Task[JSON]) -> None:
    if not work.cancelled():
        work.exception()
