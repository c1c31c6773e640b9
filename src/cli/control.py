"""The commands that end executions, run them again, and carry them elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli import rendering
from outlast.cli.loading import workflows_in
from outlast.cli.options import AgainOption, BackendOption, IdArgument, IdsArgument
from outlast.composition.backends import connect
from outlast.core.errors import (
    CannotRerun,
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    NotSupported,
    WouldRepeat,
)
from outlast.core.json import JSON, decode
from outlast.ports.durability.execution import Execution

_REFUSALS = (CannotRerun, ExecutionAlreadyEnded, ExecutionNotFound, NotSupported, WouldRepeat)
"""The errors of one execution after which a command goes on with the next."""

ModuleOption = Annotated[
    str | None, typer.Option(help="The module that defines the workflow: then the edits are checked.")
]


def resume(ids: IdsArgument, backend: BackendOption = None) -> None:
    """Let workers take executions that are held, once what ended their workers is mended.

    `outlast show ID` says why an execution is held. Exits with 1 if one of them could not be resumed.
    """

    async def resumed(execution: Execution) -> str:
        return "is resumed" if await execution.resume() else "was not held, and goes on as before"

    _to_each(ids, backend, resumed)


def cancel(ids: IdsArgument, backend: BackendOption = None) -> None:
    """Ask executions to end; their code can clean up first.

    Exits with 1 if one had ended already.
    """

    async def cancelled(execution: Execution) -> str:
        await execution.cancel()
        return "is asked to end"

    _to_each(ids, backend, cancelled)


def terminate(
    ids: IdsArgument,
    reason: Annotated[str, typer.Option(help="Kept with the execution.")] = "from the command line",
    backend: BackendOption = None,
) -> None:
    """End executions at once, without any clean-up.

    Exits with 1 if one had ended already.
    """

    async def terminated(execution: Execution) -> str:
        await execution.terminate(reason)
        return "is terminated"

    _to_each(ids, backend, terminated)


def retry(ids: IdsArgument, again: AgainOption = False, backend: BackendOption = None) -> None:
    """Open executions again that failed, were cancelled or terminated, with today's code.

    A failed step is tried anew, and no completed step runs again. Exits with 1 if one could not be retried.
    """

    async def retried(execution: Execution) -> str:
        await execution.retry(again=again)
        return "is open again"

    _to_each(ids, backend, retried)


def fork(
    id: IdArgument,
    at: Annotated[
        int | None,
        typer.Option(metavar="POSITION", help="The last position to copy, as `outlast show` prints it."),
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="The fork's id; by default a new one.")] = None,
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
    """Start an execution whose journal begins with that of another one, and print its id.

    Nothing of the copy runs again; the original is not changed. Without a position, the copy ends with the
    first result that is edited, or where a retry would go on from.
    """
    edits = dict(map(_edit, edit or []))
    if module is not None:
        workflows_in([module])

    async def forked() -> None:
        async with connect(backend) as opened:
            execution = await opened.get(id)
            copy = await execution.fork(at=at, id=new_id, edits=edits or None, again=again)
            typer.echo(copy.id)

    asyncio.run(forked())


def export(
    id: IdArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default, standard output.")
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Print an execution as lines of JSON, which `outlast import` takes on any backend."""

    async def exported() -> str:
        async with connect(backend) as opened:
            return "".join(f"{line}\n" for line in await (await opened.get(id)).export())

    text = asyncio.run(exported())
    if output is None:
        sys.stdout.write(text)
        return
    # A journal holds prompts and results: nobody but its owner may read it.
    owned = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(owned, "w", encoding="utf-8") as file:
        file.write(text)


def import_(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="By default, standard input.", exists=True)
    ] = None,
    id: Annotated[str | None, typer.Option(help="Its id here; by default the one that it had.")] = None,
    backend: BackendOption = None,
) -> None:
    """Keep an execution that was exported, and print its id.

    It does not run until somebody resumes it.
    """
    text = sys.stdin.read() if file is None else file.read_text(encoding="utf-8")

    async def imported() -> None:
        async with connect(backend) as opened:
            typer.echo((await opened.import_(text.split("\n"), id=id)).id)

    asyncio.run(imported())


def _to_each(ids: list[str], backend: str | None, apply: Callable[[Execution], Awaitable[str]]) -> None:
    """Apply a verb to each execution and print what it did; raise `Exit` with 1 if it was refused for one."""

    async def applied() -> int:
        refusals = 0
        async with connect(backend) as opened:
            for id in ids:
                try:
                    outcome = await apply(await opened.get(id))
                except _REFUSALS as error:
                    typer.echo(f"error: {rendering.printable(str(error))}", err=True)
                    refusals += 1
                else:
                    typer.echo(f"{rendering.printable(id)} {outcome}")
        return refusals

    if asyncio.run(applied()):
        raise typer.Exit(1)


def _edit(text: str) -> tuple[str, JSON]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=JSON", param_hint="--edit")
    try:
        return key, decode(value)
    except ValueError as error:
        raise typer.BadParameter(f"the value of {key!r} is not JSON: {value}", param_hint="--edit") from error
