"""Pin the journals of this version: `python -m tests.pinned` writes those that are not there yet.

A journal that is there is never written again: it stands for executions that are still running somewhere.
"""

from __future__ import annotations

import asyncio

from tests.pinned.journals import FOLDER, FORMAT, recorded, written
from tests.pinned.programs import PROGRAMS


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for workflow in PROGRAMS:
        journal = await recorded(workflow)
        path = FOLDER / f"{journal.workflow.removeprefix('pinned.')}-{FORMAT}.jsonl"
        if not path.exists():
            path.write_bytes(written(journal))
            print(path.name)


if __name__ == "__main__":
    asyncio.run(main())
