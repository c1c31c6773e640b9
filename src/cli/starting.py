"""The command that starts an execution."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from outlast.cli.arguments import Callee, WrongWords, arguments_for, given
from outlast.cli.filters import tags_of
from outlast.cli.loading import workflow_called
from outlast.cli.negative_numbers import WithNumbers
from outlast.cli.opening import opened
from outlast.cli.options import ArgOption, BackendOption, InputOption, ModuleOption, WordsArgument
from outlast.cli.rendering.documents import value_json
from outlast.cli.waiting import waited

app = typer.Typer(rich_markup_mode=None)


@app.command(cls=WithNumbers)
def start(
    workflow: Annotated[
        str, typer.Argument(metavar="WORKFLOW", help="The name of the workflow, or MODULE:NAME.")
    ],
    arguments: WordsArgument = None,
    arg: ArgOption = None,
    input: InputOption = None,
    id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The execution's id; by default a new one. Starting the same again starts nothing.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A tag to find it by; can be given again."),
    ] = None,
    backend: BackendOption = None,
    module: ModuleOption = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the result and print that, as JSON, instead of the id.")
    ] = False,
) -> None:
    """Start an execution, for a worker to carry on, and print its id."""
    definition = workflow_called(workflow, module)
    try:
        args, kwargs = arguments_for(Callee.entrypoint(definition), given(arguments, arg, input))
    except WrongWords as error:
        raise typer.BadParameter(str(error), param_hint="ARGS") from error

    tags = tags_of("--tag", tag)

    async def started() -> None:
        async with opened(backend, create=True) as place:
            execution = await place.start(definition.cls, *args, id=id, tags=tags or None, **kwargs)
            typer.echo(execution.id, err=wait)
            if wait:
                result = await waited(execution, execution.result(), "the result", f"result {execution.id}")
                typer.echo(value_json(result))

    asyncio.run(started())
