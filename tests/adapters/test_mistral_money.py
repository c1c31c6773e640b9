"""Money with both sessions: published prices, prices of one's own, limits, and a person who raises them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import outlast
from outlast.adapters.mistral.published_prices import published_at
from outlast.core.events import EventKind, QuestionAskedData
from outlast.core.usage import Usage
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Execute,
    Fault,
    MistralServer,
    ModelPrompt,
    Reply,
    Say,
)

pytestmark = pytest.mark.server

Kind = type[outlast.LocalSession] | type[outlast.RemoteSession]
both = pytest.mark.parametrize("kind", [outlast.LocalSession, outlast.RemoteSession])
MEDIUM, SMALL = "mistral-medium-latest", "mistral-small-latest"


@outlast.activity(name="money_note")
async def note(text: str) -> str:
    """Note something."""
    return text


def model(prompt: ModelPrompt) -> Reply:
    """Call the tool once, then answer; another agent searches the web."""
    if prompt.model == "searching":
        return [Execute("web_search", {"query": "ferry"}), Say("At nine.")]
    results = [entry for entry in prompt.entries if "tool_call_id" in entry]
    return [Say("Noted.")] if results else [Call("money_note", {"text": "ferry"})]


@pytest.fixture
def server() -> Iterator[MistralServer]:
    with MistralServer(model) as opened:
        yield opened


def session_of(kind: Kind, server: MistralServer, **options: Any) -> Any:
    return kind(api_key=server.api_key, server_url=server.url, **options)


def agent_of(model: str, **options: Any) -> outlast.Agent[Any, str]:
    return outlast.Agent(model=model, name="clerk", tools=[note], **options)


@both
async def test_a_run_costs_what_the_provider_has_published(kind: Kind, server: MistralServer) -> None:
    result = await outlast.Runner.run(agent_of(MEDIUM), "Go.", session_of(kind, server), max_cost=1)
    tokens = Usage(
        prompt_tokens=result.usage.prompt_tokens,
        completion_tokens=result.usage.completion_tokens,
        total_tokens=result.usage.total_tokens,
    )
    assert result.turns == 2
    assert result.cost == published_at(server.url)(MEDIUM, tokens)


@both
async def test_prices_of_ones_own_come_first(kind: Kind, server: MistralServer) -> None:
    session = session_of(kind, server, prices={MEDIUM: outlast.Price(call="0.25")})
    result = await outlast.Runner.run(agent_of(MEDIUM), "Go.", session)
    assert result.cost == Decimal("0.5")


@both
async def test_an_unknown_model_has_no_cost_and_is_refused_by_a_limit(
    kind: Kind, server: MistralServer
) -> None:
    session = session_of(kind, server)
    result = await outlast.Runner.run(agent_of("ours"), "Go.", session)
    assert (result.cost, result.usage.unpriced) == (None, {"ours": 2})
    asked = len(server.requests)
    with pytest.raises(outlast.UnknownPrice, match="no price is known for ours"):
        await outlast.Runner.run(agent_of("ours"), "Go.", session_of(kind, server), max_cost=1)
    assert len(server.requests) == asked


async def test_a_model_that_stands_in_for_another_costs_what_it_costs(server: MistralServer) -> None:
    prices = {SMALL: outlast.Price(call=3), MEDIUM: outlast.Price(call=5)}
    agent = agent_of(MEDIUM, fallback_models=[SMALL])
    server.faults.add(Fault(AnswerWith(404, {"detail": "no such model"}), method="POST"))
    result = await outlast.Runner.run(agent, "Go.", session_of(outlast.LocalSession, server, prices=prices))
    assert result.cost == 3 + 5


async def test_a_connector_without_a_price_ends_a_run_with_a_limit_as_soon_as_it_is_known(
    server: MistralServer,
) -> None:
    agent = outlast.Agent(model="searching", name="searcher", tools=[outlast.WebSearchTool()])
    model_only = {"searching": outlast.Price(call=1)}
    result = await outlast.Runner.run(
        agent, "Go.", session_of(outlast.RemoteSession, server, prices=model_only)
    )
    assert (result.cost, result.usage.unpriced) == (None, {"web_search": 1})
    prices = {**model_only, "web_search": outlast.Price(call="0.03")}
    result = await outlast.Runner.run(agent, "Go.", session_of(outlast.RemoteSession, server, prices=prices))
    assert result.cost == Decimal("1.03")


@both
async def test_a_person_raises_the_limit_of_a_run(kind: Kind, server: MistralServer) -> None:
    session = session_of(kind, server, prices={MEDIUM: outlast.Price(call=1)})
    async with outlast.connect("memory:") as backend:
        run = outlast.Runner.run(
            agent_of(MEDIUM), "Go.", session, max_cost=1, on_limit="ask", id="q-1", backend=backend
        )
        running = asyncio.create_task(run)
        while not (listed := await backend.list()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        execution = await backend.get(listed[0].id)
        async for event in execution.events():
            if event.kind is EventKind.QUESTION_ASKED and isinstance(event.data, QuestionAskedData):
                await execution.answer(event.data.key, 2.5)
                break
        result = await running
    assert result.text == "Noted."
    assert result.cost == 2
