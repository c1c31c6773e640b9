"""Agents with versions and aliases: the state behind `/v1/agents`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast.testing.mistral_server.bodies import CreateAgent, UpdateAgent
from outlast.testing.mistral_server.errors import bad_request, not_found
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.model import Json


@dataclass(slots=True)
class StandInAgent:
    """One agent: all its versions, the number of the current version, and aliases of versions."""

    id: str
    created_at: str
    versions: list[Json] = field(default_factory=list)
    current: int = 0
    deployment_chat: bool = False
    aliases: dict[str, Json] = field(default_factory=dict)

    def at(self, version: int | str | None = None) -> Json:
        """Return the agent as the API shows it: its current version, a version by number, or by alias."""
        number = self.number_of(version)
        return {
            "object": "agent",
            "id": self.id,
            **self.versions[number],
            "deployment_chat": self.deployment_chat,
            "source": "api",
            "version": number,
            "versions": list(range(len(self.versions))),
            "created_at": self.created_at,
        }

    def number_of(self, version: int | str | None) -> int:
        if version is None:
            return self.current
        if isinstance(version, str) and version in self.aliases:
            return int(self.aliases[version]["version"])
        if str(version).isdecimal() and int(version) < len(self.versions):
            return int(version)
        raise not_found("Agent version", f"{self.id} {version}")

    @property
    def name(self) -> str:
        return str(self.versions[self.current]["name"])


class Agents:
    """All agents, in the order of creation."""

    def __init__(self, identifiers: Identifiers, clock: StandInClock) -> None:
        self._identifiers = identifiers
        self._clock = clock
        self._agents: dict[str, StandInAgent] = {}

    def create(self, body: CreateAgent) -> Json:
        self._check_handoffs(body.handoffs)
        now = self._clock.now()
        agent = StandInAgent(id=self._identifiers.new("ag"), created_at=now)
        agent.versions.append(_fields(body) | {"updated_at": now})
        self._agents[agent.id] = agent
        return agent.at()

    def update(self, agent_id: str, body: UpdateAgent) -> Json:
        """Add a version, which becomes the current one: the current version with the fields of `body`."""
        agent = self.get(agent_id)
        self._check_handoffs(body.handoffs)
        changes = {name: value for name, value in _fields(body).items() if name in body.model_fields_set}
        if body.deployment_chat is not None:
            agent.deployment_chat = body.deployment_chat
        for name in ("model", "name"):
            if changes.get(name, "") is None:
                del changes[name]
        message = {"version_message": body.version_message}
        agent.versions.append(
            agent.versions[agent.current] | changes | message | {"updated_at": self._clock.now()}
        )
        agent.current = len(agent.versions) - 1
        return agent.at()

    def get(self, agent_id: str) -> StandInAgent:
        try:
            return self._agents[agent_id]
        except KeyError:
            raise not_found("Agent", agent_id) from None

    def delete(self, agent_id: str) -> None:
        self.get(agent_id)
        del self._agents[agent_id]

    def clear(self) -> None:
        self._agents.clear()

    def switch(self, agent_id: str, version: int) -> Json:
        agent = self.get(agent_id)
        agent.current = agent.number_of(version)
        return agent.at()

    def alias(self, agent_id: str, alias: str, version: int) -> Json:
        """Set an alias to a version; create the alias if it does not exist."""
        agent = self.get(agent_id)
        if alias.isdecimal():
            raise bad_request(f"Alias {alias!r} must not be a number")
        now = self._clock.now()
        created = agent.aliases.get(alias, {"created_at": now})["created_at"]
        entry = {
            "alias": alias,
            "version": agent.number_of(version),
            "created_at": created,
            "updated_at": now,
        }
        agent.aliases[alias] = entry
        return entry

    def remove_alias(self, agent_id: str, alias: str) -> None:
        if self.get(agent_id).aliases.pop(alias, None) is None:
            raise not_found("Agent alias", alias)

    def listed(
        self,
        *,
        id: str | None = None,
        name: str | None = None,
        search: str | None = None,
        sources: Iterable[str] = (),
        deployment_chat: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Json]:
        """Return the current versions that match every given filter, oldest agent first."""
        shown = self.shown().values()
        wanted_sources = set(sources)
        return [
            agent
            for agent in shown
            if (id is None or agent["id"] == id)
            and (name is None or agent["name"] == name)
            and (search is None or search.lower() in f"{agent['name']} {agent['description'] or ''}".lower())
            and (not wanted_sources or agent["source"] in wanted_sources)
            and (deployment_chat is None or agent["deployment_chat"] == deployment_chat)
            and has_metadata(agent["metadata"], metadata)
        ]

    def shown(self) -> dict[str, Json]:
        """Return the current version of every agent, by id."""
        return {agent.id: agent.at() for agent in list(self._agents.values())}

    def names(self, agent_ids: Iterable[str]) -> dict[str, str]:
        """Return the ids by the agents' names, for the agents that still exist."""
        return {self._agents[agent_id].name: agent_id for agent_id in agent_ids if agent_id in self._agents}

    def _check_handoffs(self, handoffs: list[str] | None) -> None:
        for agent_id in handoffs or []:
            self.get(agent_id)


def has_metadata(metadata: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> bool:
    """Return whether every wanted key has the wanted value."""
    have = metadata or {}
    return all(key in have and have[key] == value for key, value in (wanted or {}).items())


def _fields(body: CreateAgent) -> Json:
    fields = body.model_dump(mode="json", by_alias=True, exclude={"deployment_chat", "tools"})
    return fields | {"tools": [tool.model_dump(mode="json", exclude_none=True) for tool in body.tools]}
