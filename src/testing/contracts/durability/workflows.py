"""The workflows that the contract runs: each shows one thing, through the interface that users have."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from outlast.core.errors import OutcomeUnknown, OutlastError, PayloadTooLarge, Unserialisable
from outlast.core.json import JSON
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import (
    beat,
    fail,
    fail_hopelessly,
    fail_once,
    fail_slowly,
    fall_silent,
    give_signs_of_life,
    pass_gate,
    pass_gate_in_one_attempt,
    pass_gate_in_two_attempts,
    pass_gate_once,
    raise_odd_error,
    record,
    record_in_thread,
    report_info,
    return_bytes,
    return_object,
    take_too_long,
    use_secret,
)


@dataclass
class Order:
    """A value of a user's own type."""

    item: str
    count: int


@workflow.define(name="contract.ordering")
class Ordering:
    """Takes and returns a user's type."""

    @workflow.entrypoint
    async def run(self, order: Order, express: bool = False) -> Order:
        await record(order.item)
        return Order(order.item, order.count + 1 + express)


ODD_NAME = """contract.it's "odd" \\ %_; --"""


@workflow.define(name="contract.echo")
class Echo:
    """Takes and returns any JSON."""

    @workflow.entrypoint
    async def run(self, value: Any) -> Any:
        return value


@workflow.define(name=ODD_NAME)
class OddlyNamed:
    """Has a name that is hard to quote."""

    @workflow.entrypoint
    async def run(self) -> str:
        return await record("done")


@workflow.define(name="contract.steps")
class Steps:
    """Does things one after the other."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @workflow.entrypoint
    async def run(self, names: list[str]) -> list[str]:
        for name in names:
            self.done.append(await record(name))
        return self.done

    @workflow.query
    def so_far(self) -> list[str]:
        return self.done


@workflow.define(name="contract.threaded")
class Threaded:
    """Does things in threads, all at once."""

    @workflow.entrypoint
    async def run(self, names: list[str]) -> list[str]:
        return list(await asyncio.gather(*(record_in_thread(name) for name in names)))


@workflow.define(name="contract.gated")
class Gated:
    """Does something, waits at a gate, does another thing."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        return [await record("before"), await pass_gate("gate"), await record("after")]


@workflow.define(name="contract.gated_once")
class GatedOnce:
    """Waits at a gate in an activity that must not be repeated."""

    @workflow.entrypoint
    async def run(self) -> str:
        try:
            return await pass_gate_once("gate")
        except OutcomeUnknown:
            return f"unknown, {await record('looked')}"


@workflow.define(name="contract.two_gated_once")
class TwoGatedOnce:
    """The same twice at once, where the failure of one gives the other up."""

    @workflow.entrypoint
    async def run(self) -> str:
        outcome = "known"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pass_gate_once("left"))
                group.create_task(pass_gate_once("right"))
        except* OutcomeUnknown as unknown:
            outcome = f"{len(unknown.exceptions)} unknown"
        return outcome


@workflow.define(name="contract.many_gates")
class ManyGates:
    """Waits at several gates at once."""

    @workflow.entrypoint
    async def run(self, names: list[str]) -> list[str]:
        return list(await asyncio.gather(*(pass_gate(name) for name in names)))


@workflow.define(name="contract.attempts")
class CountAttempts:
    """Runs one activity that does not simply succeed, and returns how it ended."""

    @workflow.entrypoint
    async def run(self, which: str, times: int = 0) -> JSON:
        try:
            match which:
                case "fail":
                    return await fail("tried", times)
                case "slow":
                    return await fail_slowly("tried", times)
                case "hopeless itself" | "hopeless derived" | "hopeless group":
                    await fail_hopelessly("tried", which.removeprefix("hopeless "))
                case "once":
                    await fail_once("tried")
                case "long":
                    await take_too_long("tried")
                case "silent":
                    return await fall_silent("tried")
                case "alive":
                    return await give_signs_of_life("sign", times)
                case "two":
                    return await pass_gate_in_two_attempts("gate")
                case "one":
                    return await pass_gate_in_one_attempt("gate")
                case "beat object" | "beat huge":
                    return await beat(which.removeprefix("beat "))
                case _:
                    await raise_odd_error(which)
        except OutlastError as error:
            failed = [type(error).__name__, getattr(error, "attempts", None), getattr(error, "kind", None)]
            return failed
        return None


@workflow.define(name="contract.infos")
class Infos:
    """Asks attempts and itself who they are."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        one, other = await asyncio.gather(report_info(), report_info())
        info = workflow.info()
        return [one, other, info.execution_id, info.workflow]


@workflow.define(name="contract.failing")
class Failing:
    """Fails by its own code."""

    @workflow.entrypoint
    async def run(self, how: str) -> None:
        await record("begun")
        match how:
            case "foreign":
                raise ZeroDivisionError("no such quotient")
            case "ours":
                await fail_hopelessly("tried")
            case "huge":
                raise ValueError("x" * 3_000_000)
            case "cancelled":
                raise asyncio.CancelledError
            case "exit":
                await asyncio.to_thread(print)


@workflow.define(name="contract.unmakeable")
class Unmakeable:
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no instance")

    @workflow.entrypoint
    async def run(self) -> None:
        await record("never")

    @workflow.query
    def nothing(self) -> None:
        return None


@workflow.define(name="contract.payloads")
class Payloads:
    """Uses payloads that no backend takes, and returns the errors."""

    @workflow.entrypoint
    async def run(self, which: str, size: int) -> str:
        try:
            match which:
                case "argument":
                    await record("x" * size)
                case "result":
                    await return_bytes(size)
                case "object argument":
                    await record(object())  # type: ignore[arg-type]
                case "object result":
                    await return_object()
                case "own result":
                    return "x" * size
        except (PayloadTooLarge, Unserialisable) as error:
            return f"{type(error).__name__}, {await record('small')}"
        return "no error"


@workflow.define(name="contract.secretive")
class Secretive:
    """Has an activity use a secret."""

    @workflow.entrypoint
    async def run(self) -> int:
        return await use_secret()


@workflow.define(name="contract.asyncio")
class Asyncio:
    """Uses what asyncio offers, with activities."""

    @workflow.entrypoint
    async def run(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        results["gather"] = await asyncio.gather(record("a"), record("b"), asyncio.sleep(0.01, "slept"))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(record(name)) for name in "cd"]
        results["group"] = [task.result() for task in tasks]
        try:
            async with asyncio.timeout(1):
                await pass_gate("gate")
        except TimeoutError:
            results["timeout"] = "timed out"
        event, queue, lock = asyncio.Event(), asyncio.Queue[str](), asyncio.Lock()

        async def produce() -> None:
            for name in "ef":
                async with lock:
                    await queue.put(await record(name))
            event.set()

        producer = asyncio.create_task(produce())
        results["queue"] = [await queue.get(), await queue.get()]
        await event.wait()
        await producer
        done, pending = await asyncio.wait(
            [asyncio.create_task(record("g")), asyncio.create_task(asyncio.sleep(1e6))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        results["wait"] = [task.result() for task in done]
        for task in pending:
            task.cancel()
        results["shield"] = await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(record("h"))), 60)
        return results


@workflow.define(name="contract.chance")
class Chance:
    """Draws numbers and ids around a wait, and returns those from before and after."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        before = [str(workflow.uuid4()), workflow.random().random(), workflow.now().isoformat()]
        await record(str(before[0]))
        await pass_gate("gate")
        again = [str(workflow.uuid4()), workflow.random().random()]
        return [*before, *again]


def version(steps: list[str], *, returns_at_once: bool = False) -> type[Any]:
    """Return a workflow of a fixed name with these steps: the same program, edited."""

    @workflow.define(name="contract.versioned")
    class Versioned:
        @workflow.entrypoint
        async def run(self) -> list[str]:
            if returns_at_once:
                return []
            return [
                await pass_gate("gate") if step == "gate" else await activities[step](step) for step in steps
            ]

        @workflow.signal
        def poke(self) -> None:
            return None

        @workflow.query
        def look(self) -> None:
            return None

    return Versioned


def patched_version() -> type[Any]:
    """Return the same workflow after two patches: one of its beginning, one of its end."""

    @workflow.define(name="contract.versioned")
    class Patched:
        @workflow.entrypoint
        async def run(self) -> list[str]:
            first = record_in_thread("other") if workflow.patched("beginning") else record("first")
            done = [await first, await pass_gate("gate")]
            return [*done, await record("end" if workflow.patched("end") else "second")]

    return Patched


activities = {"first": record, "second": record, "other": record_in_thread}


@activity()
async def add(one: int, other: int) -> int:
    """Add."""
    return one + other


@workflow.define(name="contract.counter")
class Counter:
    """Takes one step after the other, so that a test can count the cost of a step."""

    @workflow.entrypoint
    async def run(self, steps: int) -> int:
        total = 0
        for step in range(steps):
            total = await add(total, step)
        return total
