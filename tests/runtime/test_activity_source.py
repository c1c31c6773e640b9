"""Activities as a tool source: the tools contract, and the source's own decisions."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import outlast
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.ports.tools import ToolOutput
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.activity_source import ActivitySource
from outlast.testing.contracts.tools.contract import (
    EFFECTS,
    Refusal,
    Toolbox,
    ToolsCapability,
    ToolsContract,
    ToolsWorld,
)


def source_of(tools: Toolbox) -> ActivitySource:
    activities = [
        outlast.activity(effect=EFFECTS[name], retry_policy_non_retryable=[Refusal])(function)
        for name, function in tools.functions().items()
    ]
    return ActivitySource(*reversed(activities), name="toolbox")


class TestActivitySource(ToolsContract):
    capabilities = frozenset(ToolsCapability)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ToolsWorld]:
        tools = Toolbox()

        def break_down() -> None:
            tools.is_broken = True

        yield ToolsWorld(source_of(tools), break_down)


class Sold(Exception):
    """Said by `offer` when there is nothing left."""


@outlast.activity(name="source_offer", retry_policy_non_retryable=[Sold])
async def offer(kind: str) -> JSON:
    """Return, or raise, something of a kind."""
    match kind:
        case "sold":
            raise Sold("nothing left")
        case "refused":
            raise outlast.ToolFailed("till", "Refused", "no change")
        case "lost":
            raise OSError("connection lost")
    results: dict[str, JSON] = {"none": None, "list": [1, "two"], "text": "plain", "number": 2.5}
    return results[kind]


@outlast.activity(name="source_picture", effect="read")
async def picture() -> list[outlast.TextChunk | outlast.ImageURLChunk]:
    return [outlast.TextChunk(text="look:"), outlast.ImageURLChunk(image_url="https://example.org/a.png")]


@outlast.activity(name="source_thread")
def in_thread(text: str) -> outlast.TextChunk:
    assert threading.current_thread() is not threading.main_thread()
    return outlast.TextChunk(text=text)


@outlast.activity(name="source_odd")
async def odd() -> Any:
    return object()


async def call(tool: Activity[..., Any], **arguments: JSON) -> ToolOutput:
    async with SharedResources() as resources:
        return await ActivitySource(tool).call(tool.definition.name, arguments, resources)


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("none", ToolOutput(content="null")),
        ("list", ToolOutput(content='[1,"two"]', structured=[1, "two"])),
        ("text", ToolOutput(content="plain")),
        ("number", ToolOutput(content="2.5", structured=2.5)),
    ],
)
async def test_a_result_is_text_or_a_structure_and_its_json(kind: str, output: ToolOutput) -> None:
    assert await call(offer, kind=kind) == output


async def test_chunks_are_content() -> None:
    output = await call(picture)
    assert [type(chunk) for chunk in output.content] == [outlast.TextChunk, outlast.ImageURLChunk]
    assert output.structured is None
    assert await call(in_thread, text="hey") == ToolOutput(content=(outlast.TextChunk(text="hey"),))


async def test_a_tool_error_and_a_non_retryable_one_are_what_the_tool_reports() -> None:
    assert await call(offer, kind="sold") == ToolOutput(content="Sold: nothing left", is_error=True)
    refused = await call(offer, kind="refused")
    assert refused.is_error
    assert "no change" in str(refused.content)


async def test_any_other_exception_is_raised_as_it_is() -> None:
    with pytest.raises(OSError, match="connection lost"):
        await call(offer, kind="lost")


async def test_a_result_that_is_not_json_is_a_clear_error() -> None:
    with pytest.raises(outlast.Unserialisable, match="source_odd"):
        await call(odd)


async def test_two_activities_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="two activities called 'source_offer'"):
        ActivitySource(offer, offer)


async def test_an_object_that_is_not_an_activity_is_refused() -> None:
    with pytest.raises(DefinitionError, match="not an activity: function"):
        ActivitySource(call)  # type: ignore[arg-type]


def test_a_source_is_a_value() -> None:
    assert ActivitySource(offer, picture) == ActivitySource(picture, offer)
    assert hash(ActivitySource(offer, picture)) == hash(ActivitySource(picture, offer))
    assert ActivitySource(offer) != ActivitySource(offer, name="other")
    assert ActivitySource(offer) != ActivitySource(picture)
    assert repr(ActivitySource(picture, offer)) == "<tool source activities: source_offer, source_picture>"
