"""Remote agents: finding the agents of a graph on the server, and creating those that do not exist.

A conversation keeps the version of the agent that it starts with. But a handoff names only an agent, without
a version, so the server would hand a running conversation over to the version that is current at that time.
Therefore an agent that others hand off to is never changed. Each definition of it is a remote agent of its
own, found by its name and by the fingerprint of all agents that it can reach.

The start agent, to which no agent hands off, is one remote agent for ever. A changed definition of it becomes
a new version, and an old definition is found again among its versions.
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
"""The metadata key with the fingerprint of the definition. It also shows that this library made the agent."""
KIND = "outlast_kind"
"""The metadata key that says whether the definition of an agent may change: `VERSIONED` or `FIXED`."""
VERSIONED, FIXED = "versioned", "fixed"

_KEPT_GRAPHS = 256
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """An agent on the server, at a version; None means the version that is current when it is used."""

    id: str
    version: int | None


class StoredAgent(BaseModel):
    """One version of an agent as the server sends it, with the fields that are used here."""

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
        """Return the agent that `wire` describes.

        Raises:
            ModelUnreachable: `wire` is not an agent. (The error is retryable: asking again may help.)
        """
        try:
            return cls.model_validate(wire)
        except ValidationError as error:
            problem = "; ".join(faults(error)[:3])
            raise ModelUnreachable(f"the server sent an agent that cannot be read: {problem}") from error

    @property
    def is_ours(self) -> bool:
        """True if this library made it."""
        return isinstance((self.metadata or {}).get(FINGERPRINT), str)

    def has(self, marks: Mapping[str, str]) -> bool:
        """Return whether this library made it, with these marks in its metadata."""
        return self.is_ours and marks.items() <= (self.metadata or {}).items()

    def hands_off_to(self, ids: Sequence[str]) -> bool:
        """Return whether it hands off to exactly these agents."""
        return sorted(self.handoffs or ()) == sorted(ids)


class RemoteAgents:
    """The remote agents of agent graphs, by graph and name.

    An agent with an `id` is used without changes. Callers that ask for the same graph at the same time share
    one look-up. When several workers create the same agent at the same time, all of them use the oldest one
    and delete their own.
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
        """Forget the remote agents of the graph, so that the next `of` looks them up again."""
        self._known.pop(graph_fingerprint(graph), None)

    async def _find_or_create(self, graph: AgentGraph) -> dict[str, RemoteAgent]:
        known = {
            name: RemoteAgent(agent.id, None) for name, agent in graph.agents.items() if agent.id is not None
        }
        targets = {target for agent in graph.agents.values() for target in agent.handoffs}
        made = {name: await self._fixed(graph, name) for name in graph.agents if name in targets - set(known)}
        # A handoff refers to an id, and handoffs can form a cycle: set them once every agent has an id.
        ids = {name: agent.id for name, agent in known.items()} | {name: one.id for name, one in made.items()}
        for name, one in made.items():
            wanted = [ids[target] for target in graph[name].handoffs]
            if not one.hands_off_to(wanted):
                made[name] = await self._update(one.id, {"handoffs": wanted or None})
        known |= {name: RemoteAgent(one.id, one.version) for name, one in made.items()}
        # Only the start agent is left: no agent hands off to it.
        for name in graph.agents:
            if name not in known:
                known[name] = await self._versioned(graph, name, [ids[to] for to in graph[name].handoffs])
        return known

    async def _fixed(self, graph: AgentGraph, name: str) -> StoredAgent:
        """Return the agent with this definition; if it does not exist, create it without handoffs."""
        marks = {FINGERPRINT: agent_fingerprint(graph, name), KIND: FIXED}
        return await self._oldest(graph[name], marks, marks)

    async def _versioned(self, graph: AgentGraph, name: str, handoffs: list[str]) -> RemoteAgent:
        """Return the agent at the version with this definition; if it does not exist, create it."""
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
        """Return the oldest agent with this name and the wanted marks; if it does not exist, create it."""
        found = await self._find(agent.name, wanted)
        if found:
            return found[0]
        request = self._agents.create_async(
            **plain(definition(agent)), **fields, metadata={**agent.metadata, **marks}, retries=None
        )
        created = StoredAgent.of(await read_json(request, dict, "the created agent"))
        # Another worker may have created it at the same time: all look again and use the oldest one.
        first = (*await self._find(agent.name, wanted), created)[0]
        if first.id != created.id:
            await self.delete(created.id)
        return first

    async def _find(self, name: str, marks: Mapping[str, str]) -> Sequence[StoredAgent]:
        """Return the agents with this name and these marks, oldest first."""
        found = [one for one in await self.all(name) if one.name == name and one.has(marks)]
        return sorted(found, key=lambda one: (one.created_at or "", one.id))

    async def all(self, name: str | None = None) -> Sequence[StoredAgent]:
        """Return the current versions of all agents that the API key can see, or of those with this name."""
        found: list[StoredAgent] = []
        token: str | None = None
        tokens: set[str] = set()
        while True:
            # Without `metadata`, the SDK sends its marker for "unset" as a filter.
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
                raise ModelUnreachable("the list of agents cannot be read")
            found += map(StoredAgent.of, data)
            if not token:
                return found
            if token in tokens:
                raise ModelUnreachable("the list of agents does not end: it repeats a page token")
            tokens.add(token)

    async def delete(self, agent_id: str) -> None:
        """Delete an agent with all its versions."""
        await self._agents.delete_async(agent_id=agent_id, retries=None)

    async def at(self, agent_id: str, version: int) -> StoredAgent:
        """Return an agent at a version."""
        request = self._agents.get_async(agent_id=agent_id, agent_version=version, retries=None)
        return StoredAgent.of(await read_json(request, dict, "the version of an agent"))

    async def _version(self, agent_id: str, fits: Callable[[StoredAgent], bool]) -> StoredAgent | None:
        """Return the newest version that fits."""
        found: StoredAgent | None = None
        for page in range(1000):
            request = self._agents.list_versions_async(
                agent_id=agent_id, page=page, page_size=_PAGE_SIZE, retries=None
            )
            listed = await read_json(request, list, "the list of versions of an agent")
            versions = [StoredAgent.of(one) for one in listed]
            fitting = [one for one in (*versions, *([found] if found else [])) if fits(one)]
            found = max(fitting, key=lambda one: one.version or 0, default=None)
            if len(versions) < _PAGE_SIZE:
                break
        return found

    async def _update(self, agent_id: str, fields: Wire) -> StoredAgent:
        request = self._agents.update_async(agent_id=agent_id, **plain(fields), retries=None)
        return StoredAgent.of(await read_json(request, dict, "the changed agent"))
