"""Remote agents: found by what they are, made when there are none, kept for all conversations of a worker.

A conversation is pinned to the version of the agent that it starts with, but a handoff names an agent and no
version: the server would lead a running conversation to whatever version is current by then. So an agent that
others hand off to is never changed: each of its definitions is a remote agent of its own, known by its name
and the fingerprint of all that it reaches. The agent that nobody hands off to is one remote agent for ever;
a changed definition is a new version of it, and an old one is found among its versions again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from outlast.adapters.mistral.client import read_json
from outlast.adapters.mistral.definitions import agent_fingerprint, definition, graph_fingerprint
from outlast.adapters.mistral.wire import Wire, plain
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.errors import ModelUnreachable
from outlast.core.values import faults

FINGERPRINT = "outlast_fingerprint"
"""The metadata key that says which definition a version of a remote agent was made from, and that we did."""
KIND = "outlast_kind"
"""The metadata key that says whether an agent's definition may change."""
VERSIONED, FIXED = "versioned", "fixed"

_KEPT_GRAPHS = 256
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """An agent on the server, at a version; None is the version that is current when it is used."""

    id: str
    version: int | None


class StoredAgent(BaseModel):
    """An agent as the server has it, at one version: what of it is looked at here."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: str
    name: str | None = None
    model: str | None = None
    version: int | None = None
    versions: list[Any] | None = None
    handoffs: list[str] | None = None
    metadata: dict[str, Any] | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @classmethod
    def of(cls, wire: Any) -> Self:
        """Return the agent; raises ModelUnreachable for what is none, since asking again may help."""
        try:
            return cls.model_validate(wire)
        except ValidationError as error:
            raise ModelUnreachable(f"an agent came garbled: {'; '.join(faults(error)[:3])}") from error

    @property
    def is_ours(self) -> bool:
        """Whether this library made it."""
        return isinstance((self.metadata or {}).get(FINGERPRINT), str)

    def has(self, marks: Mapping[str, str]) -> bool:
        """Whether this library made it, with these marks."""
        return self.is_ours and marks.items() <= (self.metadata or {}).items()

    def hands_off_to(self, ids: Sequence[str]) -> bool:
        """Whether these are the agents that it hands off to."""
        return sorted(self.handoffs or ()) == sorted(ids)


class RemoteAgents:
    """The remote agents of graphs, by graph and name.

    An agent with an `id` is used as it is. Asked for at the same time, a graph is looked up once. Workers
    that make the same agent at the same time all use the one that was made first, and remove their own.
    """

    def __init__(self, agents: Any) -> None:
        self._agents = agents
        self._known: OrderedDict[str, dict[str, RemoteAgent]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def of(self, graph: AgentGraph) -> Mapping[str, RemoteAgent]:
        """Return the remote agent for each agent of the graph, with handoffs in place."""
        key = graph_fingerprint(graph)
        async with self._lock:
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = await self._find_or_create(graph)
            self._known.move_to_end(key)
            if len(self._known) > _KEPT_GRAPHS:
                self._known.popitem(last=False)
            return known

    def forget(self, graph: AgentGraph) -> None:
        """Look these agents up again when they are next asked for."""
        self._known.pop(graph_fingerprint(graph), None)

    async def _find_or_create(self, graph: AgentGraph) -> dict[str, RemoteAgent]:
        known = {
            name: RemoteAgent(agent.id, None) for name, agent in graph.agents.items() if agent.id is not None
        }
        targets = {target for agent in graph.agents.values() for target in agent.handoffs}
        made = {name: await self._fixed(graph, name) for name in graph.agents if name in targets - set(known)}
        # Handoffs are ids and may go round in circles: they can only be set once every agent has one.
        ids = {name: agent.id for name, agent in known.items()} | {name: one.id for name, one in made.items()}
        for name, one in made.items():
            wanted = [ids[target] for target in graph[name].handoffs]
            if not one.hands_off_to(wanted):
                made[name] = await self._update(one.id, {"handoffs": wanted or None})
        known |= {name: RemoteAgent(one.id, one.version) for name, one in made.items()}
        # Whoever is left is handed off to by nobody: the start.
        for name in graph.agents:
            if name not in known:
                known[name] = await self._versioned(graph, name, [ids[to] for to in graph[name].handoffs])
        return known

    async def _fixed(self, graph: AgentGraph, name: str) -> StoredAgent:
        """Return the agent with this definition, made without handoffs if there is none."""
        marks = {FINGERPRINT: agent_fingerprint(graph, name), KIND: FIXED}
        return await self._oldest(graph[name], marks, marks)

    async def _versioned(self, graph: AgentGraph, name: str, handoffs: list[str]) -> RemoteAgent:
        """Return the agent at the version with this definition, which is made if there is none."""
        agent, fingerprint = graph[name], agent_fingerprint(graph, name)
        marks = {FINGERPRINT: fingerprint, KIND: VERSIONED}
        current = await self._oldest(agent, {KIND: VERSIONED}, marks, handoffs=handoffs or None)

        def fits(one: StoredAgent) -> bool:
            return one.has(marks) and one.hands_off_to(handoffs)

        found = current if fits(current) else await self._version(current.id, fits)
        if found is None:
            unset = {"description": None, "instructions": None}
            fields = unset | definition(agent) | {"metadata": {**agent.metadata, **marks}}
            found = await self._update(current.id, fields | {"handoffs": handoffs or None})
        return RemoteAgent(found.id, found.version)

    async def _oldest(
        self, agent: AgentSpec, wanted: Mapping[str, str], marks: Mapping[str, str], **fields: Any
    ) -> StoredAgent:
        """Return the oldest agent of this name that has the wanted marks; if there is none, it is made."""
        found = await self._find(agent.name, wanted)
        if found:
            return found[0]
        request = self._agents.create_async(
            **plain(definition(agent)), **fields, metadata={**agent.metadata, **marks}, retries=None
        )
        created = StoredAgent.of(await read_json(request, dict, "the agent that was made"))
        # Somebody else may have made it at the same time: all look again, and agree on the first.
        first = (*await self._find(agent.name, wanted), created)[0]
        if first.id != created.id:
            await self.delete(created.id)
        return first

    async def _find(self, name: str, marks: Mapping[str, str]) -> Sequence[StoredAgent]:
        """Return the agents with this name and these marks, oldest first."""
        found = [one for one in await self.all(name) if one.name == name and one.has(marks)]
        return sorted(found, key=lambda one: (one.created_at or "", one.id))

    async def all(self, name: str | None = None) -> Sequence[StoredAgent]:
        """Return the current versions of all agents that the key can see, or of those with this name."""
        found: list[StoredAgent] = []
        token: str | None = None
        tokens: set[str] = set()
        while True:
            # Without `metadata` the SDK sends its own marker for "unset" as a filter.
            filters = {"name": name, "page_token": token}
            request = self._agents.list_pages_async(
                page_size=_PAGE_SIZE,
                metadata={},
                retries=None,
                **{key: value for key, value in filters.items() if value is not None},
            )
            page = await read_json(request, dict, "the list of agents")
            data, token = page.get("data"), page.get("next_page_token")
            if not isinstance(data, list) or not isinstance(token, str | None):
                raise ModelUnreachable("the list of agents came garbled")
            found += map(StoredAgent.of, data)
            if not token:
                return found
            if token in tokens:
                raise ModelUnreachable("the list of agents goes round in circles")
            tokens.add(token)

    async def delete(self, agent_id: str) -> None:
        """Remove an agent with all its versions."""
        await self._agents.delete_async(agent_id=agent_id, retries=None)

    async def at(self, agent_id: str, version: int) -> StoredAgent:
        """Return an agent as it is at a version."""
        request = self._agents.get_async(agent_id=agent_id, agent_version=version, retries=None)
        return StoredAgent.of(await read_json(request, dict, "an agent's version"))

    async def _version(self, agent_id: str, fits: Callable[[StoredAgent], bool]) -> StoredAgent | None:
        """Return the newest version that fits."""
        found: StoredAgent | None = None
        for page in range(1000):
            request = self._agents.list_versions_async(
                agent_id=agent_id, page=page, page_size=_PAGE_SIZE, retries=None
            )
            listed = await read_json(request, list, "the list of an agent's versions")
            versions = [StoredAgent.of(one) for one in listed]
            fitting = [one for one in (*versions, *([found] if found else [])) if fits(one)]
            found = max(fitting, key=lambda one: one.version or 0, default=None)
            if len(versions) < _PAGE_SIZE:
                break
        return found

    async def _update(self, agent_id: str, fields: Wire) -> StoredAgent:
        request = self._agents.update_async(agent_id=agent_id, **plain(fields), retries=None)
        return StoredAgent.of(await read_json(request, dict, "the agent that was changed"))
