"""Identifiers, times and token counts are the same in every run."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.testing.mistral_server import Call, Execute, HandOff, Output, Say, ScriptedModel
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from tests.mistral_server.cloud import Cloud, Json, calls_of, cloud, types_of

pytestmark = pytest.mark.server

SHAPES = {
    "message.input": r"msg_[0-9a-f]{32}",
    "message.output": r"msg_[0-9a-f]{32}",
    "function.call": r"fc_[0-9a-f]{32}",
    "function.result": r"fr_[0-9a-f]{32}",
    "tool.execution": r"tool_exec_[0-9a-f]{32}",
    "agent.handoff": r"handoff_[0-9a-f]{32}",
}


async def everything(world: Cloud) -> tuple[list[Json], list[Any]]:
    back = await world.agent("back")
    front = await world.agent("front", handoffs=[back])
    started = await world.sdk.beta.conversations.start_async(agent_id=front, inputs="Hello there")
    finished = await world.answer(started)
    return await world.history(started.conversation_id), [started, finished]


def script() -> ScriptedModel:
    back: list[list[Output]] = [
        [Execute("web_search"), Call("f"), Call("f", call_id="abcABC123")],
        [Say("Bye.")],
    ]
    return ScriptedModel({"front": [[HandOff("back")]], "back": back})


async def test_the_same_program_gets_the_same_answers_and_another_seed_other_identifiers() -> None:
    async with cloud(script()) as first, cloud(script()) as second, cloud(script(), seed=1) as third:
        entries, responses = await everything(first)
        assert await everything(second) == (entries, responses)
        others, _ = await everything(third)
        assert types_of(others) == types_of(entries)
        assert not {entry["id"] for entry in others} & {entry["id"] for entry in entries}


async def test_identifiers_have_the_documented_shapes() -> None:
    async with cloud(script()) as world:
        entries, [started, _] = await everything(world)
        for entry in entries:
            assert re.fullmatch(SHAPES[entry["type"]], entry["id"])
        assert re.fullmatch(r"conv_[0-9a-f]{32}", started.conversation_id)
        generated, given_by_model = (call_id for call_id, _ in calls_of(started))
        assert re.fullmatch(r"[A-Za-z0-9]{9}", generated)
        assert given_by_model == "abcABC123"
        assert len({entry["id"] for entry in entries}) == len(entries)
        times = [datetime.fromisoformat(entry["created_at"]) for entry in entries]
        assert times == sorted(times)


@given(
    st.lists(st.tuples(st.sampled_from(["msg", "fc"]), st.sampled_from(["a", "b"])), max_size=50),
    st.integers(),
)
def test_no_identifier_is_handed_out_twice(wanted: list[tuple[str, str]], seed: int) -> None:
    identifiers = Identifiers(seed)
    handed_out = [identifiers.new(prefix, scope) for prefix, scope in wanted]
    handed_out += [identifiers.tool_call(scope) for _, scope in wanted]
    assert len(set(handed_out)) == len(handed_out)


@given(st.integers(1, 200))
def test_time_only_moves_forward(readings: int) -> None:
    clock = StandInClock()
    times = [clock.now() for _ in range(readings)]
    assert times == sorted(set(times))


async def test_identical_content_costs_the_same() -> None:
    async with cloud(lambda call: [Say("The same answer.")]) as world:
        start = world.sdk.beta.conversations.start_async
        first = await start(model="m", inputs="The same question.")
        second = await start(model="m", inputs="The same question.")
        longer = await start(model="m", inputs="The same question. And then some.")
        assert first.usage == second.usage
        assert (longer.usage.prompt_tokens or 0) > (first.usage.prompt_tokens or 0)
