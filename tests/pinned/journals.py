"""Journals as they are kept in a file: a heading line, and a line for each record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.core.json import decode, encode
from outlast.testing.contracts.durability.in_store import InStore
from tests.pinned.programs import executed
from tests.runtime.stages import in_memory

FOLDER = Path(__file__).parents[1] / "data" / "journals"
ROOT = Path(__file__).parents[2]
FORMAT = "v2"
"""The format of the records. After a change, pin the journals of the new format beside the old ones."""


@dataclass(frozen=True)
class Journal:
    """All that an execution has journaled."""

    workflow: str
    id: str
    records: Sequence[bytes]


async def recorded(workflow: type[Any]) -> Journal:
    """Execute a workflow of `tests.pinned.programs`, and return its journal."""
    async with in_memory() as stage, executed(stage, workflow) as execution:
        assert isinstance(stage.storage, InStore)
        async with stage.storage.storage.open() as store:
            head = await store.head(execution.id)
            assert head is not None
            return Journal(head.workflow, head.id, await store.read(execution.id))


def written(journal: Journal) -> bytes:
    header = encode({"format": FORMAT, "workflow": journal.workflow, "id": journal.id})
    lines = b"".join(line + b"\n" for line in (header, *journal.records))
    # The frames of failures have the paths of files.
    return lines.replace(str(ROOT).encode(), b"/outlast")


def read(path: Path) -> Journal:
    header, *records = path.read_bytes().splitlines()
    about = decode(header)
    return Journal(about["workflow"], about["id"], records)


def pinned() -> dict[str, Journal]:
    """Return the journals that are kept, by name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.jsonl"))}
