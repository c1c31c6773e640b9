"""Turns the answers of the Lua scripts into the types of the journal port."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from outlast.core.records import Status
from outlast.ports.journal import Head, WorkerCard

UNTIL_RESUMED = "until resumed"


def head_of(id: str, answer: Sequence[Any]) -> Head:
    flat, length = answer
    fields = _fields(flat)
    closed_at, note, owner = fields.get("closed"), fields.get("note"), fields.get("owner")
    return Head(
        id=id,
        workflow=fields["workflow"],
        fingerprint=fields["fingerprint"],
        task_queue=fields["queue"],
        status=Status(fields["status"]),
        length=length,
        created_at=float(fields["created"]),
        closed_at=None if closed_at is None else float(closed_at),
        note=note,
        owner=owner,
        fruitless=int(fields.get("fruitless", 0)),
        held=owner is None and fields.get("hold") == UNTIL_RESUMED,
    )


def card_of(text: bytes) -> WorkerCard:
    identity, workflows, task_queue, started_at = json.loads(text)
    return WorkerCard(identity, tuple(workflows), task_queue, started_at)


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
