"""LocalSession with whatever answers servers send: errors under status 200, cut replies, repeated keys."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
import zlib
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast.adapters.mistral.bodies import BODY_MAX, StreamReader
from outlast.adapters.mistral.redaction import HIDDEN, SecretRemover, hidden
from outlast.adapters.scripted import say
from outlast.core.errors import MalformedReply, ModelError, ModelOverloaded, ModelRefused, ModelUnreachable
from outlast.core.events import ReplyCutData
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.agent_binding import bind_agents
from tests.adapters.raw_chat_server import KEY, Answer, body, delta, message, serving, stream

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
async def test_a_cut_reply_leaves_a_warning_and_an_event(reason: str, make: object) -> None:
    answer = make(reason)  # type: ignore[operator]
    assert isinstance(answer, Answer)
    async with serving(answer) as server, outlast.connect("memory:") as backend:
        session = server.session(stream=answer.content_type == "text/event-stream")
        result = await outlast.Runner.run(agent(), "Go.", session, id="x", backend=backend)
        events = [event async for event in (await backend.get("x")).events(follow=False)]
    assert result.text == CUT
    assert len(result.warnings) == 1
    assert reason in result.warnings[0]
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
        stream(delta({"content": "hello"}, "stop"), ends=False, is_cut=True),
        stream(delta({"content": "hello"}, "stop"), 'data: {"usage": {"tot', ends=False, is_cut=True),
    ):
        async with serving(answer) as server:
            result = await outlast.Runner.run(agent(), "Go.", server.session(stream=True))
        assert result.text == "hello"
        assert len(server.bodies) == 1


# Secrets -------------------------------------------------------------------------------------------------

ENCODED = (
    KEY,
    quote(KEY, safe=""),
    quote(KEY, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    quote(KEY),
    b64encode(KEY.encode()).decode(),
    b64encode(f"user:{KEY}".encode()).decode(),
    urlsafe_b64encode(f"Bearer {KEY}!".encode()).decode(),
    KEY.replace("/", "\\/"),
    "".join(f"\\u{ord(character):04x}" for character in KEY),
    "".join(f"&#{ord(character)};" for character in KEY),
    KEY.encode().hex(),
)


@pytest.mark.parametrize("form", ENCODED)
def test_every_form_of_a_secret_is_removed(form: str) -> None:
    encoded = [] if form[0] in "\\&" or "\\" in form else [quote(form)]
    for text in (form, f"a {form} b", json.dumps({"x": form}), *encoded):
        cleaned = hidden(text, {KEY})
        assert HIDDEN in cleaned
        assert all(part not in unquote(cleaned) for part in ("SeCr3t", "U2VDcjN0", "5365437233"))
    assert hidden("an sk-SeCr3t and more", {KEY}) == "an sk-SeCr3t and more"


@given(before=st.text(max_size=5), after=st.text(max_size=5), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_secret_in_pieces_of_text_is_removed(before: str, after: str, cuts: list[int]) -> None:
    for form in ENCODED:
        whole = before + form + after
        published: list[str] = []
        text = SecretRemover({KEY}).text(published.append)
        assert text is not None
        places = [0, *sorted(cuts), len(whole)]
        for begin, end in pairwise(places):
            text(whole[begin:end])
        text.end()
        assert "".join(published) == hidden(whole, {KEY})


def test_a_short_key_is_a_word_like_others_in_replies() -> None:
    reply = ModelReply(entries=(say("The list is EMPTY."),))
    assert SecretRemover({"EMPTY"}).reply(reply) is reply
    assert hidden("no such key: EMPTY", {"EMPTY"}) == "no such key: ***"


def place_of(where: str, form: str) -> dict[str, object]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    match where:
        case "the text":
            return {"content": f"you sent {form}"}
        case "the reasoning":
            return {"content": "x", "reasoning_content": form}
        case "the id of a call":
            return {"tool_calls": [{**call, "id": form}]}
        case "the name of a call":
            return {"tool_calls": [{**call, "function": {"name": form, "arguments": "{}"}}]}
        case _:
            arguments = json.dumps({"x": form})
            return {"tool_calls": [{**call, "function": {"name": "f", "arguments": arguments}}]}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    "where", ["the text", "the reasoning", "the id of a call", "the name of a call", "the arguments"]
)
async def test_no_form_of_the_key_is_stored(where: str, is_streamed: bool, tmp_path: Path) -> None:
    def f(x: str = "") -> str:
        """Do nothing."""
        return "ok"

    for number, form in enumerate(ENCODED):
        said = place_of(where, form)
        if is_streamed:
            halves = [{"content": form[:9]}, {"content": form[9:]}] if where == "the text" else [said]
            first, last = (
                stream(*map(delta, halves), delta({}, "stop")),
                stream(delta({"content": "."}, "stop")),
            )
        else:
            first, last = message(said), DONE
        async with serving(first, last) as server:
            session = server.session(stream=is_streamed)
            url = f"sqlite:///{tmp_path}/{number}.db"
            await outlast.Runner.run(agent(tools=[f]), "Go.", session, id="x", backend=url)
    stored = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path))
    assert b"SeCr3t" not in stored
    for form in ENCODED:
        assert form.encode() not in stored


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_no_error_has_the_key_in_any_form(form: str, is_streamed: bool) -> None:
    for answer in (
        body({"message": "x" * 490 + form}, 400),
        body({"error": {"message": "x" * 490 + form, "code": 400}}),
        stream({"error": {"message": "x" * 490 + form, "code": 400}}),
        body({"message": "bad"}, 302, f"location: http://{quote(KEY, safe='')}.invalid/"),
        Answer([b"\xff" + form.encode()]),
    ):
        async with serving(answer) as server, SharedResources() as resources:
            with pytest.raises(ModelError) as raised:
                await server.session(stream=is_streamed).reply(request(), resources)
        assert "SeCr3t" not in unquote(str(raised.value))
        assert form[:12] not in str(raised.value)


# Bodies --------------------------------------------------------------------------------------------------


def request() -> ModelRequest:
    graph = bind_agents(agent(), {}).graph
    new = (outlast.MessageInput(content="Go."),)
    return ModelRequest(graph=graph, agent="a", turn=1, history=(), new=new, idempotency_key="k")


def bomb(prefix: bytes, encoding: str) -> Answer:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    blank = b" " * (1 << 20)
    pieces = [squeeze.compress(prefix), *(squeeze.compress(blank) for _ in range(200)), squeeze.flush()]
    return Answer([b"".join(pieces)], headers=(f"content-encoding: {encoding}",))


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_is_bounded_after_decompression(encoding: str, is_streamed: bool, status: int) -> None:
    kind = "text/event-stream" if is_streamed else "application/json"
    answer = replace(bomb(b"{", encoding), status=status, content_type=kind)
    async with serving(answer) as server, SharedResources() as resources:
        tracemalloc.start()
        try:
            with pytest.raises(MalformedReply if status == 200 else ModelOverloaded):
                await server.session(stream=is_streamed).reply(request(), resources)
            assert tracemalloc.get_traced_memory()[1] < 4 * BODY_MAX
        finally:
            tracemalloc.stop()


async def test_compressed_bodies_are_read_and_unknown_compressions_refused() -> None:
    plain = DONE.pieces[0]
    for encoding, data in (
        ("gzip", gzip.compress(plain)),
        ("gzip", gzip.compress(plain[:9]) + gzip.compress(plain[9:])),
        ("gzip", gzip.compress(plain) + b"more"),
        ("deflate", zlib.compress(plain)),
        ("deflate", zlib.compress(plain)[2:-4]),
        ("identity", plain),
        ("X-GZIP", gzip.compress(plain)),
    ):
        pieces = [data[place : place + 1] for place in range(len(data))]
        async with (
            serving(Answer(pieces, headers=(f"content-encoding: {encoding}",))) as server,
            SharedResources() as resources,
        ):
            reply = await server.session().reply(request(), resources)
        assert reply.entries == (say("done"),)
    for encoding, data, error in (
        ("br", plain, MalformedReply),
        ("gzip, gzip", gzip.compress(gzip.compress(plain)), MalformedReply),
        ("gzip", plain, ModelUnreachable),
    ):
        async with (
            serving(Answer([data], headers=(f"content-encoding: {encoding}",))) as server,
            SharedResources() as resources,
        ):
            with pytest.raises(error):
                await server.session().reply(request(), resources)


EVENTS = (
    b'\xef\xbb\xbf: hello\n\ndata: {"a":1}\n\nevent: x\ndata:{"b":\ndata: 2}\r\n\r\nid: 7\rretry: 5\r\r'
    b"event: error\ndata: broken\n\nevent: error\n\n: ping\n\ndata: \xc3\xa9\n\ndata\n\ndata: [DONE]"
)


@given(cuts=st.lists(st.integers(0, len(EVENTS)), max_size=12))
def test_events_are_the_same_however_their_bytes_are_cut(cuts: list[int]) -> None:
    reader = StreamReader()
    found: list[object] = []
    for begin, end in pairwise([0, *sorted(cuts), len(EVENTS)]):
        found += reader.read(EVENTS[begin:end])
    found += reader.end()
    assert found == [{"a": 1}, {"b": 2}, {"error": "broken"}, {"error": "no message"}, "é", "", "[DONE]"]
