"""The basis of every test here: the stand-in, the real SDK connected to it, and the judge in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from mistralai.client import Mistral
from mistralai.client.models import ConversationResponse

from outlast.testing.mistral_server import MistralServer, Model
from tests.mistral_server.openapi import OpenApiJudge

Json = dict[str, Any]

RATE_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_rate",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Cloud:
    """A running stand-in with two clients: the SDK, and bare HTTP for requests that the SDK would not send.

    The SDK is untyped here: its parameters are unions of typed dictionaries, which a plain dictionary never
    matches, and the judge sees what it sends.
    """

    server: MistralServer
    sdk: Any
    http: httpx2.AsyncClient

    async def agent(self, name: str, *, handoffs: list[str] | None = None, **fields: Any) -> str:
        created = await self.sdk.beta.agents.create_async(
            model="mistral-medium-latest", name=name, handoffs=handoffs, **fields
        )
        return str(created.id)

    async def history(self, conversation_id: str) -> list[Json]:
        history = await self.sdk.beta.conversations.get_history_async(conversation_id=conversation_id)
        return [entry.model_dump(mode="json") for entry in history.entries]

    async def answer(self, response: ConversationResponse, **results: str) -> ConversationResponse:
        """Append a result for each call of a response: the one given for its tool, or "done"."""
        inputs = [
            {"type": "function.result", "tool_call_id": call_id, "result": results.get(name, "done")}
            for call_id, name in calls_of(response)
        ]
        appended: ConversationResponse = await self.sdk.beta.conversations.append_async(
            conversation_id=response.conversation_id, inputs=inputs
        )
        return appended


@asynccontextmanager
async def cloud(model: Model, *, expects_errors: bool = False, **options: Any) -> AsyncIterator[Cloud]:
    """Run the stand-in; at the end, raise the errors that the judge or the stand-in itself has found."""
    judge = OpenApiJudge()
    async with MistralServer(model, on_exchange=judge, **options) as server, clients(server) as (sdk, http):
        yield Cloud(server, sdk, http)
        if not expects_errors:
            server.raise_errors()
        assert not judge.problems, "\n".join(judge.problems)


@asynccontextmanager
async def clients(server: MistralServer) -> AsyncIterator[tuple[Mistral, httpx2.AsyncClient]]:
    # Without certificates to load, a client is made in no time; there is no TLS on loopback to verify.
    plain: Json = {"trust_env": False, "verify": False}
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx2.Client(**plain) as unused:
        async with (
            httpx2.AsyncClient(**plain) as inner,
            httpx2.AsyncClient(**plain, base_url=server.url, headers=headers) as http,
        ):
            yield (
                Mistral(api_key=server.api_key, server_url=server.url, async_client=inner, client=unused),
                http,
            )


def calls_of(response: ConversationResponse) -> list[tuple[str, str]]:
    """Return id and name of every function call of a response."""
    outputs = [output.model_dump(mode="json") for output in response.outputs]
    return [
        (output["tool_call_id"], output["name"]) for output in outputs if output["type"] == "function.call"
    ]


def types_of(entries: list[Json]) -> list[str]:
    return [entry["type"] for entry in entries]
