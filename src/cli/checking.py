"""The command that replays executions against the code at hand, before that code is deployed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.completing import completed_ids
from outlast.cli.exported import lines_of
from outlast.cli.filters import ANY, OPEN, Filters, bundled
from outlast.cli.loading import workflows_in
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, JsonOption
from outlast.cli.rendering.documents import value_json
from outlast.cli.rendering.text import printable, printable_lines
from outlast.core.errors import NonDeterminismError, OutlastError
from outlast.core.exports import read_export, split_exports
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import ExecutionDescription
from outlast.runtime.definitions import determinism_guard
from outlast.runtime.executions.loading import departure_in

app = typer.Typer(rich_markup_mode=None)

_Checked = tuple[str, str, OutlastError | None]
"""The id of an execution, its workflow, and why the code departs, if it does."""


@app.command()
@bundled(Filters, "filters")
def check(
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE[:NAME]", help="The modules with today's workflows.")
    ],
    filters: Filters,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Exports to check, instead of what a backend holds; - is standard input."
        ),
    ] = None,
    id: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Only this execution; can be given again.", autocompletion=completed_ids
        ),
    ] = None,
    backend: BackendOption = None,
    json: JsonOption = False,
) -> None:
    """Replay open executions against the code at hand.

    It prints which of them would depart from the code, at which record and in which fields, and exits with 1
    if one would. No step runs and nothing is written. Executions of workflows that are in none of the modules
    are left out.
    """
    definitions = {definition.name: definition for definition in workflows_in(modules)}
    for definition in definitions.values():
        determinism_guard.watch(definition.cls.__module__)

    async def checked() -> int:
        departures = count = 0
        found = _in_files(file, definitions) if file else _on(backend, definitions, id or (), filters)
        async for one, workflow, error in found:
            departures += error is not None
            count += 1
            _print(one, workflow, error, json=json)
        if not json:
            typer.echo(f"{count} checked, {departures} would depart", err=True)
        return departures

    if asyncio.run(checked()):
        raise typer.Exit(1)


async def _on(
    backend: str | None, definitions: Mapping[str, WorkflowDefinition], ids: Sequence[str], filters: Filters
) -> AsyncIterator[_Checked]:
    """Yield the executions with these ids or, without any, those that the filters find."""
    async with opened(backend) as place:
        chosen = _named(place, ids) if ids else _found(place, definitions, filters)
        async for one in chosen:
            if one.workflow in definitions:
                yield one.id, one.workflow, await (await place.get(one.id)).departure()


async def _named(place: Backend, ids: Sequence[str]) -> AsyncIterator[ExecutionDescription]:
    for id in dict.fromkeys(ids):
        yield await (await place.get(id)).describe()


async def _found(
    place: Backend, definitions: Iterable[str], filters: Filters
) -> AsyncIterator[ExecutionDescription]:
    for name in definitions if filters.workflow is None else [filters.workflow]:
        statuses = OPEN if filters.status is None else ANY
        for one in await replace(filters, workflow=name).found_among(place, statuses):
            yield one


async def _in_files(
    files: Sequence[Path], definitions: Mapping[str, WorkflowDefinition]
) -> AsyncIterator[_Checked]:
    for file in files:
        for lines in split_exports(lines_of(file)):
            export = read_export(lines)
            definition = definitions.get(export.header.workflow)
            if definition is not None:
                error = await departure_in(definition, export.header.id, export.records)
                yield export.header.id, definition.name, error


def _print(id: str, workflow: str, error: OutlastError | None, *, json: bool) -> None:
    if json:
        position = error.position if isinstance(error, NonDeterminismError) else None
        found = {
            "id": id,
            "workflow": workflow,
            "departs": error is not None,
            "position": position,
            "error": None if error is None else str(error),
        }
        typer.echo(value_json(found))
    elif error is None:
        typer.echo(f"{printable(id)} goes on")
    else:
        typer.echo(f"{printable(id)} would depart: {printable_lines(str(error))}")
