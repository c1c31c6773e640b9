"""The commands that fork executions, and carry them from one backend to another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.exported import STANDARD_INPUT, lines_of
from outlast.cli.filters import bundled
from outlast.cli.loading import workflows_in
from outlast.cli.opening import opened
from outlast.cli.options import AgainOption, BackendOption, IdArgument, ModuleOption
from outlast.cli.rendering.text import printable
from outlast.cli.selecting import Selection, Verb, to_each
from outlast.core.errors import OutlastError, StorageError
from outlast.core.exports import split_exports
from outlast.core.json import JSON, decode
from outlast.ports.durability.execution import Execution

app = typer.Typer(rich_markup_mode=None)


@app.command()
def fork(
    id: IdArgument,
    at: Annotated[
        int | None,
        typer.Option(metavar="POSITION", help="The last position to copy, as `outlast show` prints it."),
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The fork's id; by default a new one.")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=JSON", help='Replace the result of a step, or with the key "input" the arguments.'
        ),
    ] = None,
    again: AgainOption = False,
    module: ModuleOption = None,
    backend: BackendOption = None,
) -> None:
    """Start an execution whose journal begins with that of another one.

    It prints the id of the fork. Nothing of the copy runs again; the original is not changed. Without a
    position, the copy ends with the first result that is edited, or where a retry would go on from. With the
    module of the workflow, edits are checked against its types.
    """
    edits = dict(map(_edit, edit or []))
    if module is not None:
        workflows_in([module])

    async def forked() -> None:
        async with opened(backend) as place:
            execution = await place.get(id)
            copy = await execution.fork(at=at, id=new_id, edits=edits or None, again=again)
            typer.echo(copy.id)

    asyncio.run(forked())


@app.command()
@bundled(Selection, "selection")
def export(
    selection: Selection,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default, standard output.")
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Print executions as lines of JSON.

    `outlast import` takes them on any backend. Exits with 1 if one could not be exported; the others are.
    """
    texts: list[str] = []

    async def exported(execution: Execution) -> None:
        text = "".join(f"{line}\n" for line in await execution.export())
        texts.append(text)
        if output is None:
            typer.echo(text, nl=False)

    try:
        to_each(selection, backend, Verb("export", "exported", asks=False), exported)
    finally:
        if output is not None and texts:
            # A journal holds prompts and results: nobody but its owner may read it.
            owned = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(owned, "w", encoding="utf-8") as file:
                file.writelines(texts)


@app.command("import")
def import_(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="By default, or for -, standard input.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="Its id here; by default the one that it had.")
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Keep executions that were exported, and print their ids.

    They do not run until somebody resumes them. Exits with 1 if one could not be imported; the others are.
    """
    exports = list(split_exports(lines_of(file or STANDARD_INPUT)))
    if id is not None and len(exports) > 1:
        raise typer.BadParameter(f"the input has {len(exports)} executions, and an id is for one")

    async def imported() -> int:
        refusals = 0
        async with opened(backend, create=True) as place:
            for export in exports:
                try:
                    typer.echo((await place.import_(export, id=id)).id)
                except StorageError:
                    raise
                except OutlastError as error:
                    typer.echo(f"error: {printable(str(error))}", err=True)
                    refusals += 1
        return refusals

    if asyncio.run(imported()):
        raise typer.Exit(1)


def _edit(text: str) -> tuple[str, JSON]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=JSON", param_hint="--edit")
    try:
        return key, decode(value)
    except ValueError as error:
        raise typer.BadParameter(f"the value of {key!r} is not JSON: {value}", param_hint="--edit") from error
