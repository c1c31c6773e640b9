"""The commands that list executions and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from outlast.cli.filters import Filters, bundled
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, FullOption, JsonOption
from outlast.cli.rendering.documents import execution_json, worker_json
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import ExecutionDescription

app = typer.Typer(rich_markup_mode=None)

OVERVIEWS_MAX = 200
"""The most executions that are read one by one, where the backend's list does not say what they wait for."""


@app.command("list")
@bundled(Filters, "filters")
def list_executions(
    filters: Filters,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="The number of executions, from the newest on.")
    ] = 100,
    backend: BackendOption = None,
    full: FullOption = False,
    json: JsonOption = False,
) -> None:
    """List executions, the newest first.

    On Temporal, what executions wait for, their agents, turns and tokens are read one by one, for the first
    200 rows.

    A narrow terminal leaves out what an execution took, its turns, agent, tokens, cost and tags; --full does
    not.
    """

    async def listed() -> None:
        async with opened(backend) as place:
            # One more shows whether there are others.
            found = [one async for one in filters.found(place, limit=limit + 1)]
            executions = await _with_overviews(place, found[:limit])
        if json:
            for execution in executions:
                typer.echo(execution_json(execution))
        elif executions:
            from outlast.cli.rendering import console, tables

            console.print_table(tables.executions_table(executions, full=full, width=console.room()))
            if len(found) > limit:
                typer.echo(f"only the newest {limit}; --limit N lists more", err=True)
        else:
            typer.echo("no executions", err=True)

    asyncio.run(listed())


async def _with_overviews(
    place: Backend, executions: Sequence[ExecutionDescription]
) -> Sequence[ExecutionDescription]:
    """Return the executions, the first `OVERVIEWS_MAX` with what they wait for; say so if others lack it."""
    others = executions[OVERVIEWS_MAX:]
    read = await place.with_overviews(executions[:OVERVIEWS_MAX])
    if any(one.status is Status.RUNNING and one.turns is None for one in others):
        typer.echo(f"only the first {OVERVIEWS_MAX} show what they wait for; outlast show ID does", err=True)
    return [*read, *others]


@app.command()
def workers(backend: BackendOption = None, full: FullOption = False, json: JsonOption = False) -> None:
    """List the workers that are alive.

    Each is shown with the executions that it carries on at the moment.
    """

    async def listed() -> None:
        async with opened(backend) as place:
            alive = await place.workers()
        if json:
            for one in alive:
                typer.echo(worker_json(one))
        elif alive:
            from outlast.cli.rendering import console, tables

            console.print_table(tables.workers_table(alive, full=full))
        else:
            typer.echo("no workers", err=True)

    asyncio.run(listed())
