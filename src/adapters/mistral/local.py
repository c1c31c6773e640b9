"""A session with any server for chat completions. The journal keeps the conversation, not the server."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from outlast.adapters.mistral.chat import reply_of, request_of
from outlast.adapters.mistral.client import open_client
from outlast.adapters.mistral.definitions import CHAT_ARGS, check_definitions
from outlast.adapters.mistral.session import ApiSession, Endpoint, first_token_in
from outlast.adapters.mistral.streams import CompletionStream
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
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources

_PATH = "/v1/chat/completions"
TOO_MANY = 429
_MODEL_REFUSED = frozenset({403, 404})
"""The statuses with which servers refuse a model that they do not have, or not for this API key."""


@dataclass(frozen=True, kw_only=True)
class LocalSession(ApiSession):
    """Chat completions, with the conversation kept in the journal.

    Handoffs are functions that the model calls. Built-in tools need a server that runs them, so an agent with
    built-in tools is an error. A repeated request asks the model again, and the server keeps nothing of the
    first one.

    `context` chooses which entries of a long conversation are sent. It is a list of context processors, which
    are applied in order: `KeepLastTurns`, `TokenBudget`, or functions of your own that depend only on the
    entries. `SummariseHistory` must come first; it replaces older entries by a summary. The conversation
    itself stays whole.
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

    def models_asked(self, agent: AgentSpec) -> Sequence[Hashable]:
        endpoint = self.endpoint()
        return [endpoint.asked_for(model) for model in (agent.model, *agent.fallback_models)]

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        """Return the reply of the agent's model, or of the first fallback model that replies.

        Each model has the `timeout` of the session. If a fallback replied, the warnings of the reply say so.
        If a model fails after it has begun to write, no fallback model is asked: the next attempt begins
        again and replaces its text. A model that is to be left alone is not asked. If no model replies, a
        retryable error is raised if one of the errors is retryable.
        """
        agent = request.graph[request.agent]
        if not agent.fallback_models:
            return await super().reply(request, resources, publish)
        has_begun = False

        def listen(text: str) -> None:
            nonlocal has_begun
            has_begun = has_begun or bool(text)
            if publish is not None:
                publish(text)

        errors: list[ModelError] = []
        warnings: list[str] = []
        for model in (agent.model, *agent.fallback_models):
            asked = agent.with_(model=model)
            graph = request.graph.with_(agents={**request.graph.agents, agent.name: asked})
            try:
                if seconds := resources.held_back(self.endpoint().asked_for(model)):
                    raise ModelOverloaded(TOO_MANY, f"it asked to be left alone for {seconds:.1f} s", seconds)
                reply = await super().reply(
                    request.with_(graph=graph), resources, None if publish is None else listen
                )
            except (ModelOverloaded, ModelUnreachable, ModelRefused) as error:
                is_refused = isinstance(error, ModelRefused) and error.status not in _MODEL_REFUSED
                if is_refused or has_begun:
                    raise
                errors.append(error)
                warnings.append(f"model {model!r} gave no reply: {error}")
            else:
                fallback = (*warnings, f"model {model!r} replied instead") if warnings else ()
                return reply.with_(warnings=(*reply.warnings, *fallback))
        raise next((error for error in errors if error.retryable), errors[0])

    async def _reply(
        self, endpoint: Endpoint, request: ModelRequest, resources: Resources, publish: Publish | None
    ) -> ModelReply:
        client = await resources.get(("mistral", "chat", *endpoint.identity), lambda: open_client(endpoint))
        seen = processed(self.context, (*request.history, *request.new))
        body = request_of(
            request.graph,
            request.agent,
            seen,
            instructions=request.all_instructions,
            choice=request.choice,
            is_mistrals_own=endpoint.is_mistrals_own,
            recent=client.recent,
        )
        if publish is None:
            return reply_of(await client.post(_PATH, body, self.timeout_seconds))
        stream = CompletionStream()
        try:
            async with (
                first_token_in(self.first_token_seconds) as has_come,
                aclosing(client.events(_PATH, body, self.timeout_seconds)) as events,
            ):
                async for event in events:
                    publish(stream.take(event))
                    if stream.has_begun:
                        has_come()
                    if stream.is_done:
                        break
        except ModelUnreachable:
            if not stream.is_whole:
                raise
        return reply_of(stream.wire())
