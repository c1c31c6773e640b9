"""Remote agents: found by what they are, made when there are none, kept for all conversations of a worker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from durable_agents.adapters.mistral.client import json_of
from durable_agents.adapters.mistral.definitions import agent_fingerprint, definition, graph_fingerprint
from durable_agents.adapters.mistral.wire import plain
from durable_agents.core.agents import AgentGraph, AgentSpec
from durable_agents.core.errors import MalformedReply

FINGERPRINT = "durable_agents_fingerprint"
"""The metadata key that says which definition a remote agent was made from."""

_KEPT_GRAPHS = 256
_PAGE_SIZE = 100


class RemoteAgents:
    """The remote agents of graphs, by graph and name.

    An agent with an `id` is used as it is. Any other is looked up by its name and the fingerprint of its
    definition, and made if there is none; nothing is ever deleted. Asked for at the same time, a graph is
    looked up once.
    """

    def __init__(self, agents: Any) -> None:
        self._agents = agents
        self._ids: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def ids(self, graph: AgentGraph) -> dict[str, str]:
        """Return the id of each agent of the graph, with handoffs in place."""
        key = graph_fingerprint(graph)
        async with self._lock:
            known = self._ids.get(key)
            if known is None:
                known = self._ids[key] = await self._find_or_create(graph)
            self._ids.move_to_end(key)
            if len(self._ids) > _KEPT_GRAPHS:
                self._ids.popitem(last=False)
            return known

    def forget(self, graph: AgentGraph) -> None:
        """Look these agents up again when they are next asked for."""
        self._ids.pop(graph_fingerprint(graph), None)

    async def _find_or_create(self, graph: AgentGraph) -> dict[str, str]:
        ids: dict[str, str] = {}
        ours: dict[str, dict[str, Any]] = {}
        for name, agent in graph.agents.items():
            if agent.id is None:
                ours[name] = await self._one(agent, agent_fingerprint(graph, name))
            ids[name] = agent.id if agent.id is not None else ours[name]["id"]
        # Handoffs are ids and may go round in circles: they can only be set once every agent has one.
        for name, remote in ours.items():
            wanted = [ids[target] for target in graph[name].handoffs]
            if sorted(remote.get("handoffs") or ()) != sorted(wanted):
                await json_of(
                    self._agents.update_async(agent_id=remote["id"], handoffs=wanted or None, retries=None)
                )
        return ids

    async def _one(self, agent: AgentSpec, fingerprint: str) -> dict[str, Any]:
        found = await self._find(agent.name, fingerprint)
        if found is not None:
            return found
        metadata = {**agent.metadata, FINGERPRINT: fingerprint}
        return _agent(
            await json_of(
                self._agents.create_async(**plain(definition(agent)), metadata=metadata, retries=None)
            )
        )

    async def _find(self, name: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the oldest agent with this name and fingerprint."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            # Without `metadata` the SDK sends its own marker for "unset" as a filter.
            after = {} if token is None else {"page_token": token}
            page = await json_of(
                self._agents.list_pages_async(
                    name=name, page_size=_PAGE_SIZE, metadata={}, retries=None, **after
                )
            )
            for item in page.get("data") or ():
                if item.get("name") == name and (item.get("metadata") or {}).get(FINGERPRINT) == fingerprint:
                    found.append(_agent(item))
            token = page.get("next_page_token")
            if not token:
                break
        return min(found, key=lambda one: (one.get("created_at") or "", one["id"]), default=None)


def _agent(wire: Any) -> dict[str, Any]:
    if not isinstance(wire, dict) or not isinstance(wire.get("id"), str):
        raise MalformedReply("the API returned an agent without an id")
    return wire
