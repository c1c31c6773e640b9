"""Random programs that run on two backends in one order of steps, so that their journals can be compared.

A conductor lets one activity end at a time: the one with the lowest key of all that have begun, once nothing
else goes on. So parallel branches go on in the same order everywhere.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

import outlast
from outlast.adapters.scripted import call
from outlast.core.events import AttemptFailedData, EventKind, TimerStartedData
from outlast.core.records import AnyRecord

Op = list[Any]

LONG_SECONDS = 600.0
QUIET_SECONDS = 0.02
"""The time after which all events of one portion of work have been read: they come without a pause."""


@dataclass
class Gates:
    """The activities of one execution that wait to end, by key."""

    waiting: dict[str, asyncio.Event] = field(default_factory=dict)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)


gates: defaultdict[str, Gates] = defaultdict(Gates)


async def passed() -> None:
    """Return when the conductor lets this activity end."""
    info = outlast.activity.info()
    key = info.idempotency_key.partition("/")[2]
    gate = gates[info.execution_id].waiting[key] = asyncio.Event()
    async with gates[info.execution_id].came:
        gates[info.execution_id].came.notify_all()
    await gate.wait()


@outlast.activity(
    name="differential_work",
    retry_policy_initial_interval=timedelta(milliseconds=1),
    retry_policy_max_attempts=3,
    retry_policy_non_retryable=["ValueError"],
)
async def work(number: int, how: str = "well") -> int:
    """Do something."""
    if how == "flaky" and outlast.activity.info().attempt == 1:
        raise LookupError("not yet")
    await passed()
    if how == "badly":
        raise ValueError(f"no {number}")
    return number


@outlast.activity(name="differential_local", local=True)
async def look(number: int) -> int:
    """Do something short, in a portion of its own."""
    return number


def without_local_activities(op: Op) -> Op:
    """Return the operation with a short sleep in place of each local activity.

    In a worker that caches nothing, the core of Temporal's SDK fails on some of them ("LA marker handling in
    invalid state MarkerCommandCreated"), and after a few such failures it no longer answers any task.
    """
    if op and op[0] == "look":
        return ["sleep"]
    return [without_local_activities(part) if isinstance(part, list) else part for part in op]


@outlast.activity(name="differential_want")
async def want() -> None:
    """Let the conductor send a signal."""


@outlast.workflow.define(name="differential")
class Program:
    """Does as it is asked."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    @outlast.workflow.entrypoint
    async def run(self, program: list[Op]) -> list[Any]:
        return [await self.do(op) for op in program]

    @outlast.workflow.signal
    async def give(self, number: int) -> None:
        self.signals.append(await work(number))

    @outlast.workflow.update
    async def ask(self, number: int) -> int:
        return await work(number) + 1

    async def do(self, op: Op) -> Any:
        match op:
            case ["work", int(number), str(how)]:
                try:
                    return await work(number, how)
                except outlast.OutlastError as error:
                    return type(error).__name__
            case ["look", int(number)]:
                return await look(number)
            case ["all", list(ops)]:
                return await asyncio.gather(*map(self.do, ops))
            case ["group", list(ops)]:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self.do(one)) for one in ops]
                return [task.result() for task in tasks]
            case ["completed", list(ops)]:
                return [await one for one in asyncio.as_completed([self.do(one) for one in ops])]
            case ["within", list(one)]:
                async with asyncio.timeout(LONG_SECONDS):
                    return await self.do(one)
            case ["race", list(one)]:
                racing = [asyncio.create_task(self.do(one)), asyncio.create_task(asyncio.sleep(LONG_SECONDS))]
                done, late = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                for task in late:
                    task.cancel()
                return [task.result() for task in done]
            case ["pages", int(number)]:
                async for page in pages(number):
                    return page
            case ["sleep"]:
                return await asyncio.sleep(0.001)
            case ["expire"]:
                try:
                    async with asyncio.timeout(0.001):
                        await asyncio.Event().wait()
                except TimeoutError:
                    return "late"
            case ["signal"]:
                await want()
                await outlast.workflow.wait_condition(lambda: bool(self.signals))
                return self.signals.pop(0)
            case ["agent", list(numbers)]:
                script: list[Any] = [[call("differential_work", {"number": one}) for one in numbers], "Done."]
                agent = outlast.Agent(model="m", name="clerk", tools=[work])
                result = await outlast.Runner.run(agent, "Go.", outlast.ScriptedSession({"clerk": script}))
                return result.text
            case ["chance"]:
                return [outlast.workflow.random().random(), str(outlast.workflow.uuid4())]
            case ["patch", str(name)]:
                return outlast.workflow.patched(name)
        raise ValueError(op)


async def pages(number: int) -> AsyncGenerator[int]:
    """Yield numbers, and clean up."""
    try:
        for one in range(3):
            yield await work(number + one)
    finally:
        await work(-number)


numbers = st.integers(0, 99)
_leaf = st.one_of(
    st.tuples(st.just("work"), numbers, st.sampled_from(["well", "well", "flaky", "badly"])).map(list),
    st.tuples(st.just("pages"), numbers).map(list),
    st.just(["chance"]),
)
_branching = st.recursive(
    _leaf,
    lambda ops: st.one_of(
        st.tuples(st.sampled_from(["all", "group", "completed"]), st.lists(ops, min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["within", "race"]), ops),
    ).map(list),
    max_leaves=5,
)
# Models answer when they like, so runs of agents do not stand beside each other.
_agent = st.tuples(st.just("agent"), st.lists(numbers, min_size=1, max_size=3)).map(list)
_ops = st.one_of(
    _branching,
    _agent,
    _agent.map(lambda agent: ["race", agent]),
    st.just(["sleep"]),
    st.just(["expire"]),
    st.just(["signal"]),
    st.tuples(st.just("look"), numbers).map(list),
)
# Patches come first: if a query interrupts a workflow task with a local activity, Temporal itself does not
# know yet, in a replay, of a patch that comes after it.
_patches = st.lists(st.tuples(st.just("patch"), st.sampled_from("pq")).map(list), max_size=2)
programs: st.SearchStrategy[list[Op]] = st.tuples(_patches, st.lists(_ops, max_size=5)).map(
    lambda parts: [*parts[0], *parts[1]]
)

_BEGUN = {EventKind.ACTIVITY_STARTED, EventKind.TOOL_CALLED, EventKind.TURN_STARTED}
_ENDED = {
    *(
        EventKind.ACTIVITY_COMPLETED,
        EventKind.ACTIVITY_FAILED,
        EventKind.TOOL_RETURNED,
        EventKind.TOOL_FAILED,
    ),
    *(EventKind.MODEL_REPLIED, EventKind.MODEL_FAILED),
}


async def conduct(execution: outlast.Execution) -> None:
    """Carry an execution to its end: let one activity end at a time, and send what it waits for."""
    here, sent = gates[execution.id], 0
    gated: set[str] = set()
    others: set[str] = set()
    """The open steps and timers that end by themselves."""
    wanted = 0
    events = aiter(execution.events())
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            await asyncio.wait([coming], timeout=QUIET_SECONDS)
            if coming.done():
                if (event := coming.result()) is None:
                    return
                coming = asyncio.ensure_future(anext(events, None))
                key = getattr(event.data, "key", "")
                if event.kind in _BEGUN:
                    name = getattr(event.data, "name", getattr(event.data, "tool", ""))
                    (gated if name == "differential_work" else others).add(key)
                elif event.kind in _ENDED:
                    gated.discard(key)
                    others.discard(key)
                    here.waiting.pop(key, None)
                    wanted += getattr(event.data, "name", "") == "differential_want"
                elif isinstance(event.data, TimerStartedData):
                    if event.data.due_at - event.at.timestamp() < LONG_SECONDS / 2:
                        others.add(key)
                elif event.kind == EventKind.TIMER_FIRED:
                    others.discard(key)
                continue
            if gated and not others:
                async with here.came:
                    await here.came.wait_for(lambda: gated <= here.waiting.keys())
                here.waiting[min(gated)].set()
            elif wanted > sent and not others:
                sent += 1
                await execution.signal("give", sent)
            await asyncio.wait([coming])
    finally:
        coming.cancel()


def comparable(records: Sequence[AnyRecord]) -> list[dict[str, Any]]:
    """Return a journal as JSON, without times, ids of messages and the engine's notes."""
    fields = [record.model_dump(mode="json") for record in records if record.type != "attempt_failed"]
    return [{k: v for k, v in one.items() if k not in ("at", "due_at", "message_id")} for one in fields]


async def failed_attempts(execution: outlast.Execution) -> list[Any]:
    """Return which attempts failed, and how."""
    found = [one.data for one in [event async for event in execution.events(follow=False)]]
    failed = [data for data in found if isinstance(data, AttemptFailedData)]
    return sorted((data.key, data.attempt, data.failure.kind) for data in failed)
