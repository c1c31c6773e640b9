"""The command that demonstrates a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.demo.stage import perform
from outlast.cli.rendering.console import console

app = typer.Typer(rich_markup_mode=None)


@app.command()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep the demo's files here; by default they go to a temporary folder."
        ),
    ] = None,
) -> None:
    """Kill a process in the middle of a multi-agent analysis, and see another finish it.

    The demo uses Mistral's API if MISTRAL_API_KEY is set, else a stand-in for it on this machine. The exit
    code is 0 only if nothing was lost and no tool ran twice.
    """
    if not asyncio.run(perform(directory, console())):
        raise typer.Exit(1)
