"""Methods in place of names: executions are started, and get messages and queries, by methods."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.core.errors import DefinitionError
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage


class Auction:
    """Takes bids until it is closed, and returns the last one; not a workflow itself."""

    def __init__(self) -> None:
        self.bids: list[int] = []
        self.closed = False

    @workflow.entrypoint
    async def run(self, first: int = 0) -> int:
        self.bids.append(first)
        await workflow.wait_condition(lambda: self.closed)
        return self.bids[-1]

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.signal("raise")
    def raise_by(self, amount: int, times: int = 1) -> None:
        self.bids.append(self.bids[-1] + amount * times)

    @workflow.update
    async def bid(self, amount: int) -> list[int]:
        self.bids.append(amount)
        return self.bids

    @workflow.query
    def highest(self, at_least: int = 0) -> int:
        return max([at_least, *self.bids])


@workflow.define(name="contract.auction_of_houses")
class HouseAuction(Auction):
    """Has the entrypoint of its base class."""


@workflow.define(name="contract.auction_of_ships")
class ShipAuction(Auction):
    """Has the same entrypoint, and is another workflow."""


@workflow.define(name="contract.auctioneer")
class Auctioneer:
    """Starts auctions by method, and ends one of them."""

    @workflow.entrypoint
    async def run(self, first: int) -> list[int]:
        child = await workflow.start_child(ShipAuction.run, first)
        await child.signal(ShipAuction.raise_by, 10, times=2)
        await child.signal(ShipAuction.close)
        doubled = await workflow.map(Doubling.run, [first, first + 1])
        return [await child.result(), *doubled, await workflow.execute_child(Doubling.run, number=first)]


@workflow.define(name="contract.doubling")
class Doubling:
    """Doubles a number."""

    @workflow.entrypoint
    async def run(self, number: int) -> int:
        return 2 * number


class MethodReferenceContract(DurabilityContractBase):
    """Methods in place of names."""

    async def test_an_execution_is_started_and_used_by_methods(self, stage: Stage) -> None:
        backend = await stage.backend()
        execution: Execution[int] = await backend.start(HouseAuction.run, 100, id=stage.new_id())
        await stage.worker(HouseAuction)
        assert (await execution.describe()).workflow == "contract.auction_of_houses"
        await execution.signal(HouseAuction.raise_by, 5, times=3)
        assert await stage.soon(execution.update(HouseAuction.bid, 200)) == [100, 115, 200]
        assert await stage.soon(execution.update(HouseAuction.bid, 300, id="b")) == [100, 115, 200, 300]
        assert await stage.soon(execution.update(HouseAuction.bid, 300, id="b")) == [100, 115, 200, 300]
        assert await stage.soon(execution.query(HouseAuction.highest)) == 300
        assert await stage.soon(execution.query(HouseAuction.highest, at_least=400)) == 400
        await execution.signal(HouseAuction.close)
        assert await stage.soon(execution.result()) == 300

    async def test_workflows_that_inherit_one_entrypoint_stay_different(self, stage: Stage) -> None:
        backend = await stage.backend()
        for auction in (ShipAuction, HouseAuction):
            execution = await backend.start(auction.run, id=stage.new_id())
            by_class = await backend.start(auction, id=execution.id)
            assert by_class.id == execution.id
            name = "contract.auction_of_ships" if auction is ShipAuction else "contract.auction_of_houses"
            assert (await execution.describe()).workflow == name

    async def test_a_method_that_is_not_meant_is_an_error_and_nothing_happens(self, stage: Stage) -> None:
        backend = await stage.backend()
        wrongs: list[Any] = [Auction.run, HouseAuction.close, Stage.backend, stage.backend]
        for wrong in wrongs:
            with pytest.raises(DefinitionError, match="workflow"):
                await backend.start(wrong, id="not-started")
        execution, _ = await stage.start(HouseAuction)
        await stage.worker(HouseAuction)
        signal: Any = HouseAuction.highest
        update: Any = Stage.backend
        query: Any = HouseAuction.bid
        with pytest.raises(DefinitionError, match=r"highest is marked as query"):
            await execution.signal(signal)
        with pytest.raises(DefinitionError, match=r"not a handler; mark it with @workflow\.update"):
            await execution.update(update)
        with pytest.raises(DefinitionError, match="marked as update"):
            await execution.query(query)
        assert await stage.soon(execution.query(HouseAuction.highest)) == 0

    async def test_children_are_started_and_used_by_methods(self, stage: Stage) -> None:
        execution, _ = await stage.start(Auctioneer, 7)
        await stage.worker(Auctioneer, ShipAuction, Doubling)
        assert await stage.soon(execution.result()) == [27, 14, 16, 14]
