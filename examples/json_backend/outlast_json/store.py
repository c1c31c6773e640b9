"""A store in a JSON file. Every call reads the whole file: simple, and slow once the file is large."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    PayloadTooLarge,
)
from outlast.core.records import Status
from outlast.core.tags import TAGS_MAX, changed, checked_changes, too_many
from outlast.ports.clock import Clock
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    Claim,
    Commit,
    Delivery,
    Head,
    Message,
    NewExecution,
    PresentWorker,
    Store,
    Work,
    WorkerCard,
)
from outlast_json.file import JsonFile

LIMIT_BYTES = 2 * 1024 * 1024
EMPTY = {"executions": {}, "workers": {}, "last_token": 0, "version": 0}


class JsonStore(Store):
    """The store. `data["version"]` grows with everything that `wait` must announce."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = JsonFile(path, clock, EMPTY)

    async def __aenter__(self) -> JsonStore:
        with self._file.reading():
            return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing stays open between two calls."""

    # Journal

    @property
    def limit_bytes(self) -> int:
        return LIMIT_BYTES

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        with self._file.writing() as data:
            if (execution := data["executions"].get(new.id)) is not None:
                return _head(new.id, execution), False
            for record in (first, *more):
                _check_size(f"a first record of execution {new.id!r}", record)
            is_claimable = new.reason is None and new.ended is None
            now = self._clock.now()
            data["executions"][new.id] = execution = {
                "workflow": new.workflow,
                "fingerprint": new.fingerprint,
                "task_queue": new.task_queue,
                "keep_seconds": new.keep_seconds,
                "status": new.ended or Status.RUNNING,
                "created_at": now,
                "ended_at": None if new.ended is None else now,
                "reason": new.reason,
                "owner": None,
                "token": 0,
                "fruitless": 0,
                "ignores_mail": new.reason is not None,
                "claimable_at": now if is_claimable else None,
                "consumed": 0,
                "inbox": [],
                "records": [_text(record) for record in (first, *more)],
                "tags": dict(new.tags),
                "overview": new.overview,
                "waiting": new.waiting or None,
            }
            data["version"] += 1
            return _head(new.id, execution), True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        with self._file.writing() as data:
            execution = _owned(data, claim)
            if execution is None or len(execution["records"]) != position:
                raise LeaseLost(claim.execution_id)
            if commit.seen is not None and len(execution["inbox"]) > commit.seen:
                raise MessagesUnseen(claim.execution_id, commit.seen)
            for record in records:
                _check_size(f"a record of execution {claim.execution_id!r}", record)
            execution["records"] += map(_text, records)
            execution["reason"] = commit.reason
            execution["consumed"] = max(execution["consumed"], commit.consumed or 0)
            if commit.fruitless is not None:
                execution["fruitless"] = commit.fruitless
            if commit.overview is not None:
                execution["overview"] = commit.overview
            if commit.waiting is not None:
                execution["waiting"] = commit.waiting or None
            execution["tags"] = changed(execution["tags"], commit.tags)
            if commit.status is not None:
                execution |= {"status": commit.status, "ended_at": self._clock.now()}
                execution |= {"owner": None, "claimable_at": None, "waiting": None}
            elif commit.release:
                now = self._clock.now()
                at = commit.wake_at if commit.wake_in is None else now + commit.wake_in
                if len(execution["inbox"]) > execution["consumed"] and not commit.hold:
                    at = now
                execution |= {"owner": None, "ignores_mail": commit.hold}
                execution["claimable_at"] = None if at is None else max(at, now)
                data["version"] += 1

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        with self._file.writing() as data:
            if (execution := data["executions"].get(execution_id)) is None:
                raise ExecutionNotFound(execution_id)
            if status is not Status.RUNNING:
                _running(data, execution_id)
            if len(execution["records"]) != position:
                return False
            _check_size(f"a record of execution {execution_id!r}", record)
            now, reopens = self._clock.now(), status is Status.RUNNING
            execution["records"].append(_text(record))
            execution |= {"status": status, "reason": None, "fruitless": 0, "ignores_mail": False}
            execution |= {"owner": None, "claimable_at": now if reopens else None, "waiting": None}
            execution["ended_at"] = None if reopens else now
            data["version"] += 1
            return True

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        with self._file.reading() as data:
            execution = data["executions"].get(execution_id)
            records = [] if execution is None else execution["records"][after:][:limit]
            return [b64decode(record) for record in records]

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        def is_longer(data: Any) -> bool:
            execution = data["executions"].get(execution_id)
            return execution is not None and (
                len(execution["records"]) > length or execution["status"] != Status.RUNNING
            )

        await self._file.until(is_longer, timeout_seconds)

    # Inbox

    async def send(self, execution_id: str, message: Message) -> None:
        with self._file.writing() as data:
            execution = _running(data, execution_id)
            if message.id in (id for id, _ in execution["inbox"]):
                return
            _check_size(f"a message to execution {execution_id!r}", message.body)
            execution["inbox"].append([message.id, _text(message.body)])
            if execution["owner"] is None and not execution["ignores_mail"]:
                at, now = execution["claimable_at"], self._clock.now()
                execution["claimable_at"] = now if at is None else min(at, now)
            data["version"] += 1

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        with self._file.reading() as data:
            execution = data["executions"].get(execution_id)
            if execution is None:
                return []
            first = max(after, execution["consumed"])
            return [
                Delivery(number, Message(id, b64decode(body)))
                for number, (id, body) in enumerate(execution["inbox"][first:][:limit], first + 1)
            ]

    # Leases

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        with self._file.writing() as data:
            now = self._clock.now()
            running = {id: one for id, one in data["executions"].items() if one["status"] == Status.RUNNING}
            waiting = [
                (one["claimable_at"], id)
                for id, one in running.items()
                if one["claimable_at"] is not None
                and one["workflow"] in workflows
                and one["task_queue"] == task_queue
            ]
            ready = sorted(pair for pair in waiting if pair[0] <= now)[:limit]
            claims = []
            for _, id in ready:
                execution = running[id]
                last_owner = execution["owner"]
                execution["fruitless"] += last_owner is not None
                data["last_token"] += 1
                execution |= {"owner": worker, "token": data["last_token"]}
                execution["claimable_at"] = now + lease_seconds
                claim = Claim(
                    execution_id=id,
                    workflow=execution["workflow"],
                    worker=worker,
                    token=execution["token"],
                    length=len(execution["records"]),
                    consumed=execution["consumed"],
                    recovered_from=last_owner,
                    fruitless=execution["fruitless"],
                )
                claims.append(claim)
            return Work(
                claims=tuple(claims),
                mail=frozenset(
                    id
                    for id, one in running.items()
                    if one["owner"] == worker and len(one["inbox"]) > one["consumed"]
                ),
                next_wake_at=min((running[id]["claimable_at"] for _, id in waiting), default=None),
                version=data["version"],
            )

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        lost = set()
        with self._file.writing() as data:
            for claim in claims:
                if (execution := _owned(data, claim)) is None:
                    lost.add(claim.execution_id)
                else:
                    execution["claimable_at"] = self._clock.now() + lease_seconds
        return frozenset(lost)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await self._file.until(lambda data: data["version"] != version, timeout_seconds)

    async def resume(self, execution_id: str) -> bool:
        with self._file.writing() as data:
            execution = _running(data, execution_id)
            if execution["owner"] is not None or not execution["ignores_mail"]:
                return False
            execution |= {"ignores_mail": False, "fruitless": 0, "reason": None, "waiting": None}
            execution["claimable_at"] = self._clock.now()
            data["version"] += 1
            return True

    # Presence

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        with self._file.writing() as data:
            values = [card.workflows, card.task_queue, card.started_at, self._clock.now() + lease_seconds]
            data["workers"][card.identity] = values

    async def leave(self, identity: str) -> None:
        with self._file.writing() as data:
            data["workers"].pop(identity, None)

    async def workers(self) -> Sequence[PresentWorker]:
        with self._file.writing() as data:
            now, workers = self._clock.now(), data["workers"]
            for identity in [identity for identity, values in workers.items() if values[-1] <= now]:
                del workers[identity]
            cards = [
                WorkerCard(identity, tuple(workflows), task_queue, started_at)
                for identity, (workflows, task_queue, started_at, _) in workers.items()
            ]
            cards.sort(key=lambda card: (card.started_at, card.identity))
            owners = {id: one["owner"] for id, one in data["executions"].items()}
        return [
            PresentWorker(card, tuple(sorted(id for id, owner in owners.items() if owner == card.identity)))
            for card in cards
        ]

    # Catalogue

    async def head(self, execution_id: str) -> Head | None:
        with self._file.reading() as data:
            execution = data["executions"].get(execution_id)
            return None if execution is None else _head(execution_id, execution)

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        with self._file.reading() as data:
            heads = [_head(id, one) for id, one in data["executions"].items()]
        found = [
            head
            for head in heads
            if _matches(head, where) and (after is None or _place(head) < (after.created_at, after.id))
        ]
        return sorted(found, key=_place, reverse=True)[:limit]

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        checked = checked_changes(changes)
        with self._file.writing() as data:
            if (execution := data["executions"].get(execution_id)) is None:
                raise ExecutionNotFound(execution_id)
            tags = changed(execution["tags"], checked)
            if len(tags) > max(TAGS_MAX, len(execution["tags"])):
                raise too_many(len(tags))
            execution["tags"] = tags

    async def prune(self, ended_before: float | None = None) -> int:
        def is_over(execution: Any) -> bool:
            ended_at, keep_seconds = execution["ended_at"], execution["keep_seconds"]
            if ended_at is None:
                return False
            if keep_seconds is not None:
                return bool(ended_at + keep_seconds <= self._clock.now())
            return ended_before is not None and bool(ended_at < ended_before)

        with self._file.writing() as data:
            over = [id for id, execution in data["executions"].items() if is_over(execution)]
            for id in over:
                del data["executions"][id]
        return len(over)


def _running(data: Any, id: str) -> Any:
    """Return the running execution of that id; raises ExecutionNotFound or ExecutionAlreadyEnded."""
    execution = data["executions"].get(id)
    if execution is None:
        raise ExecutionNotFound(id)
    if execution["status"] != Status.RUNNING:
        raise ExecutionAlreadyEnded(id, Status(execution["status"]))
    return execution


def _owned(data: Any, claim: Claim) -> Any:
    """Return the execution of a claim that is good, else None."""
    execution = data["executions"].get(claim.execution_id)
    if execution is None or execution["owner"] is None or execution["token"] != claim.token:
        return None
    return execution


def _head(id: str, execution: Any) -> Head:
    return Head(
        id=id,
        workflow=execution["workflow"],
        fingerprint=execution["fingerprint"],
        task_queue=execution["task_queue"],
        status=Status(execution["status"]),
        length=len(execution["records"]),
        created_at=execution["created_at"],
        ended_at=execution["ended_at"],
        reason=execution["reason"],
        owner=execution["owner"],
        fruitless=execution["fruitless"],
        held=execution["ignores_mail"]
        and execution["status"] == Status.RUNNING
        and execution["claimable_at"] is None,
        tags=execution["tags"],
        overview=execution["overview"],
        waiting=execution["waiting"],
    )


def _place(head: Head) -> tuple[float, str]:
    """Return the place of an execution in a list."""
    return head.created_at, head.id


def _matches(head: Head, where: Where) -> bool:
    return (
        where.workflow in (None, head.workflow)
        and where.status in (None, Status.PAUSED if head.held else head.status)
        and where.tags.items() <= head.tags.items()
        and head.id.startswith(where.id_prefix or "")
        and (where.first_at is None or head.created_at >= where.first_at)
        and (where.end_at is None or head.created_at < where.end_at)
        and where.waiting_for in (None, head.waiting)
    )


def _check_size(what: str, data: bytes) -> None:
    if len(data) > LIMIT_BYTES:
        raise PayloadTooLarge(what, len(data), LIMIT_BYTES)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
