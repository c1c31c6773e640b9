"""`first_token_timeout`: an attempt whose reply does not begin in time fails, and another one is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from outlast import Agent, LocalSession, RemoteSession
from outlast.adapters.mistral.session import ApiSession, first_token_in
from outlast.adapters.mistral.streams import CompletionStream, ConversationStream
from outlast.core.errors import ConfigurationError, ModelUnreachable
from outlast.core.records import AttemptFailed
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.runner import run_agent
from outlast.runtime.runs.undurable_context import PlainContext
from outlast.testing.mistral_server import Fault, Hang, MistralServer, ModelPrompt, Say
from outlast.testing.virtual_clock import VirtualClock

KEY = "test-key"
LIMIT = timedelta(seconds=20)

Jump = Callable[[], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Return a function after which the limit has passed, for timeouts of asyncio."""

    def jump() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time
        monkeypatch.setattr(loop, "time", lambda: before() + LIMIT.total_seconds() + 1)

    return jump


@pytest.fixture
def server() -> Iterator[MistralServer]:
    def reply(prompt: ModelPrompt) -> list[Say]:
        return [Say(f"{prompt.model} says hello.")]

    with MistralServer(reply, api_key=KEY) as serving:
        yield serving


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "point"), [(LocalSession, "answer"), (RemoteSession, "work")])
async def test_an_attempt_whose_reply_does_not_begin_is_made_again(
    server: MistralServer, later: Jump, kind: type[Any], point: Any, stream: bool
) -> None:
    clock = VirtualClock()
    failed: asyncio.Queue[AttemptFailed] = asyncio.Queue()

    def take(record: Any) -> None:
        if isinstance(record, AttemptFailed):
            failed.put_nowait(record)

    hanging = Hang(point)
    server.faults.add(Fault(hanging, method="POST", path=paths[kind]))
    session = kind(server_url=server.url, api_key=KEY, stream=stream, first_token_timeout=LIMIT)
    async with SharedResources() as resources:
        with PlainContext(resources, clock, take) as context:
            agent = Agent(model="m", name="a")
            running = asyncio.create_task(run_agent(agent, "Go.", session, Bounds(), context))
            await hanging.reached()
            assert server.requests[-1].json()["stream"] is True
            later()
            assert "had not begun after 20 s" in (await failed.get()).failure.message
            hanging.release()
            await server.settled()
            await clock.advance(2)
            assert (await running).text == "m says hello."


paths: dict[type[Any], str] = {LocalSession: "/v1/chat/completions", RemoteSession: "/v1/conversations"}


async def test_a_fallback_model_is_asked_when_the_first_one_does_not_begin(
    server: MistralServer, later: Jump
) -> None:
    hanging = Hang("answer")
    server.faults.add(Fault(hanging))
    session = LocalSession(server_url=server.url, api_key=KEY, first_token_timeout=LIMIT)
    async with SharedResources() as resources:
        with PlainContext(resources, VirtualClock()) as context:
            agent = Agent(model="m", name="a", fallback_models=["n"])
            running = asyncio.create_task(run_agent(agent, "Go.", session, Bounds(), context))
            await hanging.reached()
            later()
            result = await running
    assert result.text == "n says hello."
    assert "had not begun" in result.warnings[0]


async def test_a_reply_that_has_begun_may_take_longer(later: Jump) -> None:
    async with first_token_in(LIMIT.total_seconds()) as has_come:
        has_come()
        later()
        await asyncio.sleep(0)


async def test_a_reply_that_does_not_begin_is_given_up(later: Jump) -> None:
    async def begin() -> None:
        async with first_token_in(LIMIT.total_seconds()):
            later()
            await asyncio.Event().wait()

    with pytest.raises(ModelUnreachable, match="first_token_timeout"):
        await begin()


async def test_without_a_limit_and_with_other_timeouts_nothing_changes() -> None:
    async with first_token_in(None):
        pass
    with pytest.raises(TimeoutError):
        async with first_token_in(1):
            raise TimeoutError


def test_an_empty_message_is_not_the_beginning_of_a_completion() -> None:
    for delta, has_begun in (
        ({"role": "assistant", "content": ""}, False),
        ({"content": "H"}, True),
        ({"reasoning_content": ""}, False),
        ({"reasoning_content": "Hm"}, True),
        ({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}, True),
    ):
        stream = CompletionStream()
        stream.take({"choices": [{"index": 0, "delta": delta}]})
        assert stream.has_begun is has_begun
    ended = CompletionStream()
    ended.take({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert ended.has_begun


def test_the_start_of_a_conversation_is_not_the_beginning_of_its_reply() -> None:
    stream = ConversationStream()
    stream.take({"type": "conversation.response.started", "conversation_id": "c"})
    assert not stream.has_begun
    stream.take({"type": "tool.execution.started", "output_index": 0, "name": "web_search"})
    assert stream.has_begun


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), timedelta(0)])
@pytest.mark.parametrize("kind", [LocalSession, RemoteSession])
def test_a_limit_must_be_a_time(kind: Callable[..., ApiSession], given: Any) -> None:
    with pytest.raises(ConfigurationError, match="first_token_timeout is"):
        kind(first_token_timeout=given)
