"""A session with Mistral's Agents and Conversations API: the server keeps the conversation and hands off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from durable_agents.adapters.mistral.agents import RemoteAgents
from durable_agents.adapters.mistral.client import events_of, json_of, open_client
from durable_agents.adapters.mistral.definitions import COMPLETION_ARGS, check_definitions, graph_fingerprint
from durable_agents.adapters.mistral.reconciliation import outputs_behind
from durable_agents.adapters.mistral.session import ApiSession, Endpoint
from durable_agents.adapters.mistral.streams import ConversationStream
from durable_agents.adapters.mistral.wire import (
    Wire,
    entries_of,
    inputs_of,
    is_poisoned,
    usage_of,
    without_abandoned,
)
from durable_agents.core.agents import AgentGraph
from durable_agents.core.entries import AgentHandoff
from durable_agents.core.errors import DefinitionError, MalformedReply, NotSupported
from durable_agents.core.json import JSON
from durable_agents.core.model import Value
from durable_agents.ports.llm import ModelReply, ModelRequest
from durable_agents.ports.resources import Resources

REQUEST = "durable_agents_request"
"""The metadata key that says which request a conversation was started by."""

_PAGE_SIZE = 100
_PAGES_MAX = 20


class Handle(Value):
    """Where a conversation stands: of the size of the agents' names, however long the conversation is."""

    conversation_id: str
    last_entry_id: str | None
    """The last entry known, behind which the effect of the next request must be."""
    agent: str
    """Who answers now, by name."""
    graph: str
    """The fingerprint of the agents that the conversation runs with."""
    agents: dict[str, str]
    """The id of every agent, by name."""

    @classmethod
    def of(cls, handle: JSON) -> Handle | None:
        if handle is None:
            return None
        try:
            return cls.model_validate(handle)
        except ValidationError as error:
            raise DefinitionError(
                "this conversation was begun with another kind of session; go on with that one, or begin anew"
            ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered to a start or an append."""

    conversation_id: str
    outputs: list[Any]
    usage: Any = None

    @classmethod
    def of(cls, wire: Any) -> Answer:
        if not isinstance(wire, dict) or not isinstance(wire.get("outputs"), list):
            raise MalformedReply("the answer is no conversation response")
        if not isinstance(wire.get("conversation_id"), str):
            raise MalformedReply("the answer does not say which conversation it belongs to")
        return cls(wire["conversation_id"], wire["outputs"], wire.get("usage"))


class ConversationsApi:
    """The calls that a session makes, in one worker."""

    def __init__(self, conversations: Any, agents: RemoteAgents) -> None:
        self._conversations = conversations
        self.agents = agents

    @classmethod
    @asynccontextmanager
    async def open(cls, endpoint: Endpoint) -> AsyncIterator[ConversationsApi]:
        parts = (("conversations", "Conversations"), ("beta_agents", "BetaAgents"))
        async with open_client(endpoint, *parts) as client:
            conversations, agents = client.parts
            yield cls(conversations, RemoteAgents(agents))

    async def start(self, graph: AgentGraph, agent: str, *, stream: bool, **body: Any) -> Answer:
        """Start a conversation with a remote agent; the agents are made anew if someone has deleted them."""
        from mistralai.client.errors import MistralError

        call = self._conversations.start_stream_async if stream else self._conversations.start_async
        ids = await self.agents.ids(graph)
        try:
            return await _answer(call(agent_id=ids[agent], retries=None, **body), stream=stream)
        except MistralError as error:
            if error.status_code != 404:
                raise
        self.agents.forget(graph)
        ids = await self.agents.ids(graph)
        return await _answer(call(agent_id=ids[agent], retries=None, **body), stream=stream)

    async def append(self, *, stream: bool, **body: Any) -> Answer:
        call = self._conversations.append_stream_async if stream else self._conversations.append_async
        return await _answer(call(retries=None, **body), stream=stream)

    async def history(self, conversation_id: str) -> list[Wire]:
        wire = await json_of(
            self._conversations.get_history_async(conversation_id=conversation_id, retries=None)
        )
        entries = wire.get("entries") if isinstance(wire, dict) else None
        if not isinstance(entries, list):
            raise MalformedReply("the API returned no history of the conversation")
        return [entry for entry in entries if isinstance(entry, dict)]

    async def started_by(self, request_key: str) -> str | None:
        """Return the conversation that carries this marker; the server's own filter is not relied on."""
        marker = {REQUEST: request_key}
        for page in range(_PAGES_MAX):
            wire = await json_of(
                self._conversations.list_async(page=page, page_size=_PAGE_SIZE, metadata=marker, retries=None)
            )
            found = wire if isinstance(wire, list) else []
            for item in found:
                if (item.get("metadata") or {}).get(REQUEST) == request_key:
                    return str(item["id"])
            if len(found) < _PAGE_SIZE:
                break
        return None


async def _answer(call: Awaitable[Any], *, stream: bool) -> Answer:
    if not stream:
        return Answer.of(await json_of(call))
    pieces = ConversationStream()
    async with aclosing(events_of(call)) as events:
        async for event in events:
            pieces.take(event)
    return Answer.of(pieces.wire())


@dataclass(frozen=True, kw_only=True)
class RemoteSession(ApiSession):
    """Mistral's agents, in a conversation that the server keeps.

    Agents are made on the server as they are defined here, once for equal definitions. Handoffs and built-in
    tools happen on the server, within one reply. Repeating a request whose answer was lost looks for its
    effect first; usage is then reported as zero, for the history does not tell it.
    """

    def check(self, graph: AgentGraph) -> None:
        check_definitions(graph, COMPLETION_ARGS)
        for agent in graph.agents.values():
            for tool in agent.built_in_tools:
                configuration = tool.get("tool_configuration")
                if isinstance(configuration, dict) and configuration.get("requires_confirmation"):
                    raise NotSupported(
                        f"tool {tool.get('type')!r} of agent {agent.name!r} requires confirmation, which "
                        "RemoteSession cannot give; remove requires_confirmation, or exclude the tool"
                    )

    async def _reply(self, endpoint: Endpoint, request: ModelRequest, resources: Resources) -> ModelReply:
        api = await resources.get(
            ("mistral", "conversations", *endpoint.identity), lambda: ConversationsApi.open(endpoint)
        )
        known = Handle.of(request.handle)
        graph = graph_fingerprint(request.graph)
        if (
            known is None
            or (known.agent, known.graph) != (request.agent, graph)
            or is_poisoned(request.history)
        ):
            # A conversation belongs to its agents for good, and takes nothing more after a call that cannot
            # be read: a new one gets all that was said, with such calls made readable.
            answer = await self._start(api, request)
            agents, anchor = await api.agents.ids(request.graph), None
        else:
            answer = await self._append(api, request, known)
            agents, anchor = known.agents, known.last_entry_id
        names = {agent_id: name for name, agent_id in agents.items()}
        entries = entries_of(answer.outputs, names)
        active = request.agent
        for entry in entries:
            if isinstance(entry, AgentHandoff):
                active = entry.next_agent_name
        ids = [output["id"] for output in answer.outputs if isinstance(output.get("id"), str)]
        handle = Handle(
            conversation_id=answer.conversation_id,
            last_entry_id=ids[-1] if ids else anchor,
            agent=active,
            graph=graph,
            agents=agents,
        )
        return ModelReply(
            entries=entries, usage=usage_of(answer.usage), handle=handle.model_dump(mode="json")
        )

    async def _start(self, api: ConversationsApi, request: ModelRequest) -> Answer:
        inputs = inputs_of((*request.history, *without_abandoned(request.new, request.history)))
        if request.attempt > 1:
            found = await self._started(api, request, inputs)
            if found is not None:
                return found
        try:
            return await api.start(
                request.graph,
                request.agent,
                stream=self.stream,
                timeout_ms=self._timeout_ms,
                inputs=inputs,
                metadata={REQUEST: request.idempotency_key},
            )
        except MalformedReply:
            # It was applied, but the answer cannot be read.
            found = await self._started(api, request, inputs)
            if found is None:
                raise
            return found

    async def _started(
        self, api: ConversationsApi, request: ModelRequest, inputs: list[Wire]
    ) -> Answer | None:
        conversation_id = await api.started_by(request.idempotency_key)
        if conversation_id is None:
            return None
        outputs = outputs_behind(await api.history(conversation_id), None, inputs)
        return None if outputs is None else Answer(conversation_id, outputs)

    async def _append(self, api: ConversationsApi, request: ModelRequest, known: Handle) -> Answer:
        inputs = inputs_of(without_abandoned(request.new, request.history))
        if request.attempt > 1:
            found = await self._appended(api, known, inputs)
            if found is not None:
                return found
        try:
            return await api.append(
                stream=self.stream,
                timeout_ms=self._timeout_ms,
                conversation_id=known.conversation_id,
                inputs=inputs,
            )
        except MalformedReply:
            found = await self._appended(api, known, inputs)
            if found is None:
                raise
            return found

    async def _appended(self, api: ConversationsApi, known: Handle, inputs: list[Wire]) -> Answer | None:
        history = await api.history(known.conversation_id)
        outputs = outputs_behind(history, known.last_entry_id, inputs)
        return None if outputs is None else Answer(known.conversation_id, outputs)

    @property
    def _timeout_ms(self) -> int:
        """How long a socket may be silent: never the first limit to bite."""
        return round(self.timeout_seconds * 1000)
