"""Agents: versions, aliases, filters and pages, as the SDK sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client import errors

from outlast.testing.contracts.examples import few_examples
from outlast.testing.mistral_server import Say
from tests.mistral_server.cloud import RATE_TOOL, cloud

pytestmark = pytest.mark.server


def silent(_: object) -> list[Say]:
    return [Say("unused")]


async def test_an_agent_is_returned_as_it_was_created() -> None:
    async with cloud(silent) as world:
        agents = world.sdk.beta.agents
        created = await agents.create_async(
            model="mistral-medium-latest",
            name="rates-agent",
            description="Finds interest rates.",
            tools=[{"type": "web_search"}, RATE_TOOL],
            completion_args={"temperature": 0.1},
            metadata={"owner": "run-17"},
        )
        assert (await agents.get_async(agent_id=created.id)) == created
        assert (created.version, created.versions, created.source) == (0, [0], "api")
        assert created.id.startswith("ag_")
        assert len(created.id) == len("ag_") + 32
        assert world.server.agents[created.id]["tools"][0] == {"type": "web_search"}


async def test_an_update_makes_a_new_version_and_keeps_the_old_one() -> None:
    async with cloud(silent) as world:
        agents = world.sdk.beta.agents
        agent_id = await world.agent("a", instructions="first", description="kept")
        updated = await agents.update_async(agent_id=agent_id, instructions="second", version_message="why")
        assert (updated.version, updated.versions) == (1, [0, 1])
        assert (updated.instructions, updated.description) == ("second", "kept")
        first = await agents.get_version_async(agent_id=agent_id, version="0")
        assert (first.instructions, first.version) == ("first", 0)
        assert [agent.version for agent in await agents.list_versions_async(agent_id=agent_id)] == [0, 1]
        switched = await agents.update_version_async(agent_id=agent_id, version=0)
        assert (switched.version, switched.instructions) == (0, "first")
        after = await agents.update_async(agent_id=agent_id, name="b")
        assert (after.version, after.instructions) == (2, "first")


async def test_an_update_to_none_clears_and_an_update_without_a_field_keeps_it() -> None:
    async with cloud(silent) as world:
        agent_id = await world.agent("a", instructions="first", tools=[RATE_TOOL])
        cleared = await world.sdk.beta.agents.update_async(agent_id=agent_id, instructions=None)
        assert cleared.instructions is None
        assert len(cleared.tools or []) == 1


async def test_an_alias_names_a_version_until_it_is_deleted() -> None:
    async with cloud(silent) as world:
        agents = world.sdk.beta.agents
        agent_id = await world.agent("a", instructions="first")
        await agents.update_async(agent_id=agent_id, instructions="second")
        alias = await agents.create_version_alias_async(agent_id=agent_id, alias="stable", version=0)
        assert (alias.alias, alias.version) == ("stable", 0)
        assert (await agents.get_async(agent_id=agent_id, agent_version="stable")).instructions == "first"
        assert (await agents.get_async(agent_id=agent_id, agent_version=1)).instructions == "second"
        await agents.create_version_alias_async(agent_id=agent_id, alias="stable", version=1)
        assert (await agents.get_async(agent_id=agent_id, agent_version="stable")).instructions == "second"
        assert len(await agents.list_version_aliases_async(agent_id=agent_id)) == 1
        await agents.delete_version_alias_async(agent_id=agent_id, alias="stable")
        with pytest.raises(errors.SDKError) as raised:
            await agents.get_async(agent_id=agent_id, agent_version="stable")
        assert raised.value.status_code == 404


async def test_agents_are_found_by_name_id_text_and_metadata() -> None:
    async with cloud(silent) as world:
        agents = world.sdk.beta.agents
        first = await world.agent("rates", metadata={"run": "1", "role": "front"})
        second = await world.agent("weather", description="Talks of rates too", metadata={"run": "1"})

        async def found(**filters: object) -> list[str]:
            response = await agents.list_pages_async(**({"metadata": {}} | filters))
            assert response is not None
            return [agent.id for agent in response.result.data]

        assert await found() == [first, second]
        assert await found(name="rates") == [first]
        assert await found(search="RATES") == [first, second]
        assert await found(id=second) == [second]
        assert await found(metadata={"run": "1"}) == [first, second]
        assert await found(metadata={"run": "1", "role": "front"}) == [first]
        assert await found(metadata={"run": "2"}) == []
        assert await found(deployment_chat=True) == []
        assert await found(sources=["api"]) == [first, second]
        assert await found(sources=["playground"]) == []


async def test_the_sentinel_that_the_sdk_sends_for_no_metadata_is_refused() -> None:
    async with cloud(silent) as world:
        with pytest.raises(errors.SDKError) as raised:
            await world.sdk.beta.agents.list_pages_async()
        assert raised.value.status_code == 400
        assert '"code":3001' in raised.value.body


async def test_a_deleted_agent_is_gone() -> None:
    async with cloud(silent) as world:
        agent_id = await world.agent("a")
        await world.sdk.beta.agents.delete_async(agent_id=agent_id)
        with pytest.raises(errors.SDKError) as raised:
            await world.sdk.beta.agents.get_async(agent_id=agent_id)
        assert raised.value.status_code == 404
        assert world.server.agents == {}


@few_examples(10)
@given(count=st.integers(0, 12), page_size=st.integers(1, 5))
async def test_pages_hold_every_agent_once_and_in_order(count: int, page_size: int) -> None:
    async with cloud(silent) as world:
        created = [await world.agent(f"agent {number}") for number in range(count)]
        paged: list[str] = []
        response = await world.sdk.beta.agents.list_pages_async(page_size=page_size, metadata={})
        while response is not None:
            assert len(response.result.data) <= page_size
            paged += [agent.id for agent in response.result.data]
            response = await response.next()
        assert paged == created
        listed = await world.http.get("/v1/agents", params={"page": 1, "page_size": page_size})
        assert [agent["id"] for agent in listed.json()] == created[page_size : 2 * page_size]
