"""Agents, the results of their runs, their contexts, and their events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import outlast
from outlast import Agent, RunContext, Runner


@dataclass
class Deal:
    company: str


@dataclass
class Customer:
    name: str


def greet(run: RunContext[Customer]) -> str:
    return f"Be nice to {run.context.name}."


def is_large(arguments: dict[str, Any]) -> bool:
    return bool(arguments["amount"] > 100)


def is_for(arguments: dict[str, Any], run: RunContext[Customer]) -> bool:
    return bool(arguments["name"] == run.context.name)


def is_by(run: RunContext[Customer], arguments: dict[str, Any]) -> bool:
    return is_for(arguments, run)


def pays(amount: int, order: str) -> bool:
    return amount > 100 and bool(order)


def pay(amount: int, order: str) -> str:
    return f"{order}: {amount}"


PLAIN = Agent(model="m", name="plain")
TYPED = Agent(model="m", name="typed", output_type=Deal)
LISTS = Agent(model="m", name="lists", output_type=list[int])
UNION: Agent[Any, Deal | None] = Agent(model="m", name="union", output_type=Deal | None)
GREETS = Agent(model="m", name="greets", instructions=greet, output_type=Deal)


async def results() -> None:
    plain = await Runner.run(PLAIN, "Hello")
    assert_type(plain.text, str)
    assert_type((await Runner.run(TYPED, "Hello")).output, Deal)
    assert_type(Runner.run_sync(TYPED, "Hello").output, Deal)
    assert_type((await Runner.run(LISTS, "Hello")).output, list[int])
    assert_type((await Runner.run(UNION, "Hello")).output, Deal | None)
    assert_type((await Runner.run(GREETS, "Hello", context=Customer("Ann"))).output, Deal)
    assert_type(await Runner.run_streamed(TYPED, "Hello").result(), outlast.RunResult[Deal])


async def events() -> None:
    async for event in Runner.run_streamed(PLAIN, "Hello").events():
        if isinstance(event.data, outlast.events.TextDeltaData):
            assert_type(event.data.text, str)


def approvals() -> None:
    for check in (is_large, is_for, is_by):
        Agent(model="m", name="a", tools=[pay], requires_approval={"pay": check})
    Agent(model="m", name="a", tools=[pay], requires_approval={"pay": lambda given: given["amount"] > 1})
    outlast.activity(requires_approval=is_large)(pay)
    outlast.activity(requires_approval=lambda given: given["amount"] > 1)(pay)
    outlast.activity(requires_approval=True)(pay)


def not_a_customer(run: RunContext[Customer]) -> None:
    print(run.context.address)  # type: ignore[attr-defined]


async def mistakes() -> None:
    await Runner.run(GREETS, "Hello", context=7)  # type: ignore[misc]
    Agent(model="m", name="a", colour="red")  # type: ignore[call-arg]
    Agent(name="a")  # type: ignore[call-arg]
    outlast.activity(requires_approval=pays)  # type: ignore[arg-type]
    Agent(model="m", name="a", tools=[pay], requires_approval={"pay": pays})  # type: ignore[dict-item]
    number: int = (await Runner.run(TYPED, "Hello")).output  # type: ignore[assignment]
    print(number)
