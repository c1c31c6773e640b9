"""Runs of agents: what they do is the same, and told in the same order, on every backend."""

from __future__ import annotations

from typing import Any

from durable_agents.adapters.scripted import ScriptedSession, call, say
from durable_agents.composition.running import Runner
from durable_agents.core.entries import FunctionResult
from durable_agents.core.usage import Usage
from durable_agents.ports.llm import ModelReply, ModelRequest
from durable_agents.runtime import workflow
from durable_agents.runtime.activity import activity
from durable_agents.runtime.agent import Agent
from durable_agents.runtime.guardrails import Replace
from durable_agents.testing.durability.activities import AT_ONCE
from durable_agents.testing.durability.stage import ContractBase, Stage, transcript
from durable_agents.testing.durability.world import here

KINDS = [
    "execution_started",
    *("activity_started", "activity_completed", "guardrail_replaced"),
    *("turn_started", "model_replied", "answer_rejected"),
    *("turn_started", "model_replied"),
    *("tool_called", "tool_failed"),
    *("tool_called", "tool_returned"),
    *("limit_reached", "turn_started", "model_replied"),
    *("activity_started", "activity_completed"),
    "execution_completed",
]
"""What happens in a careful run: its input is changed, its first answer is no number, its second call of a
tool is one too many, and so its last answer is given without any."""


@activity(name="contract_look", retry_policy_initial_interval=AT_ONCE)
async def look(text: str) -> Replace | None:
    """Look at a text, and make it polite."""
    here().happen(f"looked at {text}")
    return Replace(f"Please: {text}") if text == "Go." else None


@activity(name="contract_note", retry_policy_initial_interval=AT_ONCE)
async def note(what: str) -> str:
    """Take something down."""
    here().happen(what)
    return f"{what} noted"


def careful(request: ModelRequest) -> ModelReply:
    usage = Usage(total_tokens=10)
    match request.turn:
        case 1:
            return ModelReply(entries=(say("seven"),), usage=usage)
        case 2:
            calls = (call("contract_note", {"what": what}, call_id=what) for what in ("one", "two"))
            return ModelReply(entries=tuple(calls), usage=usage)
    return ModelReply(entries=(say('{"value": 7}' if not request.may_call else "no"),), usage=usage)


@workflow.define(name="contract.careful")
class Careful:
    """Runs an agent whose input and answer are checked, and which may call one tool."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        agent = Agent(
            model="m",
            name="careful",
            tools=[note],
            output_type=int,
            input_guardrails=[look],
            output_guardrails=[look],
        )
        session = ScriptedSession(careful)
        result = await Runner.run(agent, "Go.", session, max_tool_calls=1, on_limit="finish")
        told = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        return [result.output, result.turns, result.usage.total_tokens, *told]


class AgentContract(ContractBase):
    """What agents do is decided by one machine, from one journal."""

    async def test_checks_and_limits_of_a_run_are_the_same_on_every_backend(self, stage: Stage) -> None:
        execution, world = await stage.start(Careful)
        process = await stage.worker(Careful)
        await stage.event(execution, "tool_returned")
        await stage.lose(process)
        await stage.worker(Careful)
        output, turns, tokens, *told = await stage.later(execution.result(), 1)
        assert (output, turns, tokens) == (7, 3, 30)
        assert told[0] == "one noted"
        assert "limit of 1 tool calls is used up" in told[1]
        assert [kind for kind, _ in await stage.soon(transcript(execution))] == KINDS
        whats = [effect.what for effect in world.effects]
        assert sorted({str(what) for what in whats}) == ["looked at Go.", 'looked at {"value": 7}', "one"]
        assert whats.count("one") == 1
