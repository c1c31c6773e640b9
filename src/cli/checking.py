"""The command that replays executions against the code at hand, before that code is deployed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.loading import workflows_in
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, JsonOption
from outlast.cli.rendering.documents import value_json
from outlast.cli.rendering.text import printable, printable_lines
from outlast.core.errors import NonDeterminismError, OutlastError
from outlast.core.exports import read_export
from outlast.core.records import AnyRecord, Status
from outlast.ports.definitions import WorkflowDefinition
from outlast.runtime.definitions import determinism_guard
from outlast.runtime.executions.loading import departure_in

EXECUTIONS_MAX = 1_000_000

app = typer.Typer(rich_markup_mode=None)

_Found = tuple[str, WorkflowDefinition, Sequence[AnyRecord]]


@app.command()
def check(
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE[:NAME]…", help="The modules with today's workflows.")
    ],
    file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="An export to check, instead of what a backend holds.", exists=True
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
        found = _in_files(file, definitions) if file else _on(backend, definitions)
        async for id, definition, records in found:
            error = await departure_in(definition, id, records)
            departures += error is not None
            count += 1
            _print(id, definition.name, error, json=json)
        if not json:
            typer.echo(f"{count} checked, {departures} would depart", err=True)
        return departures

    if asyncio.run(checked()):
        raise typer.Exit(1)


async def _on(backend: str | None, definitions: Mapping[str, WorkflowDefinition]) -> AsyncIterator[_Found]:
    """Yield the open executions that a backend holds."""
    async with opened(backend) as place:
        for name, definition in definitions.items():
            for one in await place.list(workflow=name, status=Status.RUNNING, limit=EXECUTIONS_MAX):
                execution = await place.get(one.id)
                yield one.id, definition, [record async for record in execution.records()]


async def _in_files(
    files: Sequence[Path], definitions: Mapping[str, WorkflowDefinition]
) -> AsyncIterator[_Found]:
    for file in files:
        export = read_export(file.read_text(encoding="utf-8").split("\n"))
        definition = definitions.get(export.header.workflow)
        if definition is not None:
            yield export.header.id, definition, export.records


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
