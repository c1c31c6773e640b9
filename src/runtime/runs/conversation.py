"""The conversation of a session object, a separate one for every execution.

A session is a value, perhaps made once at the top of a module and used by a thousand executions. The
conversation it carries on belongs to the execution that uses it (or, in a plain script, to the object), and
is rebuilt from the journal when that execution is replayed.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.core import entries as wire
from outlast.core.context_processors import TokenBudget, paired
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON, encode
from outlast.core.summaries import Summary
from outlast.ports.durability.workflow_context import WorkflowContext
from outlast.ports.llm import Session


@dataclass(slots=True)
class Conversation:
    """The state of one conversation."""

    history: list[Entry] = field(default_factory=list)
    """The entries that were sent to the model, and its replies, in order."""
    unsent: tuple[Entry, ...] = ()
    """The entries to send first next time: results of calls that an ended run left behind."""
    summary: Summary | None = None
    """The summary that is sent instead of the older part of `history`; None: all of it is sent."""
    handle: JSON = None
    in_doubt: bool = False
    """True if the last request ended without a reply, so that the server may have received `unsent`."""
    in_use: bool = False

    def forget(self, size_bytes: int) -> int:
        """Drop the first entries, until the rest is `size_bytes` smaller; return the number of dropped ones.

        Calls and their results stay together. The last reply and the messages that led to it always stay.
        """
        sizes = sum(map(_bytes_of, self.history))
        kept = TokenBudget(max(sizes - size_bytes, 1), count=_bytes_of).positions(self.history)
        forgotten = len(self.history) - len(kept)
        self.history = [self.history[position] for position in kept]
        self.summary = None if self.summary is None else self.summary.without(kept)
        return forgotten

    def carried(self) -> dict[str, JSON]:
        """Return the conversation as JSON; `restore` gives it to an execution that goes on elsewhere."""
        return {
            "history": _json(self.history),
            "unsent": _json(self.unsent),
            "summary": None if self.summary is None else self.summary.to_data("json"),
            "handle": self.handle,
            "in_doubt": self.in_doubt,
        }

    def restore(self, carried: Mapping[str, Any]) -> None:
        """Take over the conversation that `carried` returned."""
        self.history = list(wire.entries.validate_python(carried["history"]))
        self.unsent = tuple(wire.entries.validate_python(carried["unsent"]))
        summary = carried.get("summary")  # Older releases did not carry it.
        self.summary = None if summary is None else Summary.model_validate(summary)
        self.handle = carried["handle"]
        self.in_doubt = carried["in_doubt"]


def _bytes_of(entry: Entry) -> int:
    return len(encode(entry.to_wire())) + 1


def _json(entries: Sequence[Entry]) -> list[JSON]:
    return [*wire.to_wire(entries)]


def conversation_of(session: Session, context: WorkflowContext | None) -> Conversation:
    """Return the conversation of `session` in this execution; with no context, that of the object itself."""
    if context is None:
        return _of_object(session)
    ours: dict[int, tuple[Session, Conversation]] = context.state.setdefault(Conversation, {})
    # The session is kept beside its conversation, so that its id is not given to another object.
    return ours.setdefault(id(session), (session, Conversation()))[1]


def messages_of(session: Session, context: WorkflowContext | None) -> tuple[Entry, ...]:
    """Return the entries of a conversation in order; those that were not sent yet come last."""
    conversation = conversation_of(session, context)
    return (*conversation.history, *conversation.unsent)


def set_messages(session: Session, context: WorkflowContext | None, entries: Sequence[Entry]) -> None:
    """Go on with these entries instead of those that the conversation has.

    Raises:
        DefinitionError: the conversation is being used, or a call among the entries has no result behind it,
            or a result no call before it; nothing was changed.
    """
    conversation = conversation_of(session, context)
    if conversation.in_use:
        raise DefinitionError("this session is being used by a run; change its messages when it has ended")
    if len(paired(entries)) != len(entries):
        raise DefinitionError(
            "every call among the messages needs one result behind it, and every result its call before it"
        )
    conversation.history = list(entries)
    conversation.unsent, conversation.summary, conversation.in_doubt = (), None, False
    conversation.handle = session.anew(conversation.handle)


_plain: dict[int, tuple[weakref.ref[Any], Conversation]] = {}


def _of_object(session: Session) -> Conversation:
    key = id(session)
    if key not in _plain:
        _plain[key] = (weakref.ref(session, lambda _: _plain.pop(key, None)), Conversation())
    return _plain[key][1]
