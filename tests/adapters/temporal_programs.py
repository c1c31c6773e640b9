"""The programs of the Temporal tests. Run as a module with a URL and a task queue, it is a worker process."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import outlast
from outlast.adapters.scripted import Reply, call, handoff, say
from outlast.core.entries import FunctionCall

LEASE = timedelta(seconds=2)

attempts: dict[str, list[int]] = {}
"""The attempts at activities in this process, by idempotency key."""


def tried() -> int:
    info = outlast.activity.info()
    attempts.setdefault(info.idempotency_key, []).append(info.attempt)
    return info.attempt


@outlast.activity(name="temporal_risk")
async def calculate_risk_score(deal_type: str, amount: float) -> dict[str, Any]:
    """Calculate the financial risk score of a deal.

    Args:
        deal_type: The type of deal being analysed
        amount: The monetary amount of the deal
    """
    tried()
    return {"risk_score": min(100.0, amount / 10_000), "deal": deal_type, "amount": amount}


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


RISK: FunctionCall = call("temporal_risk", {"deal_type": "merger", "amount": 5e5})
SCRIPT: dict[str, list[Reply]] = {
    "deal-coordinator": [handoff("risk-agent")],
    "risk-agent": [[RISK, call("shout", {"text": "risk"}), call("nothing")], say("It is risky.")],
}


async def analyse(deal_request: str, session: Any) -> dict[str, Any]:
    risk = outlast.Agent(
        model="mistral-medium-latest",
        name="risk-agent",
        description="Analyses the financial risk of deals",
        instructions="Use the risk tool.",
        tools=[calculate_risk_score, shout],
    )
    coordinator = outlast.Agent(
        model="mistral-medium-latest",
        name="deal-coordinator",
        description="Coordinates deal analysis",
        instructions="Hand off to specialists.",
        handoffs=[risk],
    )
    outputs = await outlast.Runner.run(agent=coordinator, inputs=deal_request, session=session)
    return {
        "analysis": "\n".join(o.text for o in outputs if isinstance(o, outlast.TextChunk)),
        "results": [one.result for one in outputs.entries if isinstance(one, outlast.FunctionResult)],
    }


@outlast.workflow.define(name="temporal_deal_analysis")
class DealAnalysis:
    """The example of the documentation, on a script."""

    @outlast.workflow.entrypoint
    async def run(self, deal_request: str) -> dict[str, Any]:
        return await analyse(deal_request, outlast.ScriptedSession(SCRIPT, may_call_unknown_tools=True))


@outlast.workflow.define(name="temporal_remote_analysis")
class RemoteAnalysis:
    """The same, with a model behind HTTP, at an address and with a key that only the process knows."""

    session = outlast.RemoteSession()

    @outlast.workflow.entrypoint
    async def run(self, deal_request: str) -> dict[str, Any]:
        return await analyse(deal_request, type(self).session)


@outlast.activity(name="temporal_note", retry_policy_initial_interval=timedelta(0))
async def note(what: str) -> str:
    """Do something."""
    tried()
    return f"{what} noted"


@outlast.activity(
    name="temporal_unsteady", retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=3
)
def fail(times: int) -> int:
    """Fail so many times, in a thread."""
    if tried() <= times:
        raise LookupError("not yet")
    return outlast.activity.info().attempt


@outlast.workflow.define(name="temporal_unsteady_work")
class Unsteady:
    @outlast.workflow.entrypoint
    async def run(self, times: int) -> int:
        return await fail(times)


@outlast.workflow.define(name="temporal_approval")
class Approval:
    """Waits for a signal or a deadline, and cleans up when it is cancelled."""

    def __init__(self) -> None:
        self.decisions: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self, needed: int) -> list[str]:
        try:
            await note("asked")
            await asyncio.sleep(0.05)
            await outlast.workflow.wait_condition(lambda: len(self.decisions) >= needed)
        finally:
            await note("cleaned up")
        return self.decisions

    @outlast.workflow.signal
    async def decide(self, decision: str, by: str = "nobody") -> None:
        self.decisions.append(await note(f"{decision} by {by}"))

    @outlast.workflow.query
    def decided(self, since: int = 0) -> list[str]:
        return self.decisions[since:]


@outlast.workflow.define(name="temporal_tally")
class Tally:
    """Counts what updates add, until one of them asks for the end."""

    def __init__(self) -> None:
        self.total = 0
        self.is_over = False

    @outlast.workflow.entrypoint
    async def run(self) -> int:
        await outlast.workflow.wait_condition(lambda: self.is_over)
        return self.total

    @outlast.workflow.update
    async def add(self, number: int, again: int = 0) -> str:
        noted = await note(f"{number} and {again}")
        self.total += number + again
        return noted

    @add.validator
    def check_number(self, number: int, again: int = 0) -> None:
        if number < 0:
            raise ValueError("too little")

    @outlast.workflow.update
    async def begin_anew(self) -> None:
        await outlast.workflow.continue_as_new()

    @outlast.workflow.update
    def end(self) -> int:
        self.is_over = True
        return self.total


@outlast.workflow.define(name="temporal_laps")
class Laps:
    """Waits for a signal, continues as new, and waits for another one."""

    def __init__(self) -> None:
        self.may_go = False

    @outlast.workflow.entrypoint
    async def run(self, lap: int = 1) -> int:
        await outlast.workflow.wait_condition(lambda: self.may_go)
        if lap == 1:
            await outlast.workflow.continue_as_new(lap + 1)
        return lap

    @outlast.workflow.signal
    def go(self) -> None:
        self.may_go = True


@outlast.workflow.define(name="temporal_steps")
class Steps:
    """Takes the steps of its argument, one after the other."""

    @outlast.workflow.entrypoint
    async def run(self, steps: list[str]) -> list[str]:
        outcomes: list[str] = []
        for step in steps:
            try:
                async with asyncio.timeout(0.005 if step == "time out" else None):
                    outcomes.append(await self._do(step))
            except (outlast.ActivityFailed, TimeoutError) as error:
                outcomes.append(type(error).__name__)
        return outcomes

    async def _do(self, step: str) -> str:
        match step:
            case "sleep":
                await asyncio.sleep(0.001)
            case "fail":
                return str(await fail(3))
            case "time out":
                await outlast.workflow.wait_condition(lambda: False)
            case "together":
                return " ".join(await asyncio.gather(note("left"), note("right")))
            case "draw":
                return str(len(str(outlast.workflow.uuid4())) + int(outlast.workflow.random().random()))
            case "undefined":
                forgotten = replace(note.definition, name="temporal_forgotten")
                return await type(note)(forgotten)(step)
            case "broken condition":
                try:
                    await outlast.workflow.wait_condition(lambda: bool([][0]))
                except IndexError:
                    return "broken"
            case _:
                return await note(step)
        return step


@outlast.workflow.define(name="temporal_clock_reader")
class ClockReader:
    """Does what no workflow may do."""

    @outlast.workflow.entrypoint
    async def run(self) -> float:
        import time

        await note("before")
        return time.time()


@outlast.activity(name="temporal_inflate")
async def inflate(size: int) -> str:
    """Return a text of so many characters."""
    Large.attempts[outlast.activity.info().execution_id] = outlast.activity.info().attempt
    # JSON writes a quotation mark as two characters.
    return ("x" if size > 2_000_000 else '"') * size


@outlast.workflow.define(name="temporal_large")
class Large:
    """Has a large result in its history."""

    attempts: ClassVar[dict[str, int]] = {}

    @outlast.workflow.entrypoint
    async def run(self, size: int) -> int:
        return len(await inflate(size))


@outlast.activity(
    name="temporal_local", local=True, retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=3
)
async def glance(times: int) -> str:
    """Fail so many times, where the workflow runs."""
    if tried() <= times:
        raise LookupError("not yet")
    return f"seen after {times}"


@outlast.workflow.define(name="temporal_local_work")
class Local:
    """An agent whose tool is run as a local activity."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        agent = outlast.Agent(model="m", name="solo", tools=[glance])
        calls = [call("temporal_local", {"times": times}) for times in (0, 2, 3)]
        answer = await outlast.Runner.run(
            agent, "Look.", outlast.ScriptedSession({"solo": [calls, say("Seen.")]})
        )
        results = [entry.result for entry in answer.entries if isinstance(entry, outlast.FunctionResult)]
        return [answer.text, *results]


class Writer(outlast.ScriptedSession):
    """Writes one word after the other; the test says when, by opening a gate."""

    gates: ClassVar[dict[tuple[str, int], asyncio.Event]] = {}

    async def reply(self, request: Any, resources: Any, publish: Any = None) -> Any:
        assert publish is not None
        execution_id = request.idempotency_key.partition("/")[0]
        for number, word in enumerate(["Once ", "upon ", "a time."]):
            await self.gates.setdefault((execution_id, number), asyncio.Event()).wait()
            publish(word)
        return await super().reply(request, resources)


@outlast.workflow.define(name="temporal_story")
class Story:
    """Streams a reply."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        session = Writer({"writer": [say("Once upon a time.")]}, stream=True)
        return (await outlast.Runner.run(outlast.Agent(model="m", name="writer"), "Write.", session)).text


@outlast.workflow.define(name="temporal_group")
class Group:
    """Cancels a timer and an activity together, for many reasons."""

    @outlast.workflow.entrypoint
    async def run(self, members: int) -> int:
        failed = 0
        for _ in range(3):
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(members):
                        group.create_task(asyncio.sleep(1e6) if number % 2 else hang_here())
                    group.create_task(fail_hopelessly())
            except* outlast.ActivityFailed:
                failed += 1
        return failed


@outlast.activity(name="temporal_hang_here")
async def hang_here() -> None:
    """Never end."""
    await asyncio.Event().wait()


@outlast.activity(name="temporal_hopeless", retry_policy_max_attempts=1)
async def fail_hopelessly() -> None:
    """Fail for good."""
    raise LookupError("no hope")


def echo(request: Any) -> Any:
    """Note what is said, and say how much that was."""
    [*_, last] = request.new
    if isinstance(last, outlast.MessageInput):
        return call("temporal_note", {"what": str(last.content)})
    entries = [*request.history, *request.new]
    return say(f"message {sum(isinstance(entry, outlast.MessageInput) for entry in entries)}")


@outlast.workflow.define(name="temporal_conversation")
class Conversation(outlast.AgentWorkflow):
    """A long conversation."""

    agent = outlast.Agent(model="m", name="listener", tools=[note])
    session = outlast.ScriptedSession(echo)


def repeat(request: Any) -> Reply:
    """Say what was said."""
    return say(
        "".join(str(entry.content) for entry in request.new if isinstance(entry, outlast.MessageInput))
    )


@outlast.workflow.define(name="temporal_parrot")
class Parrot(outlast.AgentWorkflow):
    """A conversation in which everything is said twice."""

    agent = outlast.Agent(model="m", name="parrot")
    session = outlast.ScriptedSession(repeat)


@outlast.workflow.define(name="temporal_month")
class Month:
    """Sleeps for a month."""

    @outlast.workflow.entrypoint
    async def run(self) -> float:
        before = outlast.workflow.now()
        await asyncio.sleep(timedelta(days=30).total_seconds())
        return (outlast.workflow.now() - before).total_seconds()


def witnessed(what: str) -> int:
    """Write down that this attempt did `what`; return the attempt's number."""
    info = outlast.activity.info()
    write_down(f"{what} {info.attempt} {info.idempotency_key}")
    return info.attempt


def write_down(line: str) -> None:
    """Write a line to the witness file, and print it for the parent process."""
    with Path(os.environ["TEMPORAL_WITNESS"]).open("a") as file:
        file.write(f"{line}\n")
    print(line, flush=True)


@outlast.activity(name="temporal_first", retry_policy_initial_interval=timedelta(0))
async def first() -> str:
    """Be done before the crash."""
    witnessed("first")
    return "first"


@outlast.activity(name="temporal_hang", retry_policy_initial_interval=timedelta(0))
async def hang() -> str:
    """Hang in the first attempt, for the process to be killed."""
    if witnessed("hang") == 1:
        await asyncio.Event().wait()
    return "survived"


@outlast.activity(name="temporal_hang_once", effect="once")
async def hang_once() -> str:
    """The same, as something that must not be repeated."""
    if witnessed("once") == 1:
        await asyncio.Event().wait()
    return "repeated"


def play(request: Any) -> Any:
    """Call the tools one after the other."""
    write_down(f"model {request.attempt} {request.idempotency_key}")
    return [call("temporal_first"), call("temporal_hang"), say("All done.")][request.turn - 1]


@outlast.workflow.define(name="temporal_crash")
class Crash:
    """An agent whose second tool outlives its process, and then a step that does not."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        agent = outlast.Agent(model="m", name="solo", tools=[first, hang])
        answer = await outlast.Runner.run(agent, "go", outlast.ScriptedSession(play))
        try:
            return [answer.text, await hang_once()]
        except outlast.OutcomeUnknown as unknown:
            return [answer.text, type(unknown).__name__]


@outlast.activity(name="temporal_halt", retry_policy_initial_interval=timedelta(0))
async def halt() -> str:
    """Hang in the first attempt, for the process to be stopped."""
    if witnessed("halt") == 1:
        await asyncio.Event().wait()
    return "gone on"


@outlast.workflow.define(name="temporal_halt_work")
class Halt:
    @outlast.workflow.entrypoint
    async def run(self) -> str:
        return await halt()


WORKFLOWS = [
    *(DealAnalysis, RemoteAnalysis, Unsteady, Approval, Steps, ClockReader, Conversation, Local, Story),
    *(Group, Crash, Tally, Laps),
]


if __name__ == "__main__":
    asyncio.run(outlast.run_worker([Crash, Halt], sys.argv[1], task_queue=sys.argv[2], lease=LEASE))
