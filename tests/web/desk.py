"""The workflows that the tests of the inspector run, in this process or in a worker's own."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, handoff, say
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply, ModelRequest

FOLDER = "OUTLAST_DESK"
"""The variable with the folder of the files that let activities go on."""


def file(name: str) -> Path:
    return Path(os.environ[FOLDER], name)


@outlast.activity()
async def find_train(city: str) -> dict[str, Any]:
    """Find a train."""
    return {"train": f"to {city}", "price": 40}


@outlast.activity(retry_policy_max_attempts=50, retry_policy_initial_interval=timedelta(milliseconds=20))
async def hold_seat(seat: str) -> str:
    """Hold a seat, once the test lets it."""
    with file("held").open("a") as log:
        print(outlast.activity.info().attempt, os.getpid(), file=log)
    if not file("open").exists():
        import asyncio

        while not file("open").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    return f"seat {seat} is held"


@outlast.activity(requires_approval=True)
async def pay(amount: int, payee: str) -> str:
    """Pay."""
    with file("paid").open("a") as log:
        print(amount, payee, file=log)
    return f"{amount} paid to {payee}"


@outlast.activity(retry_policy_max_attempts=1)
async def print_ticket(name: str) -> str:
    """Print the ticket."""
    if not file("paper").exists():
        raise LookupError(f"no paper for {name}")
    return f"ticket of {name}"


CLERK = [
    ModelReply(entries=(say("I look for a train."), call("find_train", {"city": "Lyon"}))),
    ModelReply(entries=(call("hold_seat", {"seat": "12A"}),)),
    ModelReply(entries=(say("The cashier goes on."), handoff("cashier"))),
]
CASHIER = [
    ModelReply(entries=(say("Somebody must allow this."), call("pay", {"amount": 40, "payee": "rail"}))),
    ModelReply(entries=(say("All is paid. Bon voyage!"),)),
]


def replies_before(request: ModelRequest) -> int:
    """Return how often the agent has replied before."""
    handle = request.handle if isinstance(request.handle, dict) else {}
    counts = handle.get("replies", {})
    assert isinstance(counts, dict)
    number = counts.get(request.agent, 0)
    assert isinstance(number, int)
    return number


def script(request: ModelRequest) -> ModelReply:
    reply = (CLERK if request.agent == "clerk" else CASHIER)[replies_before(request)]
    return reply.with_(usage=Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110))


@workflow.define(name="trip")
class Trip:
    """Two agents arrange a trip; then a ticket is printed."""

    def __init__(self) -> None:
        self.wishes: list[str] = []

    @workflow.entrypoint
    async def run(self, name: str) -> str:
        cashier = outlast.Agent(model="m", name="cashier", description="Pays", tools=[pay])
        clerk = outlast.Agent(
            model="m", name="clerk", description="Plans", tools=[find_train, hold_seat], handoffs=[cashier]
        )
        session = outlast.ScriptedSession(script, stream=True, prices={"m": outlast.Price(output=10)})
        result = await outlast.Runner.run(clerk, f"A trip to Lyon for {name}", session=session)
        return f"{result.text} {await print_ticket(name)}"

    @workflow.signal
    def wish(self, what: str) -> None:
        self.wishes.append(what)

    @workflow.query
    def wished(self) -> list[str]:
        return self.wishes

    @workflow.update
    async def add_wish(self, what: str) -> int:
        self.wishes.append(what)
        return len(self.wishes)


LIMIT = 50


@outlast.activity(requires_approval=True, retry_policy_max_attempts=1)
async def charge(amount: int, card: str) -> str:
    """Charge a card."""
    if amount > LIMIT:
        raise ValueError(f"card {card} ends at {LIMIT}, and {amount} was asked for")
    with file("charged").open("a") as log:
        print(amount, card, file=log)
    return f"{amount} charged to {card}"


def buyer_script(request: ModelRequest) -> ModelReply:
    number = replies_before(request)
    reply = BUYER[number]
    return reply.with_(usage=Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110))


BUYER = [
    ModelReply(entries=(say("I look for a train."), call("find_train", {"city": "Nice"}))),
    ModelReply(entries=(call("hold_seat", {"seat": "7C"}),)),
    ModelReply(entries=(say("First class, I think."), call("charge", {"amount": 80, "card": "blue"}))),
    ModelReply(entries=(say("The seat is yours."),)),
]


@workflow.define(name="purchase")
class Purchase:
    """An agent buys a ticket; it ends if a tool fails."""

    @workflow.entrypoint
    async def run(self, name: str) -> str:
        buyer = outlast.Agent(model="m", name="buyer", tools=[find_train, hold_seat, charge])
        session = outlast.ScriptedSession(buyer_script, stream=True, raise_on_tool_fail=True)
        result = await outlast.Runner.run(buyer, f"A ticket to Nice for {name}", session=session)
        return result.text


@outlast.activity()
async def echo(what: Any) -> Any:
    """Return what it is given."""
    return what


@workflow.define(name="echo")
class Echo:
    """Returns what it is given, from an activity."""

    @workflow.entrypoint
    async def run(self, what: Any) -> Any:
        return await echo(what)


@workflow.define(name="idle")
class Idle:
    """Waits until it is cancelled."""

    @workflow.entrypoint
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@workflow.define(name="survey")
class Survey:
    """Asks people two questions."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        name = await workflow.ask("Which customer?", str, to="sales")
        return [name, await workflow.ask("How many seats?", int)]


WORKFLOWS = [Trip, Purchase, Echo, Idle, Survey]
