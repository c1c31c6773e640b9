"""The demonstration's workflow: three agents analyse a deal, handing it to each other."""

from __future__ import annotations

import outlast
from outlast.cli.demo.effects import leave_effect

MODEL = "mistral-medium-latest"


@outlast.activity()
async def open_deal_file(company: str) -> str:
    """Open a file for a deal, and return its number.

    Args:
        company: The company that the deal is with
    """
    leave_effect()
    return f"deal file 2041 for {company}"


@outlast.activity()
async def fetch_interest_rate(country: str) -> float:
    """Fetch a country's policy interest rate, in percent.

    Args:
        country: Two letters, such as FR
    """
    leave_effect()
    return {"FR": 2.15, "GB": 4.0, "US": 4.25}.get(country.upper(), 5.0)


@outlast.activity()
async def calculate_risk_score(deal_type: str, amount: float) -> dict[str, float]:
    """Calculate the financial risk score of a deal, from 0 (none) to 100.

    Args:
        deal_type: The type of the deal, such as loan or acquisition
        amount: The amount in euros
    """
    leave_effect()
    weight = 1.5 if deal_type == "acquisition" else 1.0
    return {"risk_score": min(100.0, weight * amount / 100_000)}


@outlast.activity()
async def screen_sanctions(company: str) -> str:
    """Look a company up in the sanctions lists.

    Args:
        company: The company's name
    """
    leave_effect()
    return f"{company}: no entry"


@outlast.activity()
async def check_regulations(deal_type: str, country: str) -> list[str]:
    """List what a regulator wants to see before a deal of this type.

    Args:
        deal_type: The type of the deal
        country: Two letters, such as FR
    """
    leave_effect()
    return [f"{country} merger control filing", f"{deal_type} disclosure"]


@outlast.activity()
async def send_report(recipient: str, summary: str) -> str:
    """Send the report on a deal.

    Args:
        recipient: Who gets it
        summary: What it says
    """
    leave_effect()
    return f"sent to {recipient}"


@outlast.workflow.define(name="deal_analysis")
class DealAnalysis:
    """A coordinator, a risk agent and a compliance agent."""

    @outlast.workflow.entrypoint
    async def run(self, request: str) -> str:
        compliance = outlast.Agent(
            model=MODEL,
            name="compliance-agent",
            description="Checks sanctions and regulations; knows nothing of risk",
            instructions="Call screen_sanctions and check_regulations, then hand off to deal-coordinator.",
            tools=[screen_sanctions, check_regulations],
            handoffs=["deal-coordinator"],
        )
        risk = outlast.Agent(
            model=MODEL,
            name="risk-agent",
            description="Analyses the financial risk of a deal",
            instructions=(
                "Call fetch_interest_rate and calculate_risk_score, then hand off to compliance-agent."
            ),
            tools=[fetch_interest_rate, calculate_risk_score],
            handoffs=[compliance],
        )
        coordinator = outlast.Agent(
            model=MODEL,
            name="deal-coordinator",
            description="Coordinates the analysis of a deal, and reports on it",
            instructions=(
                "First call open_deal_file. Then hand off to risk-agent, which hands on to compliance-agent "
                "and back to you. When both have done their part, call send_report for the board, and answer "
                "with the report in two sentences. Call each tool once."
            ),
            tools=[open_deal_file, send_report],
            handoffs=[risk],
        )
        analysis = await outlast.Runner.run(
            coordinator, request, session=outlast.RemoteSession(), max_turns=20
        )
        return analysis.text
