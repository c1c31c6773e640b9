"""Context processors: every call stays with its result, and the task is never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core.context_processors import (
    KeepLastTurns,
    TokenBudget,
    blocks_of,
    estimated_tokens,
    paired,
    processed,
)
from outlast.core.entries import (
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolConfirmation,
)
from outlast.core.errors import DefinitionError
from tests.core.stories import Story, conversation, stories
from tests.core.strategies import other_entries, user_messages

ids = st.sampled_from(["a", "b", "c"])
calls = st.builds(FunctionCall, tool_call_id=ids, name=st.just("f"), arguments=st.just("{}"))
results = st.builds(FunctionResult, tool_call_id=ids, result=st.text(max_size=9))
any_entries = st.lists(st.one_of(calls, results, user_messages, other_entries), max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> list[Entry]:
    """Conversations as runs leave them: every call has its result, behind its reply."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(0, 7))):
        if draw(st.booleans()):
            entries.append(draw(user_messages))
        made = [
            FunctionCall(tool_call_id=f"{number}{n}", name="f", arguments="{}")
            for n in range(draw(st.integers(0, 3)))
        ]
        entries += draw(st.permutations([*made, MessageOutput(content="x" * draw(st.integers(0, 40)))]))
        answers: list[Entry] = [
            ToolConfirmation(tool_call_id=call.tool_call_id, confirmation="allow")
            if draw(st.integers(0, 5)) == 5
            else FunctionResult(tool_call_id=call.tool_call_id, result="y" * draw(st.integers(0, 40)))
            for call in made
        ]
        entries += draw(st.permutations(answers))
    return entries + draw(st.lists(user_messages, max_size=2))


processors = st.one_of(
    st.builds(KeepLastTurns, st.integers(1, 5)),
    st.builds(TokenBudget, st.integers(1, 120)),
)


def unpaired(entries: Sequence[Entry]) -> list[Entry]:
    """Return the calls without a result behind them, and the results without a call before them."""
    left: list[Entry] = []
    for entry in entries:
        if isinstance(entry, (FunctionResult, ToolConfirmation)):
            match = [
                one
                for one in left
                if isinstance(one, FunctionCall) and one.tool_call_id == entry.tool_call_id
            ]
            if match:
                left.remove(match[-1])
            else:
                left.append(entry)
        elif isinstance(entry, FunctionCall):
            left.append(entry)
    return left


def is_within(part: Sequence[Entry], whole: Sequence[Entry]) -> bool:
    """Return whether `part` is some of `whole`, in its order."""
    rest = iter(whole)
    return all(any(one is other or one == other for other in rest) for one in part)


@given(conversations(), st.lists(processors, max_size=3))
def test_every_call_stays_paired_with_its_result(entries: list[Entry], chain: list[Any]) -> None:
    assert unpaired(entries) == []
    left = processed(chain, entries)
    event(f"dropped: {len(left) < len(entries)}")
    assert unpaired(left) == []
    assert is_within(left, entries)


@given(stories(), processors)
def test_the_conversation_after_a_run_can_be_shortened(story: Story, processor: Any) -> None:
    assert unpaired(processed([processor], conversation(story))) == []


@given(any_entries)
def test_calls_and_results_stay_paired_with_any_processor(entries: list[Entry]) -> None:
    left = processed([lambda _: entries], [])
    assert unpaired(left) == []
    assert is_within(left, entries)
    assert [one for one in left if not isinstance(one, (FunctionCall, FunctionResult))] == [
        one for one in entries if not isinstance(one, (FunctionCall, FunctionResult))
    ]
    assert paired(left) == left


@given(any_entries)
def test_blocks_hold_every_entry_once_and_calls_with_their_results(entries: list[Entry]) -> None:
    blocks = blocks_of(entries)
    assert sorted(position for block in blocks for position in block) == list(range(len(entries)))
    assert all(block == tuple(sorted(block)) for block in blocks)
    if unpaired(entries) == [] and len({e.tool_call_id for e in entries if isinstance(e, FunctionCall)}) == (
        sum(isinstance(e, FunctionCall) for e in entries)
    ):
        for block in blocks:
            assert unpaired([entries[position] for position in block]) == []


def replies_in(entries: Sequence[Entry]) -> int:
    return sum(not isinstance(entries[block[0]], MessageInput) for block in blocks_of(entries))


@given(conversations(), st.integers(1, 5))
def test_the_last_turns_are_kept_whole_with_the_message_that_led_to_them(
    entries: list[Entry], turns: int
) -> None:
    left = list(KeepLastTurns(turns)(entries))
    assert replies_in(left) == min(turns, replies_in(entries))
    # Every entry after the first kept reply is kept.
    tail = len(left) - next((n for n, e in enumerate(left) if not isinstance(e, MessageInput)), 0)
    assert left[len(left) - tail :] == entries[len(entries) - tail :]
    said_before = [entry for entry in entries[: len(entries) - tail] if isinstance(entry, MessageInput)]
    led = left[: len(left) - tail]
    assert bool(led) == bool(said_before)
    assert said_before[len(said_before) - len(led) :] == led
    assert list(KeepLastTurns(turns)(left)) == left


@given(conversations(), st.integers(1, 150))
def test_a_budget_is_kept_wherever_the_last_turn_alone_fits(entries: list[Entry], tokens: int) -> None:
    left = list(TokenBudget(tokens)(entries))
    size = sum(map(estimated_tokens, left))
    least = list(TokenBudget(1)(entries))
    if sum(map(estimated_tokens, least)) <= tokens:
        event("fits")
        assert size <= tokens
    else:
        event("the last turn alone is more")
        assert left == least
    assert is_within(least, left)
    assert replies_in(least) == min(1, replies_in(entries))
    if sum(map(estimated_tokens, entries)) <= tokens:
        assert left == entries
    assert list(TokenBudget(tokens)(left)) == left


def test_entries_are_counted_by_the_given_function() -> None:
    entries: list[Entry] = []
    for number in range(5):
        entries += [MessageInput(content=str(number)), MessageOutput(content="yes")]
    for tokens in range(2, 12):
        assert list(TokenBudget(tokens, count=lambda entry: 1)(entries)) == entries[-tokens:]


@pytest.mark.parametrize("make", [KeepLastTurns, TokenBudget])
def test_a_processor_that_keeps_nothing_is_refused(make: Any) -> None:
    with pytest.raises(DefinitionError, match="use a whole number, 1 or more"):
        make(0)


def fails(_: Sequence[Entry]) -> Sequence[Entry]:
    raise LookupError("no idea")


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (fails, "'fails' failed with LookupError: no idea"),
        (lambda entries: None, "returned something that is not entries"),
        (lambda entries: [{"type": "function.call"}], "returned something that is not entries"),
        (lambda entries: "text", "returned something that is not entries"),
    ],
    ids=["fails", "none", "half an entry", "text"],
)
def test_a_processor_that_does_not_do_its_work_is_named(processor: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        processed([processor], [MessageInput(content="hi")])
