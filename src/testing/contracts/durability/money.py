"""Money: counted once, from the journal, over runs within runs and crashes; and limits of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.errors import BudgetExceeded, ExecutionFailed, UnknownPrice
from outlast.core.events import EventKind, ModelRepliedData
from outlast.core.prices import Price
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.world import here

PRICES = {"dear": "1000", "cheap": "10"}
"""The prices of a million tokens that the sessions of this process know."""
DEAR, CHEAP = Decimal("0.1"), Decimal("0.001")
"""The cost of a reply of each model at these prices: it has a hundred tokens."""


@contextmanager
def other_prices(**prices: str) -> Iterator[None]:
    """Let the sessions that are made during the block know other prices."""
    before = dict(PRICES)
    PRICES.update(prices)
    try:
        yield
    finally:
        PRICES.clear()
        PRICES.update(before)


@activity(name="contract_buy", retry_policy_initial_interval=AT_ONCE)
async def buy(what: str) -> str:
    """Buy something, once the test allows it."""
    world = here()
    world.happen(f"asked for {what}")
    await world.gate("shop").wait()
    return f"bought {what}"


def buyer(model: str) -> Agent:
    """Return an agent whose tool is an agent of the cheap model."""
    scout = Agent(model="cheap", name="scout", description="Looks for things.")
    return Agent(model=model, name="buyer", tools=[scout, buy])


def shopping(request: ModelRequest) -> ModelReply:
    """Play a buyer that has its scout look, then buys, then answers."""
    usage = Usage(completion_tokens=100, total_tokens=100)
    match request.agent, request.turn:
        case "buyer", 1:
            return ModelReply(entries=(call("scout", {"input": "a hat"}),), usage=usage)
        case "buyer", 2:
            return ModelReply(entries=(call("contract_buy", {"what": "a hat"}),), usage=usage)
        case _:
            return ModelReply(entries=(say("Done."),), usage=usage)


def priced_session() -> ScriptedSession:
    return ScriptedSession(shopping, prices={model: Price(output=price) for model, price in PRICES.items()})


@workflow.define(name="contract.shop")
class Shop:
    """Runs a buyer of that model."""

    @workflow.entrypoint
    async def run(self, model: str, max_cost: str | None = None) -> list[Any]:
        result = await Runner.run(buyer(model), "Go.", priced_session(), max_cost=max_cost)
        return [None if result.cost is None else str(result.cost), result.usage.unpriced]


class MoneyContract(DurabilityContractBase):
    """The cost of runs."""

    async def test_d3_money_is_counted_once_from_the_journal_whatever_prices_are_later(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Shop, "dear")
        process = await stage.worker(Shop)
        await stage.soon(world.happened_in_all(1))
        await stage.lose(process)
        with other_prices(dear="3000", cheap="30"):
            await stage.worker(Shop)
            world.gate("shop").set()
            cost, unpriced = await stage.later(execution.result(), 1)
            described = await stage.soon(execution.describe())
        whole = 2 * DEAR + CHEAP + 3 * DEAR
        assert (Decimal(cost), unpriced) == (whole, {})
        replies = data_of(await stage.soon(all_events(execution)), ModelRepliedData)
        assert [data.usage.cost for data in replies] == [DEAR, CHEAP, DEAR, 3 * DEAR]
        if described.usage is not None:
            assert described.usage.cost == whole

    async def test_what_has_no_price_is_named_and_never_costs_nothing(self, stage: Stage) -> None:
        execution, world = await stage.start(Shop, "unknown")
        world.gate("shop").set()
        await stage.worker(Shop)
        assert await stage.soon(execution.result()) == [None, {"unknown": 3}]

    async def test_a_run_stops_before_the_call_that_its_money_does_not_allow(self, stage: Stage) -> None:
        execution, world = await stage.start(Shop, "dear", "0.15")
        world.gate("shop").set()
        await stage.worker(Shop)
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        error = raised.value.__cause__
        assert isinstance(error, BudgetExceeded)
        spent = 2 * DEAR + CHEAP
        assert (error.limit, error.allowed, error.used) == ("cost", Decimal("0.15"), spent)

    async def test_a_limit_of_money_is_refused_before_the_first_call_if_a_price_is_not_known(
        self, stage: Stage
    ) -> None:
        with other_prices():
            del PRICES["cheap"]
            execution, _ = await stage.start(Shop, "dear", "0.15")
            await stage.worker(Shop)
            with pytest.raises(ExecutionFailed) as raised:
                await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, UnknownPrice)
        assert "cheap" in str(raised.value.__cause__)
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert EventKind.MODEL_REPLIED not in kinds

    async def test_d2_a_run_by_an_id_has_cost_the_same_for_every_caller(self, stage: Stage) -> None:
        backend, run_id = await stage.backend(), stage.new_id()

        async def cost() -> Decimal | None:
            agent = Agent(model="dear", name="buyer", tools=[Agent(model="cheap", name="scout")])

            def script(request: ModelRequest) -> ModelReply:
                usage = Usage(completion_tokens=100, total_tokens=100)
                asks = request.agent == "buyer" and request.turn == 1
                entry = call("scout", {"input": "Look."}) if asks else say("Done.")
                return ModelReply(entries=(entry,), usage=usage)

            prices = {model: Price(output=price) for model, price in PRICES.items()}
            run = Runner.run(
                agent, "Go.", ScriptedSession(script, prices=prices), id=run_id, backend=backend, max_cost=1
            )
            return (await stage.soon(run)).cost

        assert await cost() == 2 * DEAR + CHEAP
        with other_prices(dear="3000"):
            assert await cost() == 2 * DEAR + CHEAP
