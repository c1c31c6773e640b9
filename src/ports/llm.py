"""The llm port: the way of a run to a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, Protocol

from pydantic import Field

from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import Entry, last_results, last_text, replies_in
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
    instructions: str = ""
    """The instructions that a function of the agent has made for this turn, beside those in the graph."""
    history: tuple[Entry, ...]
    """The entries that the conversation holds already, for sessions whose server keeps nothing. A summary
    stands for the older ones, if the session has a `summariser`."""
    new: tuple[Entry, ...]
    """The entries that the model has not seen yet: results of all open calls first, then other input."""
    handle: JSON = None
    """The handle that the session returned with its last reply; None in a new conversation."""
    may_call: bool = True
    """True if the model may call tools and hand off; False when the run has reached a limit."""
    tool_choice: str | None = None
    """The active agent's `tool_choice` for this turn: "auto" once it has called the tool that it had to."""
    idempotency_key: str
    """The same for every attempt of this call, and for no other call."""
    attempt: int = 1
    in_doubt: bool = False
    """True if an earlier request of this conversation ended without a reply, so that the server may have
    received some of `new` already."""

    @property
    def choice(self) -> str | None:
        """The way to choose a tool in this turn; None: the model's server decides."""
        return self.tool_choice if self.may_call else "none"

    @property
    def model(self) -> str:
        """The model of the active agent."""
        return self.graph[self.agent].model

    @property
    def conversation(self) -> tuple[Entry, ...]:
        """All entries so far, the newest last."""
        return (*self.history, *self.new)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools on offer, without handoffs; for a built-in tool, its type."""
        agent = self.graph[self.agent]
        return (
            *(tool.name for tool in agent.tools),
            *(str(tool.get("type")) for tool in agent.built_in_tools),
        )

    @property
    def handoffs(self) -> tuple[str, ...]:
        """The names of the agents to which the active agent can hand off."""
        return self.graph[self.agent].handoffs

    @property
    def text(self) -> str:
        """The text of the last message of the user; "" if there is none."""
        return last_text(self.conversation)

    @property
    def results(self) -> dict[str, str]:
        """The results of calls since the last reply, by call id, in order."""
        return last_results(self.conversation)

    @property
    def replies(self) -> int:
        """The number of replies in the conversation so far."""
        return replies_in(self.conversation)

    @property
    def all_instructions(self) -> str:
        """The whole system prompt for this turn."""
        return f"{self.instructions}\n\n{self.graph[self.agent].instructions}".strip()


Cut = Literal["length", "content_filter"]
"""The reason why a reply ends early: the limit of tokens, or the server's filter."""


class ModelReply(Value):
    """A reply that the server has ended. It is journaled as it stands: it holds nothing of earlier turns."""

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

    S1  `reply` returns a reply only when the server has ended it, at its end or early (`cut`). One that was
        lost on the way, is malformed, or ends early inside its calls of tools, raises.
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
    S7  When a server asks to be left alone for a while, this is noted with `resources.hold_back` for the
        model that was asked, by its name in `models_asked`. No attempt of the worker begins as long as all
        models are held back that it would ask. A conflict over one conversation holds back no other.
    S8  The usage of a reply has its cost, in US dollars, and names the models and connectors without a known
        price as `unpriced`. A session that does neither knows no prices.
    S9  The model is offered the tools that the active agent has in `graph`. These may be others than before
        in the same conversation. With them it gets `choice`; "any" and "required" are the same.
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

    async def unpriced(self, models: Collection[str]) -> tuple[str, ...]:
        """Return those of the models whose price is not known, sorted: a limit of money cannot be kept."""
        return tuple(sorted(set(models)))

    def seconds_max(self, agent: AgentSpec) -> float:
        """Return the longest time that a reply of that agent may take; an attempt may take a bit longer."""
        return 540.0

    def models_asked(self, agent: AgentSpec) -> Sequence[Hashable]:
        """Return a name for each model that may reply for that agent, the same in all executions of a worker.

        A model of another server, or with another key, has another name. Empty: it is never held back.
        """
        return ()

    @property
    def summariser(self) -> SummariseHistory | None:
        """The rule by which a run summarises the older part of its conversation; None: it never does."""
        return None

    @abstractmethod
    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        """Return the model's reply to `request.new` as `request.agent`."""
