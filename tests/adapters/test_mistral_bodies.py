"""The bodies of requests are those that Mistral's SDK sends, except for the order of their keys.

Messages of completions are without two fields that the SDK adds, since other servers do not know them:
`prefix` where it is false, and the `index` of a call.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client import Mistral
from mistralai.client.errors import MistralError
from pydantic import BaseModel

import outlast
from outlast.adapters.mistral.chat import request_of
from outlast.adapters.mistral.client import encoded
from outlast.adapters.mistral.wire import inputs_of
from outlast.core.entries import Entry, entries
from outlast.runtime.definitions.agent_binding import bind_agents
from outlast.testing.contracts.examples import few_examples

SENT: list[httpx2.Request] = []


def _answer(request: httpx2.Request) -> httpx2.Response:
    SENT.append(request)
    return httpx2.Response(200, json={})


@pytest.fixture(scope="module")
def sdk() -> Iterator[Mistral]:
    # Without a client for async calls the SDK makes one, and closes it on whatever loop collects it.
    unused = httpx2.AsyncClient()
    with httpx2.Client(transport=httpx2.MockTransport(_answer)) as client:
        yield Mistral(api_key=lambda: "k", server_url="http://x", client=client, async_client=unused)


def sent_by(send: Callable[..., object], **body: Any) -> str:
    """Return the body that the SDK sends, with sorted keys."""
    with contextlib.suppress(MistralError):
        send(**body)
    return _sorted(SENT.pop().content)


def _sorted(body: bytes) -> str:
    data = json.loads(body)
    for message in data.get("messages", ()):
        if message.get("prefix") is False:
            del message["prefix"]
        for call in message.get("tool_calls", ()):
            call.pop("index", None)
    return json.dumps(data, sort_keys=True)


text = st.text(max_size=5)
more = st.dictionaries(st.sampled_from(["more", "_x"]), st.none() | st.booleans() | text, max_size=1)
texts = st.builds(lambda text, more: {"type": "text", "text": text, **more}, text, more)
images = st.builds(
    lambda url, more: {"type": "image_url", "image_url": url, **more},
    text | st.builds(lambda url: {"url": url, "detail": "low"}, text),
    more,
)
documents = st.builds(
    lambda url, name: {"type": "document_url", "document_url": url, "document_name": name},
    text,
    st.none() | text,
)
thoughts = st.builds(
    lambda texts, closed: {"type": "thinking", "thinking": texts, **closed},
    st.lists(st.builds(lambda text: {"type": "text", "text": text}, text), min_size=1, max_size=2),
    st.sampled_from([{}, {"closed": True}]),
)
user_content = text | st.lists(texts | images | documents, min_size=1, max_size=3)
model_content = text | st.lists(texts | thoughts, min_size=1, max_size=3)
inputs = st.builds(
    lambda content, role, more: {"type": "message.input", "role": role, "content": content, **more},
    user_content,
    st.sampled_from(["user", "assistant"]),
    st.sampled_from([{}, {"prefix": True}, {"id": "m1"}]),
)
outputs = st.builds(
    lambda content, more: {"type": "message.output", "content": content, **more},
    model_content,
    st.sampled_from([{}, {"id": "m1", "agent_id": "a1", "model": "m"}, {"unheard_of": [1, None]}]),
)


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    call_id = draw(st.text("abc123", min_size=9, max_size=9))
    arguments = json.dumps(draw(st.dictionaries(text, text, max_size=2)))
    call = {"type": "function.call", "tool_call_id": call_id, "name": "f", "arguments": arguments}
    return [call, {"type": "function.result", "tool_call_id": call_id, "result": draw(text)}]


@st.composite
def conversations(draw: st.DrawFn) -> Sequence[Entry]:
    begin = draw(st.lists(inputs, min_size=1, max_size=2))
    turns = draw(st.lists(st.one_of(outputs.map(lambda one: [one]), calls()), max_size=4))
    return entries.validate_python([*begin, *(entry for turn in turns for entry in turn)])


class Forecast(BaseModel):
    """A forecast."""

    rain: bool


def look_up(city: str, days: int = 3, unit: str | None = None) -> str:
    """Return the weather."""
    return city


ARGUMENTS = [
    {},
    {"temperature": 0.5, "stop": ["x"], "metadata": {"a": 1}, "tool_choice": "any", "safe_prompt": True},
    {"max_tokens": 5, "random_seed": 7, "top_p": 0.3, "parallel_tool_calls": False, "stop": "x"},
    {"response_format": {"type": "json_object"}, "presence_penalty": None},
]


@given(conversation=conversations(), arguments=st.sampled_from(ARGUMENTS), has_output=st.booleans())
@few_examples(60)
def test_the_body_of_a_completion_is_the_one_of_the_sdk(
    sdk: Mistral, conversation: Sequence[Entry], arguments: dict[str, Any], has_output: bool
) -> None:
    other = outlast.Agent(model="m", name="other", description="Another.")
    agent = outlast.Agent(
        model="m",
        name="a",
        instructions="é",
        tools=[look_up],
        handoffs=[other],
        completion_args=arguments,
        output_type=Forecast if has_output else None,
    )
    body = request_of(bind_agents(agent, {}).graph, "a", conversation)
    for send, is_stream in ((sdk.chat.complete, False), (sdk.chat.stream, True)):
        ours = encoded({**body, "stream": is_stream})
        assert b'"prefix":false' not in ours
        assert b'"index":' not in ours
        assert _sorted(ours) == sent_by(send, **body)


@given(conversation=conversations())
@few_examples(60)
def test_the_inputs_of_a_conversation_are_those_of_the_sdk(
    sdk: Mistral, conversation: Sequence[Entry]
) -> None:
    made = inputs_of(conversation)
    for send, is_stream in (
        (sdk.beta.conversations.start, False),
        (sdk.beta.conversations.start_stream, True),
    ):
        own = {"inputs": made, "agent_id": "ag_1", "stream": is_stream, "metadata": {"k": "v"}}
        assert _sorted(encoded(own)) == sent_by(send, inputs=made, agent_id="ag_1", metadata={"k": "v"})
