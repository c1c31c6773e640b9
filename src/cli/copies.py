"""The commands that fork executions, and carry them from one backend to another."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.loading import workflows_in
from outlast.cli.opening import opened
from outlast.cli.options import AgainOption, BackendOption, IdArgument, ModuleOption
from outlast.core.errors import CannotRerun
from outlast.core.json import JSON, decode

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
def export(
    id: IdArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default, standard output.")
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Print an execution as lines of JSON.

    `outlast import` takes them on any backend.
    """

    async def exported() -> str:
        async with opened(backend) as place:
            return "".join(f"{line}\n" for line in await (await place.get(id)).export())

    text = asyncio.run(exported())
    if output is None:
        typer.echo(text, nl=False)
        return
    # A journal holds prompts and results: nobody but its owner may read it.
    owned = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(owned, "w", encoding="utf-8") as file:
        file.write(text)


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
    """Keep an execution that was exported, and print its id.

    It does not run until somebody resumes it.
    """
    is_file = file is not None and str(file) != "-"
    source = file.read_bytes() if file is not None and is_file else sys.stdin.buffer.read()
    try:
        lines = source.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CannotRerun(
            f"{file if is_file else 'the input'} is not an export: it is not text in UTF-8"
        ) from error

    async def imported() -> None:
        async with opened(backend, create=True) as place:
            typer.echo((await place.import_(lines, id=id)).id)

    asyncio.run(imported())


def _edit(text: str) -> tuple[str, JSON]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=JSON", param_hint="--edit")
    try:
        return key, decode(value)
    except ValueError as error:
        raise typer.BadParameter(f"the value of {key!r} is not JSON: {value}", param_hint="--edit") from error
