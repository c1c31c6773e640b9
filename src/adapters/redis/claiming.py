"""Claiming from shards: what has waited longest in any of them goes first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from durable_agents.ports.journal import Claim


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the claim script says of one shard."""

    shard: int
    claims: tuple[tuple[float, Claim], ...]
    """Each with the time since which it had waited."""
    mail: tuple[str, ...]
    next_wake_at: float | None
    waiting: tuple[tuple[float, str], ...]
    """Some that could still be claimed: the time since which they have waited, and their ids."""

    @classmethod
    def read(cls, shard: int, worker: str, answer: Sequence[Any]) -> Claimed:
        claims, mail, next_wake_at, waiting = answer
        return cls(
            shard,
            tuple(
                (
                    float(since),
                    Claim(id.decode(), workflow.decode(), worker, token, length, consumed, bool(recovered)),
                )
                for since, id, workflow, token, length, consumed, recovered in claims
            ),
            tuple(id.decode() for id in mail),
            float(next_wake_at) if next_wake_at else None,
            tuple((float(since), id.decode()) for since, id in waiting),
        )


async def claim_everywhere(
    claim_in: Callable[[int, int, int], Awaitable[Claimed]], shards: int, limit: int
) -> list[Claimed]:
    """Claim from several shards what has waited longest in any of them.

    First all are looked at, then each gives its share of the oldest. Others may claim in between: what they
    took is made up for with what is left, as long as there is something.
    """
    claims: list[tuple[float, Claim]] = []
    while True:
        room = limit - len(claims)
        found = list(await asyncio.gather(*(claim_in(shard, 0, room) for shard in range(shards))))
        oldest = sorted((since, id, one.shard) for one in found for since, id in one.waiting)[:room]
        shares = Counter(shard for _, _, shard in oldest)
        for taken in await asyncio.gather(*(claim_in(shard, share, 0) for shard, share in shares.items())):
            claims += taken.claims
            found[taken.shard] = taken
        if len(claims) == limit - room + len(oldest):
            return [replace(one, claims=()) for one in found[1:]] + [replace(found[0], claims=tuple(claims))]
