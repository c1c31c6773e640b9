"""The activities of the contract's workflows: they change the `world`, and succeed or fail."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta

from outlast.core.json import JSON
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.world import here

SECRET_VARIABLE = "OUTLAST_CONTRACT_SECRET"
AT_ONCE = timedelta(0)
BACKOFF_SECONDS = 4.0


class Overloaded(Exception):
    """An error of a kind that this library does not know."""


class Hopeless(Exception):
    """An error that its activity declares not worth another attempt."""


class MoreHopeless(Hopeless):
    """An error that goes without saying."""


@activity(retry_policy_initial_interval=AT_ONCE)
async def record(what: str) -> str:
    """Do something, once."""
    here().happen(what)
    return f"{what} done"


@activity(retry_policy_initial_interval=AT_ONCE)
def record_in_thread(what: str) -> str:
    """Record `what`, in a thread."""
    here().happen(what)
    assert threading.current_thread() is not threading.main_thread()
    return f"{what} done"


async def behind(gate: str) -> str:
    """Note that an attempt has reached the gate, and, once the test has opened it, that it has passed."""
    world = here()
    with world.attempt():
        world.happen(f"{gate} reached")
        await world.gate(gate).wait()
        world.happen(f"{gate} passed")
    return f"{gate} done"


@activity(retry_policy_initial_interval=AT_ONCE)
async def pass_gate(gate: str) -> str:
    """Wait until the test opens a gate."""
    return await behind(gate)


@activity(effect="once")
async def pass_gate_once(gate: str) -> str:
    """The same, but never twice."""
    return await behind(gate)


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def pass_gate_in_two_attempts(gate: str) -> str:
    """The same, in two attempts at most, the second of which fails."""
    world = here()
    if activity.info().attempt > 1:
        world.happen(f"{gate} failed")
        raise Overloaded("not this time either")
    return await behind(gate)


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=1)
async def pass_gate_in_one_attempt(gate: str) -> str:
    """The same, in one attempt."""
    return await behind(gate)


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=4)
async def fail(what: str, times: int) -> int:
    """Fail so many times; return the number of the attempt that did not."""
    attempt = activity.info().attempt
    here().happen(what)
    if attempt <= times:
        raise Overloaded(f"attempt {attempt} of {what}")
    return attempt


@activity(retry_policy_initial_interval=AT_ONCE)
async def record_at_second_try(what: str) -> str:
    """Do something, but not at the first attempt."""
    here().happen(what)
    if activity.info().attempt == 1:
        raise Overloaded(what)
    return f"{what} done"


@activity(
    retry_policy_initial_interval=timedelta(seconds=BACKOFF_SECONDS),
    retry_policy_backoff_coefficient=2.0,
    retry_policy_max_attempts=3,
)
async def fail_slowly(what: str, times: int) -> int:
    """The same, with a back-off of 4 and 8 seconds."""
    attempt = activity.info().attempt
    here().happen(what)
    if attempt <= times:
        raise Overloaded(f"attempt {attempt} of {what}")
    return attempt


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_non_retryable=[Hopeless])
async def fail_hopelessly(what: str, how: str = "itself") -> None:
    """Fail with an error that ends the step: itself, one derived from it, or a group that one is in."""
    here().happen(what)
    match how:
        case "derived":
            raise MoreHopeless(what)
        case "group":
            raise ExceptionGroup("several", [Overloaded(what), MoreHopeless(what)])
    raise Hopeless(what)


@activity(effect="once")
async def fail_once(what: str) -> None:
    """Fail, as something that must not be repeated."""
    here().happen(what)
    raise Overloaded(what)


@activity(
    start_to_close_timeout=timedelta(seconds=2),
    retry_policy_initial_interval=AT_ONCE,
    retry_policy_max_attempts=2,
)
async def take_too_long(what: str) -> None:
    """Never end."""
    world = here()
    world.happen(what)
    try:
        await asyncio.Event().wait()
    finally:
        world.happen(f"{what} cancelled")


@activity(
    heartbeat_timeout=timedelta(seconds=2), retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2
)
async def fall_silent(what: str) -> JSON:
    """Send one heartbeat, then none; the second attempt returns the details of that heartbeat."""
    world = here()
    world.happen(what)
    info = activity.info()
    if info.attempt > 1:
        return list(info.heartbeat_details)
    activity.heartbeat("page", 7)
    await asyncio.Event().wait()
    return None


@activity(heartbeat_timeout=timedelta(seconds=2), retry_policy_max_attempts=1)
async def give_signs_of_life(what: str, signs: int) -> int:
    """Give so many, one for each time that the test opens the gate, and end."""
    world = here()
    for sign in range(signs):
        gate = f"{what} {sign}"
        world.happen(gate)
        await world.gate(gate).wait()
        activity.heartbeat(sign)
    return signs


@activity(retry_policy_initial_interval=AT_ONCE)
async def beat(kind: str) -> str:
    """Give a sign of life that cannot be kept; return the error."""
    details: dict[str, JSON] = {"object": object(), "huge": "x" * 3_000_000}  # type: ignore[dict-item]
    try:
        activity.heartbeat(details[kind])
    except Exception as error:
        return type(error).__name__
    return "nothing"


@activity(retry_policy_initial_interval=AT_ONCE)
async def return_bytes(size: int) -> str:
    """Return a text of so many bytes."""
    here().happen("returned")
    return "x" * size


@activity(retry_policy_initial_interval=AT_ONCE)
async def return_object() -> object:
    """Return a value that is not JSON."""
    here().happen("returned")
    return object()


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def raise_odd_error(kind: str) -> None:
    """Raise an exception of an unusual type, or with an unusual text."""
    here().happen(kind)
    match kind:
        case "cancelled":
            raise asyncio.CancelledError
        case "base":
            raise _NotAnException
        case "huge":
            raise Overloaded("x" * 3_000_000)
        case "group":
            raise ExceptionGroup("several", [Overloaded("x" * 3_000_000), ExceptionGroup("", [Overloaded()])])
        case "unreadable":
            raise _Unreadable


class _NotAnException(BaseException):
    pass


class _Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@activity(retry_policy_initial_interval=AT_ONCE)
async def use_secret() -> int:
    """Use a secret as an adapter does: read from the environment, and not passed to anybody."""
    return len(os.environ[SECRET_VARIABLE])


@activity(retry_policy_initial_interval=AT_ONCE)
async def report_info() -> list[JSON]:
    """Return what an attempt knows of itself."""
    info = activity.info()
    return [info.execution_id, info.activity, info.attempt, info.idempotency_key]
