"""The calls of the Conversations API that the sessions of one worker make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from outlast.adapters.mistral.agents import RemoteAgents
from outlast.adapters.mistral.api_errors import error_in
from outlast.adapters.mistral.client import Client, open_client, read_json
from outlast.adapters.mistral.session import Endpoint, first_token_in
from outlast.adapters.mistral.streams import ConversationStream
from outlast.adapters.mistral.wire import Wire
from outlast.core.agents import AgentGraph
from outlast.core.errors import MalformedReply, ModelRefused, ModelUnreachable
from outlast.ports.deltas import Publish

REQUEST = "outlast_request"
"""The metadata key with the request that started a conversation."""

_PATH = "/v1/conversations"
_PAGE_SIZE = 100
_PAGES_MAX = 20
_KEPT_STARTS = 1024


@dataclass(frozen=True, slots=True)
class ConversationAnswer:
    """The answer of the server to a start or an append."""

    conversation_id: str
    outputs: list[Any]
    usage: Any = None

    @classmethod
    def of(cls, wire: Any) -> ConversationAnswer:
        if (error := error_in(wire, "outputs")) is not None:
            raise error
        if not isinstance(wire, dict) or not isinstance(wire.get("outputs"), list):
            raise MalformedReply("it is not a conversation response")
        if not isinstance(wire.get("conversation_id"), str):
            raise MalformedReply("it has no conversation_id")
        return cls(wire["conversation_id"], wire["outputs"], wire.get("usage"))


@dataclass(frozen=True, slots=True)
class ConversationCall:
    """The options of one request."""

    publish: Publish | None
    """Takes the text as it comes. If it is not None, the answer is streamed."""
    timeout_seconds: float
    """The time for which the connection may be silent."""
    first_token_seconds: float | None = None
    """The time until the first part of a streamed answer; None if it is not limited."""
    completion_args: Wire | None = None
    """Arguments that replace those of the agent."""


class ConversationsApi:
    """Conversations on the server, and their agents."""

    def __init__(self, client: Client, conversations: Any, agents: RemoteAgents) -> None:
        self._client = client
        self._conversations = conversations
        self.agents = agents
        self._started: OrderedDict[str, str] = OrderedDict()
        """Ids of conversations by the request that started them, from the first event of their streams."""

    @classmethod
    @asynccontextmanager
    async def open(cls, endpoint: Endpoint) -> AsyncIterator[ConversationsApi]:
        parts = (("conversations", "Conversations"), ("beta_agents", "BetaAgents"))
        async with open_client(endpoint, *parts) as client:
            conversations, agents = client.parts
            yield cls(client, conversations, RemoteAgents(agents))

    async def start(
        self, graph: AgentGraph, agent: str, inputs: list[Wire], request_key: str, call: ConversationCall
    ) -> ConversationAnswer:
        """Start a conversation with a remote agent; if the agents were deleted, create them again."""

        async def started() -> ConversationAnswer:
            known = (await self.agents.of(graph))[agent]
            body = {
                "inputs": inputs,
                "completion_args": call.completion_args,
                "metadata": {REQUEST: request_key},
                "agent_id": known.id,
                "agent_version": known.version,
            }
            return await self._answer(
                _PATH, body, call, lambda conversation_id: self._remember(request_key, conversation_id)
            )

        try:
            return await started()
        except ModelRefused as error:
            if error.status != 404:
                raise
        self.agents.forget(graph)
        return await started()

    async def append(
        self, conversation_id: str, inputs: list[Wire], confirmations: list[Wire], call: ConversationCall
    ) -> ConversationAnswer:
        """Add inputs and confirmations of calls to a conversation; return the answer of the server."""
        body = {
            "inputs": inputs if inputs or not confirmations else None,
            "store": True,
            "handoff_execution": "server",
            "completion_args": call.completion_args,
            "tool_confirmations": confirmations or None,
        }
        return await self._answer(f"{_PATH}/{quote(conversation_id, safe='')}", body, call)

    async def _answer(
        self,
        path: str,
        body: Mapping[str, Any],
        call: ConversationCall,
        on_started: Callable[[str], None] = lambda conversation_id: None,
    ) -> ConversationAnswer:
        body = {name: value for name, value in body.items() if value is not None}
        if call.publish is None:
            return ConversationAnswer.of(await self._client.post(path, body, call.timeout_seconds))
        stream = ConversationStream()
        async with (
            first_token_in(call.first_token_seconds) as has_come,
            aclosing(self._client.events(path, body, call.timeout_seconds)) as events,
        ):
            async for event in events:
                is_known = stream.conversation_id is not None
                call.publish(stream.take(event))
                if stream.has_begun:
                    has_come()
                if stream.conversation_id is not None and not is_known:
                    on_started(stream.conversation_id)
                if stream.is_done:
                    break
        return ConversationAnswer.of(stream.wire())

    async def history(self, conversation_id: str) -> list[Wire]:
        """Return the entries of a conversation, in order."""
        what = "the history of the conversation"
        request = self._conversations.get_history_async(conversation_id=conversation_id, retries=None)
        entries = (await read_json(request, dict, what)).get("entries")
        if not isinstance(entries, list):
            raise ModelUnreachable(f"{what} cannot be read")
        return [entry for entry in entries if isinstance(entry, dict)]

    async def started_by(self, request_key: str) -> str | None:
        """Return the id of the conversation that a request has started; None if it is not found.

        The id comes from the stream of that request, or from the metadata of conversations on the server.
        The metadata is checked here, because the server may ignore the filter.
        """
        if request_key in self._started:
            return self._started[request_key]
        async for item in self.all({REQUEST: request_key}, _PAGES_MAX):
            metadata = item.get("metadata")
            if isinstance(metadata, dict) and metadata.get(REQUEST) == request_key:
                return str(item["id"])
        return None

    async def all(
        self, metadata: Mapping[str, str] | None = None, pages_max: int = 10_000
    ) -> AsyncIterator[Wire]:
        """Yield the conversations that the API key can see; the server may ignore the filter `metadata`."""
        for page in range(pages_max):
            request = self._conversations.list_async(
                page=page, page_size=_PAGE_SIZE, metadata=dict(metadata or {}), retries=None
            )
            found = await read_json(request, list, "the list of conversations")
            for item in found:
                if isinstance(item, dict) and "id" in item:
                    yield item
            if len(found) < _PAGE_SIZE:
                return

    def forget_start(self, request_key: str) -> None:
        """Forget the conversation of this request, so that the next `started_by` asks the server."""
        self._started.pop(request_key, None)

    def _remember(self, request_key: str, conversation_id: str) -> None:
        self._started[request_key] = conversation_id
        if len(self._started) > _KEPT_STARTS:
            self._started.popitem(last=False)
