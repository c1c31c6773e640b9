"""Claiming from several shards: the execution that has waited longest, in any shard, comes first."""

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
    """The answer of the claim script for one shard."""

    shard: int
    claims: tuple[tuple[float, Claim], ...]
    """Each claim, with the time at which its execution became claimable."""
    mail: tuple[str, ...]
    next_wake_at: float | None
    waiting: tuple[tuple[float, str], ...]
    """Executions that are still claimable: the time at which each became claimable, and its id."""

    @classmethod
    def read(cls, shard: int, worker: str, answer: Sequence[Any]) -> Claimed:
        claims, mail, next_wake_at, waiting = answer
        return cls(
            shard,
            tuple(
                (
                    float(since),
                    Claim(
                        execution_id=id.decode(),
                        workflow=workflow.decode(),
                        worker=worker,
                        token=token,
                        length=length,
                        consumed=consumed,
                        recovered_from=lost.decode(errors="replace") or None,
                        fruitless=fruitless,
                    ),
                )
                for since, id, workflow, token, length, consumed, lost, fruitless in claims
            ),
            tuple(id.decode(errors="replace") for id in mail),
            float(next_wake_at) if next_wake_at else None,
            tuple((float(since), id.decode()) for since, id in waiting),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The answers of all shards, joined."""

    claims: tuple[Claim, ...]
    """The execution that had waited longest comes first."""
    mail: frozenset[str]
    next_wake_at: float | None
    failure: StorageError | None
    """The error of a shard that did not answer, or None. The other fields come from the shards that did."""

    @classmethod
    def of(
        cls, claims: Iterable[tuple[float, Claim]], shards: Iterable[Claimed], failure: StorageError | None
    ) -> Found:
        shards = list(shards)
        wake_ats = [one.next_wake_at for one in shards if one.next_wake_at is not None]
        return cls(
            tuple(claim for _, claim in sorted(claims, key=lambda pair: pair[0])),
            frozenset(id for one in shards for id in one.mail),
            min(wake_ats, default=None),
            failure,
        )


async def claim_everywhere(
    claim_in: Callable[[int, int, int], Awaitable[Claimed]], shards: int, limit: int
) -> Found:
    """Claim up to `limit` executions: those that have waited longest in any shard.

    With several shards, it first asks each shard for its oldest executions. Then it claims the oldest of all
    from the shards that have them. Another worker may have claimed some of these in between; then it starts
    again, until it has `limit` claims or nothing is claimable.

    Raises:
        StorageError: no shard answers, or one reports an error that a retry cannot help.
    """
    if shards == 1:
        only = await claim_in(0, limit, 0)
        return Found.of(only.claims, [only], None)
    claims: list[tuple[float, Claim]] = []
    newest: dict[int, Claimed] = {}
    while True:
        room = limit - len(claims)
        looks, failures = await _each(claim_in(shard, 0, room) for shard in range(shards))
        if not looks and not newest:
            raise failures[0]
        newest |= {one.shard: one for one in looks}
        oldest = sorted((since, id, one.shard) for one in looks for since, id in one.waiting)[:room]
        shares = Counter(shard for _, _, shard in oldest)
        taken, more_failures = await _each(claim_in(shard, share, 0) for shard, share in shares.items())
        newest |= {one.shard: one for one in taken}
        claims += (claim for one in taken for claim in one.claims)
        failures += more_failures
        if failures or len(claims) == limit - room + len(oldest):
            return Found.of(claims, newest.values(), failures[0] if failures else None)


async def _each(looks: Iterable[Awaitable[Claimed]]) -> tuple[list[Claimed], list[StorageError]]:
    """Return the answers, and the retryable errors of the shards that did not answer."""
    outcomes = await asyncio.gather(*looks, return_exceptions=True)
    answers: list[Claimed] = []
    failures: list[StorageError] = []
    for outcome in outcomes:
        if isinstance(outcome, StorageError) and outcome.retryable:
            failures.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            answers.append(outcome)
    return answers, failures
