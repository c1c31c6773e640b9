"""The llm port: the way of a run to a model."""

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
from outlast.ports.deltas import Publish
from outlast.ports.resources import Resources


class ModelRequest(Value):
    """One call of the model. It is derived from the journal, never written to it."""

    graph: AgentGraph
    agent: str
    """The active agent, by name."""
    turn: int
    history: tuple[Entry, ...]
    """The entries that the conversation holds already, for sessions whose server keeps nothing. A summary
    stands for the older ones, if the session has a `summariser`."""
    new: tuple[Entry, ...]
    """The entries that the model has not seen yet: results of all open calls first, then other input."""
    handle: JSON = None
    """The handle that the session returned with its last reply; None in a new conversation."""
    may_call: bool = True
    """True if the model may call tools and hand off; False when the run has reached a limit."""
    idempotency_key: str
    """The same for every attempt of this call, and for no other call."""
    attempt: int = 1
    in_doubt: bool = False
    """True if an earlier request of this conversation ended without a reply, so that the server may have
    received some of `new` already."""


Cut = Literal["length", "content_filter"]
"""The reason why a reply ends early: the limit of tokens, or the server's filter."""


class ModelReply(Value):
    """A whole reply. It is journaled as it stands, so it holds this turn and nothing of earlier ones."""

    entries: tuple[Entry, ...]
    usage: Usage = Field(default_factory=Usage)
    handle: JSON = None
    """The handle for the next request of this conversation: ids and anchors, no transcript and no secret."""
    cut: Cut | None = None
    """The reason why the reply ends early; None if it is whole."""
    warnings: tuple[str, ...] = ()
    """Sentences for people about anything unusual: journaled with the reply, and so in the event stream."""


class Session(Protocol):
    """A way to a model. It is a value: the conversation's state is in the request and the reply.

    S1  `reply` returns only whole replies; a cut or malformed one raises.
    S2  Errors are ours: `ModelRefused` and `MalformedReply` cannot be helped by trying again,
        `ModelOverloaded` and `ModelUnreachable` can (and may carry `retry_after_seconds`). The SDK's own
        exception is the `__cause__`. No error carries a secret. Any other error ends the step at once.
    S3  The same request again (same idempotency key, higher attempt) adds nothing to the conversation
        that the first one has added, as far as the API allows.
    S4  Connections come from `resources`, so that they are opened once a worker and closed with it.
    S5  Cancelling `reply` ends it; the server may still finish the work.
    S6  If `publish` is given, it is called with each piece of text of the reply's messages as it comes. It
        need not be called for a reply that comes whole or was found. For a reply that fails, it was called
        with the text that came before.
    """

    raise_on_tool_fail: bool
    """True if a failed tool call ends the run; if False, the model gets the error as the result."""
    stream: bool
    """True if text is published while it is being written: then a run gives `publish`."""

    @abstractmethod
    def check(self, graph: AgentGraph) -> None:
        """Raise `NotSupported` or `DefinitionError` if this session cannot serve these agents."""

    def anew(self, handle: JSON) -> JSON:
        """Return the handle for a conversation whose entries were changed here: None, to send it all again.

        A session whose handle does not depend on the entries returns it unchanged.
        """
        return None

    def seconds_max(self, agent: AgentSpec) -> float:
        """Return the longest time that a reply of that agent may take; an attempt may take a bit longer."""
        return 540.0

    @property
    def summariser(self) -> SummariseHistory | None:
        """The rule by which a run summarises the older part of its conversation; None: it never does."""
        return None

    @abstractmethod
    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        """Return the model's reply to `request.new` as `request.agent`."""
