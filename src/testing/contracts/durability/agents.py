"""Runs of agents: they do the same, and emit the same events in the same order, on every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.agents import ToolSpec
from outlast.core.chunks import TextChunk, UnknownChunk
from outlast.core.entries import Entry, FunctionCall, FunctionResult, MessageInput, MessageOutput
from outlast.core.errors import MalformedReply
from outlast.core.events import EventKind, MadeCallData, ToolCalledData, ToolFailedData, ToolReturnedData
from outlast.core.json import DEPTH_MAX, JSON
from outlast.core.summaries import HEADING, SUMMARISER, SummariseHistory
from outlast.core.usage import Usage
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.guardrails import Replace
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Stage,
    all_events,
    data_of,
    transcript,
)
from outlast.testing.contracts.durability.values import lists
from outlast.testing.contracts.durability.world import here, worlds

KINDS = [
    EventKind.EXECUTION_STARTED,
    *(EventKind.ACTIVITY_STARTED, EventKind.ACTIVITY_COMPLETED, EventKind.GUARDRAIL_REPLACED),
    *(EventKind.TURN_STARTED, EventKind.MODEL_REPLIED, EventKind.ANSWER_REJECTED),
    *(EventKind.TURN_STARTED, EventKind.MODEL_REPLIED),
    *(EventKind.TOOL_CALLED, EventKind.TOOL_FAILED),
    *(EventKind.TOOL_CALLED, EventKind.TOOL_RETURNED),
    *(EventKind.LIMIT_REACHED, EventKind.TURN_STARTED, EventKind.MODEL_REPLIED),
    *(EventKind.ACTIVITY_STARTED, EventKind.ACTIVITY_COMPLETED),
    EventKind.EXECUTION_COMPLETED,
]
"""The events of a careful run: its input is changed, its first answer is not a number, its second call of a
tool is one too many, and so its last answer is given without tools."""


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
        results = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        return [result.output, result.turns, result.usage.total_tokens, *results]


class Summariser(ScriptedSession):
    """Plays its script; a summary is made when the test opens the gate."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        if request.agent == SUMMARISER:
            world = worlds[request.idempotency_key.partition("/")[0]]
            world.gate("summary asked for").set()
            await world.gate("summary").wait()
        return await super().reply(request, resources, publish)


def long_winded(request: ModelRequest) -> ModelReply:
    usage = Usage(total_tokens=10)
    if request.agent == SUMMARISER:
        [asked] = (*request.history, *request.new)
        assert isinstance(asked, MessageInput)
        lines = str(asked.content).splitlines()
        return ModelReply(entries=(say(f"{len(lines)} lines, the last: {lines[-1]}"),), usage=usage)
    if request.turn <= 4:
        what = f"n{request.turn}"
        return ModelReply(entries=(call("contract_note", {"what": what}, call_id=what),), usage=usage)
    seen = [str(getattr(entry, "content", entry.type)) for entry in (*request.history, *request.new)]
    return ModelReply(entries=(say(" | ".join(seen)),), usage=usage)


@workflow.define(name="contract.long_winded")
class LongWinded:
    """Runs an agent whose conversation becomes too long for its session, twice."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        agent = Agent(model="m", name="solo", tools=[note])
        summarise = SummariseHistory(over_tokens=5, keep_turns=1, count=lambda entry: 1)
        session = Summariser(long_winded, context=[summarise])
        result = await Runner.run(agent, "Go.", session)
        types = [entry.type for entry in Runner.messages(session)]
        return [result.text, result.turns, result.usage.total_tokens, len(types), len(result.entries)]


@activity(name="contract_sort", retry_policy_initial_interval=AT_ONCE)
async def sort(words: list[str], options: dict[str, list[str]], rest: Any) -> str:
    """Change the arguments, and fail at first."""
    arguments = f"{words} {options} {rest}"
    here().happen(arguments)
    for changed in (words, options["words"], rest):
        changed.clear()
    if activity.info().attempt == 1:
        raise ValueError("once more")
    return arguments


@workflow.define(name="contract.careless")
class Careless:
    """Runs an agent whose tool changes its arguments, and then calls that as an activity."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        words = ["b", "a"]
        arguments: Any = {"words": words, "options": {"words": words}, "rest": words}
        session = ScriptedSession(
            lambda r: call("contract_sort", arguments) if r.turn == 1 else say(tool_results(r.new)[0])
        )
        result = await Runner.run(Agent(model="m", name="careless", tools=[sort]), "Go.", session)
        return [result.text, await sort(**arguments), *words]


def tool_results(entries: Sequence[Entry]) -> list[str]:
    return [entry.result for entry in entries if isinstance(entry, FunctionResult)]


ODD_IDS = ("model", "summary", "t1/model", "~", "", "", "same", "same", "x" * 5000, "\ud800", "\n", "é#:/")


@workflow.define(name="contract.odd_ids")
class OddIds:
    """Runs an agent whose model gives its calls ids that are not in any API."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        agent = Agent(model="m", name="odd", tools=[note])
        calls = tuple(
            FunctionCall(tool_call_id=one, name="contract_note", arguments=f'{{"what": "{number}"}}')
            for number, one in enumerate(ODD_IDS)
        )
        session = ScriptedSession(lambda r: ModelReply(entries=calls if r.turn == 1 else (say("Done."),)))
        result = await Runner.run(agent, "Go.", session)
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


@activity(name="contract_dig", retry_policy_initial_interval=AT_ONCE)
async def dig(levels: int) -> Any:
    """Return lists within lists."""
    return lists(levels)


@workflow.define(name="contract.deep")
class Deep:
    """Runs an agent whose tool and whose model return JSON that is nested `levels` deep."""

    @workflow.entrypoint
    async def run(self, tool: int, model: int) -> str:
        def reply(request: ModelRequest) -> ModelReply:
            if request.turn == 1:
                return ModelReply(entries=(call("contract_dig", {"levels": tool}),))
            odd = UnknownChunk.model_validate({"type": "odd", "x": lists(model)})
            return ModelReply(entries=(MessageOutput(content=(TextChunk(text="Done."), odd)),))

        agent = Agent(model="m", name="deep", tools=[dig])
        try:
            return (await Runner.run(agent, "Go.", ScriptedSession(reply))).text
        except MalformedReply as error:
            return str(error)


def count(words: list[str]) -> dict[str, int]:
    """Count words."""
    return {word: words.count(word) for word in sorted(set(words))}


class Scales(ToolSource):
    """A source whose one tool returns a structure, and a text with the same content."""

    @property
    def name(self) -> str:
        return "scales"

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return [ToolSpec(name="weigh", description="Weigh", parameters={"type": "object"})]

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        if arguments["what"] == "air":
            return ToolOutput(content="too light", is_error=True)
        return ToolOutput(content='{"grams":7}', structured={"grams": 7})

    def effect(self, tool: str) -> Effect:
        return "read"


CALLS = (
    call("contract_note", {"what": "tea"}, call_id="activity"),
    call("count", {"words": ["a", "b", "a"]}, call_id="function"),
    call("weigh", {"what": "tea"}, call_id="source"),
    call("weigh", {"what": "air"}, call_id="too light"),
    call("weigh", "tea", call_id="no object"),
    call("transfer_to_nobody", {}, call_id="handoff"),
)


@workflow.define(name="contract.all_sorts")
class AllSorts:
    """Runs an agent that has tools of every sort, and calls them one after another."""

    @workflow.entrypoint
    async def run(self) -> str:
        agent = Agent(model="m", name="solo", tools=[note, count, Scales()])
        session = ScriptedSession(
            {"solo": [*([one] for one in CALLS), say("Done.")]}, may_call_unknown_tools=True
        )
        return (await Runner.run(agent, "Go.", session)).text


class AgentContract(DurabilityContractBase):
    """One machine decides what agents do, from one journal."""

    async def test_checks_and_limits_of_a_run_are_the_same_on_every_backend(self, stage: Stage) -> None:
        execution, world = await stage.start(Careful)
        process = await stage.worker(Careful)
        await stage.event(execution, EventKind.TOOL_RETURNED)
        await stage.lose(process)
        await stage.worker(Careful)
        output, turns, tokens, *results = await stage.later(execution.result(), 1)
        assert (output, turns, tokens) == (7, 3, 30)
        assert results[0] == "one noted"
        assert "limit of 1 tool calls is used up" in results[1]
        assert [kind for kind, _ in await stage.soon(transcript(execution))] == KINDS
        whats = [effect.what for effect in world.effects]
        assert sorted({str(what) for what in whats}) == ["looked at Go.", 'looked at {"value": 7}', "one"]
        assert whats.count("one") == 1

    async def test_a_summary_in_the_middle_of_a_run_survives_the_loss_of_workers(self, stage: Stage) -> None:
        execution, world = await stage.start(LongWinded)
        process = await stage.worker(LongWinded)
        await stage.soon(world.gate("summary asked for").wait())
        await stage.lose(process)
        world.gate("summary").set()
        await stage.worker(LongWinded)
        text, turns, tokens, *lengths = await stage.later(execution.result(), 1)
        first = "4 lines, the last: contract_note returned: n2 noted"
        assert text == " | ".join(
            [
                f"{HEADING}\n4 lines, the last: contract_note returned: n3 noted",
                *("Go.", "function.call", "function.result"),
            ]
        )
        # Two summaries, which are not turns but cost as much; the conversation itself is complete.
        assert (turns, tokens, lengths) == (5, 70, [10, 10])
        events = await stage.soon(transcript(execution))
        turn = [EventKind.TURN_STARTED, EventKind.MODEL_REPLIED]
        summary, tool = (
            [EventKind.SUMMARY_STARTED, EventKind.SUMMARY_MADE],
            [EventKind.TOOL_CALLED, EventKind.TOOL_RETURNED],
        )
        kinds = [*turn, *tool] * 3 + [*summary, *turn, *tool, *summary, *turn]
        assert [kind for kind, _ in events] == [
            EventKind.EXECUTION_STARTED,
            *kinds,
            EventKind.EXECUTION_COMPLETED,
        ]
        made = [data["result"] for kind, data in events if kind == EventKind.SUMMARY_MADE]
        assert made[0]["entries"][0]["content"] == first
        assert [effect.what for effect in world.effects] == ["n1", "n2", "n3", "n4"]

    async def test_an_attempt_does_not_see_the_changes_of_another_to_its_arguments(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(Careless)
        await stage.worker(Careless)
        arguments = "['b', 'a'] {'words': ['b', 'a']} ['b', 'a']"
        assert await stage.later(execution.result(), 1) == [arguments, arguments, "b", "a"]
        assert [(effect.what, effect.attempt) for effect in world.effects] == [
            (arguments, 1),
            (arguments, 2),
        ] * 2

    async def test_tool_events_have_arguments_as_objects_and_results_unchanged_for_tools_of_every_sort(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(AllSorts)
        await stage.worker(AllSorts)
        assert await stage.soon(execution.result()) == "Done."
        calls = data_of(await stage.soon(all_events(execution)), MadeCallData)
        assert [(data.kind, data.call_id, data.tool, data.source) for data in calls] == [
            (kind, one.tool_call_id, one.name, "scales" if made and one.name == "weigh" else None)
            for one, made, ending in zip(
                CALLS,
                (True, True, True, True, False, False),
                (EventKind.TOOL_RETURNED,) * 3 + (EventKind.TOOL_FAILED,) * 3,
                strict=True,
            )
            for kind in (EventKind.TOOL_CALLED, ending)
        ]
        # A call that is a step has a key.
        keys = [data.key for data in calls if isinstance(data, ToolCalledData)]
        assert [key is not None for key in keys] == [True, False, True, True, False, False]
        assert [
            (data.arguments, data.arguments_text) for data in calls if isinstance(data, ToolCalledData)
        ] == [
            ({"what": "tea"}, None),
            ({"words": ["a", "b", "a"]}, None),
            ({"what": "tea"}, None),
            ({"what": "air"}, None),
            ({}, "tea"),
            ({}, None),
        ]
        assert [data.result for data in calls if isinstance(data, ToolReturnedData)] == [
            "tea noted",
            {"a": 2, "b": 1},
            {"grams": 7},
        ]
        failures = [data.failure for data in calls if isinstance(data, ToolFailedData)]
        assert [failure.kind for failure in failures] == ["ToolError", "InvalidArguments", "UnknownHandoff"]
        assert failures[0].message == "too light"

    async def test_every_call_is_made_and_answered_whatever_id_the_model_gives_it(self, stage: Stage) -> None:
        execution, world = await stage.start(OddIds)
        await stage.worker(OddIds)
        assert await stage.soon(execution.result()) == [f"{number} noted" for number in range(len(ODD_IDS))]
        assert [world.count(str(number)) for number in range(len(ODD_IDS))] == [1] * len(ODD_IDS)

    async def test_replies_and_results_of_tools_may_be_nested_as_deep_as_any_value(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(Deep, DEPTH_MAX, DEPTH_MAX)
        await stage.worker(Deep)
        assert await stage.soon(execution.result()) == "Done."
        replies = [
            data["result"] for kind, data in await transcript(execution) if kind == EventKind.MODEL_REPLIED
        ]
        assert replies[-1]["entries"][0]["content"][1]["x"] == lists(DEPTH_MAX)

    async def test_a_reply_too_deep_to_be_kept_is_malformed_and_not_asked_for_again(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(Deep, 1, DEPTH_MAX + 50)
        await stage.worker(Deep)
        assert "nested more than" in await stage.soon(execution.result())
        kinds = [event.kind for event in await all_events(execution)]
        assert kinds[-3:] == [EventKind.TURN_STARTED, EventKind.MODEL_FAILED, EventKind.EXECUTION_COMPLETED]
