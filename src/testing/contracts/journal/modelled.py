"""The facts about one execution from which follows what a store must answer: a model of any store."""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import Claim, Delivery, Head, Message, NewExecution


@dataclass
class ModelExecution:
    """The facts about one execution."""

    new: NewExecution
    created_at: float
    records: list[bytes]
    inbox: list[tuple[Message, float]] = field(default_factory=list)
    """Messages, and the times when they were sent."""
    consumed: int = 0
    status: Status = Status.RUNNING
    ended_at: float | None = None
    reason: str | None = None
    fruitless: int = 0
    ignores_mail: bool = False
    claim: Claim | None = None
    lease_until: float = 0.0
    free_since: float = 0.0
    """The time when it was created or released last."""
    wake_at: float | None = 0.0
    old_message_ids: set[str] = field(default_factory=set)
    """The ids of messages from before its end. After it, a store may know them or not."""
    tags: dict[str, str] = field(default_factory=dict)
    overview: str | None = None
    waiting: str | None = None

    def claimable_since(self) -> float | None:
        """Return the time when it became claimable, or will become so by itself."""
        if self.status is not Status.RUNNING:
            return None
        if self.claim is not None:
            return self.lease_until
        unread = [] if self.ignores_mail else self.inbox[self.consumed :]
        reasons = [sent_at for _, sent_at in unread]
        if self.wake_at is not None:
            reasons.append(self.wake_at)
        return max(self.free_since, min(reasons)) if reasons else None

    def is_over(self, ended_before: float | None, now: float) -> bool:
        if self.ended_at is None:
            return False
        if self.new.keep_seconds is not None:
            return now - self.ended_at >= self.new.keep_seconds
        return ended_before is not None and self.ended_at < ended_before

    def head(self) -> Head:
        return Head(
            id=self.new.id,
            workflow=self.new.workflow,
            fingerprint=self.new.fingerprint,
            task_queue=self.new.task_queue,
            status=self.status,
            length=len(self.records),
            created_at=self.created_at,
            ended_at=self.ended_at,
            reason=self.reason,
            owner=None if self.claim is None else self.claim.worker,
            fruitless=self.fruitless,
            held=self.is_held(),
            tags=self.tags,
            overview=self.overview,
            waiting=self.waiting,
        )

    def is_held(self) -> bool:
        return self.is_set_aside() and self.wake_at is None

    def matches(self, where: Where) -> bool:
        status = Status.PAUSED if self.is_held() else self.status
        own = (self.new.workflow, status, self.waiting)
        wanted = (where.workflow, where.status, where.waiting_for)
        return (
            all(want in (None, have) for want, have in zip(wanted, own, strict=True))
            and all(self.tags.get(name) == value for name, value in where.tags.items())
            and self.new.id.startswith(where.id_prefix or "")
        )

    def is_set_aside(self) -> bool:
        return self.ignores_mail and self.claim is None and self.status is Status.RUNNING

    def deliveries(self) -> list[Delivery]:
        return [Delivery(number, message) for number, (message, _) in enumerate(self.inbox, start=1)]
