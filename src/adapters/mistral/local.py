"""A session with any server that speaks chat completions: the conversation is kept here and sent whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from outlast.adapters.mistral.chat import entries_of, request_of
from outlast.adapters.mistral.client import events_of, json_of, open_client
from outlast.adapters.mistral.definitions import CHAT_ARGS, check_definitions
from outlast.adapters.mistral.session import ApiSession, Endpoint
from outlast.adapters.mistral.streams import CompletionStream
from outlast.adapters.mistral.wire import usage_of
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.context_processors import ContextProcessor, processed
from outlast.core.errors import (
    ModelError,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    NotSupported,
)
from outlast.core.summaries import SummariseHistory, checked_context, summariser_in
from outlast.ports.deltas import Tell
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources

_MODEL_REFUSED = frozenset({403, 404})
"""What servers say of a model that they have not, or not for this key."""


@asynccontextmanager
async def open_chat(endpoint: Endpoint) -> AsyncIterator[Any]:
    """Open the part of the SDK that makes chat completions."""
    async with open_client(endpoint, ("chat", "Chat")) as client:
        yield client.parts[0]


@dataclass(frozen=True, kw_only=True)
class LocalSession(ApiSession):
    """Chat completions, with the conversation kept in the journal.

    Handoffs are functions that the model calls. Built-in tools need a server that runs them, so an agent
    that has any is refused. Repeating a request asks the model again; nothing is kept that it could add to.

    `context` says what of a long conversation is sent: processors such as `KeepLastTurns` and `TokenBudget`,
    or functions of your own of the entries and of nothing else, applied in order; a `SummariseHistory`, which
    comes first, has what is old summarised. The conversation itself is kept whole.
    """

    context: Sequence[ContextProcessor] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "context", checked_context(self.context))

    @property
    def summariser(self) -> SummariseHistory | None:
        return summariser_in(self.context)

    def check(self, graph: AgentGraph) -> None:
        for agent in graph.agents.values():
            for tool in agent.built_in_tools:
                raise NotSupported(
                    f"LocalSession cannot run built-in tool {tool.get('type')!r} of agent {agent.name!r}; "
                    "use RemoteSession, or give the agent a function of your own"
                )
        check_definitions(graph, CHAT_ARGS)

    def seconds_max(self, agent: AgentSpec) -> float:
        return self.timeout_seconds * (1 + len(agent.fallback_models))

    async def reply(
        self, request: ModelRequest, resources: Resources, tell: Tell | None = None
    ) -> ModelReply:
        """Return the reply of the agent's model, or of the first of its fallback models that gives one.

        Each of them has the session's `timeout`. A note says which one it was. A model that has begun to
        write is not fallen back from: the next attempt takes its text back. If none of them answers, the
        error is one that is worth that attempt, where there is one.
        """
        agent = request.graph[request.agent]
        if not agent.fallback_models:
            return await super().reply(request, resources, tell)
        has_begun = False

        def listen(text: str) -> None:
            nonlocal has_begun
            has_begun = has_begun or bool(text)
            if tell is not None:
                tell(text)

        errors: list[ModelError] = []
        notes: list[str] = []
        for model in (agent.model, *agent.fallback_models):
            asked = agent.with_(model=model)
            graph = request.graph.with_(agents={**request.graph.agents, agent.name: asked})
            try:
                reply = await super().reply(
                    request.with_(graph=graph), resources, None if tell is None else listen
                )
            except (ModelOverloaded, ModelUnreachable, ModelRefused) as error:
                is_refused = isinstance(error, ModelRefused) and error.status not in _MODEL_REFUSED
                if is_refused or has_begun:
                    raise
                errors.append(error)
                notes.append(f"model {model!r} gave no reply: {error}")
            else:
                told = (*notes, f"model {model!r} replied instead") if notes else ()
                return reply.with_(notes=(*reply.notes, *told))
        raise next((error for error in errors if error.retryable), errors[0])

    async def _reply(
        self, endpoint: Endpoint, request: ModelRequest, resources: Resources, tell: Tell | None
    ) -> ModelReply:
        chat = await resources.get(("mistral", "chat", *endpoint.identity), lambda: open_chat(endpoint))
        told = processed(self.context, (*request.history, *request.new))
        body = request_of(request.graph, request.agent, told)
        if not request.may_call and "tools" in body:
            body["tool_choice"] = "none"
        body |= {"timeout_ms": round(self.timeout_seconds * 1000), "retries": None}
        if tell is not None:
            pieces = CompletionStream()
            async with aclosing(events_of(chat.stream_async(**body))) as events:
                async for event in events:
                    tell(pieces.take(event))
            completion = pieces.wire()
        else:
            completion = await json_of(chat.complete_async(**body))
        return ModelReply(entries=entries_of(completion), usage=usage_of(completion.get("usage")))
