"""Summaries in the middle of a run: the entries that the model sees, the usage, and summaries that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError, ModelRefused, NotSupported
from outlast.core.events import SummaryFailedData, TextDeltaData
from outlast.core.summaries import HEADING, SUMMARISER
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.runs.conversation import Conversation, conversation_of
from outlast.testing.contracts.durability.stage import data_of
from tests.runtime.stages import in_memory


def echo(text: str) -> str:
    """Say it again."""
    return text


def agent(**options: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name="solo", tools=[echo], **options)


def one_each(entry: Entry) -> int:
    return 1


SHORT = outlast.SummariseHistory(over_tokens=5, keep_turns=1, count=one_each)
TOKENS = outlast.Usage(total_tokens=10)


def entries_of(request: ModelRequest) -> list[Entry]:
    return [*request.history, *request.new]


def working(turns: int, summary: Any = "short") -> Any:
    """Return a script: turns with a tool, then the number of entries that the model got; and the summary."""

    def script(request: ModelRequest) -> ModelReply:
        if request.agent == SUMMARISER:
            if isinstance(summary, Exception):
                raise summary
            return ModelReply(entries=(say(summary),), usage=TOKENS)
        if request.turn <= turns:
            return ModelReply(entries=(call("echo", {"text": f"t{request.turn}"}),), usage=TOKENS)
        return ModelReply(entries=(say(f"got {len(entries_of(request))}"),), usage=TOKENS)

    return script


async def test_in_a_run_of_any_length_the_model_gets_little_and_the_conversation_stays_whole() -> None:
    most = 0

    def script(request: ModelRequest) -> ModelReply:
        nonlocal most
        most = max(most, len(entries_of(request)))
        reply: ModelReply = working(20)(request)
        return reply

    session = outlast.ScriptedSession(script, context=[SHORT])
    result = await outlast.Runner.run(agent(), "go", session, max_turns=30)
    assert most <= 6
    assert result.turns == 21
    assert result.usage.total_tokens == 10 * (21 + 18)
    assert outlast.Runner.messages(session) == result.entries
    assert len(result.entries) == 1 + 2 * 20 + 1
    # The next run goes on from the entries that the model sees now.
    again = await outlast.Runner.run(agent(), "again", session, max_turns=30)
    assert again.turns == 21
    assert most <= 7


async def test_changed_messages_have_no_summary() -> None:
    session = outlast.ScriptedSession(working(4), context=[SHORT])
    await outlast.Runner.run(agent(), "go", session)
    assert conversation_of(session, None).summary is not None
    outlast.Runner.set_messages(session, [])
    assert conversation_of(session, None).summary is None


async def test_a_conversation_that_goes_on_elsewhere_takes_its_summary_along() -> None:
    session = outlast.ScriptedSession(working(4), context=[SHORT])
    await outlast.Runner.run(agent(), "go", session)
    carried = conversation_of(session, None).carried()
    other = Conversation()
    other.restore(carried)
    assert other == conversation_of(session, None)
    del carried["summary"]
    other.restore(carried)
    assert other.summary is None


@pytest.mark.parametrize("summary", [ModelRefused(404, "no such model"), " "], ids=["refused", "empty"])
async def test_a_summary_that_fails_is_an_event_and_the_run_goes_on_without_it(summary: Any) -> None:
    session = outlast.ScriptedSession(working(4, summary), context=[SHORT])
    run = outlast.Runner.run_streamed(agent(), "go", session)
    events = [event async for event in run.events()]
    result = await run.result()
    assert result.text == "got 9"
    # It is tried again at the next turn.
    failed = data_of(events, SummaryFailedData)
    assert [(data.turn, data.key) for data in failed] == [(4, "run:1/t4/summary"), (5, "run:1/t5/summary")]
    assert "no such model" in str(failed[0]) or "said nothing" in str(failed[0])
    assert result.usage.total_tokens == (50 if isinstance(summary, Exception) else 70)


async def test_a_summary_is_not_published_as_the_text_of_an_answer() -> None:
    session = outlast.ScriptedSession(working(4), context=[SHORT], stream=True)
    run = outlast.Runner.run_streamed(agent(), "go", session)
    text = data_of([event async for event in run.events()], TextDeltaData)
    assert "".join(piece.text for piece in text) == (await run.result()).text == "got 4"


async def test_the_tokens_of_summaries_count_towards_the_limit() -> None:
    for context, turns in (([], 5), ([SHORT], 4)):
        session = outlast.ScriptedSession(working(9), context=context)
        with pytest.raises(outlast.BudgetExceeded) as reached:
            await outlast.Runner.run(agent(), "go", session, max_total_tokens=50)
        replies = [entry for entry in reached.value.entries if isinstance(entry, outlast.FunctionCall)]
        assert len(replies) == turns
        assert reached.value.usage.total_tokens == 50


async def test_a_count_that_fails_ends_the_run_with_an_error_that_names_it() -> None:
    def fails(entry: Entry) -> int:
        raise LookupError("no idea")

    session = outlast.ScriptedSession(working(1), context=[outlast.SummariseHistory(1, count=fails)])
    with pytest.raises(DefinitionError, match="count of SummariseHistory failed with LookupError"):
        await outlast.Runner.run(agent(), "go", session)


async def test_a_run_cancelled_in_the_middle_of_a_summary_leaves_its_results_to_the_next() -> None:
    asked = asyncio.Event()

    class Endless(outlast.ScriptedSession):
        async def reply(self, request: ModelRequest, *others: Any) -> ModelReply:
            if request.agent == SUMMARISER and not asked.is_set():
                asked.set()
                await asyncio.Event().wait()
            return await super().reply(request, *others)

    session = Endless(working(4), context=[SHORT])
    run = asyncio.create_task(outlast.Runner.run(agent(), "go", session))
    await asked.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    conversation = conversation_of(session, None)
    assert [entry.type for entry in conversation.unsent] == ["function.result"]
    # Nobody was asked with them yet.
    assert not conversation.in_doubt
    assert (await outlast.Runner.run(agent(), "again", session)).turns == 5


async def test_with_summaries_too_a_turn_costs_the_same_however_many_came_before() -> None:
    @outlast.workflow.define(name="summaries.long")
    class Long:
        @outlast.workflow.entrypoint
        async def run(self, turns: int) -> str:
            session = outlast.ScriptedSession(working(turns, "s" * 200), context=[SHORT])
            return (await outlast.Runner.run(agent(), "go", session, max_turns=turns + 1)).text

    sizes = []
    async with in_memory() as stage:
        for turns in (10, 20, 40):
            before = len(await stage.storage.stored_bytes())
            assert await stage.run(Long, turns, max_cached_executions=0) == "got 4"
            sizes.append(len(await stage.storage.stored_bytes()) - before)
    assert (sizes[2] - sizes[1]) / (sizes[1] - sizes[0]) == pytest.approx(2, rel=0.1)


def test_a_session_whose_server_keeps_the_conversation_takes_no_processors() -> None:
    processors: Any
    for processors in ([outlast.KeepLastTurns(3)], [SHORT]):
        with pytest.raises(NotSupported, match="RemoteSession does not support context processors"):
            outlast.RemoteSession(context=processors)


async def test_two_summaries_between_runs_leave_one() -> None:
    session = outlast.ScriptedSession(working(6, "shorter"))
    await outlast.Runner.run(agent(), "go", session)
    summariser = outlast.Agent(model="m", name=SUMMARISER)
    for keep_turns in (4, 2):
        await outlast.Runner.summarise(session, summariser, keep_turns=keep_turns)
    messages = [
        str(e.content) for e in outlast.Runner.messages(session) if isinstance(e, outlast.MessageInput)
    ]
    assert messages == [f"{HEADING}\nshorter", "go"]
