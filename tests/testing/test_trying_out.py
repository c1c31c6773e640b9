"""The session that tries an agent out, and keeping real models out of a test."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # untyped
from pydantic import BaseModel, Field

import outlast
from outlast.adapters.scripted.made_up import made_up
from outlast.testing import ModelCallForbidden, ScriptedSession, TestSession, forbid_model_calls, override


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: Annotated[str, Field(min_length=3, max_length=5)]
    age: Annotated[int, Field(gt=3, le=90, multiple_of=5)]
    weight: Annotated[float, Field(gt=0, lt=1)]
    children: list[Tree] = []
    parent: Tree | None = None


seen: dict[str, Any] = {}


def plant(
    tree: Tree,
    colour: Colour,
    day: date,
    at: datetime,
    every: timedelta,
    key: uuid.UUID,
    kind: Literal["oak", "elm"],
    notes: dict[str, int],
    maybe: int | None,
    pair: tuple[int, str],
) -> str:
    """Plant a tree."""
    seen.update(locals())
    return "planted"


def water(litres: float = 2.5) -> str:
    """Water it."""
    seen["litres"] = litres
    return "watered"


def sell() -> str:
    """Sell it."""
    seen["sold"] = True
    return "sold"


async def test_it_calls_every_tool_of_every_agent_once_and_answers() -> None:
    seen.clear()
    shop = outlast.Agent(model="m", name="shop", tools=[sell])
    garden = outlast.Agent(model="m", name="garden", tools=[plant, water], handoffs=[shop])
    result = await outlast.Runner.run(garden, "Go.", TestSession())
    assert result.text == "done"
    assert result.agent is shop
    calls = [entry.name for entry in result.entries if isinstance(entry, outlast.FunctionCall)]
    assert calls == ["plant", "water", "transfer_to_shop", "sell"]
    assert isinstance(seen["tree"], Tree)
    assert (seen["colour"], seen["kind"], seen["litres"], seen["sold"]) == (Colour.RED, "oak", 2.5, True)
    assert seen["at"].tzinfo == UTC or seen["at"].utcoffset() == timedelta(0)


async def test_its_answer_fits_the_output_type() -> None:
    agent = outlast.Agent(model="m", name="garden", output_type=Tree)
    assert isinstance((await outlast.Runner.run(agent, "Go.", TestSession())).output, Tree)


@given(low=st.integers(-50, 50), width=st.integers(0, 50), step=st.integers(1, 7), exclusive=st.booleans())
def test_made_up_numbers_keep_their_bounds(low: int, width: int, step: int, exclusive: bool) -> None:
    high = low + width + 2 * step
    lower = "exclusiveMinimum" if exclusive else "minimum"
    whole = {"type": "integer", lower: low, "maximum": high, "multipleOf": step}
    broken = {"type": "number", lower: low, "exclusiveMaximum": high}
    for schema in (whole, broken):
        Draft202012Validator(schema).validate(made_up(schema))


async def test_a_session_stands_in_for_that_of_a_program() -> None:
    def real() -> outlast.LocalSession:
        return outlast.LocalSession(api_key="none", server_url="http://127.0.0.1:1")

    agent = outlast.Agent(model="m", name="garden", tools=[sell])
    with forbid_model_calls():
        with pytest.raises(ModelCallForbidden, match="by LocalSession"):
            await outlast.Runner.run(agent, "Go.", real())
        with override(session=TestSession(answer="tried")):
            assert (await outlast.Runner.run(agent, "Go.", real())).text == "tried"
            with override(session=ScriptedSession({"garden": ["played"]})):
                assert (await outlast.Runner.run(agent, "Go.", real())).text == "played"
            assert (await outlast.Runner.run(agent, "Go.", real(), id="q", backend="memory:")).text == "tried"
