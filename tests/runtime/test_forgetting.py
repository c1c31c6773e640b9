"""A conversation that is too long to be carried along loses its beginning."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core.entries import Entry, MessageInput, MessageOutput
from outlast.core.json import encode
from outlast.core.summaries import Summary
from outlast.runtime.runs.conversation import Conversation
from tests.core.test_context import conversations, is_within, unpaired


def size_of(conversation: Conversation) -> int:
    return len(encode(conversation.carried()))


@given(conversations(), st.integers(1, 2000))
def test_a_conversation_forgets_as_many_bytes_as_asked_unless_only_its_end_is_left(
    entries: list[Entry], size_bytes: int
) -> None:
    conversation = Conversation(list(entries))
    before = size_of(conversation)
    forgotten = conversation.forget(size_bytes)
    assert len(conversation.history) == len(entries) - forgotten
    assert is_within(conversation.history, entries)
    assert unpaired(conversation.history) == []
    assert conversation.history[-1:] == entries[-1:]
    smaller = before - size_of(conversation) >= size_bytes
    event(f"small enough: {smaller}, forgotten: {forgotten > 0}")
    assert smaller or not Conversation(conversation.history).forget(1_000_000)


def test_a_summary_goes_on_with_what_is_left() -> None:
    entries: list[Entry] = []
    for number in range(4):
        entries += [MessageInput(content=f"question {number}"), MessageOutput(content=f"answer {number}")]
    conversation = Conversation(entries, summary=Summary(text="All of it.", length=4, kept=(2,)))
    assert conversation.forget(sum(len(encode(entry.to_wire())) for entry in entries[:2])) == 2
    assert conversation.history == entries[2:]
    assert conversation.summary == Summary(text="All of it.", length=2, kept=(0,))
