"""The HTTP endpoints."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from outlast.testing.mistral_server.agents import Agents
from outlast.testing.mistral_server.bodies import (
    AppendConversation,
    Body,
    ChatCompletion,
    CreateAgent,
    RestartConversation,
    StartConversation,
    UpdateAgent,
)
from outlast.testing.mistral_server.chat import Chat
from outlast.testing.mistral_server.conversations import Conversations, ServerWork
from outlast.testing.mistral_server.errors import (
    ApiError,
    bad_request,
    chat_bad_request,
    chat_invalid_body,
    details,
    invalid_body,
    invalid_value,
    not_found,
    unauthorized,
)
from outlast.testing.mistral_server.identity import StandInClock
from outlast.testing.mistral_server.model import Json
from outlast.testing.mistral_server.streams import chat_events, conversation_events

BodyType = TypeVar("BodyType", bound=Body)
QueryType = TypeVar("QueryType", bound=BaseModel)

RefusesModels = Literal["never", "when an agent is made", "when it is asked"]
"""The moment when an unknown model is refused. (The description of the API does not name it.)"""

Endpoint = Callable[[Request], Awaitable[Response]]

_EVENT_STREAM = {"content-type": "text/event-stream", "cache-control": "no-store"}


class PageQuery(BaseModel):
    page: int = Field(0, ge=0)
    page_size: int = Field(20, ge=1, le=1000)


class ConversationPageQuery(PageQuery):
    page_size: int = Field(100, ge=1, le=1000)


class AgentQuery(PageQuery):
    page_token: str | None = None
    id: str | None = None
    name: str | None = None
    search: str | None = None
    deployment_chat: bool | None = None


class VersionQuery(BaseModel):
    version: int = Field(ge=0)


class AliasQuery(BaseModel):
    alias: str = Field(min_length=1)


class AliasVersionQuery(AliasQuery, VersionQuery):
    pass


class Routes:
    """All endpoints of the stand-in."""

    def __init__(
        self,
        agents: Agents,
        conversations: Conversations,
        chat: Chat,
        clock: StandInClock,
        *,
        api_key: str,
        models: Sequence[str],
        refuses_unknown_models: RefusesModels,
    ) -> None:
        self._agents = agents
        self._conversations = conversations
        self._chat = chat
        self._clock = clock
        self._api_key = api_key
        self._models = [_model_card(name) for name in models]
        self._refuses_unknown_models = refuses_unknown_models

    def application(self) -> Starlette:
        endpoints: list[tuple[str, str, Endpoint]] = [
            ("GET", "/v1/models", self._list_models),
            ("GET", "/v1/models/{model_id}", self._get_model),
            ("POST", "/v1/agents", self._create_agent),
            ("GET", "/v1/agents", self._list_agents),
            ("GET", "/v1/agents/pages", self._list_agent_pages),
            ("GET", "/v1/agents/{agent_id}", self._get_agent),
            ("PATCH", "/v1/agents/{agent_id}", self._update_agent),
            ("DELETE", "/v1/agents/{agent_id}", self._delete_agent),
            ("PATCH", "/v1/agents/{agent_id}/version", self._switch_version),
            ("GET", "/v1/agents/{agent_id}/versions", self._list_versions),
            ("GET", "/v1/agents/{agent_id}/versions/{version}", self._get_version),
            ("PUT", "/v1/agents/{agent_id}/aliases", self._put_alias),
            ("GET", "/v1/agents/{agent_id}/aliases", self._list_aliases),
            ("DELETE", "/v1/agents/{agent_id}/aliases", self._delete_alias),
            ("POST", "/v1/conversations", self._start),
            ("GET", "/v1/conversations", self._list_conversations),
            ("POST", "/v1/conversations/{conversation_id}", self._append),
            ("GET", "/v1/conversations/{conversation_id}", self._get_conversation),
            ("DELETE", "/v1/conversations/{conversation_id}", self._delete_conversation),
            ("POST", "/v1/conversations/{conversation_id}/restart", self._restart),
            ("GET", "/v1/conversations/{conversation_id}/history", self._history),
            ("GET", "/v1/conversations/{conversation_id}/messages", self._messages),
            ("POST", "/v1/chat/completions", self._complete),
        ]
        return Starlette(
            routes=[
                Route(path, self._checked(endpoint), methods=[method]) for method, path, endpoint in endpoints
            ],
            exception_handlers={ApiError: _answer_error, 404: _answer_http(404), 405: _answer_http(405)},
        )

    def _checked(self, endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._api_key}":
                raise unauthorized()
            return await endpoint(request)

        return checked

    # Models

    async def _list_models(self, request: Request) -> Response:
        wanted = request.query_params.get("model")
        data = [card for card in self._models if wanted in (None, card["id"])]
        return JSONResponse({"object": "list", "data": data})

    async def _get_model(self, request: Request) -> Response:
        wanted = request.path_params["model_id"]
        for card in self._models:
            if card["id"] == wanted:
                return JSONResponse(card)
        raise not_found("Model", wanted)

    def _is_refused(self, model: str | None, at: RefusesModels) -> bool:
        """Return whether `model` is unknown, and unknown models are refused at this point."""
        known = [card["id"] for card in self._models]
        return self._refuses_unknown_models == at and model is not None and model not in known

    # Agents

    def _check_agent(self, body: CreateAgent | UpdateAgent) -> None:
        if self._is_refused(body.model, "when an agent is made"):
            raise invalid_value(f"Invalid model: {body.model}", "body", "model", value=body.model)

    async def _create_agent(self, request: Request) -> Response:
        body, _ = await _parse(CreateAgent, request)
        self._check_agent(body)
        return JSONResponse(self._agents.create(body))

    async def _update_agent(self, request: Request) -> Response:
        body, _ = await _parse(UpdateAgent, request)
        self._check_agent(body)
        return JSONResponse(self._agents.update(_agent_id(request), body))

    async def _get_agent(self, request: Request) -> Response:
        return JSONResponse(
            self._agents.get(_agent_id(request)).at(request.query_params.get("agent_version"))
        )

    async def _delete_agent(self, request: Request) -> Response:
        self._agents.delete(_agent_id(request))
        return Response(status_code=204)

    async def _list_agents(self, request: Request) -> Response:
        query = _query(AgentQuery, request)
        return JSONResponse(_page(self._filtered(query, request), query))

    async def _list_agent_pages(self, request: Request) -> Response:
        query = _query(AgentQuery, request)
        agents = self._filtered(query, request)
        first = _first_of_page(query.page_token)
        after = first + query.page_size
        token = f"page-{after}" if after < len(agents) else None
        return JSONResponse({"object": "list", "data": agents[first:after], "next_page_token": token})

    def _filtered(self, query: AgentQuery, request: Request) -> list[Json]:
        return self._agents.listed(
            id=query.id,
            name=query.name,
            search=query.search,
            sources=request.query_params.getlist("sources"),
            deployment_chat=query.deployment_chat,
            metadata=_metadata(request),
        )

    async def _switch_version(self, request: Request) -> Response:
        return JSONResponse(self._agents.switch(_agent_id(request), _query(VersionQuery, request).version))

    async def _list_versions(self, request: Request) -> Response:
        agent = self._agents.get(_agent_id(request))
        versions = [agent.at(number) for number in range(len(agent.versions))]
        return JSONResponse(_page(versions, _query(PageQuery, request)))

    async def _get_version(self, request: Request) -> Response:
        return JSONResponse(self._agents.get(_agent_id(request)).at(request.path_params["version"]))

    async def _put_alias(self, request: Request) -> Response:
        query = _query(AliasVersionQuery, request)
        return JSONResponse(self._agents.alias(_agent_id(request), query.alias, query.version))

    async def _list_aliases(self, request: Request) -> Response:
        return JSONResponse(list(self._agents.get(_agent_id(request)).aliases.values()))

    async def _delete_alias(self, request: Request) -> Response:
        self._agents.remove_alias(_agent_id(request), _query(AliasQuery, request).alias)
        return Response(status_code=204)

    # Conversations

    async def _start(self, request: Request) -> Response:
        body, raw = await _parse(StartConversation, request)
        if self._refuses_unknown_models == "when it is asked":
            self._check_asked(body)
        return await self._answer(self._conversations.start(body, raw, request.state.at_work), body.stream)

    def _check_asked(self, body: StartConversation) -> None:
        model = body.model
        if body.agent_id is not None:
            model = self._agents.get(body.agent_id).at(body.agent_version)["model"]
        if self._is_refused(model, "when it is asked"):
            raise bad_request(f"Invalid model: {model}")

    async def _append(self, request: Request) -> Response:
        body, raw = await _parse(AppendConversation, request)
        work = self._conversations.append(_conversation_id(request), body, raw, request.state.at_work)
        return await self._answer(work, body.stream)

    async def _restart(self, request: Request) -> Response:
        body, raw = await _parse(RestartConversation, request)
        work = self._conversations.restart(_conversation_id(request), body, raw, request.state.at_work)
        return await self._answer(work, body.stream)

    async def _answer(self, work: ServerWork, stream: bool | None) -> Response:
        if stream:
            return StreamingResponse(conversation_events(work, self._clock.now), headers=_EVENT_STREAM)
        outputs = [entry async for entry in work]
        return JSONResponse(
            {
                "object": "conversation.response",
                "conversation_id": work.conversation.id,
                "outputs": outputs,
                "usage": work.usage.to_wire(),
                "guardrails": None,
            }
        )

    async def _get_conversation(self, request: Request) -> Response:
        return JSONResponse(self._conversations.get(_conversation_id(request)).to_wire())

    async def _list_conversations(self, request: Request) -> Response:
        conversations = self._conversations.listed(_metadata(request))
        return JSONResponse(_page(conversations, _query(ConversationPageQuery, request)))

    async def _delete_conversation(self, request: Request) -> Response:
        self._conversations.delete(_conversation_id(request))
        return Response(status_code=204)

    async def _history(self, request: Request) -> Response:
        conversation = self._conversations.get(_conversation_id(request))
        head = {"object": "conversation.history", "conversation_id": conversation.id}
        return JSONResponse(head | {"entries": conversation.entries})

    async def _messages(self, request: Request) -> Response:
        conversation = self._conversations.get(_conversation_id(request))
        messages = [entry for entry in conversation.entries if entry["type"].startswith("message.")]
        head = {"object": "conversation.messages", "conversation_id": conversation.id}
        return JSONResponse(head | {"messages": messages})

    # Chat completions

    async def _complete(self, request: Request) -> Response:
        body, raw = await _parse(ChatCompletion, request, chat_invalid_body)
        if self._is_refused(body.model, "when it is asked"):
            raise chat_bad_request(f"Invalid model: {body.model}", type="invalid_model", code="1500")
        self._chat.check(raw)
        await request.state.at_work()
        completion = await self._chat.complete(body, raw)
        if body.stream:
            return StreamingResponse(chat_events(completion), headers=_EVENT_STREAM)
        return JSONResponse(completion)


async def _parse(
    kind: type[BodyType],
    request: Request,
    refusal: Callable[[ValidationError], ApiError] = invalid_body,
) -> tuple[BodyType, Json]:
    """Return the body as a value of `kind`, and as the JSON that was sent."""
    body = await request.body()
    try:
        return kind.model_validate_json(body), json.loads(body)
    except ValidationError as error:
        raise refusal(error) from error


def _query(kind: type[QueryType], request: Request) -> QueryType:
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise ApiError(422, {"detail": details(error, "query")}) from error


def _metadata(request: Request) -> Mapping[str, Any]:
    text = request.query_params.get("metadata") or "{}"
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = text
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request("metadata must be a JSON object")
    return metadata or {}


def _page(items: Sequence[Json], query: PageQuery) -> list[Json]:
    first = query.page * query.page_size
    return list(items[first : first + query.page_size])


def _first_of_page(token: str | None) -> int:
    if token is None:
        return 0
    prefix, _, first = token.partition("-")
    if prefix != "page" or not first.isdecimal():
        raise bad_request("Invalid page_token")
    return int(first)


def _agent_id(request: Request) -> str:
    return str(request.path_params["agent_id"])


def _conversation_id(request: Request) -> str:
    return str(request.path_params["conversation_id"])


def _model_card(name: str) -> Json:
    capabilities = {"completion_chat": True, "function_calling": True, "reasoning": True, "vision": True}
    return {
        "id": name,
        "object": "model",
        "created": 1_755_000_000,
        "owned_by": "mistralai",
        "type": "base",
        "capabilities": capabilities,
        "name": name,
        "description": None,
        "max_context_length": 262_144,
        "aliases": [],
        "deprecation": None,
        "default_model_temperature": 0.3,
    }


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    if isinstance(error.body, str):
        return Response(error.body, error.status, error.headers, media_type="text/plain")
    return JSONResponse(error.body, error.status, error.headers)


def _answer_http(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    detail = {404: "Not Found", 405: "Method Not Allowed"}[status]

    async def answer(_: Request, __: Exception) -> Response:
        return JSONResponse({"detail": detail}, status)

    return answer
