"""Summaries: calls stay with their results, nothing is lost, and the model sees little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core.agents import AgentSpec
from outlast.core.chunks import ImageURLChunk, TextChunk
from outlast.core.context_processors import KeepLastTurns, TokenBudget, processed
from outlast.core.entries import (
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    UnknownEntry,
)
from outlast.core.errors import ConfigurationError, DefinitionError
from outlast.core.json import decode
from outlast.core.summaries import (
    HEADING,
    SummariseHistory,
    Summary,
    checked_context,
    heading_of,
    older,
    summariser_in,
    transcript,
    visible_entries,
)
from tests.core.test_context import conversations, is_within, unpaired


def one_each(entry: Entry) -> int:
    return 1


@st.composite
def turns(draw: st.DrawFn) -> list[list[Entry]]:
    """The calls of the model in one or more runs: the entries that are new to it, then its reply, in turn."""
    found: list[list[Entry]] = [[MessageInput(content="m0")]]
    for number in range(draw(st.integers(1, 12))):
        calls = [
            FunctionCall(tool_call_id=f"{number}-{n}", name="f", arguments=f'{{"at": "{number}-{n}"}}')
            for n in range(draw(st.integers(0, 3)))
        ]
        said = [MessageOutput(content=f"s{number}")] if not calls or draw(st.booleans()) else []
        found.append(draw(st.permutations([*calls, *said])))
        new: list[Entry] = [
            FunctionResult(tool_call_id=call.tool_call_id, result=f"r{call.tool_call_id}")
            for call in draw(st.permutations(calls))
        ]
        if not calls or draw(st.integers(0, 3)) == 3:
            new.append(MessageInput(content=f"m{number + 1}"))
        found.append(new)
    return found


summarisers = st.builds(
    SummariseHistory, st.integers(1, 12), st.integers(1, 4), st.none(), count=st.just(one_each)
)


def marks(entries: Sequence[Entry]) -> list[str]:
    """Return what of each entry stands in a transcript of it, and in no other entry's."""
    return [
        str(entry.content)
        if isinstance(entry, (MessageInput, MessageOutput))
        else str(entry.arguments)
        if isinstance(entry, FunctionCall)
        else str(getattr(entry, "result", ""))
        for entry in entries
    ]


@given(turns(), summarisers)
def test_over_many_turns_calls_stay_with_their_results_and_nothing_is_lost(
    entries: list[list[Entry]], summariser: SummariseHistory
) -> None:
    history: list[Entry] = []
    summary: Summary | None = None
    summarised: set[str] = set()
    for new, reply in zip(entries[::2], [*entries[1::2], []], strict=False):
        before = (list(history), summary, list(new))
        split = summariser.split(history, summary, new)
        # Pure: the same again, and nothing was changed.
        assert summariser.split(history, summary, new) == split
        assert before == (history, summary, new)
        size = len(visible_entries(history, summary)) + len(new)
        if split is None:
            least = KeepLastTurns(summariser.keep_turns)([*visible_entries(history, summary), *new])
            assert size <= summariser.over_tokens or len(least) >= size - (summary is not None)
        else:
            event("summarised again" if summary is not None else "summarised")
            assert size > summariser.over_tokens
            if summary is not None:
                assert HEADING in split.transcript
                assert summary.text in split.transcript
            summarised |= {line.partition(": ")[2] for line in split.transcript.splitlines()}
            summary = Summary.model_validate(decode(split.summarised(f"summary {len(history)}").to_json()))
        seen = visible_entries(history, summary)
        assert unpaired([*seen, *new]) == []
        own = seen if summary is None else seen[1:]
        assert is_within(own, history)
        # An entry that the model no longer sees has been in a transcript.
        assert set(marks(history)) <= {*marks(own), *summarised}
        assert sum(HEADING in mark for mark in marks(seen)) == (summary is not None)
        assert is_within(list(KeepLastTurns(summariser.keep_turns)([*history, *new])), [*own, *new])
        history += [*new, *reply]


@given(conversations(), summarisers)
def test_the_last_turns_and_the_messages_that_led_to_them_are_kept(
    entries: list[Entry], summariser: SummariseHistory
) -> None:
    split = summariser.split(entries, None)
    kept = KeepLastTurns(summariser.keep_turns)(entries)
    if split is None:
        assert len(entries) <= summariser.over_tokens or list(kept) == entries
        return
    seen = visible_entries(entries, split.summarised("text"))
    # However long the conversation was, the model sees one message, and the entries that are kept.
    assert list(seen) == [heading_of("text"), *kept]
    assert processed([summariser], seen) == seen


@given(conversations(), st.integers(1, 3))
def test_an_earlier_summary_goes_with_what_is_summarised(entries: list[Entry], keep_turns: int) -> None:
    whole = [heading_of("earlier"), *entries]
    old = older(whole, keep_turns)
    assert not old or old[0] == 0
    assert set(old) - {0} == {position + 1 for position in older(entries, keep_turns)}


def test_a_call_whose_result_is_new_is_not_summarised() -> None:
    call = FunctionCall(tool_call_id="a", name="f", arguments="{}")
    result = FunctionResult(tool_call_id="a", result="late")
    history: list[Entry] = [call, MessageOutput(content="1"), MessageInput(content="so?")]
    history += [MessageOutput(content="2"), MessageInput(content="and?"), MessageOutput(content="3")]
    split = SummariseHistory(1, keep_turns=1).split(history, None, [result])
    assert split is not None
    assert call in visible_entries(history, split.summarised("short"))
    assert unpaired([*visible_entries(history, split.summarised("short")), result]) == []


def test_a_transcript_has_a_line_for_each_thing_said_called_and_answered() -> None:
    entries: list[Entry] = [
        MessageInput(content=(TextChunk(text="Weather?"), ImageURLChunk(image_url="http://host/sky.png"))),
        FunctionCall(tool_call_id="a", name="look", arguments='{"city": "Lyon"}'),
        FunctionResult(tool_call_id="a", result="rain"),
        FunctionResult(tool_call_id="b", result="sun"),
        UnknownEntry(type="thought"),
        MessageOutput(content="It rains."),
    ]
    assert transcript(entries).splitlines() == [
        "user: Weather?[image_url]",
        'assistant called look: {"city": "Lyon"}',
        "look returned: rain",
        "a tool returned: sun",
        "assistant: It rains.",
    ]


def test_the_summariser_is_the_active_agents_model_with_nothing_else_of_it() -> None:
    active = AgentSpec(
        name="a", model="m", fallback_models=("n",), instructions="Be kind.", completion_args={"top_p": 1}
    )
    asked = SummariseHistory(9).asked(active)
    assert (asked.model, asked.fallback_models, asked.completion_args) == ("m", ("n",), {})
    assert "Summarise" in asked.instructions
    other = SummariseHistory(9, model="small", instructions="Shorten.").asked(active)
    assert (other.model, other.fallback_models, other.instructions) == ("small", (), "Shorten.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"over_tokens": 0}, "over_tokens of SummariseHistory is 0"),
        ({"keep_turns": 0}, "keep_turns of SummariseHistory is 0"),
        ({"model": " "}, "the model of SummariseHistory is ' '; use a text"),
        ({"instructions": ""}, "instructions of SummariseHistory is ''"),
    ],
)
def test_a_summariser_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        SummariseHistory(**{"over_tokens": 100, **changes})


def test_a_count_that_fails_is_named() -> None:
    def fails(entry: Entry) -> int:
        raise LookupError("no idea")

    with pytest.raises(DefinitionError, match="count of SummariseHistory failed with LookupError: no idea"):
        SummariseHistory(1, count=fails).split([MessageInput(content="hi")], None)


def test_summaries_come_first_among_the_processors_and_once() -> None:
    summarise, keep = SummariseHistory(100), KeepLastTurns(1)
    assert checked_context([summarise, keep]) == (summarise, keep)
    assert summariser_in([summarise, keep]) is summarise
    assert summariser_in([keep]) is None
    assert summariser_in([]) is None
    wrong: Any
    for wrong in ([keep, summarise], [summarise, summarise]):
        with pytest.raises(ConfigurationError, match="must come first"):
            checked_context(wrong)
    for wrong in (TokenBudget(1), [7]):
        with pytest.raises(ConfigurationError, match="must be a list of functions"):
            checked_context(wrong)


@given(conversations(), st.integers(1, 3), st.integers(1, 200))
def test_a_summary_covers_the_same_entries_when_the_beginning_of_the_conversation_is_dropped(
    entries: list[Entry], keep_turns: int, tokens: int
) -> None:
    split = SummariseHistory(over_tokens=1, keep_turns=keep_turns).split(entries, None)
    if split is None:
        return
    summary = split.summarised("What was said.")
    kept = TokenBudget(tokens).positions(entries)
    event(f"dropped: {len(kept) < len(entries)}")
    left = visible_entries([entries[position] for position in kept], summary.without(kept))
    seen_before = [*summary.kept, *range(summary.length, len(entries))]
    assert left == (summary.heading, *(entries[position] for position in seen_before if position in kept))
