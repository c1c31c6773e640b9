"""A tool call that waits for a person: small transfers are made, others only when somebody allows them.

Run it: make example NAME=approval
    or: uv run examples/approval.py
    or, with outlast[mistral,testing] installed: python examples/approval.py

In production the two sides are apart: the worker runs the agent, and whoever decides does so days later, from
another process, or by `outlast pending | allow | deny`.
"""

import asyncio
import json

from stand_in import Call, ModelPrompt, Reply, Say, mistral

import outlast


@outlast.activity(requires_approval=lambda arguments: arguments["amount"] > 100)
async def transfer(to: str, amount: float) -> str:
    """Transfer money.

    Args:
        to: Who gets it
        amount: How much, in euros
    """
    return f"{to} got {amount:g} euros"


def no_account_numbers(text: str) -> outlast.Reject | None:
    """Let no answer out that holds an account number."""
    return outlast.Reject("it holds an account number") if "FR76" in text else None


clerk = outlast.Agent(
    model="mistral-medium-latest",
    name="clerk",
    instructions="Make the transfers that you are asked for, then say what came of each.",
    tools=[transfer],
    output_type=list[str],
    output_guardrails=[no_account_numbers],
)


@outlast.workflow.define(name="transfers")
class Transfers:
    @outlast.workflow.entrypoint
    async def run(self, request: str) -> list[str]:
        result = await outlast.Runner.run(clerk, request, outlast.RemoteSession(), max_tool_calls=10)
        return result.output


async def main() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Transfers]):
        request = "Send 20 euros to Ann, 5000 to Bob and 300 to Cid."
        execution = await backend.start(Transfers, request)
        async for event in execution.events():
            if isinstance(event.data, outlast.events.ApprovalRequestedData):
                asked = {waiting.call_id: waiting for waiting in await execution.pending()}
                waiting = asked[event.data.call_id]
                print(f"may {waiting.agent} call {waiting.tool} with {json.dumps(waiting.arguments)}?")
                if waiting.arguments["to"] == "Bob":
                    await execution.decide(waiting.call_id, "deny", "ask him first")
                else:
                    less = {**waiting.arguments, "amount": 150}
                    await execution.decide(waiting.call_id, "allow", edited_arguments=less)
        for line in await execution.result():
            print(line)


def stand_in(call: ModelPrompt) -> Reply:
    """Ask for the transfers; answer first with text that is not JSON, then with the results."""
    payments = {"Ann": 20, "Bob": 5000, "Cid": 300}
    results = [entry["result"] for entry in call.entries if entry["type"] == "function.result"]
    if not results:
        return [Call("transfer", {"to": to, "amount": amount}) for to, amount in payments.items()]
    if call.replies == 1:
        return [Say("Done.")]
    return [Say(json.dumps({"value": results}))]


if __name__ == "__main__":
    with mistral(stand_in):
        asyncio.run(main())
