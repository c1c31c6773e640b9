"""Completion of execution ids in a shell, from the backend, where that is quick."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import typer

PATIENCE_SECONDS = 2.0
"""The time that somebody who presses a key waits for an answer."""
IDS_MAX = 100


def completed_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return ids that begin with `incomplete`, of the newest executions; nothing if that takes too long."""

    async def found() -> list[str]:
        from outlast.cli.opening import opened
        from outlast.ports.finding import Where

        async with asyncio.timeout(PATIENCE_SECONDS), opened(context.params.get("backend")) as backend:
            page = await backend.list(Where(id_prefix=incomplete or None), limit=IDS_MAX)
        return [execution.id for execution in page]

    logging.disable()
    # A shell shows whatever is printed here in the middle of the command line.
    with suppress(Exception):
        return asyncio.run(found())
    return []
