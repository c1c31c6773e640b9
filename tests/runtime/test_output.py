"""Structured output: the schema that is sent, accepted answers, and the faults that the model gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # untyped
from pydantic import BaseModel
from pydantic_core import to_json

import outlast
from outlast.adapters.scripted import handoff, say
from outlast.core.errors import DefinitionError
from outlast.core.events import AnswerRejectedData
from outlast.core.json import decode
from outlast.runtime.definitions.output_type import OutputType
from outlast.testing.contracts.durability.stage import data_of


class Score(BaseModel):
    value: int


class Tree(BaseModel):
    name: str
    branches: list[Tree] = []


@dataclass
class Place:
    city: str
    since: date


TYPES: list[Any] = [
    Score,
    Tree,
    Place,
    dict[str, int],
    list[Score],
    list[Tree],
    int,
    bool,
    date,
    Score | Place,
    Literal["yes", "no"],
    Annotated[int, Gt(0)],
    tuple[int, str],
    int | None,
]


@given(st.data())
def test_every_value_of_a_type_fits_the_schema_and_is_read_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(TYPES))
    output = OutputType.of(kind, "a")
    assert output is not None
    assert output.schema is not None
    assert output.schema["type"] == "object"
    value = data.draw(values(kind))
    dumped = decode(to_json(value))
    sent = {"value": dumped} if output.is_wrapped else dumped
    Draft202012Validator(output.schema).validate(sent)
    text = to_json(sent).decode()
    for written in (text, f"  {text}\n", f"```json\n{text}\n```", f"```\n{text}\n```\n"):
        assert output.parse(written) == value


def values(kind: Any) -> st.SearchStrategy[Any]:
    if kind is Tree:
        return st.recursive(
            st.builds(Tree, name=st.text(max_size=3)),
            lambda inner: st.builds(Tree, name=st.text(max_size=3), branches=st.lists(inner, max_size=2)),
            max_leaves=4,
        )
    if kind == list[Tree]:
        return st.lists(values(Tree), max_size=2)
    if kind == Annotated[int, Gt(0)]:
        return st.integers(min_value=1)
    return st.from_type(kind)


@given(
    st.sampled_from([kind for kind in TYPES if kind != dict[str, int]]),
    st.text() | st.sampled_from(["{}", "[]", '{"value": NaN}', "null", '{"x": 1}', '{"value": 1, "x": 1.5}']),
)
def test_any_other_text_is_refused_with_a_reason(kind: Any, text: str) -> None:
    output = OutputType.of(kind, "a")
    assert output is not None
    if kind is Score and text.startswith('{"value": 1'):
        return  # An answer may have fields that pydantic ignores by default.
    with pytest.raises(ValueError, match=r"It |not JSON compliant"):
        output.parse(text)


def test_text_is_taken_as_it_is() -> None:
    output = OutputType.of(str, "a")
    assert output is not None
    assert output.schema is None
    assert output.parse('"quoted"') == '"quoted"'


class Opaque:
    pass


@pytest.mark.parametrize("kind", [Opaque, lambda: None, "NoSuchType"])
async def test_a_type_without_a_schema_is_refused_before_anything_happens(kind: Any) -> None:
    with pytest.raises(DefinitionError, match="'scorer' has no JSON schema"):
        await outlast.Runner.run(
            outlast.Agent(model="m", name="scorer", output_type=kind),
            "go",
            outlast.ScriptedSession(lambda request: pytest.fail("was asked")),
        )


def scorer(**more: Any) -> outlast.Agent[Any, Score]:
    return outlast.Agent(model="m", name="scorer", output_type=Score, **more)


async def test_the_output_has_the_type_of_the_agent() -> None:
    result: outlast.RunResult[Score] = await outlast.Runner.run(
        scorer(), "go", outlast.ScriptedSession({"scorer": [say('{"value": 3}')]})
    )
    score: int = result.output.value  # checked by mypy
    assert score == 3
    plain = outlast.Agent(model="m", name="plain")
    assert (await outlast.Runner.run(plain, "go", outlast.ScriptedSession({"plain": ["hi"]}))).output == "hi"


async def test_the_model_gets_the_fault_and_may_answer_again() -> None:
    session = outlast.ScriptedSession(
        {"scorer": [say("three"), say('{"value": "many"}'), say('{"value": 3}')]}
    )
    result = await outlast.Runner.run(scorer(), "go", session)
    assert (result.output, result.turns) == (Score(value=3), 3)
    faults = [str(entry.content) for entry in result.entries if isinstance(entry, outlast.MessageInput)][1:]
    assert all(one.startswith("This answer cannot be used.") for one in faults)
    assert "Invalid JSON" in faults[0]
    assert "value: Input should be a valid integer" in faults[1]


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_the_model_may_answer_again_within_a_limit(retries: int) -> None:
    session = outlast.ScriptedSession(lambda request: "three")
    with pytest.raises(outlast.InvalidOutput) as invalid:
        await outlast.Runner.run(scorer(output_retries=retries), "go", session)
    assert invalid.value.attempts == retries + 1
    with pytest.raises(DefinitionError, match="output_retries"):
        scorer(output_retries=-1)


async def test_max_turns_bounds_repeated_answers_too() -> None:
    session = outlast.ScriptedSession(lambda request: "three")
    with pytest.raises(outlast.MaxTurnsExceeded):
        await outlast.Runner.run(scorer(output_retries=9), "go", session, max_turns=3)


async def test_after_a_handoff_the_output_type_is_that_of_the_agent_that_answers() -> None:
    front = outlast.Agent(model="m", name="front", handoffs=[scorer()])
    session = outlast.ScriptedSession(
        {"front": [handoff("scorer")], "scorer": [say("no"), say('{"value": 7}')]}
    )
    assert (await outlast.Runner.run(front, "go", session)).output == Score(value=7)


async def test_rejections_are_in_the_stream_and_survive_a_replay() -> None:
    @outlast.workflow.define(name="output.scored")
    class Scored:
        @outlast.workflow.entrypoint
        async def run(self) -> int:
            session = outlast.ScriptedSession({"scorer": [say("three"), say('{"value": 3}')]})
            return (await outlast.Runner.run(scorer(), "go", session)).output.value

    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Scored)
        async with backend.worker([Scored], max_cached_executions=0):
            assert await execution.result() == 3
        [rejected] = data_of([event async for event in execution.events()], AnswerRejectedData)
    assert rejected.agent == "scorer"
    assert "Invalid JSON" in rejected.reason
