"""Tags on Temporal are a search attribute, which a namespace must know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.client import Client
from temporalio.common import TypedSearchAttributes
from typer.testing import CliRunner

import outlast
from outlast.adapters.temporal.search_attributes import attributes_of, is_registered, keyword_of, tags_in
from outlast.adapters.temporal.visibility import quoted
from outlast.cli.commands import app
from outlast.core.errors import DefinitionError, ExecutionNotFound
from outlast.core.tags import TAG_CHARACTERS_MAX, TAGS_MAX
from tests.adapters.temporal_server import new_namespace, obstacle_of, shared_server

pytestmark = pytest.mark.server

texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=TAG_CHARACTERS_MAX)
tags = st.dictionaries(texts.filter(bool), texts, max_size=TAGS_MAX)

SETUP = "outlast temporal setup"


@outlast.workflow.define(name="temporal_tagged")
class Tagged:
    """Tags itself, and waits for nothing."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        outlast.workflow.tag({"team": "blue"})
        return "tagged"


@pytest.fixture
async def namespace() -> str:
    return await new_namespace(shared_server())


@pytest.fixture
def url(namespace: str) -> str:
    return f"temporal://{shared_server()}/{namespace}"


@pytest.fixture
async def backend(url: str) -> AsyncIterator[outlast.Backend]:
    async with outlast.connect(url) as backend:
        yield backend


async def set_up(url: str) -> str:
    """Run the command; return what it says."""
    done = await asyncio.to_thread(CliRunner().invoke, app, ["temporal", "setup", "--backend", url])
    assert done.exit_code == 0, done.output
    assert not done.stdout
    return done.stderr


@given(tags)
def test_any_tags_can_be_read_from_the_search_attribute(tags: dict[str, str]) -> None:
    assert tags_in(attributes_of(tags)) == tags


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_two_tags_never_have_one_keyword(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (keyword_of(*one) == keyword_of(*other)) == (one == other)
    assert not set("'\"\\") & set(keyword_of(*one))
    assert quoted(keyword_of(*one)) == f"'{keyword_of(*one)}'"


def test_an_execution_without_tags_has_no_search_attribute() -> None:
    assert attributes_of({}) == TypedSearchAttributes.empty


async def test_whoever_uses_tags_without_the_attribute_is_sent_to_the_command(
    backend: outlast.Backend, url: str
) -> None:
    with pytest.raises(outlast.NotSupported, match=SETUP):
        await backend.start(Tagged, id="with", tags={"team": "blue"})
    with pytest.raises(ExecutionNotFound):
        await backend.get("with")
    with pytest.raises(outlast.NotSupported, match=SETUP):
        await backend.list(outlast.Where(tags={"team": "blue"}))
    execution = await backend.start(Tagged, id="without")
    with pytest.raises(outlast.NotSupported, match=SETUP):
        await execution.tag({"team": "blue"})
    assert (await execution.describe()).tags == {}
    async with outlast.connect("memory:") as elsewhere:
        exported = await (await elsewhere.start(Tagged, tags={"team": "blue"})).export()
    with pytest.raises(outlast.NotSupported, match=SETUP):
        await backend.import_(exported, id="imported")
    await set_up(url)
    assert (await (await backend.import_(exported, id="imported")).describe()).tags == {"team": "blue"}


async def test_the_command_registers_the_attribute_once(
    backend: outlast.Backend, url: str, namespace: str
) -> None:
    client = await Client.connect(shared_server(), namespace=namespace)
    assert not await is_registered(client)
    assert "is registered" in await set_up(url)
    assert await is_registered(client)
    assert "registered already" in await set_up(url)
    execution = await backend.start(Tagged, id="e", tags={"team": "red"})
    assert (await execution.describe()).tags == {"team": "red"}


async def test_code_that_tags_waits_for_the_attribute(backend: outlast.Backend, url: str) -> None:
    execution = await backend.start(Tagged, id="e")
    async with backend.worker([Tagged]):
        error = await obstacle_of(execution)
        assert "OutlastTags" in error
        assert SETUP in error
        await set_up(url)
        async with asyncio.timeout(60):
            assert await execution.result() == "tagged"
    assert (await execution.describe()).tags == {"team": "blue"}


async def test_an_execution_that_has_ended_keeps_its_tags(backend: outlast.Backend, url: str) -> None:
    await set_up(url)
    execution = await backend.start(Tagged, id="e")
    async with backend.worker([Tagged]):
        await execution.result()
    with pytest.raises(outlast.NotSupported, match="at its end"):
        await execution.tag({"team": "red"})
    with pytest.raises(DefinitionError, match="at most 20"):
        await execution.tag({str(number): "" for number in range(TAGS_MAX + 1)})


async def test_the_command_is_for_temporal_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    async with outlast.connect(url):
        pass
    done = await asyncio.to_thread(CliRunner().invoke, app, ["temporal", "setup", "--backend", url])
    assert done.exit_code == 1
    assert "is not a Temporal service" in done.stderr
