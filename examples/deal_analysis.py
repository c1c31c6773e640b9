"""Three agents analyse a deal, durably: kill this program while it runs, start it again, and it goes on.

The execution is known by its id, so once it has ended, the same line returns the same result. (Only the
stand-in forgets its conversations when this program ends: for the kill, use Mistral's API, or `make demo`.)

Run it: make example NAME=deal_analysis
    or: uv run examples/deal_analysis.py
    or, with outlast[mistral,testing] installed: python examples/deal_analysis.py
Look at it: outlast show deal-1 --backend sqlite:///deal_analysis.db
"""

import asyncio

from stand_in import Call, HandOff, ModelPrompt, Reply, Say, mistral

import outlast


@outlast.activity()
async def calculate_risk_score(deal_type: str, amount: float) -> dict[str, float]:
    """Calculate the financial risk score of a deal, from 0 to 100.

    Args:
        deal_type: The type of deal being analysed
        amount: The amount in euros
    """
    return {"risk_score": min(100.0, amount / 10_000)}


@outlast.activity(effect="read", retry_policy_max_attempts=3)
async def check_compliance(company: str) -> str:
    """Look a company up in the sanctions lists.

    Args:
        company: The company's name
    """
    print(f"  looking {company} up for {outlast.activity.info().idempotency_key}")
    return "no entry"


@outlast.workflow.define(name="deal_analysis_example")
class DealAnalysis:
    @outlast.workflow.entrypoint
    async def run(self, deal_request: str) -> dict[str, str]:
        compliance = outlast.Agent(
            model="mistral-medium-latest",
            name="compliance-agent",
            description="Checks that a deal is lawful",
            instructions="Use the compliance tool, then sum all findings up in one sentence.",
            tools=[check_compliance],
        )
        risk = outlast.Agent(
            model="mistral-medium-latest",
            name="risk-agent",
            description="Analyses the financial risk of deals",
            instructions="Use the risk tool, then hand off to compliance-agent.",
            tools=[calculate_risk_score],
            handoffs=[compliance],
        )
        coordinator = outlast.Agent(
            model="mistral-medium-latest",
            name="deal-coordinator",
            description="Coordinates deal analysis",
            instructions="Hand off to risk-agent.",
            handoffs=[risk],
        )
        outputs = await outlast.Runner.run(
            agent=coordinator, inputs=deal_request, session=outlast.RemoteSession()
        )
        return {"analysis": "\n".join(o.text for o in outputs if isinstance(o, outlast.TextChunk))}


def stand_in(call: ModelPrompt) -> Reply:
    """Each agent uses its tool, if it has one, and then hands off, if it can."""
    match call.agent:
        case "deal-coordinator":
            return [HandOff("risk-agent")]
        case "risk-agent" if not call.results:
            return [Call("calculate_risk_score", {"deal_type": "loan", "amount": 400_000})]
        case "risk-agent":
            return [HandOff("compliance-agent")]
        case _ if not call.results:
            return [Call("check_compliance", {"company": "Northwind"})]
        case _:
            return [Say("The loan to Northwind has a risk score of 40, and nothing speaks against it.")]


async def main() -> None:
    async with outlast.connect("sqlite:///deal_analysis.db") as backend, backend.worker([DealAnalysis]):
        execution = await backend.start(DealAnalysis, "A loan of 400000 euros to Northwind", id="deal-1")
        async for event in execution.events():
            tool = event.data.tool if isinstance(event.data, outlast.events.CallData) else ""
            print(f"{event.position:>3} {event.kind} {tool}")
        print((await execution.result())["analysis"])


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
