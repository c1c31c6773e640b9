"""LocalSession with whatever answers servers send: errors under status 200, cut replies, repeated keys."""

from __future__ import annotations

import pytest

import outlast
from outlast.core.errors import ModelRefused
from outlast.core.events import ReplyCutData
from tests.adapters.raw_chat_server import Answer, body, delta, message, serving, stream

pytestmark = pytest.mark.server

DONE = message({"content": "done"})
CUT = "The answer is not 4"


def agent(**more: object) -> outlast.Agent:
    return outlast.Agent(model="m", name="a", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "end",
    [
        {"error": "CUDA out of memory"},
        {"object": "error", "message": "CUDA out of memory", "type": "InternalServerError", "code": 500},
        'event: error\ndata: {"message": "CUDA out of memory"}\n\n',
        "event: error\ndata: CUDA out of memory\n\n",
        "event: error\ndata:\n\n",
        [{"error": {"message": "CUDA out of memory", "status": "INTERNAL"}}],
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502}}]},
    ],
)
@pytest.mark.parametrize("ends", [False, True])
async def test_a_stream_that_failed_is_asked_for_again(end: object, ends: bool) -> None:
    failed = stream(delta({"content": CUT}), end, ends=ends)
    async with serving(failed, stream(delta({"content": "5"}, "stop"))) as server:
        result = await outlast.Runner.run(agent(), "Go.", server.session(stream=True))
    assert result.text == "5"
    assert len(server.bodies) == 2


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_error_under_status_200_is_the_one_of_its_own_status(is_streamed: bool) -> None:
    busy, refused = (
        (stream(error) if is_streamed else body(error))
        for error in (
            {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
            {"error": {"message": "no such model here", "code": "400"}},
        )
    )
    done = stream(delta({"content": "done"}, "stop")) if is_streamed else DONE
    async with serving(busy, done) as server:
        assert (await outlast.Runner.run(agent(), "Go.", server.session(stream=is_streamed))).text == "done"
    async with serving(refused) as server:
        with pytest.raises(ModelRefused, match="no such model here"):
            await outlast.Runner.run(agent(), "Go.", server.session(stream=is_streamed))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize(
    "make",
    [
        lambda reason: message({"content": CUT}, reason),
        lambda reason: stream(delta({"content": CUT}), delta({}, reason)),
    ],
    ids=["whole", "streamed"],
)
async def test_a_cut_reply_leaves_a_note_and_an_event(reason: str, make: object) -> None:
    answer = make(reason)  # type: ignore[operator]
    assert isinstance(answer, Answer)
    async with serving(answer) as server, outlast.connect("memory:") as backend:
        session = server.session(stream=answer.content_type == "text/event-stream")
        result = await outlast.Runner.run(agent(), "Go.", session, id="x", backend=backend)
        events = [event async for event in (await backend.get("x")).events(follow=False)]
    assert result.text == CUT
    assert len(result.notes) == 1
    assert reason in result.notes[0]
    events = [event for event in events if event.kind != "text_delta"]
    assert [event.kind for event in events[1:]] == [
        "turn_started",
        "model_replied",
        "reply_cut",
        "execution_completed",
    ]
    assert isinstance(events[3].data, ReplyCutData)
    assert events[3].data.reason == reason


async def test_a_stream_ends_where_its_server_says_so() -> None:
    for answer in (
        stream(delta({"content": "hello"}), delta({}, "stop"), ends=False),
        stream(delta({"content": "hello"}, "stop"), is_cut=True),
    ):
        async with serving(answer) as server:
            result = await outlast.Runner.run(agent(), "Go.", server.session(stream=True))
        assert result.text == "hello"
        assert len(server.bodies) == 1
