"""Claiming from shards: what has waited longest in any of them goes first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.core.errors import StorageError
from outlast.ports.journal import Claim


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


@dataclass(frozen=True, slots=True)
class Found:
    """What there is in all shards."""

    claims: tuple[Claim, ...]
    """Those that had waited longest first."""
    mail: frozenset[str]
    next_wake_at: float | None
    silence: StorageError | None
    """Why a shard said nothing, if one did; then this is what the others said."""

    @classmethod
    def of(
        cls, claims: Iterable[tuple[float, Claim]], shards: Iterable[Claimed], silence: StorageError | None
    ) -> Found:
        shards = list(shards)
        wake_ats = [one.next_wake_at for one in shards if one.next_wake_at is not None]
        return cls(
            tuple(claim for _, claim in sorted(claims, key=lambda pair: pair[0])),
            frozenset(id for one in shards for id in one.mail),
            min(wake_ats, default=None),
            silence,
        )


async def claim_everywhere(
    claim_in: Callable[[int, int, int], Awaitable[Claimed]], shards: int, limit: int
) -> Found:
    """Claim from all shards what has waited longest in any of them.

    If there are several, all are looked at first, then each gives its share of the oldest. Others may claim
    in between: what they took is made up for with what is left, as long as there is something.

    Raises:
        StorageError: no shard answers, or one says what will not pass by itself.
    """
    if shards == 1:
        only = await claim_in(0, limit, 0)
        return Found.of(only.claims, [only], None)
    claims: list[tuple[float, Claim]] = []
    newest: dict[int, Claimed] = {}
    while True:
        room = limit - len(claims)
        looks, silent = await _each(claim_in(shard, 0, room) for shard in range(shards))
        if not looks and not newest:
            raise silent[0]
        newest |= {one.shard: one for one in looks}
        oldest = sorted((since, id, one.shard) for one in looks for since, id in one.waiting)[:room]
        shares = Counter(shard for _, _, shard in oldest)
        taken, silent_since = await _each(claim_in(shard, share, 0) for shard, share in shares.items())
        newest |= {one.shard: one for one in taken}
        claims += (claim for one in taken for claim in one.claims)
        silent += silent_since
        if silent or len(claims) == limit - room + len(oldest):
            return Found.of(claims, newest.values(), silent[0] if silent else None)


async def _each(looks: Iterable[Awaitable[Claimed]]) -> tuple[list[Claimed], list[StorageError]]:
    """Return what each says, and the passing troubles of those that say nothing."""
    answers = await asyncio.gather(*looks, return_exceptions=True)
    said: list[Claimed] = []
    silent: list[StorageError] = []
    for answer in answers:
        if isinstance(answer, StorageError) and answer.retryable:
            silent.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            said.append(answer)
    return said, silent
