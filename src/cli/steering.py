"""The commands that steer a run of an agent at work."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, IdArgument, user_name
from outlast.cli.rendering.text import printable

app = typer.Typer(rich_markup_mode=None)

RunOption = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="The run, by its key, if several are at work.", show_default=False),
]
ByOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who steers (default: your user name).", show_default=False),
]


@app.command()
def say(
    id: IdArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message.")],
    run: RunOption = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Give a run at work a message, which its model gets with the next call.

    A worker must be there to take it.
    """

    async def said() -> None:
        async with opened(backend) as place:
            await (await place.get(id)).say(text, run=run, by=by or user_name())

    asyncio.run(said())
    typer.echo(f"the run of {printable(id)} has the message", err=True)


@app.command()
def interrupt(
    id: IdArgument,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason.")] = None,
    run: RunOption = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """End the turn of a run at work; the workflow decides what follows.

    A worker must be there to take it.
    """

    async def interrupted() -> None:
        async with opened(backend) as place:
            await (await place.get(id)).interrupt(reason, run=run, by=by or user_name())

    asyncio.run(interrupted())
    typer.echo(f"the run of {printable(id)} is interrupted", err=True)
