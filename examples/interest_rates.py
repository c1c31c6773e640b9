"""One agent with one tool, in a workflow: every model reply and tool result is journaled.

Run it: make example NAME=interest_rates
    or: uv run examples/interest_rates.py
    or, with outlast[mistral,testing] installed: python examples/interest_rates.py
"""

import asyncio

from stand_in import Call, ModelPrompt, Reply, Say, mistral

import outlast

RATES = {"france": 2.15, "united kingdom": 4.0, "united states": 4.25}


@outlast.activity()
async def get_interest_rate(country: str) -> float:
    """Return the policy interest rate of a country, in percent.

    Args:
        country: The country's English name
    """
    return RATES[country.lower()]


economist = outlast.Agent(
    model="mistral-medium-latest",
    name="economist",
    description="Knows interest rates",
    instructions="Answer in one sentence. Look rates up with your tool.",
    tools=[get_interest_rate],
)


@outlast.workflow.define(name="interest_rates")
class InterestRates:
    @outlast.workflow.entrypoint
    async def run(self, question: str) -> str:
        outputs = await outlast.Runner.run(agent=economist, inputs=question, session=outlast.RemoteSession())
        return outputs.text


def stand_in(call: ModelPrompt) -> Reply:
    """Look France's rate up, then say it."""
    if call.results:
        [rate] = call.results.values()
        return [Say(f"The policy rate in France is {rate} %.")]
    return [Call("get_interest_rate", {"country": "France"})]


if __name__ == "__main__":
    with mistral(stand_in):
        question = "What is the policy interest rate in France?"
        print(asyncio.run(outlast.execute_workflow(InterestRates, question, backend="memory:")))
