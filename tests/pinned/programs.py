"""The workflows whose journals are pinned, and what happens to each. Never change one: write another.

Nothing here uses `asyncio.wait_for`, which asks for other keys on Python 3.11 than on later versions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.testing.contracts.durability.stage import Process, Stage

AT_ONCE = timedelta(0)

Deeds = Callable[[Stage, Execution, Process], Awaitable[Execution | None]]
"""The things that people and machines do to an execution while it runs; they may return a fork of it."""


@outlast.activity(name="pinned_look_up")
async def look_up(city: str, days: int = 1) -> dict[str, Any]:
    """Look the weather up.

    Args:
        city: Where
        days: For how many days
    """
    return {"city": city, "days": days, "rain": [0.5] * days, "note": "näß 🌧"}


@outlast.activity(name="pinned_pay", requires_approval=True, effect="once")
async def pay(to: str, amount: float) -> str:
    """Pay somebody."""
    return f"{to} has {amount}"


@outlast.activity(name="pinned_unsteady", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=3)
async def unsteady(failures: int) -> int:
    """Fail so many times."""
    attempt = outlast.activity.info().attempt
    outlast.activity.heartbeat({"attempt": attempt})
    if attempt <= failures:
        raise LookupError(f"attempt {attempt} fails")
    return attempt


@outlast.activity(name="pinned_wait")
async def wait_for_the_end() -> str:
    """Work until the worker is gone."""
    if outlast.activity.info().attempt == 1:
        await asyncio.Event().wait()
    return "at the second attempt"


@outlast.activity(name="pinned_note")
async def note(what: str) -> str:
    """Note something."""
    return f"{what} noted"


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def break_down(text: str) -> str:
    """Fail."""
    raise ValueError(f"cannot bear {text!r}")


@outlast.workflow.define(name="pinned.agents")
class Agents:
    """Handoffs, tools of every kind side by side, calls that fail, a conversation of two runs."""

    @outlast.workflow.entrypoint
    async def run(self, request: str) -> list[str]:
        expert = outlast.Agent(
            model="m",
            name="expert",
            description="Knows the weather",
            tools=[look_up, shout, break_down, pay],
        )
        front = outlast.Agent(model="m", name="front", instructions="Hand off.", handoffs=[expert])
        calls = [
            call("pinned_look_up", {"city": "Lyon", "days": 2}),
            call("shout", {"text": "rain"}),
            call("break_down", {"text": "rain"}),
            call("pinned_look_up", "no JSON"),
            call("shout", {"words": 1}),
            call("nothing"),
        ]
        session = outlast.ScriptedSession(
            {
                "front": [[handoff("expert")], say("Back.")],
                "expert": [calls, say("It rains."), say("Still.")],
            },
            may_call_unknown_tools=True,
        )
        first = await outlast.Runner.run(front, request, session)
        second = await outlast.Runner.run(expert, "And now?", session)
        return [first.text, second.text, str(len(first.entries)), str(first.usage.total_tokens)]


@outlast.workflow.define(name="pinned.approvals")
class Approvals:
    """Three payments: one is allowed, one allowed with other arguments, one denied."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        agent = outlast.Agent(model="m", name="spender", tools=[pay])
        calls = [call("pinned_pay", {"to": name, "amount": 10.5}) for name in ("Ada", "Bob", "Cyd")]
        session = outlast.ScriptedSession({"spender": [calls, say("Paid.")]})
        result = await outlast.Runner.run(agent, "Pay.", session)
        return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]


async def decide(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "approval_requested", 3)
    first, second, third = await execution.pending()
    await execution.decide(first.call_id, "allow")
    await execution.decide(second.call_id, "allow", edited_arguments={"to": "Bob", "amount": 1.0})
    await execution.decide(third.call_id, "deny", "Too much.")


@outlast.workflow.define(name="pinned.waiting")
class Waiting:
    """Timers, timeouts, tasks, signals, conditions, random numbers, patches, events of steps that fail."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self, count: int) -> dict[str, Any]:
        async def child(number: int) -> str:
            await asyncio.sleep(number)
            return await note(f"child {number}")

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(number)) for number in (3, 1, 2)]
        timed_out = False
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            timed_out = True
        await outlast.workflow.wait_condition(lambda: len(self.said) >= count)
        failed = ""
        try:
            await unsteady(5)
        except outlast.ActivityFailed as error:
            failed = str(error)
        return {
            "children": [task.result() for task in tasks],
            "timed out": timed_out,
            "said": self.said,
            "draw": outlast.workflow.random().randint(1, 1000),
            "id": str(outlast.workflow.uuid4()),
            "patched": outlast.workflow.patched("pinned"),
            "steady": await unsteady(1),
            "failed": failed,
        }

    @outlast.workflow.signal
    async def say(self, text: str, *, by: str = "nobody") -> None:
        self.said.append(await note(f"{by}: {text}"))


async def let_time_pass_and_speak(stage: Stage, execution: Execution, process: Process) -> None:
    await execution.signal("say", "early")
    await stage.event(execution, "timer_started", 3)
    await stage.pass_time(4)
    await stage.event(execution, "timer_started", 4)
    await stage.pass_time(6)
    await execution.signal("say", "late", by="Ada")


@outlast.workflow.define(name="pinned.updates")
class Updates:
    """Updates that are answered, that wait, that fail, and that are not accepted."""

    def __init__(self) -> None:
        self.total = 0
        self.ended = False

    @outlast.workflow.entrypoint
    async def run(self) -> int:
        await outlast.workflow.wait_condition(lambda: self.ended)
        await outlast.workflow.wait_condition(outlast.workflow.all_handlers_finished)
        return self.total

    @outlast.workflow.update
    async def add(self, amount: int) -> int:
        await note(f"add {amount}")
        self.total += amount
        return self.total

    @add.validator
    def check(self, amount: int) -> None:
        if amount < 0:
            raise ValueError("no debts")

    @outlast.workflow.update
    def fail(self) -> None:
        raise LookupError("as it should")

    @outlast.workflow.update
    def end(self) -> bool:
        self.ended = True
        return True


async def update(stage: Stage, execution: Execution, process: Process) -> None:
    await execution.update("add", 2, id="one")
    for name, arguments, expected in (
        ("add", [-1], outlast.UpdateRejected),
        ("fail", [], outlast.UpdateFailed),
    ):
        with suppress(expected):
            await execution.update(name, *arguments, id=name)
    await execution.update("add", 3, id="two")
    await execution.update("end", id="three")


@outlast.workflow.define(name="pinned.cancelled")
class Cancelled:
    """Is cancelled while it waits, and cleans up."""

    @outlast.workflow.entrypoint
    async def run(self) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await note("cleaned up")


async def cancel(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "timer_started")
    await execution.cancel()


@outlast.workflow.define(name="pinned.failed")
class Failed:
    """Fails with an error of its own, after a child task has failed."""

    @outlast.workflow.entrypoint
    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1000))
            group.create_task(self.lose())

    async def lose(self) -> None:
        await note("lost")
        raise KeyError("lost")


@outlast.workflow.define(name="pinned.recovered")
class Recovered:
    """Loses its worker in the middle of a step."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        return list(await asyncio.gather(wait_for_the_end(), note("beside it")))


async def lose_the_worker(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "activity_completed")
    await stage.lose(process)
    await stage.worker(Recovered)


class Score(BaseModel):
    """An answer with a type."""

    value: int


@outlast.workflow.define(name="pinned.checks")
class Checks:
    """Answers that are checked and rejected, a guardrail, a limit, a source of tools, a summary."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[Any]:
        scorer = outlast.Agent(model="m", name="scorer", output_type=Score, input_guardrails=[check_input])
        session = outlast.ScriptedSession({"scorer": [say("three"), say('{"value": 3}')]})
        scored = await outlast.Runner.run(scorer, "Score.", session)
        box = ActivitySource(look_up, name="box")
        worker = outlast.Agent(model="m", name="worker", tools=[shout], mcp_clients=[box])
        limited = await outlast.Runner.run(
            worker, "Work.", outlast.ScriptedSession(work), max_turns=4, on_limit="finish"
        )
        short = outlast.ScriptedSession(
            work, context=[outlast.SummariseHistory(over_tokens=5, keep_turns=1, count=one)]
        )
        summarised = await outlast.Runner.run(worker, "Work.", short, max_turns=9)
        return [scored.output.value, limited.text, summarised.text]


def one(entry: object) -> int:
    """Count every entry as one token."""
    return 1


@outlast.activity(name="pinned_check_input")
async def check_input(text: str) -> None:
    """Let every input pass."""


def work(request: ModelRequest) -> Any:
    if request.agent == "summariser":
        return say("It was much.")
    if not request.may_call or request.turn == 6:
        return say(f"Done in {request.turn}.")
    name, arguments = ("shout", {"text": "a"}) if request.turn % 2 else ("pinned_look_up", {"city": "Nice"})
    return call(name, arguments, call_id=f"call{request.turn}")


mended: set[str] = set()
"""The executions whose outside world was mended."""


@outlast.activity(name="pinned_deliver", retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def deliver(what: str) -> str:
    """Fail until somebody mends it."""
    if outlast.activity.info().execution_id not in mended:
        raise LookupError(f"no {what} today")
    return f"{what} delivered"


@outlast.workflow.define(name="pinned.reopened")
class Reopened:
    """Ends in three ways, and is opened again after each."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        done = [await note("before")]
        try:
            done.append(await deliver("parcel"))
        except outlast.ActivityFailed as error:
            await note("sorry")
            raise RuntimeError("it cannot be delivered") from error
        await outlast.workflow.wait_condition(lambda: len(self.said) == 3)
        return [*done, await note("after"), *self.said]

    @outlast.workflow.signal
    async def say(self, text: str) -> None:
        self.said.append(text)


async def retry(stage: Stage, execution: Execution, process: Process) -> None:
    with suppress(outlast.ExecutionFailed):
        await execution.result()
    await execution.retry()
    with suppress(outlast.ExecutionFailed):
        await execution.result()
    mended.add(execution.id)
    await execution.retry()
    await stage.event(execution, "activity_completed", 4)
    await execution.signal("say", "one")
    await stage.event(execution, "signal_received")
    await execution.cancel()
    with suppress(outlast.ExecutionCancelled):
        await execution.result()
    await execution.retry()
    await execution.signal("say", "two")
    await stage.event(execution, "signal_received", 2)
    await execution.terminate("by mistake")
    await execution.retry()
    await execution.signal("say", "three")


@outlast.workflow.define(name="pinned.forked")
class Forked:
    """A run whose second turn depends on the tool of the first one."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        def reply(request: ModelRequest) -> Any:
            if request.turn == 1:
                return call("pinned_note", {"what": "paper"}, call_id="call1")
            return say(f"The tool said: {request.new[-1].to_wire()['result']}")

        agent = outlast.Agent(model="m", name="clerk", tools=[note])
        number = outlast.workflow.random().randint(1, 1000)
        result = await outlast.Runner.run(agent, "Go.", outlast.ScriptedSession(reply))
        return [result.text, await note(str(number))]


async def fork(stage: Stage, execution: Execution, process: Process) -> Execution:
    await execution.result()
    return await execution.fork(edits={"run:0/t1/call1": "no paper left"})


gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""The gates of executions, by their ids."""


@outlast.activity(name="pinned_pass_gate")
async def pass_gate() -> str:
    """Wait until somebody opens the gate."""
    await gates[outlast.activity.info().execution_id].wait()
    return "passed"


@outlast.workflow.define(name="pinned.paused")
class Paused:
    """Is paused while a step is under way, while a timer runs, and while it waits for a message."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        done = [await pass_gate()]
        await asyncio.sleep(5)
        done.append(await note("slept"))
        await outlast.workflow.wait_condition(lambda: len(self.said) == 2)
        return [*done, *self.said]

    @outlast.workflow.signal
    async def say(self, text: str) -> None:
        self.said.append(await note(text))


async def pause(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "activity_started")
    await execution.pause("stock-taking")

    async def is_obeyed() -> bool | None:
        return "stock-taking" in ((await execution.describe()).error or "") or None

    await stage.until(is_obeyed)
    gates[execution.id].set()
    await stage.event(execution, "execution_paused")
    await execution.signal("say", "during the first pause")
    await execution.resume()
    await stage.event(execution, "activity_completed", 2)
    await execution.pause()
    await stage.event(execution, "execution_paused", 2)
    await stage.pass_time(6)
    await execution.resume()
    await stage.event(execution, "activity_completed", 3)
    await execution.pause("for lunch")
    await stage.event(execution, "execution_paused", 3)
    await execution.signal("say", "during the last pause")
    await execution.resume()


@outlast.workflow.define(name="pinned.held_at_failure", on_failure="hold")
class HeldAtFailure:
    """Fails twice in a step, and is held each time until somebody resumes it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        done = [await note("before"), await deliver("parcel"), await note("after")]
        return [*done, *self.said]

    @outlast.workflow.signal
    async def say(self, text: str) -> None:
        self.said.append(text)


async def resume(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "execution_held")
    await execution.resume()
    await stage.event(execution, "execution_held", 2)
    await execution.signal("say", "while it was held")
    mended.add(execution.id)
    await execution.resume()


def advised(request: ModelRequest) -> Any:
    """Let a helper look at the gate twice, and then wait there."""
    if request.agent == "helper":
        return [call("pinned_note", {"what": "the gate"})] if request.turn == 1 else [say("It is shut.")]
    if request.history:
        return [call("helper", {"input": "And now?"})] if request.turn == 1 else [say("Done.")]
    return [call("helper", {"input": "Look."}), call("pinned_pass_gate")]


@outlast.workflow.define(name="pinned.steered")
class Steered:
    """Asks a person, and runs an agent with an agent as a tool; a person speaks to it, and interrupts it."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        name = await outlast.workflow.ask("Who are you?", to="the guard")
        session = outlast.ScriptedSession(advised)
        helper = outlast.Agent(model="m", name="helper", tools=[note])
        chief = outlast.Agent(
            model="m", name="chief", tools=[helper.as_tool(keeps_conversation=True), pass_gate]
        )
        try:
            return [(await outlast.Runner.run(chief, name, session)).text]
        except outlast.RunInterrupted as interrupted:
            return [str(interrupted), (await outlast.Runner.run(chief, "Go on.", session)).text]


async def steer(stage: Stage, execution: Execution, process: Process) -> None:
    await stage.event(execution, "question_asked")
    [question] = await execution.questions()
    await execution.answer(question.key, "Ann", by="Bob")
    await stage.event(execution, "tool_returned", 2)
    await execution.say("Is it open?", by="Ann")
    await execution.interrupt("it stays shut", by="Ann")


@outlast.workflow.define(name="pinned.family")
class Family:
    """Has children of its own kind: one works, one fails, one gets a letter and one is cancelled."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self, role: str) -> list[Any]:
        if role == "fails":
            raise LookupError("nobody is here")
        if role == "waits":
            await outlast.workflow.wait_condition(lambda: bool(self.letters))
            return self.letters
        if role != "parent":
            return [await note(role)]
        works = await outlast.workflow.execute_child(Family, "works", on_parent_end="terminate")
        try:
            await outlast.workflow.execute_child(Family, "fails", id="pinned-child")
        except outlast.ChildFailed as failed:
            works.append(failed.kind)
        reader = await outlast.workflow.start_child(Family, "waits")
        await reader.signal("put", letter="näß 🌧")
        other = await outlast.workflow.start_child(Family, "waits", on_parent_end="abandon")
        await other.cancel()
        return [works, await reader.result(), await self.status_of(other)]

    async def status_of(self, child: outlast.workflow.ChildHandle) -> str:
        try:
            return str(await child.result())
        except outlast.ChildFailed as failed:
            return failed.status

    @outlast.workflow.signal
    def put(self, letter: str) -> None:
        self.letters.append(letter)


# Many tools ---------------------------------------------------------------------------------------------


def no_fortunes(arguments: dict[str, Any]) -> outlast.Reject | outlast.Replace | None:
    if arguments.get("days") == 7:
        return outlast.Replace("a week of rain")
    return outlast.Reject("that is too far ahead") if arguments.get("days", 1) > 7 else None


def no_notes(text: str) -> outlast.Reject | outlast.Replace | None:
    if "hail" in text:
        return outlast.Reject("nobody may know")
    return outlast.Replace("written down") if "noted" in text else None


def equipped(request: ModelRequest) -> Any:
    seen = [tool.name for tool in request.graph[request.agent].tools]
    match request.turn:
        case 1:
            queries = ("look the weather up", "note")
            return [call("search_tools", {"query": query}, call_id=query[:4]) for query in queries]
        case 2:
            days = [call("pinned_look_up", {"city": "Lyon", "days": n}, call_id=f"d{n}") for n in (1, 7, 70)]
            return [*days, *(call("pinned_note", {"what": what}, call_id=what) for what in ("rain", "hail"))]
        case 3:
            return handoff("poet")
    return say(f"{len(request.history)} {len(request.new)} {' '.join(seen)}")


@outlast.workflow.define(name="pinned.many_tools")
class ManyTools:
    """Runs an agent that searches for its tools, whose calls are checked, and that hands off a part."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        poet = outlast.Agent(model="m", name="poet", tools=[note])
        front = outlast.Agent(
            model="m",
            name="front",
            tools=[outlast.ToolIndex([look_up, note, pay], limit=1)],
            tool_choice="required",
            max_parallel_tools=2,
            tool_input_guardrails={"pinned_look_up": no_fortunes},
            tool_output_guardrails={"*": no_notes},
            handoffs=[
                outlast.Handoff(poet, input_filter=[outlast.without_tool_calls, outlast.as_one_message])
            ],
        )
        return (
            await outlast.Runner.run(front, "What is the weather?", outlast.ScriptedSession(equipped))
        ).text


async def nothing(stage: Stage, execution: Execution, process: Process) -> None:
    """It needs nobody."""


PROGRAMS: dict[type[Any], tuple[list[Any], Deeds]] = {
    Agents: (["What is the weather?"], nothing),
    Approvals: ([], decide),
    Waiting: ([2], let_time_pass_and_speak),
    Updates: ([], update),
    Cancelled: ([], cancel),
    Failed: ([], nothing),
    Recovered: ([], lose_the_worker),
    Checks: ([], nothing),
    Reopened: ([], retry),
    Forked: ([], fork),
    Paused: ([], pause),
    HeldAtFailure: ([], resume),
    Steered: ([], steer),
    Family: (["parent"], nothing),
    ManyTools: ([], nothing),
}
"""Each workflow with its arguments and with what happens to it."""


@asynccontextmanager
async def executed(stage: Stage, workflow: type[Any]) -> AsyncIterator[Execution]:
    """Execute one of them to its end."""
    arguments, deeds = PROGRAMS[workflow]
    execution, _ = await stage.start(workflow, *arguments)
    process = await stage.worker(workflow)
    other: Execution | None = await stage.soon(deeds(stage, execution, process))
    execution = other or execution
    with suppress(outlast.ExecutionFailed, outlast.ExecutionCancelled):
        await stage.soon(execution.result())
    yield execution
