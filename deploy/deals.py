"""The program that the files of this folder deploy."""

import outlast


@outlast.activity()
async def calculate_risk_score(deal_type: str, amount: float) -> float:
    """Calculate the financial risk score of a deal.

    Args:
        deal_type: The type of deal being analysed
        amount: The monetary amount of the deal
    """
    return min(100.0, amount / 10_000)


@outlast.workflow.define(name="deal_analysis")
class DealAnalysis:
    @outlast.workflow.entrypoint
    async def run(self, request: str) -> str:
        agent = outlast.Agent(
            model="mistral-medium-latest",
            name="analyst",
            instructions="Use the risk tool.",
            tools=[calculate_risk_score],
        )
        return (await outlast.Runner.run(agent, request)).text
