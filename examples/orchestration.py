"""A workflow around agents: two at a time, a timer, a bid and a decision from outside, and a cancellation.

Run it: make example NAME=orchestration
    or: uv run examples/orchestration.py
    or, with outlast[mistral,testing] installed: python examples/orchestration.py
"""

import asyncio
from datetime import timedelta

from stand_in import ModelPrompt, Reply, Say, mistral

import outlast

analyst = outlast.Agent(
    model="mistral-medium-latest",
    name="analyst",
    description="Knows markets",
    instructions="Judge the company's market in one sentence.",
)
lawyer = outlast.Agent(
    model="mistral-medium-latest",
    name="lawyer",
    description="Knows the law",
    instructions="Name the company's biggest legal risk in one sentence.",
)


@outlast.activity()
async def withdraw_offer(company: str) -> None:
    print(f"offer to {company} withdrawn")


@outlast.workflow.define(name="due_diligence")
class DueDiligence:
    def __init__(self) -> None:
        self.findings: list[str] = []
        self.decision: str | None = None
        self.millions = 0

    @outlast.workflow.signal
    def decide(self, decision: str) -> None:
        self.decision = decision

    @outlast.workflow.update
    def bid(self, millions: int) -> str:
        self.millions += millions
        return f"the bid is {self.millions} million"

    @bid.validator
    def check_bid(self, millions: int) -> None:
        if self.millions + millions > 50:
            raise ValueError("over 50 million the board must be asked")

    @outlast.workflow.query
    def found(self) -> list[str]:
        return self.findings

    @outlast.workflow.entrypoint
    async def run(self, company: str) -> str:
        try:
            # Runs that go on at the same time need sessions of their own.
            opinions = await asyncio.gather(
                outlast.Runner.run(analyst, company, outlast.RemoteSession()),
                outlast.Runner.run(lawyer, company, outlast.RemoteSession()),
            )
            self.findings = [opinion.text for opinion in opinions]
            await asyncio.sleep(0.2)  # A durable timer; it could as well be a month.
            await outlast.workflow.wait_condition(
                lambda: self.decision is not None, timeout=timedelta(days=1)
            )
        except asyncio.CancelledError:
            await withdraw_offer(company)
            raise
        return f"{company}: {self.decision} for {self.millions} million"


def stand_in(call: ModelPrompt) -> Reply:
    """Each has an opinion of its own."""
    opinions = {"analyst": "a growing market", "lawyer": "a pending patent case"}
    return [Say(f"{call.text} has {opinions[call.agent or '']}.")]


async def both_have_answered(execution: outlast.Execution) -> None:
    """Return once the execution waits for its decision: its second timer is the limit of that."""
    timers = 0
    async for event in execution.events():
        timers += event.kind is outlast.EventKind.TIMER_STARTED
        if timers == 2:
            return


async def main() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([DueDiligence]):
        bought = await backend.start(DueDiligence, "Northwind")
        dropped = await backend.start(DueDiligence, "Contoso")
        for execution in (bought, dropped):
            await both_have_answered(execution)
            print(*await execution.query("found"), sep="\n")
        print(await bought.update("bid", 40))
        try:
            await bought.update("bid", 20)
        except outlast.UpdateRejected as error:
            print(error.message)
        await bought.signal("decide", "buy")
        print(await bought.result())
        await dropped.cancel()
        try:
            await dropped.result()
        except outlast.ExecutionCancelled as error:
            print(error)


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
