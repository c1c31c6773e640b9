"""Random programs of starts, appends and handoffs, held against a client that keeps the rules its own way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client import errors

from outlast.testing.contracts.examples import few_examples
from outlast.testing.mistral_server import Call, Execute, HandOff, ModelPrompt, Output, Say, Think
from tests.mistral_server.cloud import Cloud, Json, cloud
from tests.mistral_server.streams import rebuilt, shown

pytestmark = pytest.mark.server

ANYONE = HandOff("anyone")

arguments = st.dictionaries(st.sampled_from(["day", "city"]), st.text(max_size=3) | st.integers(), max_size=2)
output = st.one_of(
    st.builds(Say, st.text(min_size=1, max_size=10)),
    st.builds(Think, st.text(min_size=1, max_size=10)),
    st.builds(Call, st.sampled_from(["get_rate", "get_weather"]), arguments),
    st.builds(Execute, st.just("web_search"), arguments, arguments),
)
replies = st.lists(output, min_size=1, max_size=3)
replies_with_handoffs = replies | replies.map(lambda reply: [*reply, ANYONE]) | st.just([ANYONE])


@dataclass(frozen=True)
class Step:
    """One request. `answers` says which of the open calls it answers, in which order."""

    conversation: int
    agent: int
    kind: Literal["start", "append"]
    answers: Literal["all", "backwards", "all but one", "unknown", "none"]
    text: str | None
    streamed: bool


steps = st.builds(
    Step,
    conversation=st.integers(0, 1),
    agent=st.integers(0, 2),
    kind=st.sampled_from(["append", "append", "append", "start"]),
    answers=st.sampled_from(["all", "all", "backwards", "all but one", "unknown", "none"]),
    text=st.none() | st.text(min_size=1, max_size=10),
    streamed=st.booleans(),
)


class Wanderer:
    """A model that gives the drawn replies in turn and hands off to each of its agent's handoffs in turn."""

    def __init__(self, drawn: Sequence[Sequence[Output]]) -> None:
        self._replies: Iterator[Sequence[Output]] = itertools.cycle(drawn)
        self._targets = itertools.count()

    def __call__(self, call: ModelPrompt) -> list[Output]:
        reply = next(self._replies)
        return [self._aimed(call) if output is ANYONE else output for output in reply]

    def _aimed(self, call: ModelPrompt) -> Output:
        if not call.handoffs:
            return Say("Nobody to ask.")
        return HandOff(call.handoffs[next(self._targets) % len(call.handoffs)])


@dataclass
class Transcript:
    """The part of a conversation that a client knows: what it sent and what it received."""

    conversation_id: str
    entries: list[Json] = field(default_factory=list)

    @property
    def open_calls(self) -> list[str]:
        """Calls behind the last handoff for which no result was sent."""
        sent = {entry["tool_call_id"] for entry in self.entries if entry["type"] == "function.result"}
        last = max(
            (i for i, entry in enumerate(self.entries) if entry["type"] == "agent.handoff"), default=-1
        )
        calls = (entry for entry in self.entries[last + 1 :] if entry["type"] == "function.call")
        return [call["tool_call_id"] for call in calls if call["tool_call_id"] not in sent]


def inputs_of(step: Step, open_calls: list[str]) -> tuple[list[Json], bool]:
    """Return the inputs of a step, and whether the rules allow them."""
    answered = {
        "all": open_calls,
        "backwards": open_calls[::-1],
        "all but one": open_calls[1:],
        "unknown": ["zzzzzzzzz"],
        "none": [],
    }[step.answers]
    inputs: list[Json] = [{"type": "function.result", "tool_call_id": i, "result": "done"} for i in answered]
    if step.text is not None:
        inputs.append({"type": "message.input", "role": "user", "content": step.text})
    return inputs, sorted(answered) == sorted(open_calls)


async def send(world: Cloud, step: Step, target: Json, inputs: list[Json]) -> tuple[str, list[Json]]:
    """Send a start or an append; return the conversation and the outputs in the form that streams have."""
    conversations = world.sdk.beta.conversations
    verb = "append" if "conversation_id" in target else "start"
    if not step.streamed:
        response = await getattr(conversations, f"{verb}_async")(inputs=inputs, **target)
        return response.conversation_id, [
            shown(output.model_dump(mode="json")) for output in response.outputs
        ]
    async with await getattr(conversations, f"{verb}_stream_async")(inputs=inputs, **target) as stream:
        events: list[Any] = [event.data async for event in stream]
    return events[0].conversation_id, rebuilt(events)


def known_to_client(entry: Json) -> Json:
    """Reduce an entry of the history to what the client can know: not the ids of its own inputs."""
    if entry["type"] == "message.input":
        return {"type": "message.input", "role": entry["role"], "content": entry["content"]}
    if entry["type"] == "function.result":
        return {name: entry[name] for name in ("type", "tool_call_id", "result")}
    return shown(entry)


async def run_step(world: Cloud, step: Step, agents: list[str], transcripts: list[Transcript]) -> None:
    if step.kind == "start" or not transcripts:
        text = step.text or "Hello"
        inputs: list[Json] = [{"type": "message.input", "role": "user", "content": text}]
        conversation_id, answered = await send(world, step, {"agent_id": agents[step.agent]}, inputs)
        transcripts.append(Transcript(conversation_id, [*inputs, *answered]))
        return
    transcript = transcripts[step.conversation % len(transcripts)]
    inputs, allowed = inputs_of(step, transcript.open_calls)
    target = {"conversation_id": transcript.conversation_id}
    if allowed:
        _, answered = await send(world, step, target, inputs)
        transcript.entries += [*inputs, *answered]
    else:
        with pytest.raises(errors.SDKError) as raised:
            await send(world, step, target, inputs)
        assert raised.value.status_code == 400


@few_examples(20)
@given(
    drawn=st.lists(replies_with_handoffs, max_size=4),
    last=replies,
    program=st.lists(steps, min_size=1, max_size=8),
    at_once=st.booleans(),
)
async def test_the_history_is_what_was_sent_and_replied_and_only_the_rules_decide_what_is_refused(
    drawn: list[list[Output]], last: list[Output], program: list[Step], at_once: bool
) -> None:
    async with cloud(Wanderer([*drawn, last]), inputs_visible_at_once=at_once) as world:
        agents = [await world.agent(f"agent {number}") for number in range(3)]
        for position, agent in enumerate(agents[:2]):
            others = [agents[position - 1], agents[position + 1]]
            await world.sdk.beta.agents.update_async(agent_id=agent, handoffs=others)
        transcripts: list[Transcript] = []
        for step in program:
            await run_step(world, step, agents, transcripts)
        for transcript in transcripts:
            history = await world.history(transcript.conversation_id)
            assert [known_to_client(entry) for entry in history] == transcript.entries
            assert len({entry["id"] for entry in history}) == len(history)
        assert list(world.server.conversations) == [transcript.conversation_id for transcript in transcripts]
