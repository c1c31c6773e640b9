"""Lists and deletes the remote agents that this library has made in an account. Nothing else deletes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from outlast.adapters.mistral.agents import StoredAgent
from outlast.adapters.mistral.conversations import ConversationsApi
from outlast.adapters.mistral.session import ApiSession

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OwnAgent:
    """A remote agent that this library has made, in its current version."""

    id: str
    name: str
    model: str
    versions: int
    created_at: datetime
    last_used_at: datetime
    """The last time it was made or changed, or a conversation that started with it was added to."""
    is_needed: bool
    """True if it was used since the given time, or an agent that is needed hands off to it."""


class MistralAccount:
    """The agents of one account."""

    def __init__(self, api: ConversationsApi) -> None:
        self._api = api

    async def agents(self, used_since: datetime) -> Sequence[OwnAgent]:
        """Return the agents that this library has made, the oldest first.

        It reads all conversations that the API key can see, to know which agents are in use.
        """
        everything = {agent.id: agent for agent in await self._api.agents.all()}
        used: dict[str, datetime] = {}
        pinned: dict[str, set[int]] = defaultdict(set)
        async for conversation in self._api.all():
            agent_id, at = conversation.get("agent_id"), _time(conversation.get("updated_at"))
            if isinstance(agent_id, str):
                used[agent_id] = max(at, used.get(agent_id, NEVER))
                version = conversation.get("agent_version")
                if at >= used_since and isinstance(version, int):
                    pinned[agent_id].add(version)
        last_used = {
            agent_id: max(_time(agent.created_at), _time(agent.updated_at), used.get(agent_id, NEVER))
            for agent_id, agent in everything.items()
        }
        roots = [one for one in everything if not everything[one].is_ours or last_used[one] >= used_since]
        needed = await self._reached(roots, everything, pinned)
        ours = [
            OwnAgent(
                id=agent_id,
                name=str(agent.name),
                model=str(agent.model),
                versions=len(agent.versions or ()) or 1,
                created_at=_time(agent.created_at),
                last_used_at=last_used[agent_id],
                is_needed=agent_id in needed,
            )
            for agent_id, agent in everything.items()
            if agent.is_ours
        ]
        return sorted(ours, key=lambda agent: (agent.created_at, agent.id))

    async def _reached(
        self,
        roots: Iterable[str],
        everything: Mapping[str, StoredAgent],
        pinned: Mapping[str, Collection[int]],
    ) -> set[str]:
        """Return the roots and all agents that they can reach by handoffs.

        Handoffs count if the current version has them, or a version that a conversation uses.
        """
        reached: set[str] = set()
        waiting = list(roots)
        while waiting:
            agent_id = waiting.pop()
            if agent_id in reached or agent_id not in everything:
                continue
            reached.add(agent_id)
            agent = everything[agent_id]
            waiting += agent.handoffs or ()
            for version in pinned.get(agent_id, ()):
                if version != agent.version:
                    waiting += (await self._api.agents.at(agent_id, version)).handoffs or ()
        return reached

    async def remove(self, agent: OwnAgent) -> None:
        """Delete an agent with all its versions. A run that still needs it starts a new conversation."""
        await self._api.agents.delete(agent.id)


@asynccontextmanager
async def open_account(session: ApiSession) -> AsyncIterator[MistralAccount]:
    """Open the account that `session` uses; errors inside the block are raised as errors of this library."""
    endpoint = session.endpoint()
    async with session.guarded(endpoint), ConversationsApi.open(endpoint) as api:
        yield MistralAccount(api)


def _time(text: object) -> datetime:
    """Return a time of the API; `NEVER`, which is long ago, if it cannot be read."""
    if not isinstance(text, str):
        return NEVER
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return NEVER
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
