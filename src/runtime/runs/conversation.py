"""The conversation of a session object, a separate one for every execution.

A session is a value, perhaps made once at the top of a module and used by a thousand executions. The
conversation it carries on belongs to the execution that uses it (or, in a plain script, to the object), and
is rebuilt from the journal when that execution is replayed.
"""

from __future__ import annotations

import asyncio
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
from outlast.runtime.runs.standing_in import check_session


@dataclass(slots=True)
class View:
    """The conversation as an agent sees it that was handed only a part."""

    agent: str
    history: list[Entry] = field(default_factory=list)
    summary: Summary | None = None


@dataclass(slots=True)
class Conversation:
    """The state of one conversation."""

    history: list[Entry] = field(default_factory=list)
    """The entries that were sent to the model, and its replies, in order."""
    unsent: tuple[Entry, ...] = ()
    """The entries to send first next time: results of calls that an ended run left behind."""
    summary: Summary | None = None
    """The summary that is sent instead of the older part of `history`; None: all of it is sent."""
    view: View | None = None
    """The part of the conversation that the active agent sees; None: all of it."""
    handle: JSON = None
    in_doubt: bool = False
    """True if the last request ended without a reply, so that the server may have received `unsent`."""
    in_use: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)
    """Held by the run that goes on with it, if it is that of an agent tool."""
    _within: dict[str, Conversation] = field(default_factory=dict)

    def within(self, tool: str) -> Conversation:
        """Return the conversation with an agent tool that goes on as long as this one; `tool` says which."""
        return self._within.setdefault(tool, Conversation())

    @property
    def seen(self) -> Conversation | View:
        """The conversation as the active agent sees it."""
        return self if self.view is None else self.view

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries to the conversation, also as the active agent sees it."""
        self.history += entries
        if self.view is not None:
            self.view.history += entries

    def forget(self, size_bytes: int) -> int:
        """Drop the first entries, until the rest is `size_bytes` smaller; return the number of dropped ones.

        Calls and their results stay together. The last reply and the messages that led to it always stay.
        """
        forgotten = _forget(self, size_bytes)
        if self.view is not None:
            _forget(self.view, size_bytes)
        return forgotten

    def carried(self) -> dict[str, JSON]:
        """Return the conversation as JSON; `restore` gives it to an execution that goes on elsewhere."""
        return {
            "history": _json(self.history),
            "unsent": _json(self.unsent),
            "summary": None if self.summary is None else self.summary.to_data("json"),
            "view": None if self.view is None else _carried(self.view),
            "handle": self.handle,
            "in_doubt": self.in_doubt,
            "within": {tool: conversation.carried() for tool, conversation in self._within.items()},
        }

    def restore(self, carried: Mapping[str, Any]) -> None:
        """Take over the conversation that `carried` returned."""
        self.history = list(wire.entries.validate_python(carried["history"]))
        self.unsent = tuple(wire.entries.validate_python(carried["unsent"]))
        summary = carried.get("summary")  # Older releases did not carry it.
        self.summary = None if summary is None else Summary.model_validate(summary)
        view = carried.get("view")  # Nor this.
        self.view = None if view is None else _restored(view)
        self.handle = carried["handle"]
        self.in_doubt = carried["in_doubt"]
        for tool, conversation in carried.get("within", {}).items():
            self.within(tool).restore(conversation)


def _forget(seen: Conversation | View, size_bytes: int) -> int:
    sizes = sum(map(_bytes_of, seen.history))
    kept = TokenBudget(max(sizes - size_bytes, 1), count=_bytes_of).positions(seen.history)
    forgotten = len(seen.history) - len(kept)
    seen.history = [seen.history[position] for position in kept]
    seen.summary = None if seen.summary is None else seen.summary.without(kept)
    return forgotten


def _carried(view: View) -> dict[str, JSON]:
    summary = None if view.summary is None else view.summary.to_data("json")
    return {"agent": view.agent, "history": _json(view.history), "summary": summary}


def _restored(carried: Mapping[str, Any]) -> View:
    summary = carried["summary"]
    return View(
        carried["agent"],
        list(wire.entries.validate_python(carried["history"])),
        None if summary is None else Summary.model_validate(summary),
    )


def _bytes_of(entry: Entry) -> int:
    return len(encode(entry.to_wire())) + 1


def _json(entries: Sequence[Entry]) -> list[JSON]:
    return [*wire.to_wire(entries)]


def conversation_of(session: Session, context: WorkflowContext | None) -> Conversation:
    """Return the conversation of `session` in this execution; with no context, that of the object itself.

    Raises:
        DefinitionError: it is not a session.
    """
    check_session(session)
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
    conversation.history, conversation.view = list(entries), None
    conversation.unsent, conversation.summary, conversation.in_doubt = (), None, False
    conversation.handle = session.anew(conversation.handle)


_plain: dict[int, tuple[weakref.ref[Any], Conversation]] = {}


def _of_object(session: Session) -> Conversation:
    key = id(session)
    if key not in _plain:
        _plain[key] = (weakref.ref(session, lambda _: _plain.pop(key, None)), Conversation())
    return _plain[key][1]
