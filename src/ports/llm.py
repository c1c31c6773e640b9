"""The llm port: what a session offers to a run."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, Protocol

from pydantic import Field

from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import Entry
from outlast.core.json import JSON
from outlast.core.summaries import SummariseHistory
from outlast.core.usage import Usage
from outlast.core.values import Value
from outlast.ports.deltas import Tell
from outlast.ports.resources import Resources


class ModelRequest(Value):
    """One call of the model. It is derived from the journal, never written to it."""

    graph: AgentGraph
    agent: str
    """The active agent, by name."""
    turn: int
    history: tuple[Entry, ...]
    """What the conversation holds already, for sessions whose server keeps nothing. A summary
    stands for its older part, if the session has a `summariser`."""
    new: tuple[Entry, ...]
    """The entries that the model has not seen yet: results of all open calls first, then other input."""
    handle: JSON = None
    """What the session returned with its last reply; None in a new conversation."""
    may_call: bool = True
    """Whether the model may call tools and hand off; it must not when the run has reached a limit."""
    idempotency_key: str
    """The same for every attempt of this call, and for no other call."""
    attempt: int = 1
    in_doubt: bool = False
    """Whether an earlier request of this conversation ended without a reply, so that the server may have been
    told some of `new` already."""


Cut = Literal["length", "content_filter"]
"""Why a reply ends early: at the limit of tokens, or where the server's filter stopped it."""


class ModelReply(Value):
    """A whole reply. It is journaled as it stands, so it holds this turn and nothing of earlier ones."""

    entries: tuple[Entry, ...]
    usage: Usage = Field(default_factory=Usage)
    handle: JSON = None
    """What the next request of this conversation must carry: ids, anchors, no transcript and no secret."""
    cut: Cut | None = None
    """Why the reply ends early; None if it is whole."""
    notes: tuple[str, ...] = ()
    """What was out of the ordinary, for people: journaled with the reply, and so in the event stream."""


class Session(Protocol):
    """A way to a model. It is a value: the conversation's state is in the request and the reply.

    S1  `reply` returns only whole replies; a cut or malformed one raises.
    S2  Errors are ours: `ModelRefused` and `MalformedReply` cannot be helped by trying again,
        `ModelOverloaded` and `ModelUnreachable` can (and may carry `retry_after_seconds`). The SDK's own
        exception is the `__cause__`. No error carries a secret.
    S3  The same request again (same idempotency key, higher attempt) adds nothing to the conversation
        that the first one has added, as far as the API allows.
    S4  Connections come from `resources`, so that they are opened once a worker and closed with it.
    S5  Cancelling `reply` ends it; the server may still finish the work.
    S6  If `tell` is given, it is called with each piece of text of the reply's messages as it comes. Of a
        reply that is whole when it comes, or found, nothing may be told; of one that fails, what came.
    """

    raise_on_tool_fail: bool
    """Whether a failed tool call ends the run instead of going to the model as a result."""
    stream: bool
    """Whether text is published while it is being written: whether a run gives `tell`."""

    @abstractmethod
    def check(self, graph: AgentGraph) -> None:
        """Raise `NotSupported` or `DefinitionError` if this session cannot serve these agents."""

    def anew(self, handle: JSON) -> JSON:
        """Return the handle of a conversation whose entries were changed here: None, to tell all of it again.

        A session whose handle depends on no entries returns it as it is.
        """
        return None

    def seconds_max(self, agent: AgentSpec) -> float:
        """Return the longest that a reply of that agent may take; an attempt is given a little more."""
        return 540.0

    @property
    def summariser(self) -> SummariseHistory | None:
        """What says when a run has the older part of its conversation summarised; None: it never has."""
        return None

    @abstractmethod
    async def reply(
        self, request: ModelRequest, resources: Resources, tell: Tell | None = None
    ) -> ModelReply:
        """Return the model's reply to `request.new` as `request.agent`."""
