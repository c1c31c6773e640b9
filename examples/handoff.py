"""Two agents: the first hands the conversation over to the second, which has the tool.

There is no workflow here, so nothing is durable; see deal_analysis.py for handoffs that survive a crash.

Run it: make example NAME=handoff
    or: uv run examples/handoff.py
    or, with outlast[mistral,testing] installed: python examples/handoff.py
"""

import asyncio

from stand_in import Call, HandOff, ModelPrompt, Reply, Say, mistral

import outlast


def parking_fee(hours: int) -> float:
    """Return the fee for parking, in euros.

    Args:
        hours: How long, rounded up
    """
    return 2.5 * hours


cashier = outlast.Agent(
    model="mistral-medium-latest",
    name="cashier",
    description="Knows what everything costs",
    instructions="Work fees out with your tool, and say the amount.",
    tools=[parking_fee],
)
receptionist = outlast.Agent(
    model="mistral-medium-latest",
    name="receptionist",
    description="Meets visitors",
    instructions="Questions about money are for the cashier: hand off.",
    handoffs=[cashier],
)


def stand_in(call: ModelPrompt) -> Reply:
    """The receptionist hands off; the cashier works the fee out, then says it."""
    if call.agent == "receptionist":
        return [HandOff("cashier")]
    if call.results:
        [fee] = call.results.values()
        return [Say(f"That makes {fee} euros.")]
    return [Call("parking_fee", {"hours": 3})]


async def main() -> None:
    result = await outlast.Runner.run(receptionist, "I have parked for three hours. What do I owe?")
    for entry in result.entries:
        if isinstance(entry, outlast.AgentHandoff):
            print(f"{entry.previous_agent_name} hands off to {entry.next_agent_name}")
    print(f"{result.agent.name}: {result.text}")


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
