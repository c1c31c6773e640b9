"""The referee: it sees every call that the store carries out, and notes what breaks a rule.

| rule | |
| --- | --- |
| R1 | tokens of an execution only grow |
| R2 | nobody claims an execution before its owner released it, or its lease ran out |
| R3 | only the newest claim writes, and only at the end of the journal as it is |
| R4 | a record stays as it was written, and where it was written |
| R5 | a step has one end in the journal |
| R6 | no attempt begins when the worker's claim is not the newest, or its lease has run out |
| R7 | no attempt at a step begins after the end of the step was journaled, and no two workers make the same |
| R8 | nothing is claimed or written after the end of an execution |
| R9 | a renewal says of every claim that is not the newest one that it is lost |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.records import StepCompleted, StepFailed, StepScheduled, decode_record
from outlast.ports.journal import Claim, Commit, Store


@dataclass(slots=True)
class _KnownExecution:
    """The facts that the referee knows about one execution."""

    records: list[bytes] = field(default_factory=list)
    token: int = 0
    owner: str | None = None
    leased_until: float = 0.0
    has_ended: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    """The idempotency keys of steps, by key."""
    ended_steps: set[str] = field(default_factory=set)
    attempts: dict[tuple[str, int], str] = field(default_factory=dict)
    """The workers that have made attempts, by idempotency key and number."""


class Referee:
    """Knows who may do what, from what the store has answered so far. It never corrects anything."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self.broken: list[str] = []
        """The rules that were broken, in words, in order."""
        self._steady = steady
        self._known: dict[str, _KnownExecution] = {}

    def created(self, execution_id: str, records: Sequence[bytes]) -> None:
        self._known[execution_id] = known = _KnownExecution(records=list(records))
        for record in records:
            self._read(execution_id, known, record)

    def claimed(self, claims: Sequence[Claim], lease_seconds: float) -> None:
        for claim in claims:
            known = self._of(claim.execution_id)
            if claim.token <= known.token:
                self._breaks("R1", claim.execution_id, f"token {claim.token} after {known.token}")
            if known.owner is not None and self._steady() < known.leased_until:
                self._breaks("R2", claim.execution_id, f"{claim.worker} claims it from {known.owner}")
            if known.has_ended:
                self._breaks("R8", claim.execution_id, f"{claim.worker} claims what has ended")
            known.token, known.owner = claim.token, claim.worker
            known.leased_until = self._steady() + lease_seconds

    def renewed(self, claims: Collection[Claim], lost: Collection[str], lease_seconds: float) -> None:
        for claim in claims:
            known = self._of(claim.execution_id)
            if claim.execution_id in lost:
                continue
            if claim.token != known.token:
                self._breaks("R9", claim.execution_id, f"{claim.worker} renews an old claim")
            known.leased_until = self._steady() + lease_seconds

    async def appended(
        self, store: Store, claim: Claim, position: int, records: Sequence[bytes], commit: Commit
    ) -> None:
        """Judge an append that the store has taken."""
        execution_id, known = claim.execution_id, self._of(claim.execution_id)
        if claim.token != known.token or known.owner is None:
            self._breaks("R3", execution_id, f"{claim.worker} writes with token {claim.token}")
        if known.has_ended:
            self._breaks("R8", execution_id, f"{claim.worker} writes after the end")
        if position != len(known.records):
            self._breaks("R3", execution_id, f"{claim.worker} writes at {position}, not {len(known.records)}")
        known.records.extend(records)
        for record in records:
            self._read(execution_id, known, record)
        if list(await store.read(execution_id)) != known.records:
            self._breaks("R4", execution_id, "the journal is not what was written")
        if commit.release or commit.status is not None:
            known.owner = None
        known.has_ended = known.has_ended or commit.status is not None

    def sees(self, worker: str, execution_id: str, key: str, attempt: int) -> None:
        """Judge an effect: an attempt begins with its first one."""
        known = self._of(execution_id)
        what = f"{worker} begins attempt {attempt} at {key}"
        made_by = known.attempts.setdefault((key, attempt), "")
        known.attempts[key, attempt] = worker
        if made_by:
            if made_by != worker:
                self._breaks("R7", execution_id, f"{what}, as {made_by} did")
            return
        if known.owner != worker or self._steady() >= known.leased_until:
            self._breaks("R6", execution_id, f"{what}; the owner is {known.owner}")
        if key in known.ended_steps:
            self._breaks("R7", execution_id, f"{what} after its end")

    def journals(self) -> Mapping[str, Sequence[bytes]]:
        """Return the journals of all executions, as they were written."""
        return {execution_id: known.records for execution_id, known in self._known.items()}

    def _of(self, execution_id: str) -> _KnownExecution:
        return self._known.setdefault(execution_id, _KnownExecution())

    def _read(self, execution_id: str, known: _KnownExecution, record: bytes) -> None:
        match decode_record(record):
            case StepScheduled() as scheduled:
                known.keys[scheduled.key] = f"{execution_id}/{scheduled.idempotency_key}"
            case StepCompleted(key=key) | StepFailed(key=key):
                whole_key = known.keys.get(key, key)
                if whole_key in known.ended_steps:
                    self._breaks("R5", execution_id, f"step {key} ends again")
                known.ended_steps.add(whole_key)
            case _:
                pass

    def _breaks(self, rule: str, execution_id: str, what: str) -> None:
        self.broken.append(f"{rule} at {self._steady():.6f} s, execution {execution_id}: {what}")
