"""Conversations that were sent lately, so that what was written as JSON once is not written again.

Every request carries the whole conversation. A run of 400 turns would write its first message 400 times, and
that would soon be most of what a turn costs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import is_

from outlast.adapters.mistral.messages import OrderedMessages, Wire, replies_in
from outlast.adapters.mistral.wire import Written, plain
from outlast.core.entries import Entry

CONVERSATIONS_MAX = 100
BYTES_MAX = 32 * 1024 * 1024
"""The length of all conversations together that are kept."""


class RecentConversations:
    """The conversations that were sent last, up to `CONVERSATIONS_MAX` and `BYTES_MAX` of them.

    A conversation is known again by its entries being the same objects: to compare their texts would cost as
    much as to write them.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, bool], _Growing] = {}

    def written(
        self, system: Sequence[Wire], conversation: Sequence[Entry], has_reasoning_fields: bool
    ) -> Written:
        """Return the messages of a conversation as a list in JSON, after the `system` messages."""
        key = (id(conversation[0]) if conversation else 0, has_reasoning_fields)
        growing = self._kept.pop(key, None)
        if growing is None or not growing.is_begin_of(conversation):
            growing = _Growing(has_reasoning_fields)
        messages = growing.extended_to(conversation)
        self._kept[key] = growing
        self._forget()
        return Written(b"[%b]" % b",".join([*map(_written, system), *messages]))

    def _forget(self) -> None:
        length = sum(one.length for one in self._kept.values())
        while len(self._kept) > CONVERSATIONS_MAX or length > BYTES_MAX:
            length -= self._kept.pop(next(iter(self._kept))).length


class _Growing:
    """One conversation, as far as it can only grow: its last reply may still get results."""

    def __init__(self, has_reasoning_fields: bool) -> None:
        self.length = 0
        """The number of bytes."""
        self._has_reasoning_fields = has_reasoning_fields
        self._entries: list[Entry] = []
        self._messages = OrderedMessages(self._write)

    def is_begin_of(self, conversation: Sequence[Entry]) -> bool:
        """Return whether a conversation begins with the entries of this one."""
        entries = self._entries
        return len(entries) <= len(conversation) and all(map(is_, entries, conversation))

    def extended_to(self, conversation: Sequence[Entry]) -> list[bytes]:
        """Return the messages of the whole conversation, which begins with the entries of this one."""
        *settled, last = replies_in(conversation[len(self._entries) :])
        for reply in settled:
            self._messages.add(reply, self._has_reasoning_fields)
            begin = len(self._entries)
            self._entries += conversation[begin : begin + reply.length]
        length = self.length
        messages = self._messages.with_(last, self._has_reasoning_fields)
        self.length = length
        return messages

    def _write(self, message: Wire) -> bytes:
        written = _written(message)
        self.length += len(written)
        return written


def _written(message: Wire) -> bytes:
    return json.dumps(plain(message), separators=(",", ":")).encode()
