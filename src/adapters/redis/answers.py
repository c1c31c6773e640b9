"""Turns the answers of the Lua scripts into the types of the journal port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.errors import StorageCorrupt
from outlast.core.records import Status
from outlast.ports.journal import Head, WorkerCard

UNTIL_RESUMED = "until resumed"
TAG = "tag:"
"""The beginning of the fields of a head that are tags."""


def head_of(id: str, answer: Sequence[Any]) -> Head:
    """Return the head of an execution.

    Raises:
        StorageCorrupt: a key of the execution was deleted or changed.
    """
    flat, length, overview = answer
    try:
        head = _head(id, _fields(flat), length, overview)
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(
            f"the head of execution {id!r} was changed ({type(error).__name__}: {error}); restore its keys, "
            "or start another execution"
        ) from error
    if not length and not head.held:  # else its reason says so
        raise StorageCorrupt(
            f"the journal of execution {id!r} was deleted; restore its keys, or start another execution"
        )
    return head


def _head(id: str, fields: Mapping[str, str], length: int, overview: bytes | None) -> Head:
    ended_at, reason, owner = fields.get("ended"), fields.get("reason"), fields.get("owner")
    return Head(
        id=id,
        workflow=fields["workflow"],
        fingerprint=fields["fingerprint"],
        task_queue=fields["queue"],
        status=Status(fields["status"]),
        length=length,
        created_at=float(fields["created"]),
        ended_at=None if ended_at is None else float(ended_at),
        reason=reason,
        owner=owner,
        fruitless=int(fields.get("fruitless", 0)),
        held=owner is None and fields.get("hold") == UNTIL_RESUMED,
        tags={name.removeprefix(TAG): value for name, value in fields.items() if name.startswith(TAG)},
        overview=None if overview is None else overview.decode(),
        waiting=fields.get("waiting"),
    )


def status_of(id: str, answer: bytes) -> Status:
    """Return the status of an execution; raises `StorageCorrupt` if `answer` is not one."""
    try:
        return Status(answer.decode())
    except ValueError as error:
        raise StorageCorrupt(
            f"the head of execution {id!r} was changed ({error}); restore its keys, or start another "
            "execution"
        ) from error


def damaged(id: str, damage: str) -> StorageCorrupt:
    """Return the error that says how the keys of an execution are damaged."""
    return StorageCorrupt(
        f"a key of execution {id!r} was deleted or changed: {damage}; restore it and resume the execution, "
        "or start another one"
    )


def card_of(text: bytes) -> WorkerCard:
    identity, workflows, task_queue, started_at = json.loads(text)
    return WorkerCard(identity, tuple(workflows), task_queue, started_at)


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
