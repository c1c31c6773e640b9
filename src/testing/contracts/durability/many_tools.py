"""Agents with many tools and many calls: bounds, checks of single calls, and tools that are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.agents import ToolSpec
from outlast.core.entries import FunctionResult, MessageOutput
from outlast.core.events import (
    ActivityStartedData,
    EventKind,
    GuardrailRejectedData,
    GuardrailReplacedData,
    HandedOffData,
    MadeCallData,
    ToolCalledData,
)
from outlast.core.input_filters import without_tool_calls
from outlast.core.json import JSON
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent, Handoff
from outlast.runtime.definitions.guardrails import Reject, Replace
from outlast.runtime.definitions.run_context import RunContext
from outlast.runtime.definitions.tool_index import ToolIndex
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Stage,
    all_events,
    data_of,
    transcript,
)
from outlast.testing.contracts.durability.world import here

WHATS = ("tea", "salt", "rice", "oil", "soap")
AT_WORK = 2


@activity(name="contract_fetch", retry_policy_initial_interval=AT_ONCE)
async def fetch(what: str) -> str:
    """Fetch something, once the test allows it."""
    world = here()
    world.happen(what)
    await world.gate("fetch").wait()
    return f"{what} fetched"


def fetches(request: ModelRequest) -> ModelReply:
    if request.turn == 1:
        assert request.tool_choice == "required"
        return ModelReply(
            entries=tuple(call("contract_fetch", {"what": what}, call_id=what) for what in WHATS)
        )
    assert request.tool_choice == "auto"
    return ModelReply(entries=(say("Done."),))


@workflow.define(name="contract.fetching")
class Fetching:
    """Runs an agent whose model asks for more calls than may be made at once."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        agent = Agent(
            model="m", name="solo", tools=[fetch], max_parallel_tools=AT_WORK, tool_choice="required"
        )
        result = await Runner.run(agent, "Go.", ScriptedSession(fetches))
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


PAID: Mapping[str, JSON] = {"amount": 5}


@activity(name="contract_transfer", retry_policy_initial_interval=AT_ONCE, requires_approval=True)
async def transfer(amount: int) -> str:
    """Pay, if a person allows it."""
    here().happen(f"paid {amount}")
    return f"paid {amount} from 4111"


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


class Vault(ToolSource):
    """A source whose one tool returns what nobody may see."""

    @property
    def name(self) -> str:
        return "vault"

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return [ToolSpec(name="open_vault", parameters={"type": "object"})]

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        return ToolOutput(content=f"the code is 4111 {arguments.get('text', '')}".strip())

    def effect(self, tool: str) -> Effect:
        return "read"


def no_large_sums(arguments: dict[str, JSON]) -> Reject | None:
    amount = arguments.pop("amount", 0)
    return Reject(f"{amount} is too much") if isinstance(amount, int) and amount > 10 else None


def known_already(arguments: dict[str, JSON], run: RunContext[Any]) -> Replace | Reject | None:
    if arguments.get("text", arguments.get("input")) == "known":
        return Replace(f"{run.tool} is known")
    return Reject("it is forbidden") if "forbidden" in arguments.values() else None


def no_codes(text: str) -> Replace | Reject | None:
    if "secret" in text.lower():
        return Reject("it is secret")
    return Replace(text.replace("4111", "****")) if "4111" in text else None


HELPER = Agent(model="m", name="helper")
GUARDED = (
    *(call("contract_transfer", {"amount": amount}, call_id=f"pay {amount}") for amount in (50, 5)),
    *(
        call(tool, {"input" if tool == "helper" else "text": text}, call_id=f"{tool} {text}")
        for tool in ("shout", "open_vault", "helper")
        for text in ("tea", "known", "forbidden", "secret")
    ),
)
REJECTED = "the call of '{}' was rejected by '{}'; {}"
NOT_MADE, NOT_SHOWN = "it was not made: {}", "it was made, but its result cannot be shown: it is secret"
SEEN = [
    REJECTED.format("contract_transfer", "no_large_sums", NOT_MADE.format("50 is too much")),
    "paid 5 from ****",
    *(
        result
        for tool, answer in (("shout", "TEA"), ("open_vault", "the code is **** tea"), ("helper", "On tea."))
        for result in (
            answer,
            f"{tool} is known",
            REJECTED.format(tool, "known_already", NOT_MADE.format("it is forbidden")),
            REJECTED.format(tool, "no_codes", NOT_SHOWN),
        )
    ),
]


def guarded(request: ModelRequest) -> ModelReply:
    if request.agent == "helper":
        return ModelReply(entries=(say(f"On {getattr(request.new[0], 'content', '')}."),))
    results = [entry.result for entry in request.new if isinstance(entry, FunctionResult)]
    assert request.turn == 1 or results == SEEN
    return ModelReply(entries=GUARDED if request.turn == 1 else (say("Done."),))


@workflow.define(name="contract.guarded_calls")
class GuardedCalls:
    """Runs an agent whose tools of every sort have guardrails."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        agent = Agent(
            model="m",
            name="solo",
            tools=[transfer, shout, Vault(), HELPER],
            tool_input_guardrails={"*": [known_already], "contract_transfer": no_large_sums},
            tool_output_guardrails={"*": no_codes},
        )
        result = await Runner.run(agent, "Go.", ScriptedSession(guarded))
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


def seen_in(request: ModelRequest) -> list[str]:
    """Return what a model was shown, a word for each entry."""
    entries = (*request.history, *request.new)
    return [str(getattr(entry, "content", getattr(entry, "result", entry.type))) for entry in entries]


def handing_off(request: ModelRequest) -> ModelReply:
    match request.agent, request.turn:
        case "front", 1:
            return ModelReply(entries=(call("shout", {"text": "tea"}), call("transfer_to_back")))
        case "back", 2:
            return ModelReply(entries=(call("contract_fetch", {"what": "tea"}),))
        case "back", 3:
            return ModelReply(entries=(say(" | ".join(seen_in(request))), call("transfer_to_front")))
    return ModelReply(entries=(say(" | ".join(seen_in(request))),))


@workflow.define(name="contract.handing_off")
class HandingOff:
    """Runs an agent that hands off a part of its conversation."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        back = Agent(model="m", name="back", tools=[fetch], handoffs=["front"])
        part = Handoff(back, input_filter=[without_tool_calls])
        front = Agent(model="m", name="front", tools=[shout], handoffs=[part])
        result = await Runner.run(front, "Go.", ScriptedSession(handing_off))
        return [str(entry.content) for entry in result.entries if isinstance(entry, MessageOutput)]


def searching(request: ModelRequest) -> ModelReply:
    match request.turn:
        case 1:
            queries = ("vault", "fetch something", "nothing")
            return ModelReply(entries=tuple(call("search_tools", {"query": query}) for query in queries))
        case 2:
            return ModelReply(
                entries=(call("contract_fetch", {"what": "tea"}), call("open_vault", {"text": "now"}))
            )
    tools = [tool.name for tool in request.graph[request.agent].tools]
    results = [entry.result for entry in request.new if isinstance(entry, FunctionResult)]
    return ModelReply(entries=(say(" | ".join([*results, *tools])),))


@workflow.define(name="contract.searching")
class Searching:
    """Runs an agent that searches for its tools, twice."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        index = ToolIndex([fetch, shout, Vault(), HELPER])
        agent = Agent(model="m", name="solo", tools=[index])
        runs = [await Runner.run(agent, "Go.", ScriptedSession(searching)) for _ in range(2)]
        return [result.text for result in runs]


def most_at_once(kinds: list[Any], begin: EventKind, end: EventKind) -> int:
    """Return the most of something that was between its beginning and its end at the same time."""
    at_work = [0]
    for kind in kinds:
        at_work.append(at_work[-1] + (kind == begin) - (kind == end))
    return max(at_work)


class ManyToolsContract(DurabilityContractBase):
    """Agents that have, and call, many tools."""

    async def test_no_more_calls_of_a_turn_are_made_at_once_than_the_agent_allows(self, stage: Stage) -> None:
        execution, world = await stage.start(Fetching)
        process = await stage.worker(Fetching)
        await stage.soon(world.happened_in_all(AT_WORK))
        await stage.lose(process)
        await stage.worker(Fetching)
        world.gate("fetch").set()
        assert await stage.later(execution.result(), 1) == [f"{what} fetched" for what in WHATS]
        assert {effect.what for effect in world.effects[:AT_WORK]} == {*WHATS[:AT_WORK]}
        kinds = [kind for kind, _ in await stage.soon(transcript(execution))]
        assert kinds.count(EventKind.TOOL_CALLED) == len(WHATS)
        assert most_at_once(kinds, EventKind.TOOL_CALLED, EventKind.TOOL_RETURNED) == AT_WORK

    async def test_guardrails_of_tools_hold_for_tools_of_every_sort_and_across_a_crash(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(GuardedCalls)
        process = await stage.worker(GuardedCalls)
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        await stage.lose(process)
        await stage.worker(GuardedCalls)
        # Nobody is asked about the call that a guardrail has rejected.
        [waiting] = await stage.soon((await stage.again(execution)).pending())
        assert waiting.arguments == PAID
        await execution.decide(waiting.call_id, "allow")
        assert await stage.later(execution.result(), 1) == SEEN
        assert [effect.what for effect in world.effects] == ["paid 5"]
        events = await stage.soon(all_events(execution))
        rejected = data_of(events, GuardrailRejectedData)
        assert sorted((data.of, str(data.tool), data.guardrail, data.reason) for data in rejected) == sorted(
            [
                ("call", "contract_transfer", "no_large_sums", "50 is too much"),
                *(
                    verdict
                    for tool in ("shout", "open_vault", "helper")
                    for verdict in (
                        ("call", tool, "known_already", "it is forbidden"),
                        ("result", tool, "no_codes", "it is secret"),
                    )
                ),
            ]
        )
        replaced = {data.call_id: data.text for data in data_of(events, GuardrailReplacedData)}
        assert replaced == {
            "pay 5": "paid 5 from ****",
            "open_vault tea": "the code is **** tea",
            **{f"{tool} known": f"{tool} is known" for tool in ("shout", "open_vault", "helper")},
        }
        # Each call that was made, or answered, has one beginning and one end.
        calls = data_of(events, MadeCallData)
        begun = [data.call_id for data in calls if isinstance(data, ToolCalledData)]
        ends = [data.call_id for data in calls if not isinstance(data, ToolCalledData)]
        assert sorted(ends) == sorted(begun) == sorted(one.tool_call_id for one in GUARDED)

    async def test_an_agent_sees_what_the_handoff_leaves_of_the_conversation_also_after_a_crash(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(HandingOff)
        process = await stage.worker(HandingOff)
        await stage.soon(world.happened("tea"))
        await stage.lose(process)
        world.gate("fetch").set()
        await stage.worker(HandingOff)
        part, whole = await stage.later(execution.result(), 1)
        assert part == "Go. | function.call | tea fetched"
        calls = "function.call | function.call"
        assert whole.startswith(
            f'Go. | {calls} | TEA | {{"handed_off_to":"back"}} | function.call | tea fetched'
        )
        events = await stage.soon(all_events(execution))
        filtered = [(data.to_agent, data.filtered) for data in data_of(events, HandedOffData)]
        assert filtered == [("back", True), ("front", None)]

    async def test_an_agent_keeps_the_tools_that_it_has_found_and_the_catalogue_is_listed_once(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Searching)
        process = await stage.worker(Searching)
        await stage.soon(world.happened("tea"))
        await stage.lose(process)
        world.gate("fetch").set()
        await stage.worker(Searching)
        text = "tea fetched | the code is 4111 now | search_tools | open_vault | contract_fetch"
        assert await stage.later(execution.result(), 1) == [text] * 2
        events = await stage.soon(all_events(execution))
        lists = [data.name for data in data_of(events, ActivityStartedData)]
        assert sorted(lists) == ["list tools of solo/search_tools", "list tools of vault"]
