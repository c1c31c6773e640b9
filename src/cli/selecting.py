"""Choosing the executions that a verb is for, and doing it to each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import typer

from outlast.cli.opening import opened
from outlast.cli.rendering.text import printable
from outlast.core.errors import OutlastError, StorageError
from outlast.ports.durability.execution import Execution


def to_each(ids: Sequence[str], backend: str | None, apply: Callable[[Execution], Awaitable[str]]) -> None:
    """Apply a verb to each execution once, and print what it did; raise `Exit` with 1 if one refused it.

    What one execution refuses does not stop the others; a place that cannot be reached does.
    """

    async def applied() -> int:
        refusals = 0
        async with opened(backend) as place:
            for id in dict.fromkeys(ids):
                try:
                    outcome = await apply(await place.get(id))
                except StorageError:
                    raise
                except OutlastError as error:
                    typer.echo(f"error: {printable(str(error))}", err=True)
                    refusals += 1
                else:
                    typer.echo(f"{printable(id)} {outcome}")
        return refusals

    if asyncio.run(applied()):
        raise typer.Exit(1)
